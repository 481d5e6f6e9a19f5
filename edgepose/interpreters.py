"""Pythons that have a package which ours has not: some vendors build for one release of Python alone."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Names under which Pythons lie on the path, newest first.
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
