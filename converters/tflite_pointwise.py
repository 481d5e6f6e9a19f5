"""ONNX -> TFLite: what is computed element by element, in whichever layout the operands are in."""

from __future__ import annotations

import numpy as np

from .tflite_lowering import TO_LAST, Lowering, Node, Rule

_BINARY = {
    "Add": "ADD",
    "Sub": "SUB",
    "Mul": "MUL",
    "Div": "DIV",
    "Pow": "POW",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Equal": "EQUAL",
    "And": "LOGICAL_AND",
    "Or": "LOGICAL_OR",
}
_UNARY = {
    "Sigmoid": "LOGISTIC",
    "Tanh": "TANH",
    "Exp": "EXP",
    "Log": "LOG",
    "Sqrt": "SQRT",
    "Abs": "ABS",
    "Neg": "NEG",
    "Floor": "FLOOR",
    "Not": "LOGICAL_NOT",
    "HardSwish": "HARD_SWISH",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
}
_CLAMPABLE = frozenset({"ADD", "SUB", "MUL", "DIV"})
_NEVER_NEGATIVE = frozenset({"Sigmoid", "Exp", "Sqrt", "Abs"})


def _elementwise(low: Lowering, node: Node, code: str, inputs: tuple[str, ...], **options: object) -> None:
    """Compute with the channels last if an operand is there with the channels last, else as ONNX has it."""
    result = node.outputs[0]
    shape, kind = low.shape(result), low.kind(result)
    if len(shape) == 4 and any(low.has_last(name) for name in inputs):
        operands = [_broadcast_last(low, name) for name in inputs]
        turned = [shape[axis] for axis in TO_LAST]
        low.put_last(result, low.emit(code, operands, turned, kind, f"{result}:nhwc", **options))
    else:
        low.put_first(result, low.emit(code, [low.first(n) for n in inputs], shape, kind, result, **options))


def _broadcast_last(low: Lowering, name: str) -> int:
    """An operand of lower rank, or with lengths of 1, fit for computing with the channels last."""
    shape = low.shape(name)
    if len(shape) == 4:
        return low.last(name)
    array = low.array(name)
    if array is not None:
        if array.size == 1:
            return low.constant(array.reshape(()), f"{name}:scalar")
        wide = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return low.constant(wide.transpose(TO_LAST), f"{name}:nhwc")
    wide_shape = (1,) * (4 - len(shape)) + shape
    return low.transpose(low.reshape(low.first(name), wide_shape, f"{name}:wide"), TO_LAST, f"{name}:nhwc")


def _binary(low: Lowering, node: Node) -> None:
    code = _BINARY[node.op]
    options = {"activation": "NONE"} if code in _CLAMPABLE else {}
    _elementwise(low, node, code, node.inputs, **options)


def _unary(low: Lowering, node: Node) -> None:
    _elementwise(low, node, _UNARY[node.op], node.inputs[:1])
    if node.op in _NEVER_NEGATIVE:
        low.nonnegative.add(node.outputs[0])


def _sign(low: Lowering, node: Node) -> None:
    """Whether it is above zero, less whether it is below: all runtimes have comparisons, few have SIGN."""
    name, result = node.inputs[0], node.outputs[0]
    turned, kind = low.has_last(name), low.kind(result)
    source = low.last(name) if turned else low.first(name)
    shape, zero = low.file.tensors[source].shape, low.scalar(0, kind)
    sides = []
    for code in ("GREATER", "LESS"):
        truth = low.emit(code, [source, zero], shape, "bool", f"{result}:{code.lower()}")
        kinds = {"from": "bool", "to": kind}
        sides.append(low.emit("CAST", [truth], shape, kind, f"{result}:{code.lower()}:1", **kinds))
    index = low.emit("SUB", sides, shape, kind, result, activation="NONE")
    (low.put_last if turned else low.put_first)(result, index)


def _extreme(low: Lowering, node: Node) -> None:
    if len(node.inputs) != 2:
        raise node.refuse(f"it has {len(node.inputs)} operands")
    _elementwise(low, node, {"Max": "MAXIMUM", "Min": "MINIMUM"}[node.op], node.inputs)


def _where(low: Lowering, node: Node) -> None:
    _elementwise(low, node, "SELECT_V2", node.inputs)


