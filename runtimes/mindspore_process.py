"""MindSpore in a process of its own."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepose.errors import DeviceError
from edgepose.interpreters import Interpreter
from edgepose.lifeline import Child
from edgepose.plugins import Tensor

from . import mindspore_worker


class RemoteEngine:
    """An engine in a process of its own.

    Parameters
    ----------
    interpreter
        The Python that has the package.
    opening
        The first message: backend, engine, inputs and options.
    environment
        Variables that the process has beside ours.

    Attributes
    ----------
    inputs
        What the engine must be fed, as it says itself.
    version
        Version of the package.
    placement
        What it runs on, as it says itself.

    Raises
    ------
    DeviceError
        If the engine cannot be loaded; the message says what the package said.
    """

    def __init__(
        self, interpreter: Interpreter, opening: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> None:
        self._engine = str(opening["engine"])
        command = [interpreter.program, str(Path(mindspore_worker.__file__).resolve())]
        try:
            self._child: Child | None = Child(command, {**os.environ, **(environment or {})}, talks=True)
        except OSError as error:
            raise DeviceError(f"Cannot start '{interpreter.program}': {error.strerror or error}.") from error
        try:
            said, _ = self._ask(dict(opening), [])
        except DeviceError:
            self.close()
            raise
        self.inputs: list[dict[str, Any]] = said["inputs"]
        self.version = str(said["version"] or interpreter.version)
        self.placement = str(said["placement"])

    @property
    def pid(self) -> int | None:
        """Number of the process; None when it is closed."""
        return None if self._child is None else self._child.pid

    def run(self, arrays: list[Tensor]) -> list[Tensor]:
        """Run once.

        Raises
        ------
        DeviceError
            If the engine fails or its process ends.
        """
        return self._ask({}, arrays)[1]

    def close(self) -> None:
        """End the process; may be called twice."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def _ask(self, header: dict[str, Any], arrays: list[Tensor]) -> tuple[dict[str, Any], list[Tensor]]:
        if self._child is None:
            raise DeviceError(f"The session of '{self._engine}' is closed.")
        try:
            mindspore_worker.write(self._child.requests, header, arrays)
            answer = mindspore_worker.read(self._child.replies)
        except (OSError, EOFError):
            answer = None
        if answer is None:
            raise DeviceError(f"The process that runs '{self._engine}' has ended ({self._ending()}).")
        said, results = answer
        if "error" in said:
            raise DeviceError(f"'{self._engine}': {said['error']}", hint=_hint(str(said["error"]), self._child.said()))
        return said, results

    def _ending(self) -> str:
        """How the process ended, with the last thing that it said."""
        assert self._child is not None
        code = self._child.wait(1)
        lines = [line for line in self._child.said().splitlines() if line.strip()]
        how = "it does not answer" if code is None else f"exit code {code}"
        if code is not None and code < 0:
            how = f"signal {-code}, {signal.strsignal(-code)}"
        return f"{how}: {lines[-1][:200]}" if lines else how


def _hint(error: str, log: str) -> str | None:
    if "numpy" in error.lower():
        return "MindSpore's wheels are compiled against NumPy 1 and do not ask for it: pip install 'numpy<2'"
    missing = re.search(r"(lib[\w.+-]+\.so)[\w.]*: cannot open shared object file", log)
    if missing:
        return (
            f"The library {missing.group(1)} is not found. If it is one of CANN's:"
            " source /usr/local/Ascend/ascend-toolkit/set_env.sh"
        )
    return None
