"""Calibration: the float network runs over pictures, and every activation's range is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..fitting import to_tensor
from ..model import PoseModel
from .activations import Activations
from .data import CalibrationSet
from .observers import PERCENTILE, Observer, observer_maker
from .ranges import Ranges, fingerprint

#: Signal to noise of the outputs of trained networks with all layers in int8, Ultralight-SimplePose | Lightweight
#: OpenPose, heatmaps and limbs: percentile 19.7 dB | 28.7, 13.4; mse 20.8 | 26.1, 11.0; sqnr 21.9 | 23.5, 7.9; naive
#: 20.1 | 20.9, 5.8; entropy 12.3 | 5.7, -2.8: it takes the few large values of a heatmap, the joints, for outliers.
DEFAULT_METHOD = "percentile"


def calibrate(
    model: PoseModel,
    samples: CalibrationSet,
    method: str = DEFAULT_METHOD,
    *,
    percentile: float = PERCENTILE,
    on_sample: Callable[[], object] = lambda: None,
) -> Ranges:
    """Find the range of every float activation, the input's too, in one pass over a calibration set.

    The network runs on one sample at a time, so that neither memory nor the result depend on how samples are batched;
    a network of fixed batch gets the sample repeated.  Of the activations of one sample at most half a gigabyte is
    held; a larger network is run in several parts of its outputs.

    Parameters
    ----------
    model
        The float model.
    samples
        The calibration set.
    method
        One of :data:`.observers.METHODS`.
    percentile
        For the method ``percentile``: percentage of the values that is kept.
    on_sample
        Called after each sample.

    Returns
    -------
    Ranges
        Activations that are always zero have the range [0, 0].

    Raises
    ------
    InputError
        If there is no such method, the calibration set cannot be used (see :meth:`.data.CalibrationSet.batches`), or an
        activation is not finite; the message names the tensor and the picture.
    GraphError
        If the network does not run.
    """
    maker = observer_maker(method, percentile)
    observers: dict[str, Observer] = {}
    activations = Activations(model.graph)
    for tensor, name in _singly(model, samples):
        for value, array in activations.of(model.spec.input.name, tensor):
            _observe(observers, maker, value, array, name)
        on_sample()
    label = f"{method} {percentile:g}" if method == "percentile" else method
    ranges = {value: observer.range() for value, observer in observers.items()}
    return Ranges(ranges, label, fingerprint(model.graph), samples.record)


def _singly(model: PoseModel, samples: CalibrationSet) -> Iterator[tuple[npt.NDArray[Any], str]]:
    """Tensor [1, ...] of each sample and the name of its picture."""
    for batch in samples.batches():
        for i, name in enumerate(batch.names):
            yield to_tensor(batch.pixels[i : i + 1], model.spec.input), name


def _observe(
    observers: dict[str, Observer], maker: Callable[[], Observer], value: str, array: npt.NDArray[Any], picture: str
) -> None:
    if not array.size:
        return
    flat = array.reshape(-1)
    low, high = float(flat.min()), float(flat.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            f"The activation '{value}' is not finite ({low} to {high}) on '{picture}'; it cannot be quantised.",
            hint="The network itself is at fault: check its weights and the mean and std of its spec.",
        )
    observer = observers.get(value)
    if observer is None:
        observer = observers[value] = maker()
    observer.update(flat, low, high)
