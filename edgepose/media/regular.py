"""Opening files that somebody else named: never a folder, a pipe or a device, and never more than a limit."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from ..errors import MediaError
from .kinds import HEAD_BYTES, Kind, identify


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises
    ------
    MediaError
        If it is missing, empty, unreadable, a folder, a pipe or a device.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device, not a file"
            raise MediaError(f"Cannot read '{path}': it is {what}.")
        # Without blocking, because a pipe may take the file's place between the two calls.
        stream = open(  # noqa: SIM115 - it is what is returned
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        )
    except FileNotFoundError as error:
        reason = "it is a link to a file that does not exist" if Path(path).is_symlink() else "there is no such file"
        raise MediaError(f"Cannot read '{path}': {reason}.") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise MediaError(f"Cannot read '{path}': {reason}.") from error
    status = os.fstat(stream.fileno())
    if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
        stream.close()
        reason = "it is empty" if stat.S_ISREG(status.st_mode) else "it is not a file any more"
        raise MediaError(f"Cannot read '{path}': {reason}.")
    return stream


def kind_of(path: str | Path) -> Kind | None:
    """What a file is by its first bytes; None if nothing known.

    Raises
    ------
    MediaError
        If it cannot be read.
    """
    with open_regular(path) as stream:
        return identify(_read(stream, HEAD_BYTES, path))


def read_regular(path: str | Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises
    ------
    MediaError
        If it cannot be read or is longer.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > limit:
            raise MediaError(f"Cannot read '{path}': it has {size:,} bytes, more than the {limit:,} that are allowed.")
        return _read(stream, size, path)


def _read(stream: BinaryIO, count: int, path: str | Path) -> bytes:
    try:
        return stream.read(count)
    except OSError as error:
        raise MediaError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except MemoryError as error:
        raise MediaError(f"Cannot read '{path}': there is not enough memory for its {count:,} bytes.") from error
