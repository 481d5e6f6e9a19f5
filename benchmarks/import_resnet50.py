"""Time and memory to turn a ResNet-50 SimplePose .params of 136 MB into a checked ONNX file, as a whole process.

    python benchmarks/import_resnet50.py

The weights are random numbers under the names of GluonCV's simple_pose_resnet50_v1b, in a file as MXNet writes it;
reading, building, folding and comparing the graph before and after cost the same for them.
"""

from __future__ import annotations

import resource
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from edgepose.architectures import examine

ARCHITECTURE = "simple_pose_resnet50_v1b"
ROUNDS = 3
#: What the project promises.
MAX_SECONDS, MAX_MEGABYTES = 10, 1000

LIST_MAGIC, ARRAY_MAGIC = 0x112, 0xF993FAC9
DENSE, CPU, FLOAT32 = 0, 1, 0


def write_params(path: Path) -> None:
    """A file as MXNet 1.x writes it: all arrays, then all names."""
    shapes = examine({}, ARCHITECTURE).expected
    random = np.random.default_rng(0)
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", LIST_MAGIC, 0, len(shapes)))
        for name, shape in shapes.items():
            array = random.standard_normal(shape, np.float32) * np.sqrt(2 / max(1, np.prod(shape[1:])))
            if name.endswith(("gamma", "running_var")):
                array = 1 + 0.1 * np.abs(array)
            file.write(struct.pack(f"<Iii{len(shape)}q", ARRAY_MAGIC, DENSE, len(shape), *shape))
            file.write(struct.pack("<iii", CPU, 0, FLOAT32))
            file.write(array.astype("<f4").tobytes())
        file.write(struct.pack("<Q", len(shapes)))
        for name in shapes:
            file.write(struct.pack("<Q", len(name)) + name.encode())


def main() -> int:
    """Measure and print; 1 if a promise is broken."""
    program = "import sys; from edgepose.importing import import_checkpoint as f; f(sys.argv[1]).save(sys.argv[2])"
    times = []
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, f"{ARCHITECTURE}.params"), Path(folder, "model.onnx")
        write_params(source)
        for _ in range(ROUNDS):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program, str(source), str(target)], check=True)
            times.append(time.perf_counter() - start)
        read, written = (path.stat().st_size / 1e6 for path in (source, target))
    # The largest of all children, in kibibytes on Linux.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    print(f"{read:.0f} MB .params -> {written:.0f} MB .onnx")
    print(f"time   {min(times):6.2f} s best, {max(times):.2f} s worst of {ROUNDS} (limit {MAX_SECONDS} s)")
    print(f"memory {memory:6.0f} MB at its peak (limit {MAX_MEGABYTES} MB)")
    return 0 if max(times) < MAX_SECONDS and memory < MAX_MEGABYTES else 1


if __name__ == "__main__":
    raise SystemExit(main())
