"""Writing operators in the words of an older opset.

The converter that comes with onnx refuses nearly every step down below opset 14, and where it takes one it may change
the result (Softmax below 13).  Going down is therefore done here, by undoing what each version brought; what a version
merely extended (more element types, attributes that stand at their default) needs no rewriting and is found from the
operator schemas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from ...errors import GraphError
from ..draft import Array, Draft, all_graphs
from ..inference import known_values, shape_of
from .wiring import attributes_of, set_attribute


@dataclass
class Lowering:
    """What a rewriting needs to know and collects.

    Attributes
    ----------
    draft
        The graph.
    target
        The opset to reach.
    shapes
        Shape of the values whose rank is known.
    nodes
        The nodes of the new graph so far.
    count
        How many of them were added in place of others.
    """

    draft: Draft
    target: int
    shapes: dict[str, tuple[int | str | None, ...]]
    nodes: list[onnx.NodeProto]
    count: int = 0

    def add(
        self, op_type: str, *inputs: str, output: str | None = None, like: onnx.NodeProto, **attributes: Any
    ) -> str:
        """Add a node that replaces a part of ``like``; returns its output."""
        self.count += 1
        output = output or f"{like.output[0]}_{op_type}_{self.count}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, array: Array, stem: str) -> str:
        """Add an initialiser."""
        return self.draft.add_constant(array, stem)

    def rank(self, node: onnx.NodeProto) -> int:
        """Rank of the node's first input."""
        shape = self.shapes.get(node.input[0])
        if shape is None:
            raise Unexpressible(node, "the rank of its input is not known")
        return len(shape)

    def integers(self, node: onnx.NodeProto, position: int) -> list[int] | None:
        """A constant input of whole numbers; None if it is omitted."""
        if len(node.input) <= position or not node.input[position]:
            return None
        array = self.draft.constant(node.input[position])
        if array is None:
            raise Unexpressible(
                node, f"its input '{node.input[position]}' is computed, and would have to be a constant"
            )
        return [int(v) for v in array.reshape(-1)]


class Unexpressible(GraphError):
    """A node cannot be written in the opset that was asked for."""

    def __init__(self, node: onnx.NodeProto, reason: str) -> None:
        super().__init__(f"'{node.name or node.output[0]}' ({node.op_type}): {reason}")


def lower(draft: Draft, target: int) -> None:
    """Rewrite a graph into an older opset.

    The draft must have inferred shapes.

    Raises
    ------
    GraphError
        If an operator cannot be expressed; all of them are named.
    """
    shapes = {name: shape_of(value) for name, value in known_values(draft).items()}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    known.update({name: tuple(header.dims) for name, header in draft.constants().items()})
    work = Lowering(draft, target, known, [])
    source = draft.opset
    problems = []
    for original in draft.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.domain not in ("", "ai.onnx"):
            work.nodes.append(node)
            continue
        before = len(work.nodes)
        try:
            for version, rewrite in _REWRITES.get(node.op_type, ()):
                if target < version <= source and rewrite(node, work):
                    break
            else:
                work.nodes.append(node)
            for made in work.nodes[before:]:
                _fit_schema(made, source, target)
            _refuse_inner(node, source, target)
        except Unexpressible as problem:
            problems.append(problem.message)
    if problems:
        raise GraphError(
            f"The graph cannot be written in opset {target}: {'; '.join(problems[:8])}"
            + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
            + ".",
            hint=f"Keep opset {source}, or choose another one with --opset.",
        )
    del draft.graph.node[:]
    draft.graph.node.extend(work.nodes)
    for entry in draft.model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = target


def _fit_schema(node: onnx.NodeProto, source: int, target: int) -> None:
    """Drop what the older schema lacks where it says nothing; refuse it where it matters."""
    try:
        new, old = defs.get_schema(node.op_type, source), defs.get_schema(node.op_type, target)
    except defs.SchemaError as error:
        raise Unexpressible(node, f"opset {target} has no such operator") from error
    if new.since_version == old.since_version:
        return
    for name, value in attributes_of(node).items():
        if name in old.attributes:
            continue
        default = new.attributes[name].default_value if name in new.attributes else None
        if default is None or not default.name or helper.get_attribute_value(default) != value:
            raise Unexpressible(node, f"its attribute '{name}' needs a newer opset")
        set_attribute(node, name, None)
    while node.input and not node.input[-1] and len(node.input) > old.min_input:
        del node.input[-1]
    if not old.min_input <= len(node.input) <= old.max_input:
        raise Unexpressible(node, f"opset {target} takes {old.min_input} to {old.max_input} inputs")


def _refuse_inner(node: onnx.NodeProto, source: int, target: int) -> None:
    """Nodes inside control flow are not rewritten: they may stay if their operator is the same in both opsets."""
    graphs = [a.g for a in node.attribute if a.HasField("g")] + [g for a in node.attribute for g in a.graphs]
    for graph in graphs:
        for inner in (n for part in all_graphs(graph) for n in part.node):
            if any(target < version <= source for version, _ in _REWRITES.get(inner.op_type, ())):
                raise Unexpressible(inner, "it is inside control flow and would have to be rewritten")
            _fit_schema(inner, source, target)


