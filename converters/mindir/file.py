"""MindIR of version 1: a program as a protocol buffer.

The numbers of the fields are those of MindSpore's ``mind_ir.proto``.  Version 1 is what MindSpore and MindSpore Lite
from 2.0 on read; later versions are read by later releases only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from edgepose.errors import ConversionError

from .primitives import Attribute, attributes_of
from .program import Array, Call, Plain, Program, Value
from .wire import Message, Piece

#: MindIR's numbers of element types, by NumPy's names.
ELEMENT_TYPES = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
}
#: MindSpore's numbers of element types inside a program.
_TYPE_IDS = {"int32": 34, "int64": 35, "float32": 43}
#: Keys of ``user_info`` with the names of the network's inputs and outputs, each a JSON list.
INPUTS_KEY, OUTPUTS_KEY = "edgepose.inputs", "edgepose.outputs"
IR_VERSION = "0.1.1"
#: The release whose files these equal; readers compare it with their own.
MODEL_VERSION = "2.0.0"
#: Bytes.  Readers parse the whole file as one protocol buffer, which cannot be larger.
LARGEST = (1 << 31) - 1

#: What a primitive is written as -> its reference and message.
Primitives = dict[bytes, tuple[str, Message]]

_FLOAT, _INT64, _STRING, _BOOL = 1, 7, 8, 9
_TENSORS, _TUPLE, _LIST = 19, 20, 21


def mindir_pieces(program: Program) -> list[Piece]:
    """The file, in pieces.

    Raises
    ------
    ConversionError
        If it would be larger than a protocol buffer may be.
    """
    primitives: Primitives = {}
    graph = Message()
    for call in program.calls:
        for node in _nodes(call, primitives):
            graph.message(1, node)
    graph.text(2, program.name)
    for name, array in program.parameters.items():
        graph.message(3, _parameter(name, array))
    for value in program.inputs:
        graph.message(5, Message().text(1, value.name).message(2, _tensor(value)))
    outputs = tuple(program.outputs.values())
    if len(outputs) == 1:
        graph.message(6, Message().text(1, outputs[0].name).message(2, _tensor(outputs[0])))
    else:
        graph.message(1, _node("MakeTuple", {}, [v.name for v in outputs], "#outputs", outputs, primitives))
        graph.message(6, Message().text(1, "#outputs").text(4, "Tuple").message(5, _described(outputs)))

    model = Message()
    model.text(1, IR_VERSION).text(2, "edgepose").text(5, MODEL_VERSION)
    model.message(7, graph)
    model.integer(10, 1)
    for _, message in primitives.values():
        model.message(12, message)
    model.integer(13, 1)
    model.append(ports_message(program))
    if model.size > LARGEST:
        raise ConversionError(
            f"The network '{program.name}' takes {model.size} bytes; MindIR in one file cannot be larger than 2 GiB."
        )
    return model.pieces


def ports_message(program: Program) -> Message:
    """A part of a model that names the network's inputs and outputs; put behind a file, it becomes a part of it."""
    part = Message()
    for key, names in ((INPUTS_KEY, [v.name for v in program.inputs]), (OUTPUTS_KEY, list(program.outputs))):
        part.message(14, Message().text(1, key).text(2, json.dumps(names)))
    return part


def _nodes(call: Call, primitives: Primitives) -> Iterator[Message]:
    """A call with the nodes around it: constants and tuples before it, members of its tuple behind it."""
    result = f"{call.results[0].name}#all" if call.is_tuple else call.results[0].name
    names = []
    for place, operand in enumerate(call.operands):
        if isinstance(operand, Value):
            names.append(operand.name)
            continue
        name = f"{result}#{place}"
        names.append(name)
        members = tuple(v for v in operand if isinstance(v, Value)) if isinstance(operand, tuple) else ()
        if members:
            yield _node("MakeTuple", {}, [v.name for v in members], name, members, primitives)
        else:
            yield (
                Message().text(2, name).text(3, name).text(4, "Constant").message(5, _constant(cast("Plain", operand)))
            )
    made = call.results if call.is_tuple else call.results[0]
    yield _node(call.primitive, attributes_of(call.primitive, call.settings), names, result, made, primitives)
    if call.is_tuple:
        for place, value in enumerate(call.results):
            index = f"{value.name}#index"
            yield Message().text(2, index).text(3, index).text(4, "Constant").message(5, _constant(place))
            yield _node("TupleGetItem", {}, [result, index], value.name, value, primitives)


def _node(
    op_type: str,
    attributes: Mapping[str, Attribute],
    inputs: Sequence[str],
    result: str,
    made: Value | Sequence[Value],
    primitives: Primitives,
) -> Message:
    body = Message().text(2, op_type)
    for name, value in attributes.items():
        body.message(3, _attribute(value, name))
    # Equal primitives are stored once and named by the nodes that call them.
    key = b"".join(body.pieces)
    if key not in primitives:
        reference = f"{op_type}:{len(primitives) + 1}"
        primitives[key] = reference, Message().text(1, reference).append(body)
    node = Message()
    for name in inputs:
        node.text(1, name)
    node.text(2, result).text(3, result).text(4, f"REF::{primitives[key][0]}")
    node.message(5, _described(made, "shape"))
    # The scope.  MindSpore Lite calls the outputs of the network by it.
    return node.text(7, result)


def _constant(operand: Plain) -> Message:
    if isinstance(operand, str):
        # MindSpore takes element types as types up to 2.0 and as their numbers from 2.3 on; 2.0 takes these too.
        operand = _TYPE_IDS[operand]
    return _attribute(operand, "value")


def _attribute(value: Attribute, name: str | None = None) -> Message:
    """An attribute; a member of a tuple or list has no name."""
    made = Message()
    if name is not None:
        made.text(1, name)
    # A member's number stands where several could.
    single = 3 if name is not None else 10
    if isinstance(value, bool):
        return made.integer(single, value).integer(16, _BOOL)
    if isinstance(value, int):
        return made.integer(single, value).integer(16, _INT64)
    if isinstance(value, float):
        return made.float32(2, value).integer(16, _FLOAT)
    if isinstance(value, str):
        return (made.text(5, value) if name is not None else made.text(11, value)).integer(16, _STRING)
    made.integer(16, _LIST if isinstance(value, list) else _TUPLE)
    for member in value:
        made.message(17, _attribute(member))
    return made


def _described(made: Value | Sequence[Value], name: str | None = None) -> Message:
    """Shape and element type of a tensor or of a tuple of tensors."""
    described = Message()
    if name is not None:
        described.text(1, name)
    if isinstance(made, Value):
        return described.message(12, _tensor(made)).integer(16, _TENSORS)
    described.integer(16, _TUPLE)
    for member in made:
        described.message(17, _described(member))
    return described.message(18, Message().integer(1, 0))


def _tensor(value: Value) -> Message:
    return Message().integers(1, value.shape).integer(2, ELEMENT_TYPES[value.dtype])


def _parameter(name: str, array: Array) -> Message:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    message = Message().integers(1, array.shape).integer(2, ELEMENT_TYPES[array.dtype.name]).text(7, name)
    message.data(9, little.reshape(-1).view(np.uint8).data)
    return message.text(13, name)
