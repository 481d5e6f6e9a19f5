"""Print the table of docs/support.md.

    EDGEPOSE_TEST_DATA=... python tests/matrix/matrix_table.py [COLUMN ...]

A column is a runtime: ``onnxruntime``, ``openvino``, ``tflite``, ``mindspore-lite``, ``mindspore``; by default all,
which must then be installed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from matrix_cells import PRECISIONS, RUNTIMES, measure, missing, prepare
from matrix_networks import NETWORKS


def main() -> None:
    """Measure and print."""
    named = os.environ.get("EDGEPOSE_TEST_DATA")
    reference = Path(named) if named else None
    columns = [(t, r) for t, runtimes in RUNTIMES.items() for r in runtimes if r in sys.argv[1:] or not sys.argv[1:]]
    for target, runtime in columns:
        if (absent := missing(target, runtime)) is not None:
            sys.exit(absent)
    titles = [f"{r} {p}" for _, r in columns for p in PRECISIONS]
    print("| network | " + " | ".join(titles) + " |")
    print("|---|" + "---|" * len(titles))
    problems = []
    for network in NETWORKS:
        if network.trained and reference is None:
            continue
        with tempfile.TemporaryDirectory() as folder:
            prepared = prepare(network, reference, Path(folder))
            row = []
            for target, runtime in columns:
                for precision in PRECISIONS:
                    outcome = measure(prepared, target, runtime, precision)
                    if outcome.problem is not None:
                        problems.append(f"{network.name}, {runtime}, {precision}: {outcome.problem}")
                    form = ".1e" if network.chaotic else ".4f"
                    row.append("none" if outcome.shift is None else format(outcome.shift, form))
        print(f"| {network.name} | " + " | ".join(row) + " |", flush=True)
    print("\n".join(problems))


if __name__ == "__main__":
    main()
