"""Writing files whole or not at all, and hashing them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside ``path``; on success it is renamed to ``path``, on any error removed.

    The temporary name keeps the suffix, because encoders choose the format by it.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written, or ``path`` is a folder, a pipe or a device.
    """
    path = Path(path)
    # Not all of the name: the longest that a file system takes would become too long.
    temporary = path.with_name(f".{path.stem[:40]}.{os.getpid()}-{secrets.token_hex(4)}.part{path.suffix}")
    if path.is_dir():
        raise InputError(f"Cannot write '{path}': it is a folder.")
    if path.exists() and not path.is_file():  # renaming would put a file in the place of /dev/null
        raise InputError(f"Cannot write '{path}': it is a pipe or a device, not a file.")
    if not path.parent.is_dir():
        raise InputError(f"Cannot write '{path}': the folder '{path.parent}' does not exist.")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"Cannot write '{path}': {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_whole(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    with whole_file(path) as temporary, open(temporary, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def refuse_unwritable(path: str | Path) -> None:
    """Refuse before the work what could not be written after it.

    Raises
    ------
    InputError
        If the path is a folder, or its folder does not exist.
    """
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        reason = "it is a folder" if path.is_dir() else f"the folder '{path.parent}' does not exist"
        raise InputError(f"Cannot write '{path}': {reason}.")


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal, read in pieces.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as stream:
            while piece := stream.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    return digest.hexdigest()
