"""MXNet pooling and resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..inference import LARGEST_VALUE
from .layers import spatial
from .translation import Array, Call, Translation, Translator


def _pooling(call: Call, tr: Translation) -> str:
    kind = call.text("pool_type", "max")
    if kind not in ("max", "avg", "sum", "lp"):
        raise call.refuse(f"its pool_type is {kind!r}")
    if call.flag("global_pool"):
        return _global_pooling(call, tr, kind)
    dimensions = spatial(call)
    ones, zeros = (1,) * dimensions, (0,) * dimensions
    kernel, stride = call.integers("kernel"), call.integers("stride", ones)
    pad = call.integers("pad", zeros)
    lengths = tr.known_shape(call)[2:]
    extra = [_extra(call, *place) for place in zip(lengths, kernel, stride, pad, strict=True)]
    x = call.inputs[0]
    window: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": stride,
        "pads": [*pad, *(p + e for p, e in zip(pad, extra, strict=True))],
    }
    if kind == "max":
        return str(tr.op("MaxPool", x, name=call.name, **window))
    if kind == "lp":
        return str(tr.op("LpPool", x, name=call.name, p=call.integer("p_value", 2), **window))
    if kind == "sum":
        mean = tr.op("AveragePool", x, name=f"{call.name}_mean", count_include_pad=1, **window)
        return str(tr.op("Mul", mean, tr.scalar(math.prod(kernel)), name=call.name))
    if not call.flag("count_include_pad", True) or not any(pad):
        return str(tr.op("AveragePool", x, name=call.name, count_include_pad=0, **window))
    if any(extra):
        # The padding counts, what a window reaches beyond it does not.
        x = _zero_padded(call, tr, x, pad)
        window["pads"] = [*zeros, *extra]
        return str(tr.op("AveragePool", x, name=call.name, count_include_pad=0, **window))
    return str(tr.op("AveragePool", x, name=call.name, count_include_pad=1, **window))


def _extra(call: Call, length: int | None, kernel: int, stride: int, pad: int) -> int:
    """How far the last window reaches beyond the padding.

    The conventions differ in how they round the number of windows: ``valid`` down, ``full`` up.  Padding at the far end
    says the same without ONNX's ceil_mode, on which runtimes disagree.
    """
    convention = call.text("pooling_convention", "valid")
    if convention == "valid":
        return 0
    if convention not in ("full", "same"):
        raise call.refuse(f"its pooling_convention is {convention!r}")
    if length is None:
        raise call.refuse("its input size is not known")
    if convention == "full":
        count = 1 + math.ceil((length + 2 * pad - kernel) / stride)
    else:
        count = math.ceil((length + 2 * pad) / stride)
    return max(0, (count - 1) * stride + kernel - length - 2 * pad)


def _zero_padded(call: Call, tr: Translation, x: str, pad: tuple[int, ...]) -> str:
    pads = tr.constant(np.asarray([0, 0, *pad, 0, 0, *pad], np.int64), f"{call.name}_pads")
    return str(tr.op("Pad", x, pads, mode="constant", name=f"{call.name}_padded"))


def _global_pooling(call: Call, tr: Translation, kind: str) -> str:
    x = call.inputs[0]
    if kind == "sum":
        rank = len(tr.known_shape(call))
        return tr.reduce("Sum", x, list(range(2, rank)), keepdims=True, name=call.name)
    if kind == "lp":
        return str(tr.op("GlobalLpPool", x, name=call.name, p=call.integer("p_value", 2)))
    return str(tr.op("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", x, name=call.name))


def _adaptive_average(call: Call, tr: Translation) -> str:
    size = call.integers("output_size", (1,))
    wanted = (size[0], size[0]) if len(size) == 1 else size[:2]
    x = call.inputs[0]
    if wanted == (1, 1):
        return str(tr.op("GlobalAveragePool", x, name=call.name))
    lengths = tr.known_shape(call)[2:]
    if len(lengths) != 2 or None in lengths:
        raise call.refuse("its input size is not known")
    fixed = [int(length or 0) for length in lengths]
    if min(wanted) < 1 or max(w * length for w, length in zip(wanted, fixed, strict=True)) > LARGEST_VALUE // 4:
        raise call.refuse(f"its output_size is {wanted}")
    if all(length % out == 0 for length, out in zip(fixed, wanted, strict=True)):
        kernel = [length // out for length, out in zip(fixed, wanted, strict=True)]
        return str(tr.op("AveragePool", x, name=call.name, kernel_shape=kernel, strides=kernel))
    # Windows of different lengths, as a product with the matrix of their weights on either side.
    rows = tr.constant(_windows(fixed[0], wanted[0]), f"{call.name}_rows")
    columns = tr.constant(_windows(fixed[1], wanted[1]).T, f"{call.name}_columns")
    return str(tr.op("MatMul", tr.op("MatMul", rows, x, name=f"{call.name}_by_row"), columns, name=call.name))


def _windows(length: int, count: int) -> Array:
    weights = np.zeros((count, length), np.float32)
    for i in range(count):
        start, end = i * length // count, -(-(i + 1) * length // count)
        weights[i, start:end] = 1 / (end - start)
    return weights


def _bilinear_resize(call: Call, tr: Translation) -> str:
    mode = call.text("mode", "size")
    shape = tr.known_shape(call)
    if len(shape) != 4 or None in shape[1:]:
        raise call.refuse("its input size is not known")
    height, width = (int(length or 0) for length in shape[2:])
    if mode == "size":
        if call.has("scale_height"):
            scale = call.number("scale_height", 1), call.number("scale_width", 1)
            size = int(height * scale[0]), int(width * scale[1])
        else:
            size = call.integer("height", 1), call.integer("width", 1)
    elif mode == "like":
        like = tr.known_shape(call, 1)
        if None in like[2:]:
            raise call.refuse("the size it takes as a model is not known")
        size = int(like[2] or 0), int(like[3] or 0)
    else:
        raise call.refuse(f"its mode is {mode!r}")
    # Scales, not sizes: the latter would fix the batch as well.
    scales = tr.constant(np.asarray([1, 1, size[0] / height, size[1] / width], np.float32), f"{call.name}_scales")
    roi = "" if tr.opset >= 13 else tr.constant(np.zeros(0, np.float32), f"{call.name}_roi")
    corners = "align_corners" if call.flag("align_corners", True) else "half_pixel"
    return str(
        tr.op(
            "Resize", call.inputs[0], roi, scales, name=call.name, mode="linear", coordinate_transformation_mode=corners
        )
    )


OPERATORS: dict[str, Translator] = {
    "Pooling": _pooling,
    "Pooling_v1": _pooling,
    "_contrib_AdaptiveAvgPooling2D": _adaptive_average,
    "_contrib_BilinearResize2D": _bilinear_resize,
}
