"""How long one run of a network takes."""

from __future__ import annotations

import statistics
import time

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
    tensor = to_tensor(pixels[:1], stage.spec.input)
    feeds = {stage.spec.input.name: np.repeat(tensor, stage.batch or 1, axis=0)}
    for _ in range(WARM_UP):
        stage.session.run(feeds)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < RUNS and (not times or time.perf_counter() - start < SECONDS):
        began = time.perf_counter()
        stage.session.run(feeds)
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)
