"""MXNet layers with weights: convolutions, normalisations, fully connected."""

from __future__ import annotations

import math

import numpy as np

from .translation import Call, Translation, Translator

#: Defaults of MXNet's operator parameters, which differ from ONNX's: BatchNorm eps 1e-3 and fix_gamma on.
_BATCH_NORM_EPSILON = 1e-3
_INSTANCE_NORM_EPSILON = 1e-3
_LAYER_NORM_EPSILON = 1e-5
_GROUP_NORM_EPSILON = 1e-5
_L2_EPSILON = 1e-10


def spatial(call: Call) -> int:
    """How many spatial axes a layer has, by its kernel.

    Raises
    ------
    GraphError
        If it has none, or the channels are not the second axis.
    """
    layout = call.text("layout", "NC")
    if not layout.startswith("NC"):
        raise call.refuse(f"its layout is {layout}, and only channels first are supported")
    dimensions = len(call.integers("kernel"))
    if not 1 <= dimensions <= 3:
        raise call.refuse("it has no kernel size")
    return dimensions


def _check_weight(call: Call, tr: Translation, expected: tuple[int | None, ...]) -> None:
    """ONNX's own inference does not look at a weight's lengths; None in ``expected`` fits any."""
    found = tr.known_shape(call, 1)
    if len(found) != len(expected) or any(e is not None and e != f for e, f in zip(expected, found, strict=True)):
        wanted = ", ".join("?" if length is None else str(length) for length in expected)
        raise call.refuse(f"its weight '{call.inputs[1]}' has the shape {list(found)}, not [{wanted}]")


def _convolution(call: Call, tr: Translation) -> str:
    dimensions = spatial(call)
    groups, channels = call.integer("num_group", 1), tr.known_shape(call)[1]
    each = None if channels is None or groups < 1 else channels // groups
    _check_weight(call, tr, (call.node.integer("num_filter"), each, *call.integers("kernel")))
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    pad = call.integers("pad", zeros)
    inputs = call.inputs[:2] if call.flag("no_bias") else call.inputs[:3]
    return str(
        tr.op(
            "Conv",
            *inputs,
            name=call.name,
            kernel_shape=call.integers("kernel"),
            strides=call.integers("stride", ones),
            dilations=call.integers("dilate", ones),
            pads=[*pad, *pad],
            group=groups,
        )
    )


