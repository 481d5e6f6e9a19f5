"""TIFF directories, which are also what EXIF is made of (TIFF 6.0, BigTIFF, EXIF 2.32)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ORIENTATION = 274

# Integer field types -> bytes of one value; other types hold nothing that is needed here.
_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}
_MOST_ENTRIES = 4096

Values = npt.NDArray[np.unsignedinteger[npt.NBitBase]]


class IfdError(ValueError):
    """The directory leads out of its file or is not one; the text completes the sentence 'it ...'."""


def read_ifd(data: bytes, *, linked: bool) -> dict[int, Values]:
    """The integer fields of the first directory.

    Parameters
    ----------
    data
        A TIFF file, or the TIFF block of EXIF data.
    linked
        Whether the offset of a next directory must follow; some writers of EXIF leave it out.

    Returns
    -------
    dict
        From tag number to its values.

    Raises
    ------
    IfdError
        If a part lies outside ``data``.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        raise IfdError("has no TIFF byte order mark")
    version = _number(data, 2, 2, order)
    if version == 42:
        start, count_size, value_size = _number(data, 4, 4, order), 2, 4
    elif version == 43:
        start, count_size, value_size = _number(data, 8, 8, order), 8, 8
    else:
        raise IfdError(f"is of an unknown TIFF version, {version}")
    count = _number(data, start, count_size, order)
    if count > _MOST_ENTRIES:
        raise IfdError(f"declares {count} directory entries")
    fields: dict[int, Values] = {}
    entry_size = 4 + 2 * value_size
    if linked:
        _number(data, start + count_size + count * entry_size, value_size, order)
    for i in range(count):
        at = start + count_size + i * entry_size
        tag, kind = _number(data, at, 2, order), _number(data, at + 2, 2, order)
        many = _number(data, at + 4, value_size, order)
        if kind not in _SIZES:
            continue
        size = _SIZES[kind]
        place = at + 4 + value_size
        if many * size > value_size:
            place = _number(data, place, value_size, order)
        if place + many * size > len(data):
            raise IfdError(f"is cut short: its field {tag} lies behind its end")
        fields[tag] = np.frombuffer(data, f"{order}u{size}", many, place)
    return fields


def exif_orientation(data: bytes) -> int:
    """The orientation 1..8 that EXIF data state; 1 if they state none or cannot be read."""
    try:
        values = read_ifd(data.removeprefix(b"Exif\0\0"), linked=False).get(ORIENTATION)
    except IfdError:  # broken EXIF does not make a broken picture
        return 1
    return int(values[0]) if values is not None and len(values) and 1 <= values[0] <= 8 else 1


def _number(data: bytes, at: int, size: int, order: str) -> int:
    if at + size > len(data):
        raise IfdError("is cut short: its directory lies behind its end")
    return int.from_bytes(data[at : at + size], "little" if order == "<" else "big")
