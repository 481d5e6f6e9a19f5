"""``.onnx``: a network with its weights."""

from __future__ import annotations

from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError

from ..errors import CheckpointError
from .base import Checkpoint
from .elements import Array
from .mapped_file import MappedFile
from .onnx_budget import take_cost
from .onnx_tensors import StoredTensor, array, stored_tensors
from .protobuf_wire import BYTES, fields

FORMAT = "onnx"
#: The first field of a model, and what its number must be: ir_version came at 1, and is 13 now.
_BYTE_TYPES = (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
_IR_VERSION_TAG, _NEWEST_IR_VERSION = 0x08, 200


def looks_like_onnx(file: MappedFile) -> bool:
    """Whether the file starts like a model, with its version, or has a model's fields throughout in another order."""
    if file.data[0] == _IR_VERSION_TAG:
        return file.size > 1 and 0 < file.data[1] <= _NEWEST_IR_VERSION
    known = onnx.ModelProto.DESCRIPTOR.fields_by_number
    seen = set()
    try:
        for number, wire, _, _ in fields(file, file.data, ""):
            if number not in known or (wire == BYTES) != (known[number].type in _BYTE_TYPES):
                return False
            seen.add(known[number].name)
    except CheckpointError:
        return False
    return "graph" in seen


def read_onnx(file: MappedFile) -> Checkpoint:
    """Read a model; data that it keeps in other files of its folder are taken in.

    Raises
    ------
    CheckpointError
        If it is damaged, or refers to files outside of its folder.
    """
    take_cost(file)
    stored = stored_tensors(file)
    try:
        model = onnx.ModelProto.FromString(bytes(file.data))
    except DecodeError:
        raise file.error("is damaged: it is no ONNX model.") from None
    if not model.opset_import:  # every model since 2017 has it, and it comes last
        raise file.error("is damaged or cut off: it does not say which operators it uses.")
    _take_in(file, model, stored)
    arrays: dict[str, Array] = {}
    set_aside: dict[str, str] = {}
    for tensor in stored:
        if tensor.name in arrays or tensor.name in set_aside:
            raise file.error(f"is damaged: '{tensor.name:.200}' stands in it twice.")
        value = array(file, tensor)
        if isinstance(value, str):
            set_aside[tensor.name] = value
        else:
            arrays[tensor.name] = value
    set_aside |= {sparse.values.name: "sparse" for sparse in model.graph.sparse_initializer}
    return Checkpoint(file.path, FORMAT, arrays, set_aside, _metadata(model), model)


def _take_in(file: MappedFile, model: onnx.ModelProto, stored: list[StoredTensor]) -> None:
    """Put external data into the model, so that it is whole."""
    for tensor, place in zip(model.graph.initializer, stored, strict=True):
        if place.external is not None and place.raw is not None:
            file.memory.take(2 * len(place.raw), f"'{place.name:.200}'")
            tensor.raw_data = bytes(place.raw)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _metadata(model: onnx.ModelProto) -> dict[str, Any]:
    return {
        "ir_version": model.ir_version,
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        "properties": {entry.key: entry.value for entry in model.metadata_props},
    }
