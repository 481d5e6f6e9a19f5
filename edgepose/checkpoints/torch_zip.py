"""PyTorch checkpoints since 1.6: a zip archive of a pickle and one file for each storage.

Facts: ``torch/serialization.py`` of PyTorch 2.13: members ``NAME/data.pkl``, ``NAME/data/KEY``, ``NAME/byteorder``.
"""

from __future__ import annotations

from .base import Checkpoint
from .mapped_file import MappedFile
from .pickle_machine import PickleMachine
from .pickle_records import ElementType, Storage
from .torch_state import checkpoint_of
from .torch_tensors import TensorReader
from .zip_index import ZipIndex

FORMAT = "torch-zip"
_PICKLE = "data.pkl"
_SCRIPT_PARTS = ("constants.pkl", "code/", "bytecode.pkl")


def folder_of(archive: ZipIndex) -> str | None:
    """The folder in the archive that holds the pickle, with its slash; None if this is no PyTorch checkpoint."""
    for name in archive.members:
        folder, _, last = name.rpartition("/")
        if last == _PICKLE and "/" not in folder:
            return f"{folder}/" if folder else ""
    return None


def storage_of(file: MappedFile, identifier: object) -> Storage:
    """``("storage", class, key, device, count, ...)``: what the pickle says about a storage kept elsewhere.

    Raises
    ------
    CheckpointError
        If it is said in another way.
    """
    if isinstance(identifier, tuple) and len(identifier) >= 5 and identifier[0] == "storage":
        kind, key, count = identifier[1], identifier[2], identifier[4]
        if isinstance(kind, ElementType) and isinstance(key, str) and type(count) is int and 0 <= count < 1 << 56:
            return Storage(key, kind, count)
    raise file.error("is damaged: a storage is described in a way that PyTorch does not.")


def read_zip(file: MappedFile, archive: ZipIndex, folder: str) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    UnsafeCheckpointError
        If its pickle asks for anything but data.
    CheckpointError
        If it is damaged, a TorchScript program, or holds no named tensors.
    """
    if any(name.startswith(folder + part) for name in archive.members for part in _SCRIPT_PARTS):
        raise file.error(
            "is a TorchScript program, not a checkpoint.",
            hint="Save its weights: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
        )
    order = f"{folder}byteorder"
    big_endian = order in archive.members and bytes(archive.read(order)) == b"big"
    machine = PickleMachine(file, archive.read(folder + _PICKLE), lambda identifier: storage_of(file, identifier))
    root = machine.load()
    reader = TensorReader(file, lambda key: archive.read(f"{folder}data/{key}"), big_endian=big_endian)
    return checkpoint_of(file, FORMAT, root, reader, {})
