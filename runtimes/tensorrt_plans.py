"""Where a plan was built, and the cache of the plans that were built here."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepose.errors import DeviceError, InputError

from .cuda import Gpu

#: Format of the record that lies beside a plan, with this ending more.
RECORD_FORMAT = "edgepose.plan"
RECORD_ENDING = ".json"
_VERSION = 1
#: A record is some lines of text.
_MAX_RECORD_BYTES = 1 << 20
#: Compute capability from which on hardware-compatible plans work.
_AMPERE = 8


@dataclass(frozen=True)
class Place:
    """What a plan is bound to.

    Attributes
    ----------
    software, version
        The vendor's software.
    gpu
        The GPU; None where plans are not bound to one.
    """

    software: str
    version: str
    gpu: Gpu | None = None

    def __str__(self) -> str:
        return f"{self.software} {self.version}" + (f" on {self.gpu}" if self.gpu else "")


@dataclass(frozen=True)
class Record:
    """What is known about a plan without opening it.

    Attributes
    ----------
    place
        Where it was built.
    any_version
        Whether newer versions of the software take it too.
    any_gpu
        Which other GPUs take it: ``""``, ``ampere+`` or ``same-compute-capability``.
    dla_core
        The DLA core that it uses, or None.
    rebuild
        The command that makes it anew.
    """

    place: Place
    any_version: bool = False
    any_gpu: str = ""
    dla_core: int | None = None
    rebuild: str = ""

    def to_json(self) -> str:
        """The text of the record."""
        return json.dumps({"format": RECORD_FORMAT, "version": _VERSION, **asdict(self)}, indent=1) + "\n"

    def check(self, here: Place, engine: Path) -> None:
        """Refuse a plan that cannot work here, before it is opened.

        Raises
        ------
        DeviceError
            If it is from another version or GPU; the hint is the command that makes it anew.
        """
        built = self.place
        wrong = []
        if built.software != here.software or (built.version != here.version and not self.any_version):
            wrong.append(f"this is {here.software} {here.version}")
        if built.gpu is not None and not self._takes(built.gpu, here.gpu):
            wrong.append(f"this GPU is {here.gpu}")
        if wrong:
            raise DeviceError(
                f"'{engine}' was built by {built}, and {' and '.join(wrong)}; plans are not portable.",
                hint=f"Build it anew here: {self.rebuild}" if self.rebuild else "Convert the checkpoint again, here.",
            )

    def _takes(self, built: Gpu, here: Gpu | None) -> bool:
        if here is None:
            return False
        if self.any_gpu == "ampere+":
            return min(_generation(built), _generation(here)) >= _AMPERE
        if self.any_gpu == "same-compute-capability":
            return built.compute_capability == here.compute_capability
        return built == here


def _generation(gpu: Gpu) -> int:
    major = gpu.compute_capability.split(".")[0]
    return int(major) if major.isdecimal() else 0


def read_record(engine: Path) -> Record | None:
    """The record beside a plan; None if there is none, because the plan comes from elsewhere.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = engine.with_name(engine.name + RECORD_ENDING)
    if not path.is_file():
        return None
    data = read_json(path, RECORD_FORMAT)
    try:
        place, gpu = data["place"], data["place"]["gpu"]
        known = None
        if gpu is not None:
            known = Gpu(str(gpu["name"]), str(gpu["compute_capability"]), int(gpu["multiprocessors"]))
        core = data.get("dla_core")
        return Record(
            Place(str(place["software"]), str(place["version"]), known),
            data.get("any_version") is True,
            str(data.get("any_gpu", "")),
            None if core is None else int(core),
            str(data.get("rebuild", "")),
        )
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"'{path}' is damaged: {error!r}.", hint="Copy the bundle again.") from error


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """A small JSON object of edgepose's own.

    Raises
    ------
    InputError
        If it cannot be read, is too large or is something else.
    """
    try:
        if path.stat().st_size > _MAX_RECORD_BYTES:
            raise InputError(f"'{path}' is too large for what it should be.")
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is damaged: {error}.", hint="Copy the bundle again.") from error
    if not isinstance(data, dict) or data.get("format") != kind or data.get("version") != _VERSION:
        raise InputError(f"'{path}' is not what this edgepose writes ('{kind}', version {_VERSION}).")
    return data


def cache_folder() -> Path:
    """Folder of the plans that were built here: in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".cache") / "edgepose" / "plans"


def cached_plan(here: Place, recipe: str) -> Path:
    """Where the plan of a recipe lies once it was built here.

    Parameters
    ----------
    here
        GPU and software.
    recipe
        Hash of recipe and graph.
    """
    key = hashlib.sha256(json.dumps([asdict(here), recipe], sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"{key}.engine"
