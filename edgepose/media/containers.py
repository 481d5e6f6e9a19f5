"""Whether a video file is complete, told by the lengths that its container declares.

Decoders play a video that was cut short up to the cut and say nothing.  Layouts from ISO/IEC 14496-12 (MP4, MOV),
Microsoft's RIFF (AVI) and RFC 8794 with RFC 9559 (EBML, Matroska, WebM).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from .regular import open_regular

# More top-level boxes than a day of fragmented video has.
_MOST_BOXES = 200_000
_MATROSKA_SEGMENT = 0x18538067


def defect(path: str | Path, kind: str) -> str | None:
    """What is missing from a video file; None if nothing is known to be.

    Parameters
    ----------
    path
        The file.
    kind
        ``MP4``, ``AVI`` or ``Matroska``.

    Returns
    -------
    str or None
        Completes the sentence 'it ...'.

    Raises
    ------
    MediaError
        If the file cannot be read.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            return {"MP4": _mp4, "AVI": _avi, "Matroska": _matroska}[kind](stream, size)
        except struct.error:
            return "is cut short: its header is incomplete"
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"


def _mp4(stream: BinaryIO, size: int) -> str | None:
    at, indexed = 0, False
    for _ in range(_MOST_BOXES):
        if at + 8 > size:
            break
        stream.seek(at)
        length, name = struct.unpack(">I4s", stream.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", stream.read(8))
        elif length == 0:
            length = size - at
        if length < 8 or not name.isalnum():
            break  # what follows is no box; players ignore it
        indexed |= name == b"moov"
        at += length
        if at > size:
            return _missing(at - size)
    return None if indexed else "has no index (moov box): its recording was not finished"


def _avi(stream: BinaryIO, size: int) -> str | None:
    at = 0
    for _ in range(_MOST_BOXES):
        if at + 12 > size:
            break
        stream.seek(at)
        name, length = struct.unpack("<4sI", stream.read(8))
        if name != b"RIFF" or length == 0:
            break
        at += 8 + length + (length & 1)
        if at - (length & 1) > size:
            return _missing(at - size)
    return None


def _matroska(stream: BinaryIO, size: int) -> str | None:
    at = 0
    for _ in range(8):
        if at >= size:
            break
        stream.seek(at)
        identity, _ = _vint(stream, keep_marker=True)
        length, unknown = _vint(stream, keep_marker=False)
        if unknown:  # written by a recorder that could not go back
            return None
        at = stream.tell() + length
        if at > size:
            return _missing(at - size)
        if identity == _MATROSKA_SEGMENT:
            return None
    return "holds no Matroska segment"


def _vint(stream: BinaryIO, keep_marker: bool) -> tuple[int, bool]:
    """A number of variable length; its leading zero bits tell how many bytes follow.  True if all bits are set."""
    (first,) = struct.unpack("B", stream.read(1))
    extra = 8 - first.bit_length()
    if extra > 7:
        raise struct.error("no length bit")
    value = first if keep_marker else first & (0x7F >> extra)
    for byte in struct.unpack(f"{extra}B", stream.read(extra)):
        value = value << 8 | byte
    return value, value == (1 << 7 * (extra + 1)) - 1


def _missing(count: int) -> str:
    return f"is cut short: {count:,} of its bytes are missing"
