"""Conversions in processes of their own, and what they leave."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgepose.architectures import examine

ARCHITECTURE = "mobile_pose_mobilenetv3_small"
#: Variable that a conversion and everything that descends from it have in their environment.
MARK = "EDGEPOSE_TEST_MARK"


def write_checkpoint(path: Path) -> Path:
    """A checkpoint of :data:`ARCHITECTURE` with synthetic weights."""
    recipe = Path(__file__).parent.parent / "architectures" / "synthetic_weights.py"
    spec = importlib.util.spec_from_file_location("synthetic_weights_of_conversions", recipe)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    np.savez(path, **module.fill(examine({}, ARCHITECTURE).expected))
    return path


class Conversion:
    """``edgepose convert`` in a process group of its own, marked."""

    def __init__(
        self, checkpoint: Path, targets: list[str], output: Path, *options: str, env: Mapping[str, str] | None = None
    ) -> None:
        self.mark = secrets.token_hex(16)
        asked = [word for target in targets for word in ("--to", target)]
        command = [sys.executable, "-m", "edgepose", "convert", str(checkpoint), *asked, "-o", str(output), *options]
        self._log = output.with_name(f"{output.name}.log").open("w+")
        self.process = subprocess.Popen(
            [*command, "--input-size", "128x96"],
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {}), MARK: self.mark},
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def finish(self) -> str:
        """Wait until it is done; what it said."""
        code = self.process.wait(300)
        self._log.seek(0)
        said = self._log.read()
        self._log.close()
        assert code == 0, said
        return said

    def kill(self) -> None:
        """Kill this process alone, as the kernel does when memory runs out."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._log.close()

    def alive(self) -> list[str]:
        """Command lines of the processes that descend from it, itself included, and have not ended."""
        return [_command(pid) for pid in self._marked()]

    def survivors(self, seconds: float = 5.0) -> list[str]:
        """:meth:`alive`, after they had some time to end; those that did not are ended here."""
        end = time.monotonic() + seconds
        while (left := self.alive()) and time.monotonic() < end:
            time.sleep(0.02)
        for pid in self._marked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def _marked(self) -> Iterator[int]:
        mark = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            # A process that has ended and waits to be collected has no environment any more.
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return str(pid)
