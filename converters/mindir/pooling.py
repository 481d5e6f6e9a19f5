"""Pooling."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepose.graph.passes.wiring import attributes_of

from .elementwise import binary, reduction
from .layers import Pads, convolve, window
from .lowering import Lowering, Operator, Unsupported
from .program import Shape, Value

#: What a window may reach over without changing the largest element in it.
_LOWEST = float(np.finfo(np.float32).min)


def _needed(node: onnx.NodeProto, work: Lowering, x: Value) -> tuple[Shape, Pads, Shape]:
    """Kernel, padding and strides; of the padding only what the output needs, rounded up or down."""
    if len(x.shape) != 4 or x.dtype != "float32":
        raise Unsupported(node, f"its input is {x.dtype} of the rank {len(x.shape)}; pooling is of pictures")
    attributes: dict[str, Any] = attributes_of(node)
    kernel = tuple(attributes["kernel_shape"])
    (top, _, left, _), strides, dilations = window(node, kernel, x.shape[2:])
    if set(dilations) != {1}:
        raise Unsupported(node, "MindSpore's pooling has no dilations")
    shape = work.shape(node.output[0])
    bottom, right = (
        max((shape[a] - 1) * strides[a - 2] + kernel[a - 2] - x.shape[a] - first, 0)
        for a, first in ((2, top), (3, left))
    )
    return kernel, (top, bottom, left, right), strides


def _max_pool(node: onnx.NodeProto, work: Lowering) -> None:
    if len(node.output) > 1 and node.output[1]:
        raise Unsupported(node, "the places of the largest elements are asked for")
    x = work.value(node.input[0])
    kernel, pads, strides = _needed(node, work, x)
    shape = work.shape(node.output[0])
    nonnegative = x.name in work.nonnegative
    mode = "valid"
    if any(pads):
        if _is_same(x.shape, shape, kernel, pads, strides):
            mode = "same"
        elif nonnegative:
            # Nothing is smaller than zero, so padding with zeros is as good as padding with nothing.
            x = zero_pad(work, x, pads)
        else:
            x = surround(work, x, pads, _LOWEST)
    result = work.call("MaxPool", x, gives=shape, kernel_size=kernel, strides=strides, pad_mode=mode)
    work.finish(node, result, nonnegative)


def _is_same(size: Shape, gives: Shape, kernel: Shape, pads: Pads, strides: Shape) -> bool:
    """Whether this is the padding that MindSpore calls 'same', which adds nothing that could be the largest."""
    for axis, before, behind in ((2, *pads[:2]), (3, *pads[2:])):
        wanted = max((gives[axis] - 1) * strides[axis - 2] + kernel[axis - 2] - size[axis], 0)
        if gives[axis] != -(-size[axis] // strides[axis - 2]) or (before, behind) != (
            wanted // 2,
            wanted - wanted // 2,
        ):
            return False
    return True


def zero_pad(work: Lowering, x: Value, pads: Pads) -> Value:
    """Zeros around a picture."""
    if not any(pads):
        return x
    top, bottom, left, right = pads
    batch, channels, height, width = x.shape
    return work.call(
        "Pad",
        x,
        gives=(batch, channels, height + top + bottom, width + left + right),
        paddings=((0, 0), (0, 0), (top, bottom), (left, right)),
    )


def surround(work: Lowering, x: Value, pads: Pads, number: float) -> Value:
    """A number around a picture."""
    for axis, before, behind in ((2, *pads[:2]), (3, *pads[2:])):
        if before or behind:
            blocks = [
                work.constant(np.full((*x.shape[:axis], thickness, *x.shape[axis + 1 :]), number, np.float32))
                for thickness in (before, behind)
            ]
            parts = (*blocks[: bool(before)], x, *blocks[1 : 1 + bool(behind)])
            shape = (*x.shape[:axis], x.shape[axis] + before + behind, *x.shape[axis + 1 :])
            x = work.call("Concat", parts, gives=shape, axis=axis)
    return x


def _average_pool(node: onnx.NodeProto, work: Lowering) -> None:
    """As a convolution of each channel with one weight: all of MindSpore's runtimes refuse ``AvgPool`` in version 1."""
    x = work.value(node.input[0])
    kernel, pads, strides = _needed(node, work, x)
    shape = work.shape(node.output[0])
    channels = x.shape[1]
    weights = work.constant(np.full((channels, 1, *kernel), 1 / np.prod(kernel), np.float32))
    result = convolve(work, x, weights, shape, pads, strides, group=channels)
    if any(pads):
        # What the padding adds is zero; how many elements the mean is of is another matter.
        counts = _counts(node, x.shape, shape, kernel, pads, strides)
        if not np.all(counts == np.prod(kernel)):
            result = binary(work, "Mul", result, work.constant(np.prod(kernel) / counts))
    work.finish(node, result, x.name in work.nonnegative)


def _counts(
    node: onnx.NodeProto, size: Shape, gives: Shape, kernel: Shape, pads: Pads, strides: Shape
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How many elements each window counts: those of the picture, and the declared padding where it is included."""
    included = bool(attributes_of(node).get("count_include_pad", 0))
    declared, _, _ = window(node, kernel, size[2:])
    counts = []
    for axis, before, behind in ((2, *declared[:2]), (3, *declared[2:])):
        starts = np.arange(gives[axis]) * strides[axis - 2] - pads[0 if axis == 2 else 2]
        low, high = (-before, size[axis] + behind) if included else (0, size[axis])
        ends = starts + kernel[axis - 2]
        counts.append((np.minimum(ends, high) - np.maximum(starts, low)).astype(np.float64))
    return np.multiply.outer(*counts).reshape(1, 1, gives[2], gives[3])


def _global_pool(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    primitive = "ReduceMean" if node.op_type == "GlobalAveragePool" else "ReduceMax"
    result = reduction(work, primitive, x, tuple(range(2, len(x.shape))), True)
    work.finish(node, result, x.name in work.nonnegative)


OPERATORS: dict[str, Operator] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
