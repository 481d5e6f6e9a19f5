"""Running a float graph on calibration samples and looking at values inside it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ..errors import InputError
from ..fitting import to_tensor
from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.half import widen_stored
from ..graph.inference import shape_of
from ..graph.running import Runner
from ..model import PoseModel
from ..spec import PoseSpec

Tensor = npt.NDArray[np.float32]

#: Inputs that go through the network at once where it takes any number: the values inside all stay in memory.
_BATCH = 2


def float_draft(model: PoseModel) -> Draft:
    """A network to look at and change; weights that are stored as float16 are float32 in it."""
    return Draft(widen_stored(model.graph))


class Taps:
    """A graph whose inner values can be read.

    Parameters
    ----------
    graph
        The graph.
    names
        Float32 values to read: those that nodes make, and graph inputs.

    Raises
    ------
    GraphError
        If ONNX Runtime refuses the graph.
    """

    def __init__(self, graph: onnx.ModelProto | Draft, names: Iterable[str]) -> None:
        draft = graph if isinstance(graph, Draft) else Draft(graph)
        self._names = tuple(dict.fromkeys(names))
        inputs = {i.name for i in draft.graph.input}
        self._fed = [n for n in self._names if n in inputs]
        present = {o.name for o in draft.graph.output}
        extra = [n for n in self._names if n not in inputs and n not in present]
        draft.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in extra)
        try:
            self._runner = Runner(draft, "graph to calibrate")
        finally:
            del draft.graph.output[len(present) :]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Values for one batch, by name.

        Raises
        ------
        InputError
            If a value is not finite.
        """
        values = self._runner.run(feeds)
        found = {n: feeds[n] if n in self._fed else values[n] for n in self._names}
        for name, value in found.items():
            if not np.isfinite(value).all():
                raise InputError(
                    f"The network computes values that are not finite in '{name}'; it cannot be calibrated.",
                    hint="Check the checkpoint, and that the spec's mean and std are those of training.",
                )
        return found


def batches(
    model: PoseModel, samples: Iterable[Pixels], on_sample: Callable[[], object] = lambda: None
) -> Iterator[dict[str, Any]]:
    """What to feed a network for calibration samples.

    Parameters
    ----------
    model
        The network; the spec says how pixels become its input.
    samples
        [B, H, W, 3], fitted to the input.
    on_sample
        Called after each sample.

    Raises
    ------
    InputError
        If there are none.
    """
    size = _fixed_batch(model.graph, model.spec)
    count = 0
    for pixels in samples:
        step = size or _BATCH
        for i in range(0, len(pixels), step):
            tensor = to_tensor(pixels[i : i + step], model.spec.input)
            if size and len(tensor) < size:
                tensor = np.concatenate([tensor, np.repeat(tensor[-1:], size - len(tensor), axis=0)])
            yield {model.spec.input.name: tensor}
            for _ in range(min(step, len(pixels) - i)):
                count += 1
                on_sample()
    if not count:
        raise InputError("There are no samples to calibrate with.")


def _fixed_batch(graph: onnx.ModelProto, spec: PoseSpec) -> int | None:
    for value in graph.graph.input:
        if value.name == spec.input.name:
            shape = shape_of(value)
            if shape and isinstance(shape[0], int):
                return shape[0]
    return None


def channel_means(
    graph: onnx.ModelProto | Draft, names: Collection[str], feeds: Iterable[Mapping[str, Tensor]]
) -> dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]:
    """Mean and standard deviation [C] of values [B, C, ...] over samples and positions, by name."""
    taps = Taps(graph, names)
    sums: dict[str, list[Any]] = {}
    for feed in feeds:
        for name, value in taps.run(feed).items():
            wide = np.moveaxis(value, 1, 0).reshape(value.shape[1], -1).astype(np.float64)
            now = [wide.shape[1], wide.sum(axis=1), np.square(wide).sum(axis=1)]
            before = sums.setdefault(name, [0, 0.0, 0.0])
            sums[name] = [a + b for a, b in zip(before, now, strict=True)]
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / count
        found[name] = mean, np.sqrt(np.maximum(squares / count - mean**2, 0))
    return found


def channel_magnitudes(
    graph: onnx.ModelProto | Draft, names: Collection[str], feeds: Iterable[Mapping[str, Tensor]], axis: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Largest magnitude [C] of each channel of values, whose channels lie along ``axis``, by name."""
    taps = Taps(graph, names)
    found: dict[str, npt.NDArray[np.float64]] = {}
    for feed in feeds:
        for name, value in taps.run(feed).items():
            now = np.abs(np.moveaxis(value, axis, 0)).reshape(value.shape[axis], -1).max(axis=1).astype(np.float64)
            found[name] = np.maximum(found.get(name, now), now)
    return found
