"""The initialisers of an ONNX model as arrays, where possible as views of the file.

Facts: ``onnx.proto3`` of ONNX 1.16 and later, message ``TensorProto``; ``docs/ExternalData.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import onnx

from .elements import MAX_DIMENSIONS, Array, array_of
from .mapped_file import BYTES_PER_ARRAY, MappedFile, map_file
from .protobuf_wire import BYTES, fields, text, varints

_P = onnx.TensorProto
ELEMENTS: dict[int, str] = {
    _P.FLOAT: "float32", _P.UINT8: "uint8", _P.INT8: "int8", _P.UINT16: "uint16", _P.INT16: "int16",
    _P.INT32: "int32", _P.INT64: "int64", _P.BOOL: "bool", _P.FLOAT16: "float16", _P.DOUBLE: "float64",
    _P.UINT32: "uint32", _P.UINT64: "uint64", _P.COMPLEX64: "complex64", _P.COMPLEX128: "complex128",
    _P.BFLOAT16: "bfloat16",
}  # fmt: skip
_GRAPH, _INITIALIZER = 7, 5
_DIMS, _TYPE, _SEGMENT, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 3, 8, 9, 13, 14
_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S = 4, 5, 7, 10, 11
#: Which field has the elements where they are not given as bytes; the other types use 32-bit integers.
_FIELDS: dict[int, int] = {
    _P.FLOAT: _FLOATS, _P.COMPLEX64: _FLOATS, _P.DOUBLE: _DOUBLES, _P.COMPLEX128: _DOUBLES, _P.INT64: _INT64S,
    _P.UINT64: _UINT64S, _P.UINT32: _UINT64S,
}  # fmt: skip
_BYTES_PER_VIEW = 192


@dataclass(slots=True)
class StoredTensor:
    """A ``TensorProto`` as it stands in the file.

    Attributes
    ----------
    name, shape, type
        Its name, shape, and ``TensorProto.DataType``.
    raw
        The elements as bytes; None where they are given as numbers.
    numbers
        Field number -> the elements, in pieces as they stand in the file.
    external
        Where in another file the elements are; None if they are here.
    segmented
        Whether this is only a part of a tensor.
    """

    name: str = ""
    shape: tuple[int, ...] = ()
    type: int = 0
    raw: memoryview | None = None
    numbers: dict[int, list[memoryview]] = field(default_factory=dict)
    external: dict[str, str] | None = None
    segmented: bool = False


def stored_tensors(file: MappedFile) -> list[StoredTensor]:
    """The initialisers of the main graph, in the order of the file; external data are made :attr:`StoredTensor.raw`.

    Raises
    ------
    CheckpointError
        If the model is damaged, or the data of a tensor are outside of the model's folder.
    """
    graphs = [content for number, wire, _, content in fields(file, file.data, "the model") if number == _GRAPH]
    if len(graphs) != 1:
        raise file.error(f"is damaged: it has {len(graphs)} graphs.")
    tensors = [
        _stored(file, content)
        for number, wire, _, content in fields(file, graphs[0], "the graph")
        if number == _INITIALIZER and wire == BYTES
    ]
    opened: dict[Path, MappedFile] = {}
    for tensor in tensors:
        if tensor.external is not None:
            tensor.raw = _external(file, tensor.external, opened, f"'{tensor.name:.200}'")
    return tensors


def _stored(file: MappedFile, message: memoryview) -> StoredTensor:
    file.memory.take(BYTES_PER_ARRAY, "a tensor")
    tensor = StoredTensor()
    shape: list[int] = []
    external: dict[str, str] = {}
    elsewhere = False
    for number, wire, value, content in fields(file, message, "a tensor"):
        if number == _DIMS:
            if len(content) > 10 * MAX_DIMENSIONS or len(shape) > MAX_DIMENSIONS:
                raise file.error(f"is damaged: a tensor has more than {MAX_DIMENSIONS} dimensions.")
            shape += varints(file, content, "a shape").tolist()
        elif number == _TYPE:
            tensor.type = value
        elif number == _NAME:
            tensor.name = text(file, content, "a name")
        elif number == _RAW and wire == BYTES:
            tensor.raw = content
        elif number == _SEGMENT:
            tensor.segmented = True
        elif number == _EXTERNAL and wire == BYTES:
            parts = {n: text(file, part, "a location") for n, w, _, part in fields(file, content, "a location")}
            external[parts.get(1, "")] = parts.get(2, "")
        elif number == _LOCATION:
            elsewhere = value == _P.EXTERNAL
        elif number in (_FLOATS, _INT32S, _INT64S, _DOUBLES, _UINT64S):
            file.memory.take(_BYTES_PER_VIEW, "a tensor")
            tensor.numbers.setdefault(number, []).append(content)
    tensor.shape = tuple(shape)
    tensor.external = external if elsewhere else None
    return tensor


def _external(file: MappedFile, place: dict[str, str], opened: dict[Path, MappedFile], what: str) -> memoryview:
    """Elements in another file, which must be in the folder of the model."""
    location = PurePosixPath(place.get("location", ""))
    folder = file.path.resolve().parent
    try:
        path = (folder / location).resolve()
        inside = path.is_relative_to(folder) and not location.is_absolute() and ".." not in location.parts
    except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle, a zero byte
        inside = False
    if not inside or not location.parts:
        raise file.error(f"keeps {what} in {str(location)[:200]!r}, which is not in its own folder.")
    if path not in opened:
        opened[path] = map_file(path)
        file.memory.grow(opened[path].size)
    data = opened[path].data
    numbers = {key: place.get(key, default) for key, default in (("offset", "0"), ("length", ""))}
    if any(not (number.isascii() and number.isdigit() and len(number) < 20) for number in numbers.values() if number):
        raise file.error(f"is damaged: the place of {what} in '{location}' makes no sense.")
    start = int(numbers["offset"] or 0)
    end = start + int(numbers["length"]) if numbers["length"] else len(data)
    if not start <= end <= len(data):
        raise file.error(
            f"keeps {what} in '{path}', which is too short.", hint="Copy it again, together with the model."
        )
    return data[start:end]


def array(file: MappedFile, tensor: StoredTensor) -> Array | str:
    """The elements as a read-only array, or the reason why there is no array that equals them.

    Raises
    ------
    CheckpointError
        If they do not fit the type and the shape.
    """
    what = f"'{tensor.name:.200}'"
    if tensor.segmented:
        return "a part of a tensor only"
    if tensor.type not in ELEMENTS:
        known = tensor.type in _P.DataType.values()
        return f"of the type {_P.DataType.Name(tensor.type) if known else tensor.type}, which no array type equals"
    element = ELEMENTS[tensor.type]
    if tensor.raw is not None:
        return array_of(file, tensor.raw, element, tensor.shape, what)
    number = _FIELDS.get(tensor.type, _INT32S)
    pieces = tensor.numbers.get(number, [])
    if len(pieces) != 1:
        file.memory.take(sum(map(len, pieces)), what)
    content = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
    if number not in (_FLOATS, _DOUBLES):
        content = _as_bytes(file, content, element, what)
    return array_of(file, content, element, tensor.shape, what)


def _as_bytes(file: MappedFile, content: memoryview, element: str, what: str) -> memoryview:
    """Varints as the elements they stand for; of 16-bit floats they are the bits."""
    stored = {"float16": "uint16", "bfloat16": "uint16", "bool": "uint8"}.get(element, element)
    numbers = varints(file, content, what, stored)
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).view(np.uint8).data
