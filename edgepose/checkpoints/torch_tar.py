"""PyTorch checkpoints before 0.1.10: a tar archive of storages, tensors and a pickle.

Facts: ``torch/serialization.py`` of PyTorch 2.13, ``legacy_load``; the ustar header of POSIX.1-1988.
"""

from __future__ import annotations

import struct

from .base import Checkpoint
from .elements import MAX_DIMENSIONS
from .mapped_file import BYTES_PER_ARRAY, Cursor, MappedFile
from .pickle_machine import PickleMachine
from .pickle_records import ElementType, Storage, Tensor
from .torch_legacy import FORMAT
from .torch_state import checkpoint_of
from .torch_tensors import TensorReader

_BLOCK = 512
MAGIC, MAGIC_AT = b"ustar", 257
_PARTS = ("storages", "tensors", "pickle")


def read_tar(file: MappedFile) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    UnsafeCheckpointError
        If a pickle in it asks for anything but data.
    CheckpointError
        If it is damaged, another archive than PyTorch's, or holds no named tensors.
    """
    parts = _parts(file)
    missing = [name for name in _PARTS if name not in parts]
    if missing:
        raise file.error(
            f"is a tar archive without {' and '.join(missing)}: no PyTorch checkpoint.",
            hint="Unpack it and give the checkpoint file in it.",
        )
    storages, contents = _storages(file, parts["storages"])
    tensors = _tensors(file, parts["tensors"], storages)

    def refer(identifier: object) -> object:
        if isinstance(identifier, int | str) and str(identifier) in tensors:
            return tensors[str(identifier)]
        if isinstance(identifier, int | str) and str(identifier) in storages:
            return storages[str(identifier)]
        raise file.error("is damaged: its pickle refers to a tensor that is not there.")

    root = PickleMachine(file, parts["pickle"], refer).load()
    reader = TensorReader(file, contents.__getitem__, big_endian=False)
    return checkpoint_of(file, FORMAT, root, reader, {"container": "tar"})


def _parts(file: MappedFile) -> dict[str, memoryview]:
    """Name -> content of the members that make up a checkpoint."""
    parts: dict[str, memoryview] = {}
    position = 0
    while position + _BLOCK <= file.size:
        header = bytes(file.data[position : position + _BLOCK])
        if not any(header):  # the archive ends with empty blocks
            break
        file.memory.take(BYTES_PER_ARRAY, "the tar archive")
        # The checksum is of the header with its own eight bytes taken as blanks.
        if _octal(file, header[148:156]) != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
            raise file.error("is damaged: a header of the tar archive does not fit its checksum.")
        size = _octal(file, header[124:136])
        start = position + _BLOCK
        if start + size > file.size:
            raise file.error("is cut off: a member of the tar archive reaches past the end.")
        name = header[:100].rstrip(b"\0").decode("utf-8", "replace")
        parts.setdefault(name, file.data[start : start + size])
        position = start + -(-size // _BLOCK) * _BLOCK
    return parts


def _octal(file: MappedFile, text: bytes) -> int:
    digits = text.strip(b" \0")
    if not digits or not all(0x30 <= digit <= 0x37 for digit in digits):
        raise file.error("is damaged: a header of the tar archive has no size.")
    return int(digits, 8)


class _Part:
    """Pickles and numbers one after another."""

    def __init__(self, file: MappedFile, data: memoryview, name: str) -> None:
        self.file, self.data, self.name = file, data, name
        self.cursor = Cursor(file, data)
        self._machine = PickleMachine(file, data, self._refuse)

    def _refuse(self, identifier: object) -> object:
        raise self.error()

    def error(self) -> Exception:
        return self.file.error(f"is damaged: '{self.name}' in the tar archive makes no sense.")

    def pickle(self) -> object:
        self._machine.position = self.cursor.position
        value = self._machine.load()
        self.cursor.position = self._machine.position
        return value

    def count(self) -> int:
        value = self.pickle()
        if type(value) is not int or not 0 <= value <= self.cursor.left:
            raise self.error()
        return value

    def triple(self) -> tuple[object, object, object]:
        value = self.pickle()
        if not isinstance(value, tuple) or len(value) != 3:
            raise self.error()
        return value


def _storages(file: MappedFile, data: memoryview) -> tuple[dict[str, Storage], dict[str, memoryview]]:
    """Key -> storage, and key -> its bytes; views of a storage refer to the bytes of the whole."""
    part = _Part(file, data, "storages")
    storages: dict[str, Storage] = {}
    contents: dict[str, memoryview] = {}
    for _ in range(part.count()):
        key, _device, kind = part.triple()
        count = part.cursor.i64("the size of a storage")
        if not isinstance(key, int | str) or not isinstance(kind, ElementType) or not 0 <= count <= part.cursor.left:
            raise part.error()
        storages[str(key)] = Storage(str(key), kind, count)
        contents[str(key)] = part.cursor.take(count * kind.size, "a storage")
    views = part.pickle()
    if not isinstance(views, list):
        raise part.error()
    for view in views:
        if not isinstance(view, tuple) or len(view) != 4 or not all(type(number) is int for number in view):
            raise part.error()
        target, root, offset, count = view
        if str(root) not in storages:
            raise part.error()
        whole = storages[str(root)]
        storages[str(target)] = Storage(whole.key, whole.type, count, whole.offset + offset)
    return storages, contents


def _tensors(file: MappedFile, data: memoryview, storages: dict[str, Storage]) -> dict[str, Tensor]:
    part = _Part(file, data, "tensors")
    tensors: dict[str, Tensor] = {}
    for _ in range(part.count()):
        key, storage_key, _class = part.triple()
        storage = storages.get(str(storage_key)) if isinstance(storage_key, int | str) else None
        rank = part.cursor.i32("a tensor")
        part.cursor.take(4, "a tensor")  # the rank was an int64 once
        if storage is None or not isinstance(key, int | str) or not 0 <= rank <= MAX_DIMENSIONS:
            raise part.error()
        numbers = struct.unpack(f"<{2 * rank + 1}q", part.cursor.take(8 * (2 * rank + 1), "a tensor"))
        tensors[str(key)] = Tensor(storage, storage.type, numbers[-1], numbers[:rank], numbers[rank : 2 * rank])
    return tensors
