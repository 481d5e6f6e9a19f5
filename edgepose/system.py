"""What the operating system shows: files, programs and what they say, libraries, Python modules.

Everything is looked for under one root and with one environment, so that another system's files can be looked at.
Nothing of a vendor is loaded.
"""

from __future__ import annotations

import functools
import grp
import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .lifeline import run

#: Tools of drivers lie here, though it is not on the search path of users.
_SYSTEM_PROGRAMS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin")
#: Where the dynamic linker looks without being told, on the architectures in use.
_SYSTEM_LIBRARIES = ("/usr/lib/*-linux-gnu", "/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
#: A driver in trouble lets its tool hang.
_PATIENCE = 10.0
_LONGEST_TEXT = 1 << 16


@dataclass(frozen=True)
class System:
    """A system to look at; this one by default.

    Attributes
    ----------
    root
        Folder that holds its ``/dev``, ``/proc``, ``/sys``, ``/etc`` and ``/usr``.
    environment
        Environment variables.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def files(self, *patterns: str) -> list[str]:
        """Paths that match absolute patterns, as they are called on that system."""
        found = {p for pattern in patterns for p in self.root.glob(pattern.lstrip("/"))}
        return sorted(f"/{p.relative_to(self.root).as_posix()}" for p in found)

    def text(self, path: str) -> str:
        """Beginning of a file, without the zero bytes of device trees; empty if it cannot be read."""
        try:
            with open(self.root / path.lstrip("/"), "rb") as stream:
                return stream.read(_LONGEST_TEXT).decode(errors="replace").strip("\0\n ")
        except OSError:
            return ""

    def program(self, name: str) -> str:
        """Path of a program; empty if there is none."""
        # An empty entry would be the current folder, whose programs nobody asked for.
        folders = [f for f in self.environment.get("PATH", "").split(os.pathsep) if f]
        folders += [str(self.root / f) for f in _SYSTEM_PROGRAMS]
        return shutil.which(name, path=os.pathsep.join(folders)) or ""

    def said(self, name: str, *arguments: str) -> str:
        """What a program writes; empty if there is none, it fails, or takes too long."""
        program = self.program(name)
        return _said(program, arguments) if program else ""

    def libraries(self, name: str, *folders: str) -> list[str]:
        """Files of a shared library in the folders, in those of ``LD_LIBRARY_PATH`` and of the system.

        Parameters
        ----------
        name
            ``libx.so``; versions after it are found as well.
        folders
            Absolute patterns of folders beside the usual ones.
        """
        named = [f for f in self.environment.get("LD_LIBRARY_PATH", "").split(os.pathsep) if f.startswith("/")]
        return self.files(*(f"{folder}/{name}*" for folder in (*folders, *named, *_SYSTEM_LIBRARIES)))

    def not_ours(self, paths: list[str]) -> str:
        """The group whose members may use the first of the files that we may not read and write; empty if we may."""
        for path in paths:
            place = self.root / path.lstrip("/")
            if not os.access(place, os.R_OK | os.W_OK):
                try:
                    return grp.getgrgid(place.stat().st_gid).gr_name
                except (KeyError, OSError):
                    return "root"
        return ""


def module_at(name: str) -> str:
    """Where this Python would import a module from; empty if it has none.  The module is not imported."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return ""
    return "" if found is None else str(found.origin or next(iter(found.submodule_search_locations or ()), name))


@functools.lru_cache(maxsize=16)
def _said(program: str, arguments: tuple[str, ...]) -> str:
    code, said = run([program, *arguments], seconds=_PATIENCE)
    return said if code == 0 else ""