# ---- what a version brought, undone; each returns whether it has written the node itself ----


def _axes_to_attribute(node: onnx.NodeProto, work: Lowering) -> bool:
    axes = work.integers(node, 1)
    noop = attributes_of(node).get("noop_with_empty_axes", 0)
    if not axes and noop:
        work.add("Identity", node.input[0], output=node.output[0], like=node)
        return True
    set_attribute(node, "noop_with_empty_axes", None)
    del node.input[1:]
    if axes:
        if any(axis < 0 for axis in axes):
            rank = work.rank(node) + (len(axes) if node.op_type == "Unsqueeze" else 0)
            axes = [axis % rank for axis in axes]
        set_attribute(node, "axes", axes)
    return False


def _split_sizes(node: onnx.NodeProto, work: Lowering) -> bool:
    """Opset 18 lets a Split say into how many parts; older ones want nothing for equal parts, or their sizes."""
    attributes = attributes_of(node)
    parts = attributes.get("num_outputs")
    if not isinstance(parts, int):
        return False
    set_attribute(node, "num_outputs", None)
    axis = attributes.get("axis", 0)
    assert isinstance(axis, int)
    length = work.shapes[node.input[0]][axis] if work.rank(node) else None
    if not isinstance(length, int):
        raise Unexpressible(node, "the length that it splits is not known")
    size = -(-length // parts)
    sizes = [min(size, length - i * size) for i in range(parts)]
    del node.input[1:]
    node.input.append(work.constant(np.asarray(sizes, np.int64), f"{node.output[0]}_split"))
    return False


def _split_to_attribute(node: onnx.NodeProto, work: Lowering) -> bool:
    sizes = work.integers(node, 1)
    del node.input[1:]
    set_attribute(node, "split", sizes)
    return False


def _softmax(node: onnx.NodeProto, work: Lowering) -> bool:
    """Before opset 13 all axes from the given one on were taken as one; on the last axis there is no difference."""
    rank = work.rank(node)
    axis = attributes_of(node).get("axis", -1)
    assert isinstance(axis, int)
    axis %= rank
    if axis == rank - 1:
        set_attribute(node, "axis", axis)
        return False
    order = [a for a in range(rank) if a != axis] + [axis]
    turned = work.add("Transpose", node.input[0], like=node, perm=order)
    soft = work.add(node.op_type, turned, like=node, axis=rank - 1)
    work.add("Transpose", soft, output=node.output[0], like=node, perm=np.argsort(order).tolist())
    return True


def _resize(node: onnx.NodeProto, work: Lowering) -> bool:
    """In opset 11 and 12 the inputs roi and scales cannot be omitted, but they may be empty."""
    while len(node.input) < 3:
        node.input.append("")
    for position in (1, 2):
        if not node.input[position]:
            node.input[position] = work.constant(np.zeros(0, np.float32), f"{node.output[0]}_empty")
    return False


def _shape_range(node: onnx.NodeProto, work: Lowering) -> bool:
    attributes = attributes_of(node)
    start, end = attributes.get("start", 0), attributes.get("end", np.iinfo(np.int64).max)
    whole = work.add("Shape", node.input[0], like=node)
    bounds = [work.constant(np.asarray([v], np.int64), f"{node.output[0]}_bound") for v in (start, end)]
    work.add("Slice", whole, *bounds, output=node.output[0], like=node)
    return True


def _hard_swish(node: onnx.NodeProto, work: Lowering) -> bool:
    gate = work.add("HardSigmoid", node.input[0], like=node, alpha=1 / 6, beta=0.5)
    work.add("Mul", node.input[0], gate, output=node.output[0], like=node)
    return True


def _swish(node: onnx.NodeProto, work: Lowering) -> bool:
    alpha = attributes_of(node).get("alpha", 1.0)
    scaled = (
        node.input[0] if alpha == 1.0 else work.add("Mul", node.input[0], _like_input(node, work, alpha), like=node)
    )
    gate = work.add("Sigmoid", scaled, like=node)
    work.add("Mul", node.input[0], gate, output=node.output[0], like=node)
    return True


def _mish(node: onnx.NodeProto, work: Lowering) -> bool:
    gate = work.add("Tanh", work.add("Softplus", node.input[0], like=node), like=node)
    work.add("Mul", node.input[0], gate, output=node.output[0], like=node)
    return True


def _gelu(node: onnx.NodeProto, work: Lowering) -> bool:
    x = node.input[0]
    half, one = (_like_input(node, work, v) for v in (0.5, 1.0))
    if attributes_of(node).get("approximate", b"none") == b"tanh":
        cube = work.add("Mul", work.add("Mul", x, x, like=node), x, like=node)
        bent = work.add("Mul", cube, _like_input(node, work, 0.044715), like=node)
        inner = work.add(
            "Mul", work.add("Add", x, bent, like=node), _like_input(node, work, math.sqrt(2 / math.pi)), like=node
        )
        bell = work.add("Tanh", inner, like=node)
    else:
        bell = work.add("Erf", work.add("Mul", x, _like_input(node, work, math.sqrt(0.5)), like=node), like=node)
    gate = work.add("Mul", work.add("Add", bell, one, like=node), half, like=node)
    work.add("Mul", x, gate, output=node.output[0], like=node)
    return True


def _layer_norm(node: onnx.NodeProto, work: Lowering) -> bool:
    if len(node.output) > 1 and any(node.output[1:]):
        raise Unexpressible(node, "its mean and deviation are used")
    attributes = attributes_of(node)
    rank, axis, epsilon = work.rank(node), attributes.get("axis", -1), attributes.get("epsilon", 1e-5)
    assert isinstance(axis, int)
    axes = list(range(axis % rank, rank))
    centred = work.add("Sub", node.input[0], _mean(node, work, node.input[0], axes), like=node)
    variance = _mean(node, work, work.add("Mul", centred, centred, like=node), axes)
    deviation = work.add("Sqrt", work.add("Add", variance, _like_input(node, work, epsilon), like=node), like=node)
    last = len(node.input) < 3 or not node.input[2]
    y = work.add("Div", centred, deviation, like=node)
    y = work.add("Mul", y, node.input[1], output=node.output[0] if last else None, like=node)
    if not last:
        work.add("Add", y, node.input[2], output=node.output[0], like=node)
    return True


def _mean(node: onnx.NodeProto, work: Lowering, x: str, axes: list[int]) -> str:
    if work.target < 18:
        return work.add("ReduceMean", x, like=node, axes=axes, keepdims=1)
    return work.add("ReduceMean", x, work.constant(np.asarray(axes, np.int64), "axes"), like=node, keepdims=1)


def _or_equal(strict: str) -> Callable[[onnx.NodeProto, Lowering], bool]:
    def rewrite(node: onnx.NodeProto, work: Lowering) -> bool:
        sides = [work.add(op_type, *node.input, like=node) for op_type in (strict, "Equal")]
        work.add("Or", *sides, output=node.output[0], like=node)
        return True

    return rewrite


def _grid_sample(node: onnx.NodeProto, work: Lowering) -> bool:
    mode = attributes_of(node).get("mode", b"linear")
    set_attribute(node, "mode", {b"linear": "bilinear", b"cubic": "bicubic"}.get(mode, mode))  # type: ignore[call-overload]
    return False


def _plain_dilations(node: onnx.NodeProto, work: Lowering) -> bool:
    dilations = attributes_of(node).get("dilations")
    if isinstance(dilations, list) and set(dilations) == {1}:
        set_attribute(node, "dilations", None)
    return False


def _per_tensor(node: onnx.NodeProto, work: Lowering) -> bool:
    if work.shapes.get(node.input[1]) not in ((), (1,)):
        raise Unexpressible(node, "quantisation by channel needs opset 13")
    set_attribute(node, "axis", None)
    return False


def _like_input(node: onnx.NodeProto, work: Lowering, value: object) -> str:
    """A constant of the element type of the node's first input."""
    kinds = {v.name: v.type.tensor_type.elem_type for v in known_values(work.draft).values()}
    kind = kinds.get(node.input[0], TensorProto.FLOAT)
    return work.constant(np.asarray(value, helper.tensor_dtype_to_np_dtype(kind)), f"{node.output[0]}_constant")


_Rewrite = Callable[[onnx.NodeProto, Lowering], bool]
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

#: Operator -> (version, what undoes it), newest first.
_REWRITES: dict[str, tuple[tuple[int, _Rewrite], ...]] = {
    **{f"Reduce{name}": ((18, _axes_to_attribute),) for name in _REDUCTIONS},
    "ReduceSum": ((13, _axes_to_attribute),),
    "Squeeze": ((13, _axes_to_attribute),),
    "Unsqueeze": ((13, _axes_to_attribute),),
    "Split": ((18, _split_sizes), (13, _split_to_attribute)),
    "Softmax": ((13, _softmax),),
    "LogSoftmax": ((13, _softmax),),
    "Resize": ((13, _resize),),
    "Shape": ((15, _shape_range),),
    "HardSwish": ((14, _hard_swish),),
    "Swish": ((24, _swish),),
    "Mish": ((18, _mish),),
    "Gelu": ((20, _gelu),),
    "LayerNormalization": ((17, _layer_norm),),
    "GreaterOrEqual": ((12, _or_equal("Greater")),),
    "LessOrEqual": ((12, _or_equal("Less")),),
    "GridSample": ((20, _grid_sample),),
    "AveragePool": ((19, _plain_dilations),),
    "QuantizeLinear": ((13, _per_tensor),),
    "DequantizeLinear": ((13, _per_tensor),),
}
