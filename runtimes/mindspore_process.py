"""MindSpore in a process of its own: finding a Python that has it, and talking with it."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepose.errors import DeviceError
from edgepose.lifeline import Child
from edgepose.plugins import Tensor

from . import mindspore_worker

#: Pythons that any release of MindSpore or MindSpore Lite was built for, newest first.
_PYTHONS = tuple(f"python3.{minor}" for minor in range(14, 6, -1))


@dataclass(frozen=True)
class Interpreter:
    """A Python that has a package.

    Attributes
    ----------
    program
        Its path.
    version
        Version of the package; empty if it does not say.
    """

    program: str
    version: str


def find_interpreter(package: str, variable: str) -> Interpreter | None:
    """A Python with ``package``: the one that the environment variable names, ours, or one that is installed.

    Nothing is run to find it; a package is there if its folder is.
    """
    named = os.environ.get(variable)
    if named:
        program = shutil.which(named)
        return None if program is None else _with(package, program)
    return _installed(package, os.environ.get("PATH", ""), os.environ.get("PYENV_ROOT", ""))


@functools.lru_cache(maxsize=8)
def _installed(package: str, path: str, pyenv: str) -> Interpreter | None:
    if importlib.util.find_spec(package) is not None:
        return _with(package, sys.executable) or Interpreter(sys.executable, "")
    for program in _candidates(path, pyenv):
        found = _with(package, program)
        if found is not None:
            return found
    return None


def _candidates(path: str, pyenv: str) -> Iterator[str]:
    for name in _PYTHONS:
        program = shutil.which(name, path=path)
        if program is not None:
            yield program
    root = Path(pyenv) if pyenv else Path.home() / ".pyenv"
    yield from sorted((str(p) for p in root.glob("versions/*/bin/python")), reverse=True)


def _with(package: str, program: str) -> Interpreter | None:
    """The interpreter, if the package lies where its packages lie."""
    # Not resolved: a virtual environment is told by where its link to Python lies.
    for folder in (Path(program).parent, Path(program).resolve().parent):
        for packages in folder.parent.glob("lib*/python3*/*-packages"):
            if (packages / package / "__init__.py").is_file():
                distribution = next(iter(sorted(packages.glob(f"{package}-*.dist-info"))), None)
                version = distribution.name[len(package) + 1 : -len(".dist-info")] if distribution else ""
                return Interpreter(program, version)
    return None


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
            raise DeviceError(f"'{self._engine}': {said['error']}", hint=_hint(str(said["error"])))
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


def _hint(error: str) -> str | None:
    if "numpy" in error.lower():
        return "MindSpore's wheels are compiled against NumPy 1 and do not ask for it: pip install 'numpy<2'"
    return None
