"""Arithmetic on elements, and reductions."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import onnx

from edgepose.graph.passes.wiring import attributes_of

from .lowering import Lowering, Operator, Unsupported
from .program import Value

#: ONNX -> primitive of one operand, and whether its result is never negative.
_UNARY = {
    "Relu": ("ReLU", True),
    "Sigmoid": ("Sigmoid", True),
    "Tanh": ("Tanh", False),
    "Sqrt": ("Sqrt", True),
    "Exp": ("Exp", True),
    "Log": ("Log", False),
    "Abs": ("Abs", True),
    "Neg": ("Neg", False),
    "Floor": ("Floor", False),
    "Erf": ("Erf", False),
    "Softplus": ("Softplus", True),
    "Reciprocal": ("Reciprocal", False),
    "Not": ("LogicalNot", False),
}
_BINARY = {
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "Max": "Maximum",
    "Min": "Minimum",
    "Sum": "Add",
    "And": "LogicalAnd",
    "Or": "LogicalOr",
}
_COMPARISONS = {
    "Less": "Less",
    "LessOrEqual": "LessEqual",
    "Greater": "Greater",
    "GreaterOrEqual": "GreaterEqual",
    "Equal": "Equal",
}
#: Results of these are never negative if no operand is.
_KEEPS_SIGN = frozenset(("Add", "Sum", "Mul", "Min", "Max"))
_FLOAT_MAX = float(np.finfo(np.float32).max)


def binary(work: Lowering, primitive: str, a: Value, b: Value, dtype: str | None = None) -> Value:
    """A primitive of two operands, broadcast against each other."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return work.call(primitive, a, b, gives=shape, dtype=dtype or a.dtype)


def unary(work: Lowering, primitive: str, x: Value) -> Value:
    """A primitive of one operand."""
    return work.call(primitive, x, gives=x.shape)


def _unary(node: onnx.NodeProto, work: Lowering) -> None:
    primitive, nonnegative = _UNARY[node.op_type]
    work.finish(node, unary(work, primitive, work.value(node.input[0])), nonnegative)


def _binary(node: onnx.NodeProto, work: Lowering) -> None:
    values = work.values(node)
    nonnegative = node.op_type in _KEEPS_SIGN and all(v.name in work.nonnegative for v in values)
    if node.op_type == "Max":
        nonnegative = any(v.name in work.nonnegative for v in values)
    primitive = _BINARY[node.op_type]
    result = reduce(lambda a, b: binary(work, primitive, a, b), values)
    work.finish(node, result, nonnegative)


def _divide(node: onnx.NodeProto, work: Lowering) -> None:
    a, b = work.values(node)
    nonnegative = {a.name, b.name} <= work.nonnegative
    if a.dtype == "float32":
        work.finish(node, binary(work, "RealDiv", a, b), nonnegative)
        return
    # ONNX rounds towards zero; MindSpore rounds down, and MindSpore Lite towards zero under the same name.
    if not nonnegative:
        raise Unsupported(node, "whole numbers that may be negative are divided differently by MindSpore and its Lite")
    work.finish(node, binary(work, "FloorDiv", a, b), True)


def _compare(node: onnx.NodeProto, work: Lowering) -> None:
    a, b = work.values(node)
    work.finish(node, binary(work, _COMPARISONS[node.op_type], a, b, "bool"))


def _sign(node: onnx.NodeProto, work: Lowering) -> None:
    """MindSpore Lite has no such kernel."""
    x = work.value(node.input[0])
    zero = work.constant(0.0, x.dtype)
    above, below = (work.cast(binary(work, primitive, x, zero, "bool"), x.dtype) for primitive in ("Greater", "Less"))
    work.finish(node, binary(work, "Sub", above, below))


def _power(node: onnx.NodeProto, work: Lowering) -> None:
    exponent = work.constant_input(node, 1)
    x = work.value(node.input[0])
    if exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 2:
        work.finish(node, binary(work, "Mul", x, x), True)
    elif exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 0.5:
        work.finish(node, unary(work, "Sqrt", x), True)
    else:
        work.finish(node, binary(work, "Pow", x, work.value(node.input[1])), x.name in work.nonnegative)


def _clip(node: onnx.NodeProto, work: Lowering) -> None:
    attributes = attributes_of(node)
    bounds = []
    for place, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        array = work.constant_input(node, place)
        given: Any = attributes.get(name, default) if array is None else array.reshape(-1)[0]
        bounds.append(float(given))
    x = work.value(node.input[0])
    work.finish(node, clip(work, x, *bounds), bounds[0] >= 0)


