"""ONNX -> TFLite: convolutions, pooling, resizing; all with the channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .tflite_file import Array, Grid
from .tflite_lowering import Lowering, Node, Rule

Pads = tuple[tuple[int, int], tuple[int, int]]
_LOWEST = float(np.finfo(np.float32).min)


def _conv(low: Lowering, node: Node) -> None:
    weights = _weights(low, node)
    channels = low.shape(node.inputs[0])[1]
    group = int(node.attributes.get("group", 1))
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    depthwise = group == channels and group > 1
    if group != 1 and not depthwise:
        raise node.refuse(f"it has {group} groups for {channels} channels")
    source, padding = _padded(low, node, weights.shape[2:], strides, dilations, 0.0)
    options = {"padding": padding, "stride_h": strides[0], "stride_w": strides[1], "activation": "NONE"}
    options |= {"dilation_h": dilations[0], "dilation_w": dilations[1]}
    if depthwise:
        # ONNX has the multiplier as the inner part of the output channels, as TFLite does.
        filters = low.constant(weights[:, 0].transpose(1, 2, 0)[None], f"{node.inputs[1]}:1hwc", _along(low, node, 3))
        options["multiplier"] = weights.shape[0] // channels
    else:
        filters = low.constant(weights.transpose(0, 2, 3, 1), f"{node.inputs[1]}:ohwi", _along(low, node, 0))
    inputs = [source, filters, _bias(low, node, weights.shape[0])]
    _done(low, node, "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, **options)


def _conv_transpose(low: Lowering, node: Node) -> None:
    weights = _weights(low, node)
    group = int(node.attributes.get("group", 1))
    if group == 1:
        _dense_conv_transpose(low, node, weights)
    elif group == weights.shape[0] and weights.shape[1] == 1:
        _depthwise_conv_transpose(low, node, weights)
    else:
        raise node.refuse(f"it has {group} groups for {weights.shape[0]} channels")


def _dense_conv_transpose(low: Lowering, node: Node, weights: Array) -> None:
    strides, (top, left) = _pair(node, "strides"), (p[0] for p in _transposed_pads(low, node, weights))
    if _pair(node, "dilations") != (1, 1):
        raise node.refuse("it is dilated")
    (_, _, height, width), (_, _, out_height, out_width) = low.shape(node.inputs[0]), low.shape(node.outputs[0])
    kernel = weights.shape[2:]
    # What TFLite cuts off in all with the padding SAME, the smaller half before.
    cut = [
        (n - 1) * s + k - o
        for n, s, k, o in zip((height, width), strides, kernel, (out_height, out_width), strict=True)
    ]
    filters = low.constant(weights.transpose(1, 2, 3, 0), f"{node.inputs[1]}:ohwi", _along(low, node, 0))
    bias = _bias(low, node, weights.shape[1])
    options = {"stride_h": strides[0], "stride_w": strides[1]}
    if cut[0] < top or cut[1] < left:
        raise node.refuse("its output is padded")
    source = low.last(node.inputs[0])
    covers = all(-(-o // s) == n for o, s, n in zip((out_height, out_width), strides, (height, width), strict=True))
    if (top, left) == (cut[0] // 2, cut[1] // 2) and (covers or not any(cut)):
        shape = (low.shape(node.inputs[0])[0], out_height, out_width, weights.shape[1])
        padding = "SAME" if any(cut) else "VALID"
        inputs = [low.numbers(shape), filters, source, bias]
        _done(low, node, "TRANSPOSE_CONV", inputs, padding=padding, **options)
        return
    whole = (low.shape(node.inputs[0])[0], out_height + cut[0], out_width + cut[1], weights.shape[1])
    inputs = [low.numbers(whole), filters, source, bias]
    kind = low.kind(node.outputs[0])
    full = low.emit("TRANSPOSE_CONV", inputs, whole, kind, f"{node.name}:whole", padding="VALID", **options)
    low.put_on_grid(node.outputs[0], full)
    ends = (whole[0], top + out_height, left + out_width, whole[3])
    window = [full, low.numbers((0, top, left, 0)), low.numbers(ends), low.numbers((1, 1, 1, 1))]
    _done(low, node, "STRIDED_SLICE", window)


def _depthwise_conv_transpose(low: Lowering, node: Node, weights: Array) -> None:
    """A depthwise convolution for each phase of the output, interleaved by DEPTH_TO_SPACE: the same sums exactly.

    With stride s, output row ``s q + r`` takes the kernel rows t = r + pad (mod s), each of input row
    ``q + (r + pad - t) / s``.
    """
    stride = _pair(node, "strides")
    shape, out = low.shape(node.inputs[0]), low.shape(node.outputs[0])
    if stride[0] != stride[1] or stride[0] < 2 or _pair(node, "dilations") != (1, 1):
        raise node.refuse("depthwise, its strides differ or it is dilated")
    step = stride[0]
    if (out[2], out[3]) != (step * shape[2], step * shape[3]):
        raise node.refuse("depthwise, its output is not the input's size times the stride")
    pads = _transposed_pads(low, node, weights)
    taps = [_phases(k, step, p[0]) for k, p in zip(weights.shape[2:], pads, strict=True)]
    offsets = [[o for phase in axis for o, _ in phase] for axis in taps]
    before, after = [-min(min(o), 0) for o in offsets], [max(*o, 0) for o in offsets]
    source = low.last(node.inputs[0])
    border = tuple(zip(before, after, strict=True))
    source = _pad(low, source, (border[0], border[1]), 0.0, f"{node.name}:padded")
    bias = _bias(low, node, len(weights))
    phases: list[int] = []
    kind = low.kind(node.outputs[0])
    batch, channels, height, width = shape
    for row, vertical in enumerate(taps[0]):
        for column, horizontal in enumerate(taps[1]):
            kernel = np.zeros((1, before[0] + after[0] + 1, before[1] + after[1] + 1, channels), np.float32)
            for y, ty in vertical:
                for x, tx in horizontal:
                    kernel[0, y + before[0], x + before[1]] = weights[:, 0, ty, tx]
            label = f"{node.name}:{row}{column}"
            stored = low.constant(kernel.astype(weights.dtype), f"{node.inputs[1]}:{row}{column}", _along(low, node, 3))
            inputs = [source, stored, bias]
            phases.append(
                low.emit(
                    "DEPTHWISE_CONV_2D",
                    inputs,
                    (batch, height, width, channels),
                    kind,
                    label,
                    padding="VALID",
                    stride_h=1,
                    stride_w=1,
                    multiplier=1,
                    activation="NONE",
                    dilation_h=1,
                    dilation_w=1,
                )
            )
    together = (batch, height, width, channels * step * step)
    for phase in phases:
        low.put_on_grid(node.outputs[0], phase)
    joined = low.emit("CONCATENATION", phases, together, kind, f"{node.name}:phases", axis=3, activation="NONE")
    _done(low, node, "DEPTH_TO_SPACE", [joined], block_size=step)


def _phases(kernel: int, step: int, pad: int) -> list[list[tuple[int, int]]]:
    """For each phase of the output: (offset in the input, place in the kernel) of every tap."""
    return [[((r + pad - t) // step, t) for t in range(kernel) if (r + pad - t) % step == 0] for r in range(step)]


def _max_pool(low: Lowering, node: Node) -> None:
    kernel, strides = _kernel(node), _pair(node, "strides")
    if _pair(node, "dilations") != (1, 1) or len(node.outputs) > 1:
        raise node.refuse("it is dilated, or gives indices")
    # What is never negative can be padded with zeros, which every runtime does fast.
    source, padding = _padded(
        low, node, kernel, strides, (1, 1), 0.0 if node.inputs[0] in low.nonnegative else _LOWEST, pooling=True
    )
    _pool(low, node, "MAX_POOL_2D", source, padding, kernel, strides)
    if node.inputs[0] in low.nonnegative:
        low.nonnegative.add(node.outputs[0])


def _average_pool(low: Lowering, node: Node) -> None:
    kernel, strides = _kernel(node), _pair(node, "strides")
    if _pair(node, "dilations") != (1, 1):
        raise node.refuse("it is dilated")
    pads = _pads(low, node, kernel, strides, (1, 1))
    if any(map(any, pads)) and not node.attributes.get("count_include_pad", 0):
        if not _is_same(low, node, pads, kernel, strides, (1, 1)):
            raise node.refuse("the mean leaves out a padding that TFLite cannot express")
        source, padding = low.last(node.inputs[0]), "SAME"  # TFLite's mean leaves the padding out as well
    else:
        source = _pad(low, low.last(node.inputs[0]), pads, 0.0, f"{node.name}:padded")
        padding = "VALID"
    if node.attributes.get("ceil_mode", 0) and node.attributes.get("count_include_pad", 0):
        raise node.refuse("ceil_mode and count_include_pad together")
    if low.kind(node.outputs[0]) != "int8":
        _pool(low, node, "AVERAGE_POOL_2D", source, padding, kernel, strides)
    elif padding == "VALID":
        _mean_by_weights(low, node, source, kernel, strides)
    else:
        _pool(low, node, "AVERAGE_POOL_2D", source, padding, kernel, strides)
        _requantised(low, node, source)


def _mean_by_weights(low: Lowering, node: Node, source: int, kernel: tuple[int, int], strides: tuple[int, int]) -> None:
    """The mean of int8 numbers, to any scale, as a convolution with equal weights, which every runtime does fast."""
    channels = low.shape(node.inputs[0])[1]
    largest = np.iinfo(np.int8).max
    scales = np.full(channels, 1 / (largest * kernel[0] * kernel[1]), np.float32)
    zeros = np.zeros(channels, np.int64)
    given = low.grids[node.inputs[0]]
    weights = low.constant(
        np.full((1, *kernel, channels), largest, np.int8), f"{node.name}:weights", Grid(scales, zeros, 3)
    )
    bias = low.constant(np.zeros(channels, np.int32), f"{node.name}:bias", Grid(given.scales * scales, zeros))
    options = {"padding": "VALID", "stride_h": strides[0], "stride_w": strides[1], "activation": "NONE"}
    options |= {"dilation_h": 1, "dilation_w": 1, "multiplier": 1}
    _done(low, node, "DEPTHWISE_CONV_2D", [source, weights, bias], **options)


def _requantised(low: Lowering, node: Node, source: int) -> None:
    """Bring a result whose kernel keeps the scale of its input to the scale that it shall have."""
    result = low.last(node.outputs[0])
    kept, wanted = low.file.tensors[source].grid, low.grids[node.outputs[0]]
    if kept is None or kept.is_same(wanted):
        return
    tensor = low.file.tensors[result]
    tensor.grid, tensor.name = kept, f"{node.name}:mean"
    low.put_last(node.outputs[0], low.emit("QUANTIZE", [result], tensor.shape, "int8", f"{node.outputs[0]}:nhwc"))


def _global_average_pool(low: Lowering, node: Node) -> None:
    if len(low.shape(node.inputs[0])) != 4:
        raise node.refuse("its input is not of rank 4")
    _done(low, node, "MEAN", [low.last(node.inputs[0]), low.numbers((1, 2))], keep_dims=True)


def _resize(low: Lowering, node: Node) -> None:
    shape, out = low.shape(node.inputs[0]), low.shape(node.outputs[0])
    if len(shape) != 4 or shape[:2] != out[:2]:
        raise node.refuse("it resizes something else than height and width")
    mode, where = node.text("mode", "nearest"), node.text("coordinate_transformation_mode", "half_pixel")
    scales = low.array(node.inputs[2]) if node.has(2) else None
    exact = [o / n for o, n in zip(out, shape, strict=True)]
    if scales is not None and scales.size and not np.allclose(scales, exact, rtol=1e-6):
        raise node.refuse("its scales are not the ratio of the sizes")
    options = {"align_corners": where == "align_corners", "half_pixel_centers": where.endswith("half_pixel")}
    if mode == "nearest":
        code = "RESIZE_NEAREST_NEIGHBOR"
        floor = where == "asymmetric" and node.text("nearest_mode", "round_prefer_floor") == "floor"
        centred = where == "half_pixel" and node.text("nearest_mode", "round_prefer_floor").startswith("round")
        if not all(float(s).is_integer() for s in exact) or not (floor or centred):
            raise node.refuse(f"nearest, {where}, by {exact[2]:g} x {exact[3]:g}")
        # For whole factors, pixel i comes from pixel floor(i / factor) by either rule.
        options = {"align_corners": False, "half_pixel_centers": False}
    elif mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
        code = "RESIZE_BILINEAR"
    else:
        raise node.refuse(f"{mode}, {where}")
    if node.attributes.get("antialias", 0):
        raise node.refuse("it smooths (antialias)")
    _done(low, node, code, [low.last(node.inputs[0]), low.numbers(out[2:])], **options)


def _depth_to_space(low: Lowering, node: Node) -> None:
    block = int(node.attributes["blocksize"])
    channels = low.shape(node.inputs[0])[1]
    source = low.last(node.inputs[0])
    if node.text("mode", "DCR") == "CRD":
        # TFLite, like DCR, has the channel innermost.
        order = np.arange(channels).reshape(channels // block**2, block**2).T.reshape(-1)
        if not _reorder_filters(low, node.inputs[0], order):
            tensor = low.file.tensors[source]
            inputs = [source, low.constant(order.astype(np.int32), f"{node.name}:order")]
            source = low.emit("GATHER", inputs, tensor.shape, tensor.kind, f"{node.name}:dcr", axis=3, batch_dims=0)
    _done(low, node, "DEPTH_TO_SPACE", [source], block_size=block)


def _reorder_filters(low: Lowering, name: str, order: Array) -> bool:
    """Let the convolution before compute its channels in another order, if nothing else uses them."""
    maker = low.maker(name)
    if maker is None or maker.code != "CONV_2D":
        return False
    for index in maker.inputs[1:]:
        tensor = low.file.tensors[index]
        assert tensor.data is not None
        tensor.data = np.ascontiguousarray(tensor.data[order])
        if tensor.grid is not None and tensor.grid.scales.size > 1:
            tensor.grid = Grid(tensor.grid.scales[order], tensor.grid.zeros[order], tensor.grid.axis)
    return True


# ---- shared ----


def _done(low: Lowering, node: Node, code: str, inputs: Sequence[int], **options: object) -> None:
    batch, channels, height, width = low.shape(node.outputs[0])
    name, kind = node.outputs[0], low.kind(node.outputs[0])
    low.put_last(name, low.emit(code, inputs, (batch, height, width, channels), kind, f"{name}:nhwc", **options))


def _pool(
    low: Lowering, node: Node, code: str, source: int, padding: str, kernel: Sequence[int], strides: Sequence[int]
) -> None:
    _done(
        low,
        node,
        code,
        [source],
        padding=padding,
        stride_h=strides[0],
        stride_w=strides[1],
        filter_h=kernel[0],
        filter_w=kernel[1],
        activation="NONE",
    )


def _weights(low: Lowering, node: Node) -> Array:
    weights = low.array(node.inputs[1])
    kind = "int8" if low.kind(node.outputs[0]) == "int8" else "float32"
    if weights is None or weights.ndim != 4 or weights.dtype != kind:
        raise node.refuse(f"its weights are not constant {kind} of rank 4")
    return weights


def _along(low: Lowering, node: Node, axis: int) -> Grid | None:
    """What int8 weights stand for where their output channels lie along ``axis``; None for float ones."""
    grid = low.grids.get(node.inputs[1])
    return None if grid is None else Grid(grid.scales, grid.zeros, axis)


def _bias(low: Lowering, node: Node, channels: int) -> int:
    bias = low.array(node.inputs[2]) if node.has(2) else np.zeros(channels, np.float32)
    if bias is None:
        raise node.refuse("its bias is computed")
    name = f"{node.inputs[2]}:{node.name}" if node.has(2) else f"{node.name}:bias"
    weights = low.grids.get(node.inputs[1])
    if weights is None:
        return low.constant(bias, name)
    return low.constant(bias.astype(np.int32), name, bias_grid(low, node, weights))


def bias_grid(low: Lowering, node: Node, weights: Grid) -> Grid:
    """What an int32 bias stands for: the product of the input's scale and the weights', which kernels take it to be."""
    scales = (low.grids[node.inputs[0]].scales * weights.scales).astype(np.float32)
    return Grid(scales, np.zeros(scales.shape, np.int64))


def _kernel(node: Node) -> tuple[int, int]:
    kernel = node.attributes["kernel_shape"]
    if len(kernel) != 2:
        raise node.refuse("its kernel is not of rank 2")
    return int(kernel[0]), int(kernel[1])


def _pair(node: Node, name: str) -> tuple[int, int]:
    values = node.attributes.get(name) or (1, 1)
    if len(values) != 2:
        raise node.refuse(f"'{name}' is not a pair")
    return int(values[0]), int(values[1])


def _pads(low: Lowering, node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> Pads:
    """What is added before and after height and width, so that the windows fit exactly what the shapes say."""
    if node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise node.refuse("auto_pad is not resolved")
    given = [int(p) for p in node.attributes.get("pads") or (0, 0, 0, 0)]
    shape, out = low.shape(node.inputs[0]), low.shape(node.outputs[0])
    pads = []
    for axis in range(2):
        spread = (kernel[axis] - 1) * dilations[axis] + 1
        begin = (out[2 + axis] - 1) * strides[axis] - given[axis]
        if begin >= shape[2 + axis] + (0 if node.attributes.get("ceil_mode", 0) else given[2 + axis]):
            raise node.refuse("its last window lies in the padding alone")
        needed = begin + spread - shape[2 + axis]
        # With ceil_mode the last window may reach beyond the padding; otherwise the padding may be more than is used.
        pads.append((given[axis], max(needed, 0)))
    return pads[0], pads[1]


def _is_same(
    low: Lowering,
    node: Node,
    pads: Pads,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> bool:
    """Whether this is what TFLite calls SAME: output = ceil(input / stride), the smaller half of the padding before."""
    shape, out = low.shape(node.inputs[0]), low.shape(node.outputs[0])
    for axis in range(2):
        length, stride = shape[2 + axis], strides[axis]
        wanted = math.ceil(length / stride)
        total = max((wanted - 1) * stride + (kernel[axis] - 1) * dilations[axis] + 1 - length, 0)
        if out[2 + axis] != wanted or pads[axis][0] != total // 2:
            return False
    return True


def _padded(
    low: Lowering,
    node: Node,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    value: float,
    *,
    pooling: bool = False,
) -> tuple[int, str]:
    """The input, padded by an operator of its own where TFLite's SAME and VALID do not say the same."""
    pads = _pads(low, node, kernel, strides, dilations)
    source = low.last(node.inputs[0])
    if not any(map(any, pads)):
        return source, "VALID"
    if _is_same(low, node, pads, kernel, strides, dilations):
        return source, "SAME"
    if pooling and low.kind(node.inputs[0]) not in ("float32", "int8"):
        raise node.refuse("it pads integers")
    return _pad(low, source, pads, value, f"{node.name}:padded"), "VALID"


