"""How long one run of a network takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..estimator import Stage
from ..fitting import to_tensor

#: The first runs allocate and tune; they do not count.
WARM_UP = 3
#: Runs that count, at most, and seconds after which no further one is started.
RUNS, SECONDS = 30, 2.0


def median_ms(stage: Stage, pixels: npt.NDArray[np.uint8]) -> float:
    """Median time of a run of the engine, in milliseconds.

    Parameters
    ----------
    stage
        The loaded network.
    pixels
        uint8 [B, H, W, 3], BGR, fitted to its input; the first is run, or the batch that the engine is fixed to.

    Returns
    -------
    float
        Without preparing the input and decoding the outputs.

    Raises
    ------
    DeviceError
        If the engine fails.
    """
    feeds = _feeds(stage, pixels)
    for _ in range(WARM_UP):
        stage.session.run(feeds)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < RUNS and (not times or time.perf_counter() - start < SECONDS):
        began = time.perf_counter()
        stage.session.run(feeds)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def interleaved_ms(models: Sequence[Sequence[Stage]], inputs: Sequence[npt.NDArray[np.uint8]]) -> list[float]:
    """Median time of several models that are run in turns, so that a busy moment hits all of them alike.

    Parameters
    ----------
    models
        Each the loaded networks of one model; they take the same inputs.
    inputs
        For each network uint8 [1, H, W, 3], BGR, fitted to its input.

    Returns
    -------
    list of float
        Milliseconds of one input through all networks of each model, preparing and decoding left out.

    Raises
    ------
    DeviceError
        If an engine fails.
    """
    feeds = [[_feeds(stage, pixels) for stage, pixels in zip(m, inputs, strict=True)] for m in models]
    times: list[list[float]] = [[] for _ in models]
    start = 0.0
    for turn in range(-WARM_UP, RUNS):
        if turn == 0:
            start = time.perf_counter()
        for model, fed, taken in zip(models, feeds, times, strict=True):
            began = time.perf_counter()
            for stage, tensors in zip(model, fed, strict=True):
                stage.session.run(tensors)
            if turn >= 0:
                taken.append(time.perf_counter() - began)
        if turn >= 0 and time.perf_counter() - start > SECONDS * len(models):
            break
    return [1000 * statistics.median(taken) for taken in times]


def _feeds(stage: Stage, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
    tensor = to_tensor(pixels[:1], stage.spec.input)
    return {stage.spec.input.name: np.repeat(tensor, stage.batch or 1, axis=0)}