def clip(work: Lowering, x: Value, low: float, high: float) -> Value:
    """Between two numbers; infinite ones bound nothing."""
    if x.dtype == "float32" and low == 0 and high == 6:
        return unary(work, "ReLU6", x)
    if low == 0 and x.dtype == "float32":
        x = unary(work, "ReLU", x)
    elif low > -_FLOAT_MAX:
        x = binary(work, "Maximum", x, work.constant(low, x.dtype))
    return binary(work, "Minimum", x, work.constant(high, x.dtype)) if high < _FLOAT_MAX else x


def _hard_sigmoid(node: onnx.NodeProto, work: Lowering) -> None:
    attributes: dict[str, Any] = {"alpha": 0.2, "beta": 0.5, **attributes_of(node)}
    x = work.value(node.input[0])
    work.finish(node, hard_sigmoid(work, x, attributes["alpha"], attributes["beta"]), True)


def hard_sigmoid(work: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """``alpha * x + beta`` between 0 and 1."""
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return unary(work, "HSigmoid", x)
    scaled = binary(work, "Mul", x, work.constant(alpha))
    return clip(work, binary(work, "Add", scaled, work.constant(beta)), 0.0, 1.0)


def _hard_swish(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    work.finish(node, binary(work, "Mul", x, hard_sigmoid(work, x, 1 / 6, 0.5)))


def _elu(node: onnx.NodeProto, work: Lowering) -> None:
    attributes: dict[str, Any] = {"alpha": 1.0, **attributes_of(node)}
    x = work.value(node.input[0])
    if attributes["alpha"] == 1.0:
        work.finish(node, work.call("Elu", x, gives=x.shape, alpha=1.0))
        return
    # MindSpore's kernel for the CPU knows this alpha only.
    below = unary(work, "Exp", binary(work, "Minimum", x, work.constant(0.0)))
    bent = binary(work, "Mul", binary(work, "Sub", below, work.constant(1.0)), work.constant(attributes["alpha"]))
    work.finish(node, binary(work, "Add", unary(work, "ReLU", x), bent))


def _leaky_relu(node: onnx.NodeProto, work: Lowering) -> None:
    attributes: dict[str, Any] = {"alpha": 0.01, **attributes_of(node)}
    x = work.value(node.input[0])
    work.finish(node, _two_slopes(work, x, work.constant(attributes["alpha"])))


def _prelu(node: onnx.NodeProto, work: Lowering) -> None:
    x, slope = work.values(node)
    work.finish(node, _two_slopes(work, x, slope))


def _two_slopes(work: Lowering, x: Value, slope: Value) -> Value:
    below = binary(work, "Mul", binary(work, "Minimum", x, work.constant(0.0)), slope)
    return binary(work, "Add", unary(work, "ReLU", x), below)


def _softmax(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    axis = attributes_of(node).get("axis", -1)
    assert isinstance(axis, int)
    work.finish(node, work.call("Softmax", x, gives=x.shape, axis=axis % len(x.shape)), True)


def _reduce(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    attributes: dict[str, Any] = {"keepdims": 1, "noop_with_empty_axes": 0, **attributes_of(node)}
    listed = work.integers(node, 1, "axes")
    if not listed:
        if attributes["noop_with_empty_axes"]:
            work.finish(node, x)
            return
        listed = list(range(len(x.shape)))
    axes = tuple(sorted(axis % len(x.shape) for axis in listed))
    kind = node.op_type.removeprefix("Reduce")
    nonnegative = x.name in work.nonnegative or kind in ("L1", "L2", "SumSquare")
    if kind in ("L2", "SumSquare"):
        x = binary(work, "Mul", x, x)
    elif kind == "L1":
        x = unary(work, "Abs", x)
    primitive = f"Reduce{'Sum' if kind in ('L1', 'L2', 'SumSquare') else kind}"
    result = reduction(work, primitive, x, axes, bool(attributes["keepdims"]))
    work.finish(node, unary(work, "Sqrt", result) if kind == "L2" else result, nonnegative)


def reduction(work: Lowering, primitive: str, x: Value, axes: tuple[int, ...], keep: bool) -> Value:
    """Reduce along ``axes``, which are not negative."""
    if primitive == "ReduceMax" and x.name not in work.nonnegative:
        # MindSpore Lite 2.0 takes the largest of negative numbers to be zero.
        return unary(work, "Neg", reduction(work, "ReduceMin", unary(work, "Neg", x), axes, keep))
    shape = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]
    return work.call(primitive, x, axes, gives=shape, keep_dims=keep)


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_COMPARISONS, _compare),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2"), _reduce),
    "ReduceSumSquare": _reduce,
    "Div": _divide,
    "Sign": _sign,
    "Pow": _power,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Elu": _elu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Softmax": _softmax,
}
