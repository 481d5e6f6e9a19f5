"""Operators that move elements and compute nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgepose.graph.passes.wiring import attributes_of

from .elementwise import binary
from .lowering import Lowering, Operator, Unsupported
from .pooling import surround, zero_pad
from .program import Value

#: Element types that weights are stored in, to be computed with as float32.
_STORED = (np.dtype(np.float16), np.dtype(np.uint8))


def _identity(node: onnx.NodeProto, work: Lowering) -> None:
    work.set(node.output[0], work.value(node.input[0]))


def _reshape(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    work.finish(node, work.reshape(x, work.shape(node.output[0])), x.name in work.nonnegative)


def _transpose(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    order: Any = attributes_of(node).get("perm", list(reversed(range(len(x.shape)))))
    work.finish(node, work.transpose(x, order), x.name in work.nonnegative)


def _expand(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    work.finish(node, work.broadcast(x, work.shape(node.output[0])), x.name in work.nonnegative)


def _tile(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    times = work.integers(node, 1) or []
    work.finish(node, work.call("Tile", x, tuple(times), gives=work.shape(node.output[0])), x.name in work.nonnegative)


def _concat(node: onnx.NodeProto, work: Lowering) -> None:
    values = work.values(node)
    axis: Any = attributes_of(node)["axis"]
    shape = work.shape(node.output[0])
    result = work.call("Concat", tuple(values), gives=shape, axis=axis % len(shape)) if len(values) > 1 else values[0]
    work.finish(node, result, all(v.name in work.nonnegative for v in values))


def slice_of(work: Lowering, x: Value, axis: int, start: int, length: int) -> Value:
    """A part of one axis."""
    if length == x.shape[axis]:
        return x
    begin = tuple(start if a == axis else 0 for a in range(len(x.shape)))
    size = tuple(length if a == axis else d for a, d in enumerate(x.shape))
    return work.call("Slice", x, begin, size, gives=size)


def _split(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    axis: Any = attributes_of(node).get("axis", 0)
    axis %= len(x.shape)
    start = 0
    for name in node.output:
        if not name:
            raise Unsupported(node, "one of its parts has no name, so its size is not known")
        length = work.shape(name)[axis]
        part = slice_of(work, x, axis, start, length)
        if x.name in work.nonnegative:
            work.nonnegative.add(part.name)
        work.set(name, part)
        start += length


def _slice(node: onnx.NodeProto, work: Lowering) -> None:
    x = result = work.value(node.input[0])
    starts, ends = work.integers(node, 1, "starts") or [], work.integers(node, 2, "ends") or []
    axes = work.integers(node, 3, "axes") or list(range(len(starts)))
    steps = work.integers(node, 4) or [1] * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        axis %= len(x.shape)
        chosen = range(
            *slice(start, None if step < 0 and end <= -x.shape[axis] - 1 else end, step).indices(x.shape[axis])
        )
        if not chosen:
            raise Unsupported(node, "it selects nothing")
        if step == 1:
            result = slice_of(work, result, axis, chosen[0], len(chosen))
        else:
            result = pick(work, result, axis, np.asarray(chosen, np.int32))
    work.finish(node, result, x.name in work.nonnegative)


def pick(work: Lowering, x: Value, axis: int, index: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Value:
    """Elements of an axis by their numbers."""
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    return work.call("Gather", x, work.constant(index, "int32"), axis, gives=shape, batch_dims=0)


def _gather(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    axis: Any = attributes_of(node).get("axis", 0)
    axis %= len(x.shape)
    index = work.array(node.input[1])
    if index is None:
        raise Unsupported(node, "its indices are computed")
    wrapped = np.where(index < 0, index + x.shape[axis], index).astype(np.int32)
    if wrapped.size == 1:
        result = slice_of(work, x, axis, int(wrapped.reshape(())), 1)
    else:
        result = pick(work, x, axis, wrapped.reshape(-1))
    work.finish(node, work.reshape(result, work.shape(node.output[0])), x.name in work.nonnegative)


def _depth_to_space(node: onnx.NodeProto, work: Lowering) -> None:
    """Written out: MindSpore's ``DepthToSpace`` has one of ONNX's two orders only."""
    x = work.value(node.input[0])
    attributes: dict[str, Any] = attributes_of(node)
    side = attributes["blocksize"]
    batch, channels, height, width = x.shape
    deep = channels // side**2
    if attributes.get("mode", b"DCR") == b"CRD":
        parts, order = (batch, deep, side, side, height, width), (0, 1, 4, 2, 5, 3)
    else:
        parts, order = (batch, side, side, deep, height, width), (0, 3, 4, 1, 5, 2)
    result = work.transpose(work.reshape(x, parts), order)
    work.finish(node, work.reshape(result, work.shape(node.output[0])), x.name in work.nonnegative)


def _space_to_depth(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    side: Any = attributes_of(node)["blocksize"]
    batch, channels, height, width = x.shape
    parts = work.reshape(x, (batch, channels, height // side, side, width // side, side))
    result = work.transpose(parts, (0, 3, 5, 1, 2, 4))
    work.finish(node, work.reshape(result, work.shape(node.output[0])), x.name in work.nonnegative)


def _pad(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    attributes: dict[str, Any] = attributes_of(node)
    given = work.integers(node, 1, "pads") or []
    value = work.constant_input(node, 2)
    number = float(attributes.get("value", 0.0) if value is None else value.reshape(-1)[0])
    rank = len(x.shape)
    inner = given[2:4] + given[rank + 2 : rank + 4]
    if attributes.get("mode", b"constant") != b"constant" or rank != 4 or len(given) != 8 or min(given) < 0:
        raise Unsupported(node, "only constants are put around pictures")
    if any(given[:2] + given[4:6]) or x.dtype != "float32":
        raise Unsupported(node, "it pads the batch, the channels or whole numbers")
    pads = (inner[0], inner[2], inner[1], inner[3])
    padded = surround(work, x, pads, number) if number else zero_pad(work, x, pads)
    work.finish(node, padded, x.name in work.nonnegative and number >= 0)


def _cast(node: onnx.NodeProto, work: Lowering) -> None:
    to: Any = attributes_of(node)["to"]
    dtype = helper.tensor_dtype_to_np_dtype(to)
    stored = work.array(node.input[0])
    if stored is not None:
        kept = stored.dtype in _STORED and dtype == np.float32
        if not (kept and work.stored_weights(node.input[0], stored, node.output[0])):
            work.set_constant(node.output[0], stored.astype(dtype))
        return
    x = work.value(node.input[0])
    wanted = {"int64": "int32", "float64": "float32"}.get(dtype.name, dtype.name)
    if wanted == "bool":
        made = work.call("LogicalNot", binary(work, "Equal", x, work.constant(0, x.dtype), "bool"), gives=x.shape)
        work.set(node.output[0], made)
        return
    if wanted not in ("float32", "int32"):
        raise Unsupported(node, f"tensors of {wanted} are not computed with")
    if x.dtype == "bool":
        work.nonnegative.add(x.name)
    work.finish(node, work.cast(x, wanted), x.name in work.nonnegative)


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(("Identity", "Dropout"), _identity),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Expand": _expand,
    "Tile": _tile,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Pad": _pad,
    "Cast": _cast,
}
