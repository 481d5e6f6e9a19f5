"""Protocol buffers, field by field, without a copy.

Facts: the protobuf encoding guide.  A message is a sequence of fields, each a tag (number and wire type) and a value.
Groups, which proto2 deprecated and no format here uses, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .mapped_file import MappedFile

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
_BLOCK = 1 << 16
_MASK64 = (1 << 64) - 1
#: What looking at a field takes from the allowance: its share of time, and of what is kept.
_BYTES_PER_FIELD = 64


def varint(file: MappedFile, data: memoryview, position: int, what: str) -> tuple[int, int]:
    """The variable-length integer at ``position``, unsigned, and the position after it.

    Raises
    ------
    CheckpointError
        If it is cut off or longer than 64 bits.
    """
    value = 0
    for index, byte in enumerate(data[position : position + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value & _MASK64, position + index + 1
    raise file.error(f"is damaged or cut off: {what} has an incomplete number.")


def fields(file: MappedFile, data: memoryview, what: str) -> Iterator[tuple[int, int, int, memoryview]]:
    """The fields of a message: number, wire type, value and content.

    ``value`` is the number of a varint field, else 0; ``content`` the bytes of the field, as a view.

    Raises
    ------
    CheckpointError
        If the message is cut off, has a wire type that does not exist, or more fields than its size explains.
    """
    position = 0
    while position < len(data):
        file.memory.take(_BYTES_PER_FIELD, what)
        tag, position = varint(file, data, position, what)
        number, wire, value = tag >> 3, tag & 7, 0
        if wire == VARINT:
            value, end = varint(file, data, position, what)
        elif wire == BYTES:
            size, position = varint(file, data, position, what)
            end = position + size
        elif wire in (FIXED32, FIXED64):
            end = position + (4 if wire == FIXED32 else 8)
        else:
            raise file.error(f"is damaged: {what} has a field of the unknown wire type {wire}.")
        if number == 0 or end > len(data):
            raise file.error(f"is damaged or cut off: a field of {what} reaches past its end.")
        yield number, wire, value, data[position:end]
        position = end


def text(file: MappedFile, content: memoryview, what: str) -> str:
    """Bytes as UTF-8.

    Raises
    ------
    CheckpointError
        If they are not.
    """
    file.memory.take(4 * len(content), what)
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError:
        raise file.error(f"is damaged: {what} is no text.") from None


def varints(
    file: MappedFile, content: memoryview, what: str, dtype: npt.DTypeLike = np.int64
) -> npt.NDArray[np.integer[Any]]:
    """Varints one after another, as in a packed field.

    Parameters
    ----------
    file, content, what
        The bytes, where they are from and what they are.
    dtype
        Integer type of the result; the numbers are read as int64, or as uint64 for that type.

    Raises
    ------
    CheckpointError
        If the last one is cut off, or one is longer than 64 bits or does not fit the type.
    """
    octets = np.frombuffer(content, np.uint8) if content else np.empty(0, np.uint8)
    # In blocks, because decoding takes forty times the memory of the block.
    blocks = range(0, octets.size, _BLOCK)
    count = sum(int(np.count_nonzero(octets[start : start + _BLOCK] < 0x80)) for start in blocks)
    file.memory.take(count * np.dtype(dtype).itemsize, what)
    values: npt.NDArray[np.integer[Any]] = np.empty(count, dtype)
    position = done = 0
    while position < octets.size:
        block = octets[position : position + _BLOCK]
        ends = np.flatnonzero(block < 0x80)
        starts = np.concatenate(([0], ends[:-1] + 1)) if ends.size else ends
        if not ends.size or (ends - starts).max() >= _LONGEST_VARINT:
            raise file.error(f"is damaged: {what} has an incomplete number.")
        block = block[: ends[-1] + 1]
        places = np.arange(block.size) - np.repeat(starts, ends - starts + 1)
        parts = (block & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
        numbers = np.bitwise_or.reduceat(parts, starts)
        part = values[done : done + ends.size]
        part[:] = numbers.astype(dtype)
        if part.dtype != np.uint64 and not np.array_equal(part, numbers.view(np.int64)):
            raise file.error(f"is damaged: {what} has numbers that are no {part.dtype}.")
        position += block.size
        done += ends.size
    return values
