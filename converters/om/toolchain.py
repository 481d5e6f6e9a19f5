"""The compiler of CANN, ``atc``: where it is, its version, and whether its environment is set."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepose.system import System

#: Where an installation may be, besides what the environment says.
_ROOTS = ("/usr/local/Ascend/ascend-toolkit/latest", "/usr/local/Ascend/latest")
#: Where the compiler lies in it, by the age of CANN.
_PLACES = ("bin/atc", "compiler/bin/atc", "atc/bin/atc")
#: Variables that set_env.sh sets and the compiler needs; libraries may also be found through ld.so.conf.
_NEEDED = ("ASCEND_OPP_PATH",)
#: Files that name the version of an installation.
_VERSION_FILES = ("*-linux/ascend_toolkit_install.info", "ascend_toolkit_install.info", "*-linux/ascend_*_install.info")
_LONGEST = 1 << 16
#: A card in ``npu-smi info``: its number, then its name, which is the SoC's without the word Ascend.
_CARD = re.compile(r"^\s*\|\s*\d+\s+(?:Ascend)?(310(?:P[0-9]|B[0-9])?)\s", re.MULTILINE)


@dataclass(frozen=True)
class Toolchain:
    """A compiler that was found.

    Attributes
    ----------
    program
        Its path.
    version
        Version of CANN, ``8.0.RC3`` for instance; empty if it cannot be told.
    lacking
        Variables of its environment that are not set.
    remedy
        How to set them.
    """

    program: str
    version: str
    lacking: tuple[str, ...] = ()
    remedy: str = ""


def find(environment: Mapping[str, str] | None = None) -> Toolchain | None:
    """The compiler on the path, or in an installation that the environment or the usual place shows.

    Nothing is run to find it.
    """
    environment = os.environ if environment is None else environment
    named = shutil.which("atc", path=environment.get("PATH", ""))
    programs = [Path(named)] if named else []
    programs += [root / place for root in _installations(environment) for place in _PLACES]
    for program in programs:
        if os.access(program, os.X_OK) and program.is_file():
            root = _root_of(program, environment)
            lacking = tuple(v for v in _NEEDED if not environment.get(v))
            script = next((f for f in _scripts(root) if f.is_file()), root / "set_env.sh")
            return Toolchain(str(program), _version(root), lacking, f"source {script}")
    return None


def release(version: str) -> tuple[int, int] | None:
    """``8.0.RC3`` -> (8, 0); None if it is no version."""
    found = re.match(r"v?(\d{1,2})\.(\d{1,2})\b", version)
    return (int(found.group(1)), int(found.group(2))) if found else None


def soc_here() -> str:
    """The SoC of the first card of this machine, as ``atc`` names it; empty if there is none."""
    found = _CARD.search(System().said("npu-smi", "info"))
    return f"Ascend{found.group(1)}" if found else ""


def _installations(environment: Mapping[str, str]) -> Iterator[Path]:
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        if environment.get(variable):
            yield Path(environment[variable])
    yield from map(Path, _ROOTS)


def _root_of(program: Path, environment: Mapping[str, str]) -> Path:
    """The installation that a program belongs to."""
    for root in _installations(environment):
        if program.resolve().is_relative_to(root.resolve()):
            return root
    folder = program.resolve().parent.parent
    return folder.parent if folder.name in ("atc", "compiler") else folder


def _scripts(root: Path) -> tuple[Path, ...]:
    return (root / "set_env.sh", root.parent / "set_env.sh", root / "bin" / "setenv.bash")


def _version(root: Path) -> str:
    for pattern in _VERSION_FILES:
        for file in sorted(root.glob(pattern)):
            try:
                with open(file, encoding="utf-8", errors="replace") as stream:
                    text = stream.read(_LONGEST)
            except OSError:
                continue
            found = re.search(r"^version\s*=\s*\[?v?([0-9][\w.]*)", text, re.MULTILINE | re.IGNORECASE)
            if found:
                return found.group(1)
    # 'latest' holds links into the folder of a version.
    for place in ("compiler", "atc", "."):
        for part in reversed((root / place).resolve().parts):
            if re.fullmatch(r"\d{1,2}\.\d{1,2}(\.\w+)*", part):
                return part
    return ""
