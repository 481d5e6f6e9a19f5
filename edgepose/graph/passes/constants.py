"""Computing what does not depend on the input."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from ...errors import GraphError
from ..draft import Array, Draft
from ..inference import infer_shapes, known_values, shape_of
from ..running import Runner
from .wiring import Wiring, attributes_of, remove_nodes

#: A result is kept if it is no larger than what it is made from, or than this many bytes: a file must not blow up
#: because it asks for a huge array of zeros.
_SMALL = 1 << 20

#: Random numbers must stay random, and folding (de)quantised weights would undo the quantisation.
_KEPT = frozenset(
    (
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
    )
)


def inline_constants(draft: Draft) -> int:
    """Turn Constant nodes into initialisers, and take initialisers out of the graph inputs.

    ONNX before 1.4 listed all weights as inputs too, which makes each of them something a caller may override and
    keeps runtimes from using their values.
    """
    graph = draft.graph
    arrays = draft.constants().keys()
    done = 0
    for i in reversed(range(len(graph.input))):
        name = graph.input[i].name
        if name not in arrays and any(t.name == name for t in graph.initializer):
            del graph.input[i]
            done += 1
    if draft.model.ir_version < 4:
        draft.model.ir_version = 4
    outputs = {o.name for o in graph.output}
    removed = set()
    for node in graph.node:
        if node.op_type != "Constant" or node.domain or node.output[0] in outputs:
            continue
        array = _value(node)
        if array is not None:
            draft.put_constant(node.output[0], array)
            removed.add(node.output[0])
    return done + remove_nodes(graph, removed)


def fold_constants(draft: Draft) -> int:
    """Compute the nodes that depend on constants only, and the shapes that are known.

    The values are computed by ONNX Runtime, so they are what it would have computed itself.

    Returns
    -------
    int
        How many nodes were removed.
    """
    infer_shapes(draft)
    return _fold_shapes(draft) + _evaluate(draft)


def _value(node: onnx.NodeProto) -> Array | None:
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        array: Array = numpy_helper.to_array(value)
        return array
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    return None


def _fold_shapes(draft: Draft) -> int:
    """Shape, and Gather of single lengths from a Shape, where those lengths are known."""
    graph = draft.graph
    values = known_values(draft)
    outputs = {o.name for o in graph.output}
    shapes: dict[str, list[int | str | None]] = {}
    removed = set()
    for node in graph.node:
        if node.op_type == "Shape" and not node.domain:
            info = values.get(node.input[0])
            header = draft.constants().get(node.input[0])
            shape = tuple(header.dims) if header is not None else (shape_of(info) if info is not None else None)
            if shape is None:
                continue
            attributes = attributes_of(node)
            start, end = attributes.get("start", 0), attributes.get("end", len(shape))
            assert isinstance(start, int)
            assert isinstance(end, int)
            found: list[int | str | None] | int | str | None = list(shape)[start:end]
            shapes[node.output[0]] = list(shape)[start:end]
        elif node.op_type == "Gather" and not node.domain and node.input[0] in shapes:
            index = draft.constant(node.input[1])
            lengths = shapes[node.input[0]]
            if index is None or index.size != 1 or not -len(lengths) <= int(index.reshape(-1)[0]) < len(lengths):
                continue
            single = lengths[int(index.reshape(-1)[0])]
            found = single if index.ndim == 0 else [single]
        else:
            continue
        known = all(isinstance(length, int) for length in (found if isinstance(found, list) else [found]))
        if known and node.output[0] not in outputs:
            draft.put_constant(node.output[0], np.asarray(found, np.int64))
            removed.add(node.output[0])
    return remove_nodes(graph, removed)


def _evaluate(draft: Draft) -> int:
    graph = draft.graph
    values = known_values(draft)
    outputs = {o.name for o in graph.output}
    sizes = {name: _size(header.data_type, tuple(header.dims)) or 0 for name, header in draft.constants().items()}
    folded: list[onnx.NodeProto] = []
    for node in graph.node:
        inputs = [name for name in node.input if name]
        if node.domain or node.op_type in _KEPT or not all(name in sizes for name in inputs):
            continue
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute):
            continue
        results = {name: _size_of(values.get(name)) for name in node.output if name}
        allowed = max(_SMALL, sum(sizes[name] for name in inputs))
        if outputs & results.keys() or any(size is None or size > allowed for size in results.values()):
            continue
        folded.append(node)
        sizes.update({name: size or 0 for name, size in results.items()})
    if not folded:
        return 0
    made = {name for node in folded for name in node.output if name}
    rest = Wiring(graph).uses
    for node in folded:
        for name in node.input:
            if name:
                rest[name] -= 1
    needed = [name for name in made if rest.get(name)]
    try:
        results_by_name = _compute(draft, folded, [values[name] for name in needed])
    except GraphError:
        return 0  # ONNX Runtime has no kernel for one of them: they stay nodes
    for name, array in results_by_name.items():
        draft.put_constant(name, array)
    return remove_nodes(graph, {node.output[0] for node in folded})


def _compute(draft: Draft, nodes: list[onnx.NodeProto], wanted: list[onnx.ValueInfoProto]) -> dict[str, Array]:
    if not wanted:
        return {}
    part = Draft.empty("constants", draft.opset)
    part.model.ir_version = draft.model.ir_version
    part.graph.node.extend(nodes)
    part.graph.output.extend(wanted)
    made = {name for node in nodes for name in node.output}
    for name in {name for node in nodes for name in node.input if name and name not in made}:
        array = draft.constant(name)
        assert array is not None
        part.put_constant(name, array)
    return dict(Runner(part, "constant part").run({}))


def _size_of(value: onnx.ValueInfoProto | None) -> int | None:
    shape = None if value is None else shape_of(value)
    if value is None or shape is None:
        return None
    lengths = [length for length in shape if isinstance(length, int)]
    return _size(value.type.tensor_type.elem_type, tuple(lengths)) if len(lengths) == len(shape) else None


def _size(kind: int, shape: tuple[int, ...]) -> int | None:
    """Bytes of an array; None for element types that are not numbers."""
    dtype = helper.tensor_dtype_to_np_dtype(kind) if kind else None
    return None if dtype is None or dtype.kind not in "fiub" else math.prod(shape) * dtype.itemsize
