"""PyTorch checkpoints before 1.6: pickles one after another, then the bytes of the storages.

Facts: ``torch/serialization.py`` of PyTorch 2.13, ``_legacy_save``: a magic number, a protocol number and a table about
the machine, each a pickle; the object; the list of storage keys; for each key the number of elements as int64 and the
elements.
"""

from __future__ import annotations

from .base import Checkpoint
from .mapped_file import Cursor, MappedFile
from .pickle_machine import PickleMachine
from .pickle_records import Storage
from .torch_state import checkpoint_of
from .torch_tensors import TensorReader
from .torch_zip import storage_of

FORMAT = "torch-legacy"
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


def read_legacy(file: MappedFile) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    UnsafeCheckpointError
        If its pickle asks for anything but data.
    CheckpointError
        If it is damaged, another pickle than PyTorch's, or holds no named tensors.
    """
    storages = _Storages(file)
    machine = PickleMachine(file, file.data, storages.refer)
    if machine.load() != _MAGIC:
        raise file.error("is a pickle, but not one that torch.save wrote.", hint="Save the weights with torch.save.")
    protocol = machine.load()
    if protocol != _PROTOCOL:
        number = protocol if isinstance(protocol, int) else "without a number"  # any other value may be of any size
        raise file.error(f"is of the unknown protocol {number}.")
    machine_facts = machine.load()
    big_endian = isinstance(machine_facts, dict) and machine_facts.get("little_endian") is False
    root = machine.load()
    keys = machine.load()
    storages.locate(keys, machine.position)
    reader = TensorReader(file, storages.fetch, big_endian=big_endian)
    return checkpoint_of(file, FORMAT, root, reader, {"container": "pickle"})


class _Storages:
    """The storages that follow the pickles."""

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self._known: dict[str, Storage] = {}
        self._contents: dict[str, memoryview] = {}

    def refer(self, identifier: object) -> Storage:
        """``("storage", class, key, device, count, None or (view key, offset, count))``."""
        whole = storage_of(self._file, identifier)
        assert isinstance(identifier, tuple)
        first = self._known.setdefault(whole.key, whole)
        if first.type != whole.type:
            raise self._file.error(f"is damaged: the storage '{whole.key:.80}' has two types.")
        view = identifier[5] if len(identifier) > 5 else None
        if view is None:
            return first
        if not isinstance(view, tuple) or len(view) != 3 or type(view[1]) is not int or type(view[2]) is not int:
            raise self._file.error("is damaged: a view of a storage is described in a way that PyTorch does not.")
        return Storage(whole.key, whole.type, view[2], view[1])

    def locate(self, keys: object, position: int) -> None:
        """Find the bytes of each storage; ``keys`` is their order in the file."""
        cursor = Cursor(self._file, self._file.data)
        cursor.take(position, "the pickles")
        if not isinstance(keys, list):
            raise self._file.error("is damaged: the list of its storages is missing.")
        for key in keys:
            if not isinstance(key, str) or key not in self._known or key in self._contents:
                raise self._file.error("is damaged: the list of its storages does not fit its tensors.")
            storage = self._known[key]
            count = cursor.i64("the size of a storage")
            if count != storage.count:
                raise self._file.error(
                    f"is damaged: the storage '{key:.80}' has {count} elements, not {storage.count}."
                )
            self._contents[key] = cursor.take(count * storage.type.size, f"the storage '{key:.80}'")
        if cursor.left:
            raise self._file.error(f"is damaged: {cursor.left} bytes follow the last storage.")

    def fetch(self, key: str) -> memoryview:
        """The bytes of a storage."""
        if key not in self._contents:
            raise self._file.error(f"is damaged: the storage '{key:.80}' is missing.")
        return self._contents[key]
