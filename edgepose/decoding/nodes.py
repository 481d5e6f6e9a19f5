"""The operators that decoders are made of as ONNX nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from onnx import helper

if TYPE_CHECKING:
    from ..graph.builder import GraphBuilder

#: Sums of values scaled by this cannot overflow, and are finite exactly where all the values are.
_SHRINK = 1e-6
#: Below the largest float32, and above every such sum.
_FINITE = 3e38

#: Opset from which an operator takes its axes as an input.
_AXES_INPUT = {"ReduceSum": 13, "ReduceMax": 18, "ReduceMin": 18, "ReduceMean": 18}


@dataclass(frozen=True)
class PoseNodes:
    """Names of the values that an embedded decoder gives.

    Attributes
    ----------
    keypoints
        float32 [N, K, 3] for one person in each element of the batch, or [N, P, K, 3] for P places for people: x, y
        in pixels of the network input, score.
    scores
        float32 [N] or [N, P]; in a place without a person it is 0.
    boxes
        float32 [N, P, 4]: x1, y1, x2, y2, if the decoder finds boxes.
    """

    keypoints: str
    scores: str
    boxes: str | None = None


class Nodes:
    """Adds nodes to a graph in the words of its opset.

    Whole numbers are int32: devices have no use for more, and unlike float16 it holds every index.

    Parameters
    ----------
    graph
        The graph that is being built.
    """

    def __init__(self, graph: GraphBuilder) -> None:
        self._graph = graph
        self._shapes: dict[str, tuple[int | str, ...]] = {}
        self._shape_values: dict[str, str] = {}

    def input(self, name: str, shape: Sequence[int | str], dtype: str) -> str:
        """Declare an input; a string in ``shape`` is a dynamic length."""
        self._shapes[name] = tuple(shape)
        return self._graph.input(name, shape, dtype)

    def shape(self, name: str) -> tuple[int | str, ...]:
        """Declared shape of an input, or of an input that was cast."""
        return self._shapes[name]

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output, and return that."""
        result: str = self._graph.op(op_type, *inputs, **attributes)
        return result

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a constant."""
        return self._graph.constant(np.asarray(values, dtype))

    def cast(self, x: str, dtype: str) -> str:
        """``x`` in another element type."""
        result = self.op("Cast", x, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))
        if x in self._shapes:
            self._shapes[result] = self._shapes[x]
        return result

    def reduce(self, op_type: str, x: str, axes: Sequence[int], *, keepdims: bool = True) -> str:
        """ReduceMax, ReduceMin, ReduceMean or ReduceSum over ``axes``."""
        if self._graph.opset >= _AXES_INPUT[op_type]:
            return self.op(op_type, x, self.constant(axes, np.int64), keepdims=int(keepdims))
        return self.op(op_type, x, axes=list(axes), keepdims=int(keepdims))

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """``x`` in another shape; 0 keeps the length in that place, -1 takes what is left."""
        return self.op("Reshape", x, self.constant(shape, np.int64))

    def pick(self, x: str, index: int | Sequence[int], axis: int) -> str:
        """Elements of an axis, in the order of ``index``; a single number takes the axis away."""
        return self.op("Gather", x, self.constant(index, np.int64), axis=axis)

    def span(self, x: str, start: int, stop: int, axis: int) -> str:
        """Elements ``start`` to ``stop`` (exclusive) of an axis."""
        bounds = [self.constant([value], np.int64) for value in (start, stop, axis)]
        return self.op("Slice", x, *bounds)

    def length(self, x: str, axis: int) -> str:
        """int32 scalar: the length of an axis."""
        return self.cast(self.pick(self._shape_of(x), axis, 0), "int32")

    def lengths(self, x: str, *axes: int) -> str:
        """int32 [number of axes]: the lengths of some axes."""
        # One by one, because a known length can be computed even where its neighbours are dynamic.
        singles = [self.pick(self._shape_of(x), [axis], 0) for axis in axes]
        return self.cast(self.op("Concat", *singles, axis=0), "int32")

    def choose(self, condition: str, yes: str, no: str) -> str:
        """``yes`` where the condition holds, else ``no``: what is not chosen may be NaN."""
        return self.op("Where", condition, yes, no)

    def all_of(self, *conditions: str) -> str:
        """Where all conditions hold."""
        result = conditions[0]
        for condition in conditions[1:]:
            result = self.op("And", result, condition)
        return result

    def finite(self, x: str, axes: Sequence[int]) -> str:
        """bool, ``axes`` kept with length 1: whether all values along ``axes`` are finite."""
        total = self.reduce("ReduceSum", self.op("Mul", x, self.constant(_SHRINK)), axes)
        return self.op("Less", self.op("Abs", total), self.constant(_FINITE))

    def _shape_of(self, x: str) -> str:
        if x not in self._shape_values:
            self._shape_values[x] = self.op("Shape", x)
        return self._shape_values[x]
