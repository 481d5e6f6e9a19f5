"""MXNet ``.params``: a list of arrays, then their names.

Facts about the format (little-endian, no padding): ``src/ndarray/ndarray.cc``, ``include/mxnet/tuple.h`` and
``include/mxnet/base.h`` of Apache MXNet 1.9.1.  Array records are of four ages, told apart by their first four bytes:
V3 (NumPy shapes), V2 (every 1.x), V1 (before sparse arrays), and one without a magic number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .base import Checkpoint
from .elements import MAX_DIMENSIONS, Array, array_of, count_of, size_of
from .mapped_file import BYTES_PER_ARRAY, Cursor, MappedFile
from .mxnet_sparse import SparseRecord, dense_of

FORMAT = "mxnet-params"
#: Eight bytes at the start of every list file.
MAGIC = b"\x12\x01\0\0\0\0\0\0"
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
#: dtype flags of mshadow.
ELEMENTS = {
    0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool", 8: "int16",
    9: "uint16", 10: "uint32", 11: "uint64", 12: "bfloat16",
}  # fmt: skip
_UNDEFINED, _DENSE, _ROW_SPARSE, _CSR = -1, 0, 1, 2
#: Storage type -> number of index arrays.
_AUXILIARIES = {_UNDEFINED: 0, _DENSE: 0, _ROW_SPARSE: 1, _CSR: 2}
_PREFIXES = re.compile(r"(arg|aux):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Absent:
    """An entry of the file that gives no array, and why."""

    reason: str


def read_params(file: MappedFile) -> Checkpoint:
    """Read a list file.

    Raises
    ------
    CheckpointError
        If it is damaged.
    """
    cursor = Cursor(file, file.data)
    cursor.take(16, "the header")
    count = cursor.u64("the number of arrays")
    if count > cursor.left // 4:  # an empty record of the oldest age takes four bytes
        raise file.error(f"is damaged: it claims {count} arrays in {cursor.left} bytes.")
    file.memory.take(count * BYTES_PER_ARRAY, f"a list of {count} arrays")
    entries = [_record(file, cursor, f"array {position}") for position in range(count)]
    names = _names(file, cursor, count)
    if cursor.left:
        raise file.error(f"is damaged: {cursor.left} bytes follow the last name.")
    return checkpoint_of(
        file, dict(zip(names or map(str, range(count)), entries, strict=True)), named=bool(names), container="list"
    )


def checkpoint_of(file: MappedFile, entries: dict[str, Array | Absent], *, named: bool, container: str) -> Checkpoint:
    """Arrays and gaps under the names of the file -> a checkpoint under the names of the network.

    Names are ``arg:NAME`` and ``aux:NAME`` in what ``export`` and ``Module`` write.  The prefixes go, if every entry
    has one and the names stay distinct; which arrays were auxiliary (running statistics) stands in the metadata.
    """
    metadata: dict[str, Any] = {"container": container, "named": named}
    matches = {name: _PREFIXES.fullmatch(name) for name in entries}
    bare = {name: match[2] for name, match in matches.items() if match}
    if entries and len(set(bare.values())) == len(entries):
        metadata["auxiliary"] = [match[2] for match in matches.values() if match and match[1] == "aux"]
        entries = {bare[name]: entry for name, entry in entries.items()}
    return Checkpoint(
        path=file.path,
        format=FORMAT,
        arrays={name: entry for name, entry in entries.items() if not isinstance(entry, Absent)},
        set_aside={name: entry.reason for name, entry in entries.items() if isinstance(entry, Absent)},
        metadata=metadata,
    )


def _names(file: MappedFile, cursor: Cursor, count: int) -> list[str]:
    """As many names as arrays, or none."""
    number = cursor.u64("the number of names")
    if number not in (0, count):
        raise file.error(f"is damaged: it has {count} arrays and {number} names.")
    names = []
    for position in range(number):
        what = f"name {position}"
        text = cursor.take(cursor.u64(what), what)
        file.memory.take(4 * len(text), what)
        try:
            names.append(str(text, "utf-8"))
        except UnicodeDecodeError:
            raise file.error(f"is damaged: {what} is no text.") from None
    if len(set(names)) != number:
        raise file.error("is damaged: two arrays have the same name.")
    return names


def _record(file: MappedFile, cursor: Cursor, what: str) -> Array | Absent:
    magic = cursor.u32(what)
    if magic in (_V2, _V3):
        return _record_with_storage(file, cursor, what, numpy_shapes=magic == _V3)
    if magic == _V1:
        shape = _shape(file, cursor, what)
    elif magic <= MAX_DIMENSIONS:
        shape = tuple(cursor.u32(what) for _ in range(magic))
    else:
        raise file.error(f"is damaged: {what} starts with 0x{magic:08x}, which no version of MXNet writes.")
    return _dense(file, cursor, shape, what) if shape else Absent("no array was stored")


def _record_with_storage(file: MappedFile, cursor: Cursor, what: str, *, numpy_shapes: bool) -> Array | Absent:
    storage = cursor.i32(what)
    if storage not in _AUXILIARIES:
        raise file.error(f"is damaged: {what} has the unknown storage type {storage}.")
    stored = _shape(file, cursor, what) if _AUXILIARIES[storage] else ()
    shape = _shape(file, cursor, what, numpy_shapes=numpy_shapes)
    if storage == _UNDEFINED or shape is None or not (shape or numpy_shapes):
        return Absent("no array was stored")
    if storage == _DENSE:
        return _dense(file, cursor, shape, what)
    element = _element(file, cursor, what)
    indices = [_index_type(file, cursor, what) for _ in range(_AUXILIARIES[storage])]
    data = _data(file, cursor, element, stored or (), what)
    record = SparseRecord(shape, data, tuple(_data(file, cursor, *index, what) for index in indices))
    size = data.itemsize * count_of(file, shape, what)
    if size > file.memory.left:
        return Absent(f"sparse, and its dense form would take {size} bytes")
    return dense_of(file, record, what)


def _shape(file: MappedFile, cursor: Cursor, what: str, *, numpy_shapes: bool = False) -> tuple[int, ...] | None:
    """The shape; None where V3 says by a negative number that it is not known."""
    rank = cursor.i32(what)
    if rank > MAX_DIMENSIONS or (rank < 0 and not numpy_shapes):
        raise file.error(f"is damaged: {what} has {rank} dimensions.")
    shape = tuple(cursor.i64(what) for _ in range(rank))
    unknown = rank < 0 or (numpy_shapes and any(d < 0 for d in shape))
    return None if unknown else shape


def _element(file: MappedFile, cursor: Cursor, what: str) -> str:
    """The element type, after the device that the array was on, which is of no interest."""
    cursor.take(8, what)
    flag = cursor.i32(what)
    if flag not in ELEMENTS:
        raise file.error(f"is damaged: {what} has the unknown element type {flag}.")
    return ELEMENTS[flag]


def _index_type(file: MappedFile, cursor: Cursor, what: str) -> tuple[str, tuple[int, ...]]:
    element = ELEMENTS.get(cursor.i32(what))
    if element not in ("int32", "int64"):
        raise file.error(f"is damaged: the indices of {what} are no integers.")
    return element, _shape(file, cursor, what) or ()


def _dense(file: MappedFile, cursor: Cursor, shape: tuple[int, ...], what: str) -> Array:
    return _data(file, cursor, _element(file, cursor, what), shape, what)


def _data(file: MappedFile, cursor: Cursor, element: str, shape: tuple[int, ...], what: str) -> Array:
    data = cursor.take(size_of(file, element, shape, what), f"the data of {what}")
    return array_of(file, data, element, shape, what)
