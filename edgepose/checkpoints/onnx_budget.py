"""What parsing an ONNX model will cost, found before it is parsed.

The protobuf library makes an object of every message in a file, also of one that takes two bytes there.  This walks
over the messages first, with the library's own description of them, and takes from the file's allowance what the
parsed form will need.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from .mapped_file import MappedFile
from .protobuf_wire import BYTES, fields

#: Messages of ONNX nest three deep for each subgraph; protobuf itself gives up at 100.
_DEPTH = 60
_BYTES_PER_MESSAGE = 320
_BYTES_PER_TEXT = 48
_BLOCK = 1 << 16
#: The library grows arrays of numbers by doubling, and takes one byte of the file for one number at least.
_BYTES_PER_NUMBER, _BYTES_PER_LONG_NUMBER = 8, 16


def take_cost(file: MappedFile) -> None:
    """Take the cost of parsing the file as an ONNX model from its allowance.

    Raises
    ------
    CheckpointError
        If it is damaged, nested too deep, or would take more memory than its size explains.
    """
    file.memory.take(file.size, "the model")  # the library wants the file as bytes
    _walk(file, file.data, onnx.ModelProto.DESCRIPTOR, 0)


def _walk(file: MappedFile, data: memoryview, description: Any, depth: int) -> None:
    if depth > _DEPTH:
        raise file.error("is damaged: its messages are nested too deep.")
    known = description.fields_by_number
    for number, wire, _, content in fields(file, data, description.name):
        field = known.get(number)
        if wire != BYTES:
            cost = _BYTES_PER_LONG_NUMBER
        elif field is None or field.type in (field.TYPE_STRING, field.TYPE_BYTES):
            cost = _BYTES_PER_TEXT + len(content)
        elif field.type == field.TYPE_MESSAGE:
            cost = _BYTES_PER_MESSAGE
        elif field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
            cost = len(content)
        else:
            long = field.type in (field.TYPE_INT64, field.TYPE_UINT64)
            cost = _numbers(content) * (_BYTES_PER_LONG_NUMBER if long else _BYTES_PER_NUMBER)
        file.memory.take(cost, "the model")
        if wire == BYTES and field is not None and field.type == field.TYPE_MESSAGE:
            _walk(file, content, field.message_type, depth + 1)


def _numbers(content: memoryview) -> int:
    """How many varints there are."""
    count = 0
    for start in range(0, len(content), _BLOCK):
        count += int(np.count_nonzero(np.frombuffer(content[start : start + _BLOCK], np.uint8) < 0x80))
    return count
