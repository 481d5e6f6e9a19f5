"""Operators that look for elements: what decoders inside the graph are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepose.graph.passes.wiring import attributes_of

from .elementwise import binary, reduction
from .lowering import Lowering, Operator, Unsupported
from .program import Value
from .shaping import slice_of

#: Numbers up to which float32 holds every whole number.
_EXACT = 1 << 24


def _argmax(node: onnx.NodeProto, work: Lowering) -> None:
    """The smallest number of those whose element is the largest: which of several ``Argmax`` takes, nobody promises."""
    attributes: dict[str, Any] = {"axis": 0, "keepdims": 1, "select_last_index": 0, **attributes_of(node)}
    x = work.value(node.input[0])
    axis = attributes["axis"] % len(x.shape)
    length = x.shape[axis]
    if attributes["select_last_index"] or x.dtype != "float32" or 2 * length > _EXACT:
        raise Unsupported(node, f"the last of equal elements, or one of more than {_EXACT // 2}, is asked for")
    top = reduction(work, "ReduceMax", x, (axis,), True)
    missed = work.cast(work.call("LogicalNot", binary(work, "Equal", x, top, "bool"), gives=x.shape), "float32")
    numbers = np.arange(length, dtype=np.float32).reshape((-1,) + (1,) * (len(x.shape) - axis - 1))
    behind = binary(work, "Mul", missed, work.constant(float(length)))
    candidates = binary(work, "Add", behind, work.constant(numbers))
    first = reduction(work, "ReduceMin", candidates, (axis,), bool(attributes["keepdims"]))
    # Where no element equals the largest there is a NaN, and ONNX leaves open which is taken.
    index = work.cast(binary(work, "Minimum", first, work.constant(float(length - 1))), "int32")
    work.nonnegative.add(index.name)
    work.set(node.output[0], index)


def _top_k(node: onnx.NodeProto, work: Lowering) -> None:
    attributes: dict[str, Any] = {"axis": -1, "largest": 1, "sorted": 1, **attributes_of(node)}
    x = work.value(node.input[0])
    shape = work.shape(node.output[0])
    if attributes["axis"] % len(x.shape) != len(x.shape) - 1 or not attributes["largest"] or x.dtype != "float32":
        raise Unsupported(node, "only the largest elements along the last axis are found")
    values, indices = work.blank(shape, "float32"), work.blank(shape, "int32")
    work.call_tuple("TopK", x, shape[-1], made=(values, indices), sorted=True)
    work.nonnegative.add(indices.name)
    if x.name in work.nonnegative:
        work.nonnegative.add(values.name)
    for name, value in zip(node.output, (values, indices), strict=False):
        work.set(name, value)


def _from_the_front(node: onnx.NodeProto, work: Lowering, index: Value, length: int) -> Value:
    """Indices of which negative ones count from the end, as MindSpore wants them: all from the front."""
    if 2 * length > _EXACT:
        raise Unsupported(node, f"its indices may be negative, along an axis of more than {_EXACT // 2}")
    number = work.cast(index, "float32")
    negative = work.cast(binary(work, "Less", number, work.constant(0.0), "bool"), "float32")
    behind = binary(work, "Mul", negative, work.constant(float(length)))
    return work.cast(binary(work, "Add", number, behind), "int32")


def _gather_elements(node: onnx.NodeProto, work: Lowering) -> None:
    x, index = work.values(node)
    axis: Any = attributes_of(node).get("axis", 0)
    axis %= len(x.shape)
    if index.name not in work.nonnegative:
        index = _from_the_front(node, work, index, x.shape[axis])
    for other, length in enumerate(index.shape):
        if other != axis:
            x = slice_of(work, x, other, 0, length)
    result = work.call("GatherD", x, axis, index, gives=index.shape)
    work.finish(node, result, x.name in work.nonnegative)


def _select(work: Lowering, condition: Value, yes: Value, no: Value) -> Value:
    return work.call("Select", condition, yes, no, gives=yes.shape, dtype=yes.dtype)


def _where(node: onnx.NodeProto, work: Lowering) -> None:
    condition, yes, no = work.values(node)
    shape = np.broadcast_shapes(condition.shape, yes.shape, no.shape)
    if condition.shape != shape:
        # Booleans are not repeated by all of MindSpore's runtimes; ones and zeros are.
        ones = work.broadcast(work.cast(condition, "float32"), shape)
        condition = binary(work, "Greater", ones, work.constant(0.5), "bool")
    result = _select(work, condition, work.broadcast(yes, shape), work.broadcast(no, shape))
    work.finish(node, result, {yes.name, no.name} <= work.nonnegative)


OPERATORS: dict[str, Operator] = {
    "ArgMax": _argmax,
    "TopK": _top_k,
    "GatherElements": _gather_elements,
    "Where": _where,
}
