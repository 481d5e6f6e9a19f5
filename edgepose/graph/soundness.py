"""What must hold in a message before anything may look into it.

Protocol buffers check neither text nor numbers when they read a file, and the ONNX checker fails on what it cannot even
name.  Everything else is the checker's business.
"""

from __future__ import annotations

import math
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from onnx import TensorProto

from ..errors import GraphError

#: Bytes of an element; element types that are packed more tightly are checked by whoever unpacks them.
_BYTES: dict[int, int] = {
    TensorProto.FLOAT: 4,
    TensorProto.FLOAT16: 2,
    TensorProto.BFLOAT16: 2,
    TensorProto.DOUBLE: 8,
    TensorProto.INT8: 1,
    TensorProto.UINT8: 1,
    TensorProto.INT16: 2,
    TensorProto.UINT16: 2,
    TensorProto.INT32: 4,
    TensorProto.UINT32: 4,
    TensorProto.INT64: 8,
    TensorProto.UINT64: 8,
    TensorProto.BOOL: 1,
}
#: Where small arrays of a type may be kept instead of in raw_data.
_FIELDS: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
}
_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}


def check_sound(model: onnx.ModelProto) -> None:
    """Check text, element types and the amount of data of every array, also in functions and control flow.

    Raises
    ------
    GraphError
        If a name is no text, an element type does not exist, or an array holds another amount of data than its shape
        says or keeps it in another file.
    """
    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, TensorProto):
            _check_tensor(message)
            continue
        if isinstance(message, onnx.TypeProto.Tensor):
            _check_type(message.elem_type, "a value")
        for descriptor, value in message.ListFields():
            if descriptor.type == FieldDescriptor.TYPE_STRING:
                _check_text(value)
            elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                pending.extend([value] if hasattr(value, "ListFields") else value)


def _check_text(value: Any) -> None:
    """Text that is not UTF-8 comes out of a message as bytes, or not at all."""
    try:
        sound = all(isinstance(text, str) for text in ([value] if isinstance(value, (str, bytes)) else value))
    except UnicodeDecodeError:
        sound = False
    if not sound:
        raise GraphError("A name in the graph is damaged: it is no text.")


def _check_type(kind: int, what: str) -> None:
    if kind not in _KNOWN_TYPES:
        raise GraphError(f"The element type of {what} is damaged: there is no type {kind}.")


def _check_tensor(tensor: TensorProto) -> None:
    """Read all fields but the data, which may be large."""
    _check_text(tensor.name)
    name = tensor.name or "without a name"
    if tensor.data_location == TensorProto.EXTERNAL:
        raise GraphError(
            f"The weights of '{name}' lie in another file, which was not read.",
            hint="Give the .onnx file in the folder where its data files are.",
        )
    _check_type(tensor.data_type, f"the array '{name}'")
    if any(length < 0 for length in tensor.dims):
        raise GraphError(f"The array '{name}' has a negative length in its shape {list(tensor.dims)}.")
    if tensor.HasField("segment"):
        raise GraphError(f"The array '{name}' is stored in segments, which nothing reads.")
    size = _BYTES.get(tensor.data_type)
    if size is None:
        return
    expected = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        found = len(tensor.raw_data)
        if found != expected * size:
            raise GraphError(
                f"The array '{name}' of shape {list(tensor.dims)} needs {expected * size} bytes and holds {found}."
            )
        return
    found = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
    if found != expected:
        raise GraphError(f"The array '{name}' of shape {list(tensor.dims)} needs {expected} numbers and holds {found}.")