def _pad(low: Lowering, source: int, pads: Pads, value: float, name: str) -> int:
    if not any(map(any, pads)):
        return source
    tensor = low.file.tensors[source]
    border = np.array([(0, 0), *pads, (0, 0)], np.int32)
    shape = [n + int(b.sum()) for n, b in zip(tensor.shape, border, strict=True)]
    inputs = [source, low.constant(border, f"{name}:border")]
    if value == 0.0:
        return low.emit("PAD", inputs, shape, tensor.kind, name)
    if tensor.kind == "int8":
        lowest = low.constant(np.array(np.iinfo(np.int8).min, np.int8), f"{name}:value", tensor.grid)
        return low.emit("PADV2", [*inputs, lowest], shape, tensor.kind, name)
    return low.emit("PADV2", [*inputs, low.scalar(value)], shape, tensor.kind, name)


def _transposed_pads(low: Lowering, node: Node, weights: Array) -> Pads:
    """What a transposed convolution cuts off; only the parts before are used, the sizes tell the rest."""
    if node.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or node.attributes.get("output_shape"):
        raise node.refuse("auto_pad or output_shape is not resolved")
    given = [int(p) for p in node.attributes.get("pads") or (0, 0, 0, 0)]
    return (given[0], given[2]), (given[1], given[3])


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
}
