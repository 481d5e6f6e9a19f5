"""MXNet operators that move elements: reshape, transpose, slice, join."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..inference import LARGEST_VALUE
from .translation import Call, Shape, Translation, Translator

_FIRST, _LAST = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


def _reshape(call: Call, tr: Translation) -> str:
    codes = call.integers("shape") or call.integers("target_shape")
    if not codes:
        raise call.refuse("it has no shape")
    lengths = reshape_lengths(call, tr.known_shape(call), codes, reverse=call.flag("reverse"))
    return tr.reshape(call.inputs[0], lengths, call.name)


def reshape_lengths(call: Call, source: Shape, codes: Sequence[int], *, reverse: bool = False) -> list[int]:
    """MXNet's reshape codes as the target of an ONNX Reshape.

    0 copies a length, -1 is what remains, -2 copies all that are left, -3 multiplies the next two, -4 splits the next
    one into the two that follow.  Lengths that are known are written out; the batch, where it is dynamic, can be copied
    in its place or be the one that remains.
    """
    if reverse:
        if -4 in codes:
            raise call.refuse("it splits from the right")
        mirrored = reshape_lengths(call, source[::-1], tuple(codes)[::-1])
        if 0 in mirrored:
            raise call.refuse("it counts from the right and its input size is not known")
        return mirrored[::-1]
    made: list[_Length] = []
    at = 0
    remaining = iter(codes)
    for code in remaining:
        if code in (0, -3, -4) and at + (code == -3) >= len(source):
            raise call.refuse(f"its shape {tuple(codes)} asks for more lengths than the input has")
        if code == 0:
            made.append(_Length(source[at], at))
            at += 1
        elif code == -1:
            made.append(_Length(None, None, inferred=True))
            at += 1
        elif code == -2:
            made.extend(_Length(length, at + i) for i, length in enumerate(source[at:]))
            at = len(source)
        elif code == -3:
            made.append(_Length(_product(source[at : at + 2]), None))
            at += 2
        elif code == -4:
            made.extend(_split(call, source[at], next(remaining, 0), next(remaining, 0)))
            at += 1
        elif code > 0:
            made.append(_Length(code, None))
            at += 1
        else:
            raise call.refuse(f"its shape has the code {code}")
    return _target(call, source, made)


class _Length:
    """A length of the result: known, copied from a place of the input, or to be inferred."""

    def __init__(self, length: int | None, place: int | None, *, inferred: bool = False) -> None:
        self.length = length
        self.place = place
        self.inferred = inferred


def _split(call: Call, length: int | None, first: int, second: int) -> list[_Length]:
    if first == -1 and second > 0 and length is not None:
        first = length // second
    elif second == -1 and first > 0 and length is not None:
        second = length // first
    if length is not None and first * second != length:
        raise call.refuse(f"it splits a length of {length} into {first} and {second}")
    parts = [_Length(part if part > 0 else None, None) for part in (first, second)]
    if all(part.length is None for part in parts):
        raise call.refuse("it does not say how to split")
    return parts


def _target(call: Call, source: Shape, made: list[_Length]) -> list[int]:
    inferred = [m for m in made if m.inferred]
    if len(inferred) > 1:
        raise call.refuse("more than one of its lengths is -1")
    # Unknown lengths that are copied cancel out of the one that remains.
    copied = sum(1 for m in made if m.length is None and m.place is not None)
    rest = [m for m in made if not m.inferred]
    settled = copied == sum(1 for length in source if length is None)
    if inferred and settled and all(m.length is not None or m.place is not None for m in rest):
        whole, taken = (_product([v for v in values if v is not None]) for values in (source, [m.length for m in rest]))
        if whole is not None and taken and whole % taken == 0:
            inferred[0].length = whole // taken
    target = []
    for position, m in enumerate(made):
        if m.length is not None:
            target.append(m.length)
        else:
            target.append(0 if m.place == position else -1)
    if None in source and all(m.length is not None for m in made):
        raise call.refuse("it writes the batch out, so the batch must be fixed (--batch N)")
    if target.count(-1) > 1:
        raise call.refuse("it mixes the batch with other axes, so the batch must be fixed (--batch N)")
    return target


def _product(lengths: Sequence[int | None]) -> int | None:
    product = 1
    for length in lengths:
        if length is None:
            return None
        product *= length
    return product


def _reshape_like(call: Call, tr: Translation) -> str:
    if any(call.has(key) for key in ("lhs_begin", "lhs_end", "rhs_begin", "rhs_end")):
        raise call.refuse("it takes over a part of the shape only")
    like = tr.known_shape(call, 1)
    codes = [0 if length is None else length for length in like]
    return tr.reshape(call.inputs[0], reshape_lengths(call, tr.known_shape(call), codes), call.name)


def _flatten(call: Call, tr: Translation) -> str:
    return str(tr.op("Flatten", call.inputs[0], axis=1, name=call.name))


def _transpose(call: Call, tr: Translation) -> str:
    rank = len(tr.known_shape(call))
    axes = call.integers("axes", tuple(reversed(range(rank))))
    return str(tr.op("Transpose", call.inputs[0], perm=[a % rank for a in axes], name=call.name))


def _swap_axis(call: Call, tr: Translation) -> str:
    order = list(range(len(tr.known_shape(call))))
    first, second = call.integer("dim1", 0), call.integer("dim2", 0)
    order[first], order[second] = order[second], order[first]
    return str(tr.op("Transpose", call.inputs[0], perm=order, name=call.name))


def _expand_dims(call: Call, tr: Translation) -> str:
    rank = len(tr.known_shape(call)) + 1
    return tr.axes_op("Unsqueeze", call.inputs[0], [call.node.integer("axis") % rank], call.name)


def _squeeze(call: Call, tr: Translation) -> str:
    shape = tr.known_shape(call)
    axes = [a % len(shape) for a in call.integers("axis", tuple(i for i, n in enumerate(shape) if n == 1))]
    return tr.axes_op("Squeeze", call.inputs[0], sorted(axes), call.name)


def _concat(call: Call, tr: Translation) -> str:
    return str(tr.op("Concat", *call.inputs, axis=call.integer("dim", 1), name=call.name))


def _stack(call: Call, tr: Translation) -> str:
    axis = call.integer("axis", 0) % (len(tr.known_shape(call)) + 1)
    parts = [tr.axes_op("Unsqueeze", v, [axis], f"{call.name}_part{i}") for i, v in enumerate(call.inputs)]
    return str(tr.op("Concat", *parts, axis=axis, name=call.name))


def _split_channels(call: Call, tr: Translation) -> tuple[str, ...]:
    shape = tr.known_shape(call)
    axis, count = call.integer("axis", 1) % len(shape), call.node.integer("num_outputs")
    length = shape[axis]
    if length is None or not 1 <= count <= length or length % count:
        raise call.refuse(f"a length of {length} cannot be parted into {count}")
    return _squeezed(call, tr, tr.split(call.inputs[0], [length // count] * count, axis, call.name), axis)


def _split_at(call: Call, tr: Translation) -> tuple[str, ...]:
    shape = tr.known_shape(call)
    axis, sections = call.integer("axis", 0) % len(shape), call.integer("sections", 0)
    length = shape[axis]
    if length is None:
        raise call.refuse("its input size is not known")
    if not 0 <= sections <= length:
        raise call.refuse(f"a length of {length} cannot be parted into {sections}")
    if sections:
        bounds = [i * (length // sections) for i in range(sections)]
    else:
        bounds = [index % length if index < 0 else index for index in call.integers("indices")]
    sizes = [end - start for start, end in zip(bounds, [*bounds[1:], length], strict=True)]
    if min(sizes) < 0:
        raise call.refuse(f"its indices {bounds} do not rise")
    return _squeezed(call, tr, tr.split(call.inputs[0], sizes, axis, call.name), axis)


def _squeezed(call: Call, tr: Translation, parts: tuple[str, ...], axis: int) -> tuple[str, ...]:
    if not call.flag("squeeze_axis"):
        return parts
    return tuple(tr.axes_op("Squeeze", part, [axis], f"{call.name}_part{i}") for i, part in enumerate(parts))


def _slice(call: Call, tr: Translation) -> str:
    begins, ends = call.optional_integers("begin"), call.optional_integers("end")
    steps = call.optional_integers("step") or (None,) * len(begins)
    strides = [1 if step is None else step for step in steps]
    starts = [(0 if s > 0 else _LAST) if b is None else b for b, s in zip(begins, strides, strict=True)]
    stops = [(_LAST if s > 0 else _FIRST) if e is None else e for e, s in zip(ends, strides, strict=True)]
    return tr.slice(call.inputs[0], starts, stops, range(len(begins)), strides, call.name)


def _slice_axis(call: Call, tr: Translation) -> str:
    axis = call.node.integer("axis") % len(tr.known_shape(call))
    end = call.integer("end", _LAST)
    return tr.slice(call.inputs[0], [call.integer("begin", 0)], [end], [axis], [1], call.name)


def _slice_like(call: Call, tr: Translation) -> str:
    shape, like = tr.known_shape(call), tr.known_shape(call, 1)
    axes = [a % len(shape) for a in call.integers("axes", tuple(range(len(shape))))]
    # The batch of both is the same one.
    axes = [a for a in axes if not (shape[a] is None and like[a] is None)]
    ends = [like[a] for a in axes]
    if None in ends:
        raise call.refuse("the size it takes as a model is not known")
    return tr.slice(call.inputs[0], [0] * len(axes), [int(e or 0) for e in ends], axes, [1] * len(axes), call.name)


def _crop(call: Call, tr: Translation) -> str:
    """The operator ``Crop`` of segmentation networks: height and width cut to a size or to that of a second input."""
    shape = tr.known_shape(call)
    if len(call.inputs) > 1:
        wanted: Sequence[int | None] = tr.known_shape(call, 1)[2:]
    else:
        wanted = call.integers("h_w", (0, 0))
    if None in shape[2:] or None in wanted:
        raise call.refuse("its input size is not known")
    sizes = [int(length or 0) for length in wanted]
    starts = list(call.integers("offset", (0, 0)))
    if call.flag("center_crop"):
        starts = [(int(length or 0) - size) // 2 for length, size in zip(shape[2:], sizes, strict=True)]
    ends = [start + size for start, size in zip(starts, sizes, strict=True)]
    return tr.slice(call.inputs[0], starts, ends, [2, 3], [1, 1], call.name)


def _pad(call: Call, tr: Translation) -> str:
    width = call.integers("pad_width")
    mode = call.text("mode", "constant")
    if mode not in ("constant", "edge", "reflect"):
        raise call.refuse(f"its mode is {mode!r}")
    pads = tr.constant(np.asarray([*width[::2], *width[1::2]], np.int64), f"{call.name}_pads")
    value = [tr.scalar(call.number("constant_value", 0.0))] if mode == "constant" else []
    return str(tr.op("Pad", call.inputs[0], pads, *value, mode=mode, name=call.name))


def _tile(call: Call, tr: Translation) -> str:
    repeats = call.integers("reps")
    rank = len(tr.known_shape(call))
    x = call.inputs[0]
    if len(repeats) > rank:
        x = tr.axes_op("Unsqueeze", x, list(range(len(repeats) - rank)), f"{call.name}_expanded")
    counts = [1] * (rank - len(repeats)) + list(repeats)
    return str(tr.op("Tile", x, tr.constant(np.asarray(counts, np.int64), f"{call.name}_counts"), name=call.name))


def _repeat(call: Call, tr: Translation) -> str:
    """Each element several times in a row, unlike tile."""
    shape = tr.known_shape(call)
    count = call.node.integer("repeats")
    if not call.has("axis"):
        raise call.refuse("it has no axis")
    axis = call.integer("axis", 0) % len(shape)
    length = shape[axis]
    if length is None:
        raise call.refuse("its input size is not known")
    if not 0 < count * length <= LARGEST_VALUE // 4:
        raise call.refuse(f"it repeats {length} elements {count} times")
    index = tr.constant(np.repeat(np.arange(length, dtype=np.int64), count), f"{call.name}_index")
    return str(tr.op("Gather", call.inputs[0], index, axis=axis, name=call.name))


def _reverse(call: Call, tr: Translation) -> str:
    rank = len(tr.known_shape(call))
    axes = [axis % rank for axis in call.integers("axis")]
    every = [1] * len(axes)
    return tr.slice(call.inputs[0], [-v for v in every], [_FIRST] * len(axes), axes, [-v for v in every], call.name)


def _expand(call: Call, tr: Translation, lengths: Sequence[int]) -> str:
    return str(tr.op("Expand", call.inputs[0], tr.constant(np.asarray(lengths, np.int64)), name=call.name))


def _broadcast_like(call: Call, tr: Translation) -> str:
    if call.has("lhs_axes") or call.has("rhs_axes"):
        raise call.refuse("it names axes")
    shape, like = tr.known_shape(call), tr.known_shape(call, 1)
    if len(shape) == len(like) and all(s is None for s, n in zip(shape, like, strict=True) if n is None):
        return _expand(call, tr, [1 if length is None else length for length in like])
    return str(
        tr.op("Expand", call.inputs[0], tr.op("Shape", call.inputs[1], name=f"{call.name}_shape"), name=call.name)
    )


def _broadcast_to(call: Call, tr: Translation) -> str:
    return _expand(call, tr, [length or 1 for length in call.integers("shape")])


def _broadcast_axis(call: Call, tr: Translation) -> str:
    lengths = [1] * len(tr.known_shape(call))
    for axis, size in zip(call.integers("axis"), call.integers("size"), strict=True):
        lengths[axis] = size
    return _expand(call, tr, lengths)


def _depth_to_space(call: Call, tr: Translation) -> str:
    return str(
        tr.op("DepthToSpace", call.inputs[0], blocksize=call.node.integer("block_size"), mode="DCR", name=call.name)
    )


def _space_to_depth(call: Call, tr: Translation) -> str:
    return str(tr.op("SpaceToDepth", call.inputs[0], blocksize=call.node.integer("block_size"), name=call.name))


OPERATORS: dict[str, Translator] = {
    "Reshape": _reshape,
    "reshape": _reshape,
    "reshape_like": _reshape_like,
    "Flatten": _flatten,
    "flatten": _flatten,
    "transpose": _transpose,
    "SwapAxis": _swap_axis,
    "swapaxes": _swap_axis,
    "expand_dims": _expand_dims,
    "squeeze": _squeeze,
    "Concat": _concat,
    "concat": _concat,
    "stack": _stack,
    "SliceChannel": _split_channels,
    "split": _split_channels,
    "_split_v2": _split_at,
    "slice": _slice,
    "crop": _slice,
    "slice_axis": _slice_axis,
    "slice_like": _slice_like,
    "Crop": _crop,
    "Pad": _pad,
    "pad": _pad,
    "tile": _tile,
    "repeat": _repeat,
    "reverse": _reverse,
    "flip": _reverse,
    "broadcast_like": _broadcast_like,
    "broadcast_to": _broadcast_to,
    "broadcast_axis": _broadcast_axis,
    "broadcast_axes": _broadcast_axis,
    "depth_to_space": _depth_to_space,
    "space_to_depth": _space_to_depth,
}
