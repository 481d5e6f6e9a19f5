"""Convolutions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from edgepose.graph.passes.wiring import attributes_of

from .elementwise import binary
from .lowering import Lowering, Operator, Unsupported
from .program import Shape, Value

Pads = tuple[int, int, int, int]


def window(node: onnx.NodeProto, kernel: Sequence[int], size: Sequence[int]) -> tuple[Pads, Shape, Shape]:
    """Padding (top, bottom, left, right), strides and dilations of a node with a window that moves over a picture.

    Parameters
    ----------
    node
        The node.
    kernel
        Height and width of its window.
    size
        Height and width of the picture, which ``auto_pad`` depends on.
    """
    attributes: dict[str, Any] = attributes_of(node)
    strides = attributes.get("strides", [1, 1])
    dilations = attributes.get("dilations", [1, 1])
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic in (b"NOTSET", b"VALID"):
        top, left, bottom, right = attributes.get("pads", [0] * 4) if automatic == b"NOTSET" else [0] * 4
    else:
        needed = [
            max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, s, k, d in zip(size, strides, kernel, dilations, strict=True)
        ]
        less, more = [n // 2 for n in needed], [n - n // 2 for n in needed]
        (top, left), (bottom, right) = (less, more) if automatic == b"SAME_UPPER" else (more, less)
    return (top, bottom, left, right), tuple(strides), tuple(dilations)


def convolve(
    work: Lowering,
    x: Value,
    weights: Value,
    gives: Shape,
    pads: Pads,
    strides: Shape,
    dilations: Shape = (1, 1),
    group: int = 1,
) -> Value:
    """A convolution without bias."""
    return work.call(
        "Conv2D",
        x,
        weights,
        gives=gives,
        out_channel=weights.shape[0],
        kernel_size=weights.shape[2:],
        pad=pads,
        stride=strides,
        dilation=dilations,
        group=group,
    )


def _convolution(node: onnx.NodeProto, work: Lowering) -> None:
    x, weights = work.values(node)[:2]
    if len(x.shape) != 4:
        raise Unsupported(node, f"its input has the rank {len(x.shape)}; convolutions are of pictures")
    pads, strides, dilations = window(node, weights.shape[2:], x.shape[2:])
    group = attributes_of(node).get("group", 1)
    assert isinstance(group, int)
    result = convolve(work, x, weights, work.shape(node.output[0]), pads, strides, dilations, group)
    work.finish(node, _biased(node, work, result))


def _transposed_convolution(node: onnx.NodeProto, work: Lowering) -> None:
    x, weights = work.values(node)[:2]
    attributes: dict[str, Any] = {"group": 1, "auto_pad": b"NOTSET", "output_padding": [0, 0], **attributes_of(node)}
    if len(x.shape) != 4:
        raise Unsupported(node, f"its input has the rank {len(x.shape)}; convolutions are of pictures")
    if attributes["auto_pad"] != b"NOTSET" or "output_shape" in attributes:
        raise Unsupported(node, "its padding is not stated")
    pads, strides, dilations = window(node, weights.shape[2:], x.shape[2:])
    shape = work.shape(node.output[0])
    if any(attributes["output_padding"]) or attributes["group"] != 1:
        # MindSpore Lite ignores output padding and refuses groups.
        result = _spread_convolution(node, work, x, attributes["group"], pads, strides, dilations)
        work.finish(node, _biased(node, work, result))
        return
    result = work.call(
        "Conv2DTranspose",
        x,
        weights,
        shape,
        gives=shape,
        out_channel=weights.shape[0],
        kernel_size=weights.shape[2:],
        pad=pads,
        stride=strides,
        dilation=dilations,
        group=1,
    )
    work.finish(node, _biased(node, work, result))


def _spread_convolution(
    node: onnx.NodeProto, work: Lowering, x: Value, group: int, pads: Pads, strides: Shape, dilations: Shape
) -> Value:
    """A transposed convolution as a convolution with the turned kernel of a picture with zeros between its pixels."""
    weights = work.constant_input(node, 1)
    assert weights is not None
    shape = work.shape(node.output[0])
    inputs, outputs, *kernel = weights.shape
    turned = weights.reshape(group, inputs // group, outputs, *kernel).swapaxes(1, 2)[..., ::-1, ::-1]
    batch, channels, height, width = x.shape
    for axis, stride in ((3, strides[1]), (2, strides[0])):
        if stride > 1:
            # Behind each pixel, or each row, as many zeros as are missing.
            count, length = (batch * channels * height * width, 1) if axis == 3 else (batch * channels * height, width)
            x = work.call(
                "Pad",
                work.reshape(x, (1, 1, count, length)),
                gives=(1, 1, count, stride * length),
                paddings=((0, 0), (0, 0), (0, 0), (0, (stride - 1) * length)),
            )
        height, width = (height, stride * width) if axis == 3 else (stride * height, width)
    x = work.reshape(x, (batch, channels, height, width))
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    top, left = reach[0] - pads[0], reach[1] - pads[2]
    below = (shape[2] + reach[0] - height - top, shape[3] + reach[1] - width - left)
    around: Pads = (top, below[0], left, below[1])
    if min(around) < 0:
        raise Unsupported(node, f"as a convolution it would need the padding {list(around)}")
    kernels = work.constant(np.ascontiguousarray(turned).reshape(group * outputs, inputs // group, *kernel))
    return convolve(work, x, kernels, shape, around, (1, 1), dilations, group)


def _biased(node: onnx.NodeProto, work: Lowering, x: Value) -> Value:
    if len(node.input) < 3 or not node.input[2]:
        return x
    return work.call("BiasAdd", x, work.value(node.input[2]), gives=x.shape)


def matrix_product(work: Lowering, a: Value, b: Value) -> Value:
    """A product of matrices, or of equally long stacks of them."""
    if len(b.shape) == 2:
        flat = work.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        made = work.call("MatMul", flat, b, gives=(flat.shape[0], b.shape[1]))
        return work.reshape(made, (*a.shape[:-1], b.shape[1]))
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (work.broadcast(v, (*stack, *v.shape[-2:])) for v in (a, b))
    return work.call("BatchMatMul", a, b, gives=(*stack, a.shape[-2], b.shape[-1]))


def _matmul(node: onnx.NodeProto, work: Lowering) -> None:
    a, b = work.values(node)
    if min(len(a.shape), len(b.shape)) < 2:
        raise Unsupported(node, "one of its operands is a vector")
    work.finish(node, matrix_product(work, a, b))


def _gemm(node: onnx.NodeProto, work: Lowering) -> None:
    attributes: dict[str, Any] = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0, **attributes_of(node)}
    a, b = (
        work.transpose(v, (1, 0)) if attributes[key] else v
        for v, key in zip(work.values(node)[:2], ("transA", "transB"), strict=True)
    )
    result = matrix_product(work, a, b)
    if attributes["alpha"] != 1.0:
        result = binary(work, "Mul", result, work.constant(attributes["alpha"]))
    if len(node.input) > 2 and node.input[2] and attributes["beta"] != 0:
        bias = work.value(node.input[2])
        if attributes["beta"] != 1.0:
            bias = binary(work, "Mul", bias, work.constant(attributes["beta"]))
        result = binary(work, "Add", result, bias)
    work.finish(node, result)


def _batch_norm(node: onnx.NodeProto, work: Lowering) -> None:
    """As a factor and a summand for each channel; where a convolution stands before it, it is folded already."""
    if attributes_of(node).get("training_mode", 0):
        raise Unsupported(node, "it is in training mode")
    parts = [work.constant_input(node, place) for place in range(1, 5)]
    scale, bias, mean, variance = (np.asarray(p, np.float64) for p in parts)
    epsilon = attributes_of(node).get("epsilon", 1e-5)
    assert isinstance(epsilon, float)
    x = work.value(node.input[0])
    spread = (-1,) + (1,) * (len(x.shape) - 2)
    factor = scale / np.sqrt(variance + epsilon)
    scaled = binary(work, "Mul", x, work.constant(factor.reshape(spread)))
    work.finish(node, binary(work, "Add", scaled, work.constant((bias - mean * factor).reshape(spread))))


OPERATORS: dict[str, Operator] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
}
