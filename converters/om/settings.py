"""What the user may choose for an ``.om``, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepose.errors import ConversionError

#: SoCs that edgepose knows, by the kind of device.
SOC = re.compile(r"Ascend310(P[1-9]|B[1-9])?")
DEFAULT_SOC = "Ascend310"
OPTIONS = ("soc_version", "opset", "dynamic_batch_size", "dynamic_image_size", "aipp", "cann", "recipe")
#: Profiles of one model, and the largest batch of one (CANN's documentation of --dynamic_batch_size).
_MOST_PROFILES, _LARGEST_BATCH = 100, 2048
_LARGEST_SIDE = 8192
#: Versions of ONNX's operator set that a version of CANN takes: from (major, minor) on -> oldest, newest.
_OPSETS = {(9, 1): (11, 18), (8, 0): (11, 15), (7, 0): (9, 18), (0, 0): (11, 11)}
#: Every version of CANN takes it.
SAFE_OPSET = 11
#: Per-channel scales of QuantizeLinear are of this opset.
QUANTISED_OPSET = 13
_YES = {"on": True, "off": False, True: True, False: False}


@dataclass(frozen=True)
class Settings:
    """Checked options.

    Attributes
    ----------
    soc
        As ``--soc_version`` takes it; empty if it was not chosen.
    opset
        Version of the operator set; None for the one that fits.
    batches
        Batch sizes to choose from; empty for one.
    sizes
        Heights and widths to choose from; empty for one.
    aipp
        Whether the image unit does colour order and normalisation.
    cann
        Version of CANN that compiles; empty for the one that is here.
    recipe
        Whether only what ``atc`` needs is written.
    """

    soc: str
    opset: int | None
    batches: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    aipp: bool
    cann: str
    recipe: bool


def checked(options: Mapping[str, Any]) -> Settings:
    """Check options.

    Raises
    ------
    ConversionError
        If one is unknown or of the wrong form.
    """
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise ConversionError(
            f"The target 'om' has no option {', '.join(unknown)}.", hint=f"Options: {', '.join(OPTIONS)}."
        )
    batches = _profiles(options, "dynamic_batch_size", 1, _LARGEST_BATCH, ",")
    sizes = _profiles(options, "dynamic_image_size", 2, _LARGEST_SIDE, ";")
    if batches and sizes:
        raise ConversionError(
            "atc takes profiles of the batch or of the size, not of both.",
            hint="Leave out dynamic_batch_size or dynamic_image_size.",
        )
    soc = str(options.get("soc_version", ""))
    if soc and not SOC.fullmatch(soc):
        raise ConversionError(
            f"The option 'soc_version' is {soc!r}; edgepose compiles for the family of Ascend 310.",
            hint="For instance Ascend310, Ascend310P3, Ascend310B1 or Ascend310B4: 'Ascend' and the Name that"
            " npu-smi info shows.",
        )
    cann = str(options.get("cann", ""))
    if cann and not re.match(r"\d{1,2}\.\d{1,2}\b", cann):
        raise ConversionError(f"The option 'cann' is {cann!r}, no version of CANN, such as 7.0 or 8.0.RC3.")
    return Settings(
        soc,
        _opset(options),
        tuple(b for (b,) in batches),
        tuple((h, w) for h, w in sizes),
        _switch(options, "aipp"),
        cann,
        _switch(options, "recipe"),
    )


def opsets_of(release: tuple[int, int] | None) -> tuple[int, int]:
    """Oldest and newest opset that a release of CANN takes; what all take where it is not known."""
    if release is None:
        return SAFE_OPSET, SAFE_OPSET
    return next(span for since, span in _OPSETS.items() if release >= since)


def _opset(options: Mapping[str, Any]) -> int | None:
    if "opset" not in options:
        return None
    text = str(options["opset"])
    if not re.fullmatch(r"[0-9]{1,2}", text) or int(text) < SAFE_OPSET:
        raise ConversionError(f"The option 'opset' is {text!r}, must be a number of at least {SAFE_OPSET}.")
    return int(text)


def _switch(options: Mapping[str, Any], name: str) -> bool:
    given = options.get(name, False)
    if not isinstance(given, (bool, str)) or given not in _YES:
        raise ConversionError(f"The option '{name}' is {given!r}, must be 'on' or 'off'.")
    return _YES[given]


def _profiles(options: Mapping[str, Any], name: str, numbers: int, largest: int, between: str) -> list[tuple[int, ...]]:
    """``1,2,4`` or ``256,192;384,288`` -> tuples of so many numbers, in order, each once."""
    given = options.get(name, "")
    if isinstance(given, (list, tuple)):
        given = between.join(",".join(map(str, p)) if isinstance(p, (list, tuple)) else str(p) for p in given)
    text = str(given).replace(" ", "")
    if not text:
        return []
    parts = [part.split(",") for part in text.split(between)]
    right = all(len(p) == numbers and all(re.fullmatch(r"[1-9][0-9]{0,4}", n) for n in p) for p in parts)
    profiles = sorted({tuple(map(int, p)) for p in parts}) if right else []
    if not right or any(n > largest for p in profiles for n in p) or not 2 <= len(profiles) <= _MOST_PROFILES:
        example = "1,2,4,8" if numbers == 1 else "256,192;384,288"
        raise ConversionError(
            f"The option '{name}' is {given!r}; it must be 2 to {_MOST_PROFILES} profiles of up to {largest},"
            f" such as {example}."
        )
    return profiles
