"""How long a user waits: import, help, and the main job on a picture, each as a whole process.

    python benchmarks/startup.py

Medians of interleaved runs on this machine; the import figure is what it costs beyond bare Python.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PICTURE = Path(__file__).parent.parent / "examples" / "park.jpg"
ROUNDS = 9
#: What the project promises, in seconds, on an idle machine.
LIMITS = {"import edgepose (beyond bare Python)": 0.1, "edgepose --help": 0.3, "edgepose run picture": 3.0}


def seconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print a table."""
    program = shutil.which("edgepose", path=str(Path(sys.executable).parent)) or "edgepose"
    commands = {
        "bare Python": [sys.executable, "-c", "pass"],
        "import edgepose": [sys.executable, "-c", "import edgepose"],
        "edgepose --help": [program, "--help"],
        "edgepose run picture": [program, "run", str(PICTURE)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        seconds(command)  # warms the file cache
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    medians["import edgepose (beyond bare Python)"] = medians["import edgepose"] - medians["bare Python"]
    print(f"{'what':<40} {'median s':>9} {'limit s':>8}")
    for name, value in medians.items():
        limit = LIMITS.get(name)
        print(f"{name:<40} {value:9.3f} {'' if limit is None else limit:>8}")


if __name__ == "__main__":
    main()
