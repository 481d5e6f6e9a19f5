"""Grey levels at the input: TensorRT and MindSpore Lite take uint8 pictures, and do nothing with uint8 but cast it."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edgepose.errors import ConversionError, GraphError
from edgepose.graph.draft import Draft
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import check_and_infer

#: Operators whose results are those of their first input in another place.
_MOVES = frozenset({"Transpose", "Reshape", "Slice", "Gather", "Split", "Concat", "Squeeze", "Unsqueeze", "Identity"})


def cast_first(model: onnx.ModelProto) -> onnx.ModelProto:
    """Cast uint8 inputs to float32 before anything else is done with them; nothing changes in the results.

    Raises
    ------
    ConversionError
        If the graph does something with grey levels that float32 has not.
    """
    draft = Draft(model)
    graph = draft.graph
    casts: dict[str, str] = {}
    for value in real_inputs(graph):
        if value.type.tensor_type.elem_type == TensorProto.UINT8:
            casts[value.name] = draft.fresh(f"{value.name}.float")
    if not casts:
        return model
    floats = set(casts.values())
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in casts:
                node.input[place] = casts[name]
        # What only moves data gives float32 now; the cast that followed has nothing left to do.
        if node.op_type == "Cast" and node.input[0] in floats and _target(node) == TensorProto.FLOAT:
            node.op_type = "Identity"
            del node.attribute[:]
        if node.op_type in _MOVES and node.input[0] in floats:
            floats.update(node.output)
    nodes = [_copy(n) for n in graph.node]
    del graph.node[:]
    for name, made in casts.items():
        graph.node.append(helper.make_node("Cast", [name], [made], name=made, to=TensorProto.FLOAT))
    graph.node.extend(nodes)
    try:
        check_and_infer(draft)
    except GraphError as error:
        raise ConversionError(
            f"The graph computes with uint8 pictures in a way that cannot be brought to float32: {error.message}",
            hint="Convert with --embed none.",
        ) from error
    return draft.finish()


def _target(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "to"), 0)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