def _deconvolution(call: Call, tr: Translation) -> str:
    dimensions = spatial(call)
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    kernel, stride = call.integers("kernel"), call.integers("stride", ones)
    groups = call.integer("num_group", 1)
    _check_weight(call, tr, (tr.known_shape(call)[1], call.node.integer("num_filter") // groups, *kernel))
    dilate = call.integers("dilate", ones)
    pad, adj = call.integers("pad", zeros), call.integers("adj", zeros)
    target = call.integers("target_shape", zeros)
    if any(target):
        # The target wins over pad and adj: what a convolution without padding would make too much is cut on both
        # sides, the odd one less at the far end.
        lengths = tr.known_shape(call)[2:]
        pads, adjs = [], []
        for length, k, s, d, wanted in zip(lengths, kernel, stride, dilate, target, strict=True):
            if length is None:
                raise call.refuse("it has a target_shape and its input size is not known")
            excess = s * (length - 1) + d * (k - 1) + 1 - wanted
            if excess < 0:
                raise call.refuse(f"its target_shape {target} is larger than what it makes")
            adjs.append(excess % 2)
            pads.append((excess + 1) // 2)
        pad, adj = tuple(pads), tuple(adjs)
    inputs = call.inputs[:2] if call.flag("no_bias", True) else call.inputs[:3]
    return str(
        tr.op(
            "ConvTranspose",
            *inputs,
            name=call.name,
            kernel_shape=kernel,
            strides=stride,
            dilations=dilate,
            pads=[*pad, *pad],
            output_padding=adj if any(adj) else None,
            group=groups,
        )
    )


def _fully_connected(call: Call, tr: Translation) -> str:
    x, shape = call.inputs[0], tr.known_shape(call)
    rank = len(shape)
    flat = math.prod(int(n or 0) for n in shape[1:]) if call.flag("flatten", True) else shape[-1]
    _check_weight(call, tr, (call.node.integer("num_hidden"), flat or None))
    has_bias = not call.flag("no_bias")
    if call.flag("flatten", True):
        if rank != 2:
            x = tr.op("Flatten", x, axis=1, name=f"{call.name}_flatten")
        inputs = call.inputs[1:3] if has_bias else call.inputs[1:2]
        return str(tr.op("Gemm", x, *inputs, transB=1, name=call.name))
    weight = tr.op("Transpose", call.inputs[1], perm=[1, 0], name=f"{call.name}_weight")
    product = tr.op("MatMul", x, weight, name=f"{call.name}_product" if has_bias else call.name)
    return str(tr.op("Add", product, call.inputs[2], name=call.name)) if has_bias else str(product)


def _batch_norm(call: Call, tr: Translation) -> str:
    shape = tr.known_shape(call)
    axis = call.integer("axis", 1) % len(shape)
    x, gamma, beta, mean, variance = call.inputs[:5]
    if call.flag("fix_gamma", True):
        # The stored gamma is not what MXNet computes with, whatever it holds.
        channels = tr.shape(beta)
        if channels is None or None in channels:
            raise call.refuse("the number of its channels is not known")
        gamma = tr.constant(np.ones(int(channels[0] or 0), np.float32), f"{call.name}_fixed_gamma")
    order = [a for a in range(len(shape)) if a != axis]
    order.insert(1, axis)
    turned = order != sorted(order)
    if turned:
        x = tr.op("Transpose", x, perm=order, name=f"{call.name}_turned")
    epsilon = call.number("eps", _BATCH_NORM_EPSILON)
    y = tr.op(
        "BatchNormalization",
        *(x, gamma, beta, mean, variance),
        epsilon=epsilon,
        name=f"{call.name}_normalised" if turned else call.name,
    )
    return str(tr.op("Transpose", y, perm=np.argsort(order).tolist(), name=call.name)) if turned else str(y)


def _batch_norm_relu(call: Call, tr: Translation) -> str:
    inner = Call(call.node, call.inputs, f"{call.name}_normalised")
    return str(tr.op("Relu", _batch_norm(inner, tr), name=call.name))


def _instance_norm(call: Call, tr: Translation) -> str:
    epsilon = call.number("eps", _INSTANCE_NORM_EPSILON)
    return str(tr.op("InstanceNormalization", *call.inputs[:3], epsilon=epsilon, name=call.name))


def _layer_norm(call: Call, tr: Translation) -> str:
    shape = tr.known_shape(call)
    axis = call.integer("axis", -1) % len(shape)
    if call.flag("output_mean_var"):
        raise call.refuse("it also gives mean and variance")
    y = _normalise(call, tr, call.inputs[0], [axis], call.number("eps", _LAYER_NORM_EPSILON))
    trailing = len(shape) - 1 - axis
    gamma, beta = (_with_trailing_axes(call, tr, value, trailing) for value in call.inputs[1:3])
    return str(tr.op("Add", tr.op("Mul", y, gamma, name=f"{call.name}_scaled"), beta, name=call.name))


def _group_norm(call: Call, tr: Translation) -> str:
    shape = tr.known_shape(call)
    groups = call.integer("num_groups", 1)
    if call.flag("output_mean_var") or any(length is None for length in shape[1:]):
        raise call.refuse("it also gives mean and variance, or its input size is not known")
    lengths = [int(length or 0) for length in shape[1:]]
    if lengths[0] % groups:
        raise call.refuse(f"its {lengths[0]} channels cannot be parted into {groups} groups")
    grouped = tr.reshape(call.inputs[0], [0, groups, -1], f"{call.name}_grouped")
    y = _normalise(call, tr, grouped, [2], call.number("eps", _GROUP_NORM_EPSILON))
    y = tr.reshape(y, [0, *lengths], f"{call.name}_normalised")
    parameters = []
    for value in call.inputs[1:3]:
        array = tr.array(value)
        if array is None:
            raise call.refuse("its scale is computed")
        # One scale for each group up to MXNet 1.6, one for each channel since.
        by_channel = np.repeat(array, lengths[0] // array.size)
        parameters.append(tr.constant(by_channel.reshape(-1, *[1] * (len(shape) - 2)), f"{value}_by_channel"))
    return str(tr.op("Add", tr.op("Mul", y, parameters[0], name=f"{call.name}_scaled"), parameters[1], name=call.name))


def _normalise(call: Call, tr: Translation, x: str, axes: list[int], epsilon: float) -> str:
    mean = tr.reduce("Mean", x, axes, keepdims=True, name=f"{call.name}_mean")
    centred = tr.op("Sub", x, mean, name=f"{call.name}_centred")
    square = tr.op("Mul", centred, centred, name=f"{call.name}_square")
    variance = tr.reduce("Mean", square, axes, keepdims=True, name=f"{call.name}_variance")
    deviation = tr.op(
        "Sqrt", tr.op("Add", variance, tr.scalar(epsilon), name=f"{call.name}_shifted"), name=f"{call.name}_deviation"
    )
    return str(tr.op("Div", centred, deviation, name=f"{call.name}_unit"))


def _with_trailing_axes(call: Call, tr: Translation, value: str, count: int) -> str:
    if not count:
        return value
    return tr.axes_op("Unsqueeze", value, list(range(1, count + 1)), f"{call.name}_{value}")


def _l2_normalization(call: Call, tr: Translation) -> str:
    rank = len(tr.known_shape(call))
    axes = {"instance": range(1, rank), "channel": range(1, 2), "spatial": range(2, rank)}.get(
        call.text("mode", "instance")
    )
    if axes is None:
        raise call.refuse(f"its mode is {call.text('mode', '')!r}")
    x = call.inputs[0]
    square = tr.op("Mul", x, x, name=f"{call.name}_square")
    total = tr.reduce("Sum", square, list(axes), keepdims=True, name=f"{call.name}_sum")
    shifted = tr.op("Add", total, tr.scalar(call.number("eps", _L2_EPSILON)), name=f"{call.name}_shifted")
    return str(tr.op("Div", x, tr.op("Sqrt", shifted, name=f"{call.name}_norm"), name=call.name))


def _lrn(call: Call, tr: Translation) -> str:
    return str(
        tr.op(
            "LRN",
            call.inputs[0],
            name=call.name,
            alpha=call.number("alpha", 1e-4),
            beta=call.number("beta", 0.75),
            bias=call.number("knorm", 2.0),
            size=call.integer("nsize", 0),
        )
    )


def _up_sampling(call: Call, tr: Translation) -> str:
    scale = call.integer("scale", 1)
    if call.integer("num_args", 1) != 1 and call.text("sample_type", "") == "nearest":
        raise call.refuse("it takes several inputs")
    if call.text("sample_type", "") == "nearest":
        scales = tr.constant(np.asarray([1, 1, scale, scale], np.float32), f"{call.name}_scales")
        # Below opset 13 the region of interest cannot be omitted, but it may be empty.
        roi = "" if tr.opset >= 13 else tr.constant(np.zeros(0, np.float32), f"{call.name}_roi")
        return str(
            tr.op(
                "Resize",
                *(call.inputs[0], roi, scales),
                name=call.name,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )
    pad = math.ceil((scale - 1) / 2)
    return str(
        tr.op(
            "ConvTranspose",
            *call.inputs[:2],
            name=call.name,
            kernel_shape=[2 * scale - scale % 2] * 2,
            strides=[scale] * 2,
            pads=[pad] * 4,
            group=call.integer("num_filter", 1),
        )
    )


OPERATORS: dict[str, Translator] = {
    "Convolution": _convolution,
    "Convolution_v1": _convolution,
    "Deconvolution": _deconvolution,
    "FullyConnected": _fully_connected,
    "BatchNorm": _batch_norm,
    "BatchNorm_v1": _batch_norm,
    "CuDNNBatchNorm": _batch_norm,
    "_contrib_SyncBatchNorm": _batch_norm,
    "_contrib_BatchNormWithReLU": _batch_norm_relu,
    "InstanceNorm": _instance_norm,
    "LayerNorm": _layer_norm,
    "GroupNorm": _group_norm,
    "L2Normalization": _l2_normalization,
    "LRN": _lrn,
    "UpSampling": _up_sampling,
}
