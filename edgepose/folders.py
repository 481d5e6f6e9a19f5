"""Writing folders whole or not at all, also when the process is killed at any moment.

What is being written lies beside its place under a name that begins with a dot and ends in ``.part``, and is locked by
the process that writes it.  The kernel gives the lock back when that process ends, however it ends, so a part that
nobody holds was left behind; the next writing to the same place removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

#: Arguments of renameat2(2): relative to the current folder; let the two change places.
_HERE, _EXCHANGE = -100, 2
#: What a kernel or file system answers that cannot exchange.
_CANNOT = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EXDEV, errno.EPERM))
#: Bytes of the folder's name in the temporary one: file systems take 255, and what is added needs some.
_LONGEST = 200
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder; on success it takes the place of ``folder``, on any error nothing is left of it.

    A folder that stood there is replaced.  Where kernel and file system can exchange two names (Linux on ext4, xfs,
    btrfs, tmpfs), the old or the new one is there at every moment; elsewhere a process that is killed between two
    renamings leaves the old one as ``.<name>.<numbers>.old``.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    folder = folder.absolute()
    _remove_leftovers(folder)
    temporary, lock = _claimed(folder)
    try:
        yield temporary
        _put(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # what was replaced, if the two changed places
        os.close(lock)


def _claimed(folder: Path) -> tuple[Path, int]:
    """A new folder beside ``folder``, and the descriptor that locks it."""
    while True:
        temporary = folder.with_name(f"{_prefix(folder)}{os.getpid()}-{secrets.token_hex(4)}.part")
        temporary.mkdir()
        # Before it is locked, another process may take it for a leftover.
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(temporary, _OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if temporary.exists():
                    return temporary, lock
            except BlockingIOError:
                pass
            except OSError:  # no locks on this file system, so nobody removes it either
                return temporary, lock
            os.close(lock)


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left of ``folder``."""
    name = re.compile(re.escape(_prefix(folder)) + r"[0-9]+-[0-9a-f]{8}\.part")
    for leftover in [p for p in folder.parent.iterdir() if name.fullmatch(p.name)]:
        with contextlib.suppress(OSError):  # it is gone by now, or no folder
            lock = os.open(leftover, _OPEN)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if it is still being written
                shutil.rmtree(leftover, ignore_errors=True)
            finally:
                os.close(lock)


def _prefix(folder: Path) -> str:
    return f".{os.fsdecode(os.fsencode(folder.name)[:_LONGEST])}."


def _put(temporary: Path, folder: Path) -> None:
    """Let ``temporary`` take the place of ``folder``; the old one is at ``temporary`` then, or nothing."""
    if not folder.exists():
        temporary.rename(folder)
    elif not _exchanged(temporary, folder):
        old = temporary.with_suffix(".old")
        folder.rename(old)
        try:
            temporary.rename(folder)
        except OSError:
            old.rename(folder)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchanged(first: Path, second: Path) -> bool:
    """Exchange two names at once; False where that cannot be done.

    Raises
    ------
    OSError
        If the names cannot be changed at all.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    if call(_HERE, os.fsencode(first), _HERE, os.fsencode(second), ctypes.c_uint(_EXCHANGE)) == 0:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(first), None, str(second))
