"""MXNet activations, softmax included."""

from __future__ import annotations

import math

import numpy as np

from .translation import Call, Translation, Translator

#: Slope of LeakyReLU and the bounds between which rrelu draws it in training; inference takes their middle.
_SLOPE, _LOWER, _UPPER = 0.25, 0.125, 0.334

_ACTIVATIONS = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softrelu": "Softplus",
    "softsign": "Softsign",
}


def activation(call: Call, tr: Translation) -> str:
    """Activation by its ``act_type``."""
    kind = call.text("act_type", "")
    if kind == "log_sigmoid":
        return str(tr.op("Log", tr.op("Sigmoid", call.inputs[0], name=f"{call.name}_sigmoid"), name=call.name))
    if kind == "mish":
        gate = tr.op("Tanh", tr.op("Softplus", call.inputs[0], name=f"{call.name}_softplus"), name=f"{call.name}_gate")
        return str(tr.op("Mul", call.inputs[0], gate, name=call.name))
    if kind not in _ACTIVATIONS:
        raise call.refuse(f"its act_type is {kind!r}")
    return str(tr.op(_ACTIVATIONS[kind], call.inputs[0], name=call.name))


def _leaky_relu(call: Call, tr: Translation) -> str:
    kind, x = call.text("act_type", "leaky"), call.inputs[0]
    if kind == "leaky":
        return str(tr.op("LeakyRelu", x, alpha=call.number("slope", _SLOPE), name=call.name))
    if kind == "elu":
        return str(tr.op("Elu", x, alpha=call.number("slope", _SLOPE), name=call.name))
    if kind == "rrelu":
        middle = (call.number("lower_bound", _LOWER) + call.number("upper_bound", _UPPER)) / 2
        return str(tr.op("LeakyRelu", x, alpha=middle, name=call.name))
    if kind == "selu":
        return str(tr.op("Selu", x, name=call.name))
    if kind == "gelu":
        bent = tr.op(
            "Erf", tr.op("Mul", x, tr.scalar(math.sqrt(0.5)), name=f"{call.name}_bent"), name=f"{call.name}_erf"
        )
        gate = tr.op(
            "Mul", tr.op("Add", bent, tr.scalar(1), name=f"{call.name}_plus"), tr.scalar(0.5), name=f"{call.name}_gate"
        )
        return str(tr.op("Mul", x, gate, name=call.name))
    if kind != "prelu":
        raise call.refuse(f"its act_type is {kind!r}")
    rank = len(tr.known_shape(call))
    slope = call.inputs[1]
    by_channel = tr.shape(slope)
    if by_channel is not None and len(by_channel) == 1 and by_channel[0] != 1 and rank > 2:
        slope = tr.axes_op("Unsqueeze", slope, list(range(1, rank - 1)), f"{call.name}_slope")
    return str(tr.op("PRelu", x, slope, name=call.name))


def _softmax(op_type: str, *, sign: float = 1.0) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        if call.flag("use_length"):
            raise call.refuse("it has use_length")
        factor = sign / call.number("temperature", 1.0)
        x = call.inputs[0]
        if factor != 1:
            x = tr.op("Mul", x, tr.scalar(factor), name=f"{call.name}_scaled")
        return _along(call, tr, op_type, x, call.integer("axis", -1))

    return translate


def _softmax_activation(call: Call, tr: Translation) -> str:
    # "instance" takes all axes but the last as one, so it is a softmax over the last axis.
    axis = 1 if call.text("mode", "instance") == "channel" else -1
    return _along(call, tr, "Softmax", call.inputs[0], axis)


def _softmax_output(call: Call, tr: Translation) -> str:
    if call.flag("multi_output"):
        return _along(call, tr, "Softmax", call.inputs[0], 1)
    if call.flag("preserve_shape"):
        return _along(call, tr, "Softmax", call.inputs[0], -1)
    return _over_instance(call, tr)


def _over_instance(call: Call, tr: Translation) -> str:
    """Softmax over everything but the batch."""
    shape = tr.known_shape(call)
    if len(shape) == 2:
        return _along(call, tr, "Softmax", call.inputs[0], 1)
    if any(length is None for length in shape[1:]):
        raise call.refuse("its input size is not known")
    flat = tr.op("Flatten", call.inputs[0], axis=1, name=f"{call.name}_flat")
    soft = tr.op("Softmax", flat, axis=1, name=f"{call.name}_soft")
    return tr.reshape(soft, [0, *(int(length or 0) for length in shape[1:])], call.name)


def _along(call: Call, tr: Translation, op_type: str, x: str, axis: int) -> str:
    """Softmax along one axis; before opset 13 ONNX takes all axes from that one on, so it has to be the last."""
    rank = len(tr.known_shape(call))
    axis %= rank
    if tr.opset >= 13 or axis == rank - 1:
        return str(tr.op(op_type, x, axis=axis, name=call.name))
    order = [a for a in range(rank) if a != axis] + [axis]
    turned = tr.op("Transpose", x, perm=order, name=f"{call.name}_turned")
    soft = tr.op(op_type, turned, axis=rank - 1, name=f"{call.name}_soft")
    return str(tr.op("Transpose", soft, perm=np.argsort(order).tolist(), name=call.name))


OPERATORS: dict[str, Translator] = {
    "Activation": activation,
    "LeakyReLU": _leaky_relu,
    "softmax": _softmax("Softmax"),
    "softmin": _softmax("Softmax", sign=-1.0),
    "log_softmax": _softmax("LogSoftmax"),
    "SoftmaxActivation": _softmax_activation,
    "SoftmaxOutput": _softmax_output,
    "Softmax": _softmax_output,
}
