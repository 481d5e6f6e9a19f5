"""ONNX -> TFLite: reductions, products of matrices, and what moves elements about."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .tflite_file import Grid
from .tflite_lowering import TO_FIRST, TO_LAST, Lowering, Node, Rule
from .tflite_spatial import bias_grid

_REDUCTIONS = {"ReduceMean": "MEAN", "ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN"}
_FIRST_TO_LAST_AXIS = {0: 0, 1: 3, 2: 1, 3: 2}


def _same_order(low: Lowering, node: Node) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze: the elements stay in their order."""
    shape = low.shape(node.outputs[0])
    low.put_first(node.outputs[0], low.reshape(low.first(node.inputs[0]), shape, node.outputs[0]))


def _transpose(low: Lowering, node: Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    rank = len(low.shape(source))
    order = tuple(int(a) for a in node.attributes.get("perm") or range(rank)[::-1])
    if order == TO_FIRST and low.array(source) is None:
        low.put_last(result, low.first(source))
    elif order == TO_LAST and low.has_last(source):
        low.put_first(result, low.last(source))
    else:
        low.put_first(result, low.transpose(low.first(source), order, result))


def _concat(low: Lowering, node: Node) -> None:
    shape, result = low.shape(node.outputs[0]), node.outputs[0]
    axis = int(node.attributes["axis"]) % len(shape)
    turned = len(shape) == 4 and any(low.has_last(n) for n in node.inputs)
    if turned:
        operands = [low.last(n) for n in node.inputs]
        shape, axis = tuple(shape[a] for a in TO_LAST), _FIRST_TO_LAST_AXIS[axis]
    else:
        operands = [low.first(n) for n in node.inputs]
    name = f"{result}:nhwc" if turned else result
    index = low.emit("CONCATENATION", operands, shape, low.kind(result), name, axis=axis, activation="NONE")
    (low.put_last if turned else low.put_first)(result, index)
    if all(n in low.nonnegative for n in node.inputs):
        low.nonnegative.add(result)


def _split(low: Lowering, node: Node) -> None:
    source = node.inputs[0]
    rank = len(low.shape(source))
    axis = int(node.attributes.get("axis", 0)) % rank
    sizes = [low.shape(o)[axis] for o in node.outputs]
    turned = low.has_last(source)
    place = _FIRST_TO_LAST_AXIS[axis] if turned else axis
    outputs = []
    for name in node.outputs:
        shape = low.shape(name)
        if turned:
            shape = tuple(shape[a] for a in TO_LAST)
        outputs.append(low.file.tensor(f"{name}:nhwc" if turned else name, shape, low.kind(name)))
    inputs = [low.last(source) if turned else low.first(source), low.numbers(sizes), low.scalar(place, "int32")]
    low.emit_into("SPLIT_V", inputs, outputs, num_splits=len(outputs))
    for name, index in zip(node.outputs, outputs, strict=True):
        (low.put_last if turned else low.put_first)(name, index)


def _slice(low: Lowering, node: Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    shape = low.shape(source)
    starts, ends, axes, steps = (_constant(low, node, place) for place in range(1, 5))
    assert starts is not None
    assert ends is not None
    axes = list(range(len(starts))) if axes is None else [a % len(shape) for a in axes]
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for start, stop, axis, step in zip(starts, ends, axes, steps or [1] * len(axes), strict=True):
        if step < 1:
            raise node.refuse("its step is negative")
        begin[axis], end[axis], stride[axis] = (*slice(start, stop).indices(shape[axis])[:2], step)
    turned = low.has_last(source)
    out = low.shape(result)
    if turned:
        begin, end, stride = ([v[a] for a in TO_LAST] for v in (begin, end, stride))
        out = tuple(out[a] for a in TO_LAST)
    inputs = [low.last(source) if turned else low.first(source), *map(low.numbers, (begin, end, stride))]
    index = low.emit("STRIDED_SLICE", inputs, out, low.kind(result), f"{result}:nhwc" if turned else result)
    (low.put_last if turned else low.put_first)(result, index)


def _pad(low: Lowering, node: Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    amounts, value = _constant(low, node, 1), low.array(node.inputs[2]) if node.has(2) else None
    if amounts is None or min(amounts) < 0 or node.has(3):
        raise node.refuse("its amounts are computed or negative, or it names axes")
    mode, rank = node.text("mode", "constant"), len(low.shape(source))
    border = np.array([amounts[:rank], amounts[rank:]], np.int32).T
    turned = low.has_last(source)
    out = low.shape(result)
    if turned:
        border, out = border[list(TO_LAST)], tuple(out[a] for a in TO_LAST)
    inputs = [low.last(source) if turned else low.first(source), low.constant(border, f"{node.name}:border")]
    name, kind = f"{result}:nhwc" if turned else result, low.kind(result)
    if mode == "reflect":
        index = low.emit("MIRROR_PAD", inputs, out, kind, name, mode="REFLECT")
    elif mode != "constant":
        raise node.refuse(f"mode {mode}")
    elif value is None or not np.any(value):
        index = low.emit("PAD", inputs, out, kind, name)
    else:
        index = low.emit("PADV2", [*inputs, low.constant(value.reshape(()), f"{node.name}:value")], out, kind, name)
    (low.put_last if turned else low.put_first)(result, index)


def _reduce(low: Lowering, node: Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    axes, keep = _axes(low, node), bool(node.attributes.get("keepdims", 1))
    turned = low.has_last(source) and keep
    shape = low.shape(result)
    if turned:
        axes, shape = [_FIRST_TO_LAST_AXIS[a] for a in axes], tuple(shape[a] for a in TO_LAST)
    index = low.last(source) if turned else low.first(source)
    name, kind = f"{result}:nhwc" if turned else result, low.kind(result)
    if node.op == "ReduceL2":
        inside = low.file.tensors[index].shape
        index = low.emit("MUL", [index, index], inside, kind, f"{result}:squares", activation="NONE")
        index = low.emit("SUM", [index, low.numbers(axes)], shape, kind, f"{result}:sum", keep_dims=keep)
        index = low.emit("SQRT", [index], shape, kind, name)
        low.nonnegative.add(result)
    else:
        index = low.emit(_REDUCTIONS[node.op], [index, low.numbers(axes)], shape, kind, name, keep_dims=keep)
    (low.put_last if turned else low.put_first)(result, index)


def _arg_max(low: Lowering, node: Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    shape = low.shape(source)
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    if node.attributes.get("select_last_index", 0):
        raise node.refuse("it takes the last of equal ones")
    found = (*shape[:axis], *shape[axis + 1 :])
    inputs = [low.first(source), low.scalar(axis, "int32")]
    index = low.emit("ARG_MAX", inputs, found, "int32", f"{result}:found", result="int32")
    if low.shape(result) != found:
        index = low.reshape(index, low.shape(result), result)
    low.put_first(result, index)


def _top_k(low: Lowering, node: Node) -> None:
    shape, count = low.shape(node.inputs[0]), _constant(low, node, 1)
    axis = int(node.attributes.get("axis", -1)) % len(shape)
    if axis != len(shape) - 1 or not node.attributes.get("largest", 1) or count is None:
        raise node.refuse("it does not take the largest along the last axis, or how many is computed")
    outputs = [low.file.tensor(name, low.shape(name), low.kind(name)) for name in node.outputs]
    low.emit_into("TOPK_V2", [low.first(node.inputs[0]), low.scalar(count[0], "int32")], outputs)
    for name, index in zip(node.outputs, outputs, strict=True):
        low.put_first(name, index)


def _gather(low: Lowering, node: Node) -> None:
    shape, result = low.shape(node.inputs[0]), node.outputs[0]
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    indices = low.array(node.inputs[1])
    if indices is None:
        raise node.refuse("its indices are computed")  # they may be negative, which TFLite does not have
    places = low.constant(np.where(indices < 0, indices + shape[axis], indices).astype(np.int32), f"{node.name}:places")
    inputs = [low.first(node.inputs[0]), places]
    index = low.emit("GATHER", inputs, low.shape(result), low.kind(result), result, axis=axis, batch_dims=0)
    low.put_first(result, index)


def _gather_elements(low: Lowering, node: Node) -> None:
    """The whole index of every element, put together from its own place and the index that was computed."""
    shape, result = low.shape(node.inputs[0]), node.outputs[0]
    out, axis = low.shape(node.outputs[0]), int(node.attributes.get("axis", 0)) % len(shape)
    column = (*out, 1)
    found = low.reshape(low.first(node.inputs[1]), column, f"{result}:index")
    parts = []
    for place in range(len(out)):
        if place == axis:
            parts.append(found)
            continue
        own = np.arange(out[place], dtype=np.int32).reshape([-1 if a == place else 1 for a in range(len(out))])
        parts.append(low.constant(np.broadcast_to(own, out).reshape(column), f"{result}:axis{place}"))
    whole = (*out, len(out))
    index = low.emit("CONCATENATION", parts, whole, "int32", f"{result}:indices", axis=len(out), activation="NONE")
    inputs = [low.first(node.inputs[0]), index]
    low.put_first(result, low.emit("GATHER_ND", inputs, out, low.kind(result), result))


def _expand(low: Lowering, node: Node) -> None:
    result = node.outputs[0]
    shape = low.shape(result)
    inputs = [low.first(node.inputs[0]), low.numbers(shape)]
    low.put_first(result, low.emit("BROADCAST_TO", inputs, shape, low.kind(result), result))


def _mat_mul(low: Lowering, node: Node) -> None:
    left, right = node.inputs
    result = node.outputs[0]
    shape = low.shape(result)
    weights = low.array(right)
    if weights is not None and weights.ndim == 2 and len(low.shape(left)) >= 2:
        inputs = [low.first(left), low.constant(weights.T, f"{right}:oi", _along_rows(low, right)), -1]
        options = {"activation": "NONE", "keep_num_dims": True}
        low.put_first(result, low.emit("FULLY_CONNECTED", inputs, shape, low.kind(result), result, **options))
        return
    if min(len(low.shape(left)), len(low.shape(right))) < 2:
        raise node.refuse("an operand is of rank 1")
    inputs = [low.first(left), low.first(right)]
    low.put_first(result, low.emit("BATCH_MATMUL", inputs, shape, "float32", result, adj_x=False, adj_y=False))


def _gemm(low: Lowering, node: Node) -> None:
    weights = low.array(node.inputs[1])
    factors = (float(node.attributes.get("alpha", 1.0)), float(node.attributes.get("beta", 1.0)))
    if weights is None or node.attributes.get("transA", 0) or factors != (1.0, 1.0):
        raise node.refuse("its weights are computed, or it scales or transposes its input")
    rows = weights if node.attributes.get("transB", 0) else weights.T
    bias = -1
    if node.has(2):
        added = low.array(node.inputs[2])
        if added is None or added.size not in (1, len(rows)):
            raise node.refuse("its bias is computed or not one for each output")
        grid = low.grids.get(node.inputs[1])
        means = None if grid is None else bias_grid(low, node, grid)
        bias = low.constant(np.broadcast_to(added.reshape(-1), (len(rows),)), f"{node.inputs[2]}:{node.name}", means)
    grid = _along_rows(low, node.inputs[1])
    inputs = [low.first(node.inputs[0]), low.constant(rows, f"{node.inputs[1]}:oi", grid), bias]
    options = {"activation": "NONE", "keep_num_dims": False}
    shape = low.shape(node.outputs[0])
    kind = low.kind(node.outputs[0])
    low.put_first(node.outputs[0], low.emit("FULLY_CONNECTED", inputs, shape, kind, node.outputs[0], **options))


def _along_rows(low: Lowering, name: str) -> Grid | None:
    """What int8 weights stand for, with their output channels in front; None for float ones."""
    grid = low.grids.get(name)
    return None if grid is None else Grid(grid.scales, grid.zeros, 0)


def _softmax(low: Lowering, node: Node) -> None:
    shape, result = low.shape(node.inputs[0]), node.outputs[0]
    if int(node.attributes.get("axis", -1)) % len(shape) != len(shape) - 1:
        raise node.refuse("it is not along the last axis")
    low.put_first(result, low.emit("SOFTMAX", [low.first(node.inputs[0])], shape, "float32", result, beta=1.0))


def _identity(low: Lowering, node: Node) -> None:
    low.put_first(node.outputs[0], low.first(node.inputs[0]))


def _constant(low: Lowering, node: Node, place: int) -> list[int] | None:
    """The constant list of numbers at an input; None if the input is left out."""
    if not node.has(place):
        return None
    array = low.array(node.inputs[place])
    if array is None:
        raise node.refuse("an operand that must be constant is computed")
    return [int(v) for v in array.reshape(-1)]


def _axes(low: Lowering, node: Node) -> list[int]:
    rank = len(low.shape(node.inputs[0]))
    given: Sequence[int] | None = node.attributes.get("axes") or _constant(low, node, 1)
    if given is None and node.attributes.get("noop_with_empty_axes", 0):
        raise node.refuse("it reduces nothing")
    return [int(a) % rank for a in given] if given else list(range(rank))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _same_order),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    **dict.fromkeys((*_REDUCTIONS, "ReduceL2"), _reduce),
    "ArgMax": _arg_max,
    "TopK": _top_k,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Expand": _expand,
    "MatMul": _mat_mul,
    "Gemm": _gemm,
    "Softmax": _softmax,
    "Identity": _identity,
}
