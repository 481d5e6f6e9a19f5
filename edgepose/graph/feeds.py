"""Random inputs to run a graph on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from ..errors import GraphError
from .inference import shape_of
from .running import Tensor

#: The darkest and the brightest pixel after the usual ImageNet normalisation.
_DARK, _BRIGHT = -2.2, 2.7
_BLOCK = 8


@dataclass(frozen=True)
class Trial:
    """One random input.

    Attributes
    ----------
    seed
        Of the random numbers.
    batch
        Used where the batch is dynamic.
    sizes
        Lengths used in turn for the other dynamic dimensions; multiples of 32, the largest stride of pose networks.
    """

    seed: int
    batch: int
    sizes: tuple[int, int]


def trials(seeds: tuple[int, ...]) -> Iterator[Trial]:
    """A trial for each seed; batch and size change from one to the next."""
    for i, seed in enumerate(seeds):
        yield Trial(seed, 1, (64, 96)) if i % 2 == 0 else Trial(seed, 2, (128, 160))


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that must be fed; before ONNX 1.4 the weights were inputs as well."""
    weights = {t.name for t in graph.initializer}
    return [i for i in graph.input if i.name not in weights]


def random_feeds(model: onnx.ModelProto, trial: Trial) -> dict[str, Tensor]:
    """An input for each of the graph's inputs: a coarse pattern with noise, in the range of a normalised picture.

    Raises
    ------
    GraphError
        If an input is no tensor, or of a type or rank that no network for pictures has.
    """
    rng = np.random.default_rng(trial.seed)
    lengths: dict[str, int] = {}
    free = 0  # dynamic lengths so far, the batch not counted: the first is the height, the second the width
    feeds = {}
    for value in real_inputs(model.graph):
        shape = shape_of(value)
        if shape is None:
            raise GraphError(f"The input '{value.name}' does not say its rank.")
        concrete = []
        for axis, dimension in enumerate(shape):
            if isinstance(dimension, int):
                concrete.append(dimension)
                continue
            name = dimension or f"{value.name}:{axis}"
            if name not in lengths:
                lengths[name] = trial.batch if axis == 0 else trial.sizes[free % 2]
                free += axis > 0
            concrete.append(lengths[name])
        feeds[value.name] = _random(rng, tuple(concrete), value)
    return feeds


def _random(rng: np.random.Generator, shape: tuple[int, ...], value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type.elem_type
    if kind in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE):
        picture = _pattern(rng, shape) + 0.3 * rng.standard_normal(shape, np.float32)
        return np.asarray(np.clip(picture, _DARK, _BRIGHT), helper.tensor_dtype_to_np_dtype(kind))
    if kind == TensorProto.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind in (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, TensorProto.INT64):
        grey = np.clip((_pattern(rng, shape) - _DARK) / (_BRIGHT - _DARK) * 255, 0, 255)
        grey -= 128 if kind == TensorProto.INT8 else 0
        return np.asarray(grey).astype(helper.tensor_dtype_to_np_dtype(kind))
    raise GraphError(f"The input '{value.name}' has the element type {TensorProto.DataType.Name(kind)}.")


def _pattern(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    """Random blocks over the last two axes: unlike pure noise, they get through pooling and strides."""
    if len(shape) < 2:
        return rng.uniform(_DARK, _BRIGHT, shape).astype(np.float32)
    coarse = tuple(-(-length // _BLOCK) for length in shape[-2:])
    blocks = rng.uniform(_DARK, _BRIGHT, (*shape[:-2], *coarse)).astype(np.float32)
    return blocks.repeat(_BLOCK, -2).repeat(_BLOCK, -1)[..., : shape[-2], : shape[-1]]
