"""NumPy's ``.npy`` and ``.npz``, which MXNet 2 writes in place of its own format.

Only plain numbers are read: an array of Python objects is a pickle, and is refused.  Facts: NumPy's NEP 1 (header of
``.npy``); MXNet 2.0 ``src/serialization/cnpy.cc`` (its spelling of bfloat16, its layout of sparse arrays).
"""

from __future__ import annotations

import re

from .base import Checkpoint
from .elements import ITEM_SIZES, Array, array_of
from .mapped_file import Cursor, MappedFile
from .mxnet_params import Absent, checkpoint_of
from .zip_index import ZipIndex

MAGIC = b"\x93NUMPY"
_SUFFIX = ".npy"
_LONGEST_HEADER = 1 << 16
_HEADER = re.compile(
    r"""\s*\{\s*'descr':\s*(?P<type>'[^']*'|\[[^\]]*\]),\s*'fortran_order':\s*(?P<fortran>True|False),"""
    r"""\s*'shape':\s*\((?P<shape>(?:[0-9]{1,18}L?,?\s*){0,32})\),?\s*\}\s*"""
)
_TYPE = re.compile(r"'(?P<order>[<>|=]?)(?P<kind>[biufc])(?P<size>[0-9]{1,2})'")
_BFLOAT16 = re.compile(r"\[\('bfloat16',\s*'<[uV]2'\)\]")
_KINDS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}


def read_npz(file: MappedFile, archive: ZipIndex) -> Checkpoint:
    """Read an archive of ``.npy`` files.

    Raises
    ------
    CheckpointError
        If it is damaged or holds Python objects.
    """
    entries: dict[str, Array | Absent] = {}
    for member in archive.members:
        if not member.endswith(_SUFFIX):
            raise file.error(f"holds '{member}' among NumPy arrays, which is none.")
        name = member.removesuffix(_SUFFIX)
        # A sparse array is a folder: NAME/data.npy, NAME/indices.npy, ...
        parent, _, part = name.rpartition("/")
        if parent and part in ("data", "indices", "indptr", "shape", "format"):
            entries[parent] = Absent("sparse, stored in parts")
        else:
            entries[name] = _npy(file, archive.read(member), f"'{name}'")
    return checkpoint_of(file, entries, named=True, container="npz")


def read_npy(file: MappedFile) -> Checkpoint:
    """Read a single array, which has no name and is called ``0``.

    Raises
    ------
    CheckpointError
        If it is damaged or holds Python objects.
    """
    return checkpoint_of(file, {"0": _npy(file, file.data, "the array")}, named=False, container="npy")


def _npy(file: MappedFile, data: memoryview, what: str) -> Array:
    cursor = Cursor(file, data)
    if bytes(cursor.take(len(MAGIC), what)) != MAGIC:
        raise file.error(f"is damaged: {what} is no NumPy array.")
    major, _ = cursor.take(2, what)
    size = cursor.u16(what) if major == 1 else cursor.u32(what)
    if major not in (1, 2, 3) or size > _LONGEST_HEADER:
        raise file.error(f"is damaged: {what} has an impossible header.")
    header = _HEADER.fullmatch(str(cursor.take(size, what), "latin-1"))
    if not header:
        raise file.error(f"is damaged: the header of {what} cannot be read.")
    shape = tuple(int(number) for number in re.findall("[0-9]+", header["shape"]))
    element, big_endian = _element(file, header["type"], what)
    data = cursor.take(cursor.left, what)
    if header["fortran"] == "True":
        return array_of(file, data, element, shape[::-1], what, big_endian=big_endian).T
    return array_of(file, data, element, shape, what, big_endian=big_endian)


def _element(file: MappedFile, text: str, what: str) -> tuple[str, bool]:
    """Element type, and whether it is big-endian."""
    if _BFLOAT16.fullmatch(text):
        return "bfloat16", False
    match = _TYPE.fullmatch(text)
    if match:
        kind, size = _KINDS[match["kind"]], int(match["size"])
        element = kind if kind == "bool" else f"{kind}{8 * size}"
        if element in ITEM_SIZES and ITEM_SIZES[element] == size:
            return element, match["order"] == ">"
    raise file.error(f"holds {what} of the type {text:.40}, which is not of plain numbers; it was not loaded.")
