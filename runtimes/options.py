"""Options that a user hands to a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgepose.errors import DeviceError


def refuse_unknown(owner: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse options that a runtime does not have, so that a misspelt one is not silently ignored.

    Raises
    ------
    DeviceError
        If there is one.
    """
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DeviceError(f"{owner} has no option {', '.join(unknown)}.", hint=f"Options: {', '.join(known)}.")


def whole_number(owner: str, options: Mapping[str, Any], name: str) -> int | None:
    """The option ``name``, a number or the text of one; None where it is not given.

    Raises
    ------
    DeviceError
        If it is not a whole number of at least 1.
    """
    if name not in options:
        return None
    given = options[name]
    try:
        number = int(str(given))
    except ValueError:
        number = 0
    if number < 1 or isinstance(given, bool):
        raise DeviceError(f"{owner}: '{name}' is {given!r}, must be a whole number of at least 1.")
    return number


def choice(owner: str, options: Mapping[str, Any], name: str, allowed: Sequence[str]) -> str:
    """The option ``name``, one of ``allowed``; the first of them where it is not given.

    Raises
    ------
    DeviceError
        If it is something else.
    """
    given = options.get(name, allowed[0])
    if given not in allowed:
        raise DeviceError(f"{owner}: '{name}' is {given!r}, must be one of {', '.join(map(repr, allowed))}.")
    return str(given)
