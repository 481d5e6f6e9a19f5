"""Bytes of a checkpoint as arrays."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .mapped_file import MappedFile

Array = npt.NDArray[Any]

#: More dimensions than NumPy 1 can hold.
MAX_DIMENSIONS = 32
#: Each format has its own codes for these; ``bfloat16`` is the upper half of a float32.
ITEM_SIZES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


def count_of(file: MappedFile, shape: Sequence[int], what: str) -> int:
    """Number of elements of an array of this shape.

    Raises
    ------
    CheckpointError
        If there are too many dimensions, a negative one, or more elements than any file can hold.
    """
    if len(shape) > MAX_DIMENSIONS:
        raise file.error(f"is damaged: {what} has {len(shape)} dimensions.")
    if any(d < 0 for d in shape):
        raise file.error(f"is damaged: {what} has a negative dimension.")
    if math.prod(max(d, 1) for d in shape) > 1 << 56:  # an empty array may still have dimensions that NumPy refuses
        raise file.error(f"is damaged: {what} has the impossible shape {list(shape)}.")
    return math.prod(shape)


def size_of(file: MappedFile, element: str, shape: Sequence[int], what: str) -> int:
    """Size in bytes of an array of this element type and shape, as stored."""
    return ITEM_SIZES[element] * count_of(file, shape, what)


def array_of(
    file: MappedFile, data: memoryview, element: str, shape: Sequence[int], what: str, *, big_endian: bool = False
) -> Array:
    """Bytes as a read-only array: a view, except for bfloat16, which is widened to float32.

    Parameters
    ----------
    file
        The file that ``data`` is from.
    data
        Exactly the elements, in C order.
    element
        A key of :data:`ITEM_SIZES`.
    shape
        Shape of the array.
    what
        Name of the array, for errors.
    big_endian
        Whether the elements were written on a big-endian machine.

    Raises
    ------
    CheckpointError
        If the shape is impossible or the number of bytes does not fit it.
    """
    wanted = size_of(file, element, shape, what)
    if len(data) != wanted:
        raise file.error(f"is damaged: {what} has {len(data)} bytes where {list(shape)} {element} takes {wanted}.")
    if element == "bfloat16":
        array = _widened(file, data, what, big_endian=big_endian)
    elif element == "bool":
        array = _truth_values(file, data, what)
    else:
        dtype = np.dtype(element)
        if big_endian != (sys.byteorder == "big"):
            dtype = dtype.newbyteorder()
        array = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    array = array.reshape(tuple(shape))
    array.flags.writeable = False
    return array


def _widened(file: MappedFile, data: memoryview, what: str, *, big_endian: bool) -> Array:
    """bfloat16 -> float32, which is exact: the sixteen lower bits are zero."""
    count = len(data) // 2
    file.memory.take(4 * count, f"widening {what}")
    wide: npt.NDArray[np.uint16] = np.zeros((count, 2), np.uint16)
    if data:
        wide[:, 1 if sys.byteorder == "little" else 0] = np.frombuffer(data, ">u2" if big_endian else "<u2")
    return wide.view(np.float32)


def _truth_values(file: MappedFile, data: memoryview, what: str) -> Array:
    values = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    if values.size and values.max() > 1:
        raise file.error(f"is damaged: {what} is of truth values and holds other bytes than 0 and 1.")
    return values.view(np.bool_)
