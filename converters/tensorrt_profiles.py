"""Between which shapes an engine with dynamic inputs works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgepose.errors import ConversionError
from edgepose.fitting import fit
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import shape_of
from edgepose.model import PoseModel
from edgepose.sample import sample_picture
from edgepose.spec import FixedHeight, InputSpec, Letterbox, Stretch

from .tensorrt_options import BuildOptions, Size

#: Smallest, usual and largest shape.
Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
#: Widest picture, for its height, that an engine is built for by default.
_ASPECT = 3


def profile_shapes(model: PoseModel, options: BuildOptions, given: Sequence[str]) -> dict[str, Shapes]:
    """Shapes for each input that has a dynamic one.

    Parameters
    ----------
    model
        The model.
    options
        How the engine is built.
    given
        Names of the options that the user gave.

    Raises
    ------
    ConversionError
        If the options contradict the graph or each other.
    """
    profile: dict[str, Shapes] = {}
    batches = sizes = False
    for value in real_inputs(model.graph.graph):
        shape = shape_of(value)
        if shape is None or value.name != model.spec.input.name or len(shape) != 4:
            raise ConversionError(f"The input '{value.name}' is not the picture that the spec describes.")
        top = 1 if model.spec.input.layout == "NHWC" else 2
        free = [i for i, d in enumerate(shape) if not isinstance(d, int)]
        if not free:
            continue
        if set(free) - {0, top, top + 1}:
            raise ConversionError(f"The input '{value.name}' does not say how many channels it has.")
        batches, sizes = 0 in free, bool(set(free) - {0})
        ranges = _sizes(model.spec.input, options) if sizes else ((0, 0),) * 3
        counts = options.min_batch, options.opt_batch, options.max_batch
        shapes = []
        for count, size in zip(counts, ranges, strict=True):
            wanted = {0: count, top: size[0], top + 1: size[1]}
            shapes.append(tuple(d if isinstance(d, int) else wanted[i] for i, d in enumerate(shape)))
        least, usual, most = shapes
        if not all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True)):
            raise ConversionError(f"The shapes {least}, {usual} and {most} of '{value.name}' are not in order.")
        profile[value.name] = least, usual, most
    for what, dynamic in (("batch", batches), ("size", sizes)):
        useless = [n for n in given if n.endswith(f"_{what}") and not dynamic]
        if useless:
            raise ConversionError(
                f"The option {useless[0]} is for a dynamic {what}; that of this graph is fixed.",
                hint="Convert with --batch dynamic." if what == "batch" else None,
            )
    return profile


def _sizes(spec: InputSpec, options: BuildOptions) -> tuple[Size, Size, Size]:
    least, most = _limits(spec)
    least, most = options.min_size or least, options.max_size or most
    usual = options.opt_size
    if usual is None:
        height, width = fit(sample_picture()[0], spec).size
        usual = min(max(height, least[0]), most[0]), min(max(width, least[1]), most[1])
    return least, usual, most


def _limits(spec: InputSpec) -> tuple[Size, Size]:
    """Sizes to which pictures of usual aspect are brought."""
    kind = spec.fit
    if isinstance(kind, FixedHeight):
        height = _up(kind.height, kind.stride)
        narrow = _up(max(kind.min_width or 0, kind.height / _ASPECT), kind.stride)
        return (height, narrow), (height, max(_up(kind.height * _ASPECT, kind.stride), narrow))
    if isinstance(kind, Letterbox) and kind.long_side is not None:
        long = _up(kind.long_side, kind.stride)
        short = _up(kind.long_side / _ASPECT, kind.stride)
        return (short, short), (long, long)
    if isinstance(kind, Stretch) and kind.long_side is not None:
        long = kind.long_side
        short = kind.short_side or long
        return (min(long, short),) * 2, (max(long, short),) * 2
    raise ConversionError("The spec does not say which sizes the network takes.", hint="Give a fixed --input-size.")


def _up(length: float, stride: int) -> int:
    return int(-(-length // stride) * stride)


def check_profile(profile: Mapping[str, object]) -> dict[str, Shapes]:
    """A profile as a recipe has it.

    Raises
    ------
    ValueError
        If it is none.
    """
    read: dict[str, Shapes] = {}
    for name, shapes in profile.items():
        if not isinstance(shapes, list) or len(shapes) != 3:
            raise ValueError(f"the shapes of '{name}' are not three")
        least, usual, most = (tuple(int(d) for d in shape) for shape in shapes)
        if not len(least) == len(usual) == len(most) or any(d < 1 for d in least):
            raise ValueError(f"the shapes of '{name}' do not fit together")
        read[str(name)] = least, usual, most
    return read
