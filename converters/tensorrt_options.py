"""Options of the targets with TensorRT's builder."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepose.errors import ConversionError

#: Longest side of an input in pixels that anyone would ask for, and the largest batch.
_LARGEST = 1 << 15
Size = tuple[int, int]
Build = Literal["auto", "here", "on-device"]


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes
    ----------
    min_batch, opt_batch, max_batch
        Smallest, usual and largest batch of an engine whose batch is dynamic; larger batches are run in parts.
    min_size, opt_size, max_size
        Likewise (height, width) in pixels; None for what the model's way of fitting pictures implies.
    workspace
        MiB that a layer may use beside its inputs and outputs; None for all that there is.
    timing_cache
        File in which measured kernels are kept from one build to the next.
    dla_core
        Number of the deep-learning accelerator to build for, with the GPU for what it cannot do; None for the GPU.
    version_compatible
        Whether newer versions of the software shall take the engine too.
    hardware_compatible
        Which other GPUs shall take it too: ``ampere+``, ``same-compute-capability``, or None.
    strongly_typed
        Whether the element types are those of the graph where the builder could choose them too.
    via
        Who builds: ``api``, the vendor's Python module, or its command-line tool by name.
    build
        ``here``, ``on-device`` (when it is loaded there for the first time), or ``auto``: here if the software and a
        GPU are.
    """

    min_batch: int = 1
    opt_batch: int = 1
    max_batch: int = 8
    min_size: Size | None = None
    opt_size: Size | None = None
    max_size: Size | None = None
    workspace: int | None = None
    timing_cache: str | None = None
    dla_core: int | None = None
    version_compatible: bool = False
    hardware_compatible: str | None = None
    strongly_typed: bool = False
    via: str = "api"
    build: Build = "auto"

    def built(self) -> dict[str, Any]:
        """Those that matter once shapes are known, as plain data; without those left at their defaults."""
        kept = ("workspace", "dla_core", "version_compatible", "hardware_compatible", "strongly_typed")
        default = BuildOptions()
        return {n: getattr(self, n) for n in kept if getattr(self, n) != getattr(default, n)}


def read_options(title: str, options: Mapping[str, Any], known: Sequence[str]) -> BuildOptions:
    """Check options, which may be the texts that a user wrote.

    Parameters
    ----------
    title
        The target, for messages.
    options
        Name -> value.
    known
        Those that the target has.

    Raises
    ------
    ConversionError
        If one is unknown or has an impossible value.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConversionError(f"{title} has no option {', '.join(unknown)}.", hint=f"Options: {', '.join(known)}.")
    read: dict[str, Any] = {name: _read(title, name, value) for name, value in options.items()}
    given = BuildOptions(**read)
    low, high = given.min_batch, given.max_batch
    if "opt_batch" not in read:
        given = dataclasses.replace(given, opt_batch=min(max(given.opt_batch, low), high))
    if not low <= given.opt_batch <= high:
        raise ConversionError(f"{title}: the batches {low}, {given.opt_batch}, {high} are not in ascending order.")
    return given


def _read(title: str, name: str, value: Any) -> Any:
    text = str(value).strip().lower()
    if name in ("min_batch", "opt_batch", "max_batch", "workspace"):
        return _number(title, name, value, 1)
    if name == "dla_core":
        return _number(title, name, value, 0)
    if name in ("min_size", "opt_size", "max_size"):
        if isinstance(value, (tuple, list)):
            text = "x".join(map(str, value))
        found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
        if not found:
            raise ConversionError(f"{title}: '{name}' is {value!r}, must be HEIGHTxWIDTH.")
        return int(found[1]), int(found[2])
    if name == "timing_cache":
        path = Path(str(value))
        if not path.parent.is_dir():
            raise ConversionError(f"{title}: the folder of the timing cache '{path}' does not exist.")
        return str(path)
    if name in ("version_compatible", "strongly_typed"):
        return _one_of(title, name, text, {"true": True, "on": True, "false": False, "off": False})
    if name == "hardware_compatible":
        return _one_of(title, name, text, {n: n for n in ("ampere+", "same-compute-capability")})
    if name == "via":
        return _one_of(title, name, text, {n: n for n in ("api", "ixrtexec")})
    return _one_of(title, name, text, {n: n for n in ("auto", "here", "on-device")})


def _number(title: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", str(value)) or int(value) < least:
        raise ConversionError(f"{title}: '{name}' is {value!r}, must be a whole number of at least {least}.")
    number = int(value)
    if name.endswith("_batch") and number > _LARGEST:
        raise ConversionError(f"{title}: '{name}' is {number}; no batch is so large.")
    return number


def _one_of(title: str, name: str, text: str, allowed: Mapping[str, Any]) -> Any:
    if text not in allowed:
        raise ConversionError(f"{title}: '{name}' is '{text}', must be one of {', '.join(allowed)}.")
    return allowed[text]
