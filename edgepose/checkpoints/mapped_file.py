"""A checkpoint file as memory, with books on what reading it may take."""

from __future__ import annotations

import mmap
import os
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CheckpointError

#: Reading may take this many times the size of the file, and this much besides, all bookkeeping included.
MEMORY_FACTOR = 3
MEMORY_BASE = 52 << 20
#: What an array costs beside its data: the ndarray, its memoryview, its name and its place in two dicts.
BYTES_PER_ARRAY = 1024


class Memory:
    """What reading one checkpoint may still allocate.

    Readers give views of the mapped file and take nothing for those; all that must be copied or built is taken from
    here first, so that a small file cannot ask for much memory.

    Parameters
    ----------
    name
        The file, for the error.
    size
        Its size in bytes.
    """

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.left = MEMORY_FACTOR * size + MEMORY_BASE

    def take(self, count: int, purpose: str) -> None:
        """Note that ``count`` bytes are about to be allocated.

        Raises
        ------
        CheckpointError
            If that is more than a file of this size has any reason to need.
        """
        if count > self.left:
            raise CheckpointError(
                f"'{self.name}': {purpose} would take {count} bytes of memory, far more than the file itself.",
                hint="The file is damaged, or made to exhaust memory.",
            )
        self.left -= count

    def grow(self, size: int) -> None:
        """Allow for another file of ``size`` bytes that belongs to the checkpoint."""
        self.left += MEMORY_FACTOR * size


@dataclass(frozen=True, eq=False)
class MappedFile:
    """A file mapped into memory, read-only.

    Attributes
    ----------
    path
        The file.
    data
        Its content; slices are views that keep the mapping alive.
    memory
        What reading may allocate.
    """

    path: Path
    data: memoryview
    memory: Memory = field(repr=False)

    @property
    def name(self) -> str:
        """The path as text, for errors."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.data)

    def has(self, magic: bytes, position: int = 0) -> bool:
        """Whether these bytes stand at ``position``."""
        return bytes(self.data[position : position + len(magic)]) == magic

    def error(self, message: str, *, hint: str | None = None) -> CheckpointError:
        """The error that this file is damaged, with its name put before ``message``."""
        return CheckpointError(f"'{self.name}' {message}", hint=hint)


def map_file(path: Path) -> MappedFile:
    """Map a file into memory.

    Raises
    ------
    CheckpointError
        If it is not there, a folder, a dangling link, no regular file, empty or not readable.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CheckpointError(f"'{path}' is a folder, not a checkpoint.", hint="Give the checkpoint file in it.")
        if not stat.S_ISREG(mode):  # opening a named pipe would wait for ever
            raise CheckpointError(f"'{path}' is no regular file.")
        with open(path, "rb") as stream:
            if os.fstat(stream.fileno()).st_size == 0:
                raise CheckpointError(f"'{path}' is empty.", hint="It was not copied or downloaded completely.")
            mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        if path.is_symlink():
            raise CheckpointError(f"'{path}' is a link to '{path.readlink()}', which does not exist.") from None
        raise CheckpointError(f"'{path}' does not exist.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"Cannot read '{path}': {reason}.") from error
    return MappedFile(path, memoryview(mapping), Memory(str(path), len(mapping)))


class Cursor:
    """Reads little-endian fields one after another, never past the end.

    Parameters
    ----------
    file
        The file, for errors.
    data
        The part of it to read.
    """

    def __init__(self, file: MappedFile, data: memoryview) -> None:
        self._file = file
        self.data = data
        self.position = 0

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self.data) - self.position

    def take(self, count: int, what: str) -> memoryview:
        """The next ``count`` bytes, as a view.

        Raises
        ------
        CheckpointError
            If there are not so many.
        """
        if not 0 <= count <= self.left:
            raise self._file.error(f"ends inside {what}: {count} bytes wanted, {self.left} left.")
        view = self.data[self.position : self.position + count]
        self.position += count
        return view

    def _number(self, form: str, size: int, what: str) -> int:
        number: int
        (number,) = struct.unpack(form, self.take(size, what))
        return number

    def u16(self, what: str) -> int:
        """An unsigned integer of 2 bytes."""
        return self._number("<H", 2, what)

    def u32(self, what: str) -> int:
        """An unsigned integer of 4 bytes."""
        return self._number("<I", 4, what)

    def i32(self, what: str) -> int:
        """A signed integer of 4 bytes."""
        return self._number("<i", 4, what)

    def u64(self, what: str) -> int:
        """An unsigned integer of 8 bytes."""
        return self._number("<Q", 8, what)

    def i64(self, what: str) -> int:
        """A signed integer of 8 bytes."""
        return self._number("<q", 8, what)
