"""Memory that reading a file takes, by the books of the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_SCRIPT = """
import re, sys
from edgepose.checkpoints import read_checkpoint, formats, onnx_file
from edgepose.errors import EdgePoseError

def high_water():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

read_checkpoint(sys.argv[2])  # so that what is loaded once is loaded
before = high_water()
try:
    checkpoint = read_checkpoint(sys.argv[1])
    word = f"read {len(checkpoint.arrays)}"
except EdgePoseError as error:
    word = "refused"
after = high_water()
print((after - before) * 1024, word)
"""


def peak_of_reading(path: Path) -> tuple[int, str]:
    """Bytes by which the peak of a fresh process grows (mapped pages included), and what came of reading."""
    from checkpoint_writers import onnx_model

    small = path.with_name("warm-up.onnx")
    small.write_bytes(onnx_model({}))
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(path), str(small)], capture_output=True, text=True, check=True, timeout=120
    )
    number, word = run.stdout.split(maxsplit=1)
    return int(number), word.strip()