def _relu(low: Lowering, node: Node) -> None:
    low.nonnegative.add(node.outputs[0])
    if not low.clamp(node, "RELU"):
        _elementwise(low, node, "RELU", node.inputs)


def _clip(low: Lowering, node: Node) -> None:
    limits: list[float | None] = []
    for place in (1, 2):
        array = low.array(node.inputs[place]) if node.has(place) else None
        if node.has(place) and (array is None or array.size != 1):
            raise node.refuse("its limits are computed")
        limits.append(None if array is None else float(array.reshape(())))
    low_limit, high = (None if x is None or not np.isfinite(x) or abs(x) > 1e38 else x for x in limits)
    kind = low.kind(node.outputs[0])
    if low_limit is not None and low_limit >= 0:
        low.nonnegative.add(node.outputs[0])
    if low_limit == 0 and high in (None, 6.0) and kind in ("float32", "int8"):
        code = "RELU" if high is None else "RELU6"
        if not low.clamp(node, code):
            _elementwise(low, node, code, node.inputs[:1])
        return
    if low_limit is None and high is None:
        raise node.refuse("it has no limits")
    name = node.inputs[0]
    turned = low.has_last(name)
    index = low.last(name) if turned else low.first(name)
    shape = low.file.tensors[index].shape
    for code, limit in (("MAXIMUM", low_limit), ("MINIMUM", high)):
        if limit is not None:
            value = low.scalar(limit if kind == "float32" else int(limit), kind)
            index = low.emit(code, [index, value], shape, kind, f"{node.outputs[0]}:{code.lower()}")
    (low.put_last if turned else low.put_first)(node.outputs[0], index)


def _hard_sigmoid(low: Lowering, node: Node) -> None:
    """``min(max(alpha x + beta, 0), 1)``; for alpha = 1/6 and beta = 1/2, ``relu6(x + 3) / 6``."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    name, result = node.inputs[0], node.outputs[0]
    turned = low.has_last(name)
    index = low.last(name) if turned else low.first(name)
    shape = low.file.tensors[index].shape

    def step(code: str, value: float, activation: str, label: str) -> int:
        operands = [index, low.scalar(value)]
        return low.emit(code, operands, shape, "float32", f"{result}:{label}", activation=activation)

    # min(max(alpha x + beta, 0), 1) = relu6(6 alpha x + 6 beta) / 6
    if abs(6 * alpha - 1) > 1e-6:
        index = step("MUL", 6 * alpha, "NONE", "scaled")
    index = step("ADD", 6 * beta, "RELU6", "clamped")
    index = step("MUL", 1 / 6, "NONE", "sixth")
    low.nonnegative.add(result)
    (low.put_last if turned else low.put_first)(result, index)


def _elu(low: Lowering, node: Node) -> None:
    if float(node.attributes.get("alpha", 1.0)) != 1.0:
        raise node.refuse("its alpha is not 1")
    _elementwise(low, node, "ELU", node.inputs)


def _leaky_relu(low: Lowering, node: Node) -> None:
    _elementwise(low, node, "LEAKY_RELU", node.inputs, alpha=float(node.attributes.get("alpha", 0.01)))


def _prelu(low: Lowering, node: Node) -> None:
    if low.array(node.inputs[1]) is None:
        raise node.refuse("its slope is computed")
    _elementwise(low, node, "PRELU", node.inputs)


def _cast(low: Lowering, node: Node) -> None:
    name, result = node.inputs[0], node.outputs[0]
    before, after = low.kind(name), low.kind(result)
    if before != after:
        _elementwise(low, node, "CAST", node.inputs, **{"from": before, "to": after})
        return
    # int64 and int32 are one in TFLite.
    if low.has_last(name):
        low.put_last(result, low.last(name))
    else:
        low.put_first(result, low.first(name))


RULES: dict[str, Rule] = {
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_UNARY, _unary),
    "Max": _extreme,
    "Min": _extreme,
    "Sign": _sign,
    "Where": _where,
    "Relu": _relu,
    "Clip": _clip,
    "HardSigmoid": _hard_sigmoid,
    "Elu": _elu,
    "LeakyRelu": _leaky_relu,
    "PRelu": _prelu,
    "Cast": _cast,
}
