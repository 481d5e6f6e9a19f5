"""What calibration keeps of a tensor while the pictures go by: its extremes, or a histogram that grows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from . import aimet_encodings
from .histogram_ranges import entropy_range, mse_range, percentile_range

Method = Literal["naive", "entropy", "percentile", "mse", "sqnr"]
METHODS: tuple[str, ...] = get_args(Method)

#: Bins of a first histogram: MXNet's number, odd, so that the middle one is centred on zero.
BINS = 8001
#: A histogram that would grow beyond this is coarsened threefold: memory stays bounded when the first picture gave a
#: tiny range.  Networks on pictures grow by a few per cent.
MAX_BINS = 4 * BINS
#: Percentage of a tensor's values that the method ``percentile`` keeps.  A heatmap's few large values are the joints:
#: 99.99 lowers the scores of Ultralight-SimplePose by 0.04, 99.9 by 0.15.
PERCENTILE = 99.999
#: Magnitudes up to this are zero: one over the width of such bins is no float32.
_NOTHING = 1e-30
#: Values that are binned at once; they and their bins stay in the cache.
_PIECE = 1 << 16

Values = npt.NDArray[np.floating[Any]]


class Observer(Protocol):
    """Sees all values of one tensor, sample by sample."""

    def update(self, values: Values, low: float, high: float) -> None:
        """Take in the values of one sample: flat, not empty, finite, of which ``low`` and ``high`` are the extremes."""

    def range(self) -> tuple[float, float]:
        """The range to quantise; after at least one update."""


class Extremes:
    """The smallest and the largest value.

    Attributes
    ----------
    low, high
        The extremes so far.
    """

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def update(self, values: Values, low: float, high: float) -> None:
        """See :class:`Observer`."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        """The extremes."""
        return self.low, self.high


class Histogram(Extremes):
    """Counts in equal bins, an odd number of them, the middle one centred on zero.

    The first values that are not all zero set the width of a bin; where later ones reach farther, bins of that width
    are added on both sides.  One pass over the pictures is enough, as in MXNet.

    Parameters
    ----------
    choose
        From counts [bins], the width of a bin and the extremes to the range.

    Attributes
    ----------
    counts
        int64 [bins].
    width
        Of a bin; 0 as long as all values were zero.
    """

    def __init__(self, choose: Callable[[npt.NDArray[np.int64], float, float, float], tuple[float, float]]) -> None:
        super().__init__()
        self._choose = choose
        self.counts = np.zeros(BINS, np.int64)
        self.width = 0.0

    def update(self, values: Values, low: float, high: float) -> None:
        """See :class:`Observer`."""
        super().update(values, low, high)
        reach = max(abs(low), abs(high))
        if reach <= _NOTHING:
            self.counts[len(self.counts) // 2] += values.size
            return
        if not self.width:
            self.width = 2 * reach / BINS
        self._reach(reach)
        self._count(values)

    def range(self) -> tuple[float, float]:
        """What the method chooses; the extremes if all values were zero."""
        if not self.width:
            return self.low, self.high
        return self._choose(self.counts, self.width, self.low, self.high)

    def _reach(self, reach: float) -> None:
        """Add bins, or make them coarser, until they hold ``reach``."""
        while (more := self._missing(reach)) and len(self.counts) + 2 * more > MAX_BINS:
            half = len(self.counts) // 2
            # Three bins become one; the middle one of the middle three stays centred on zero.
            padding = -(half - 1) % 3
            self.counts = np.pad(self.counts, padding).reshape(-1, 3).sum(axis=1)
            self.width *= 3
        if more:
            self.counts = np.pad(self.counts, more)

    def _missing(self, reach: float) -> int:
        """Bins that lack on either side; the last bin's own edge belongs to it."""
        held = self.width * len(self.counts) / 2
        return 0 if reach <= held else int((reach - held) // self.width + 1)

    def _count(self, values: Values) -> None:
        bins = len(self.counts)
        scale, middle = np.float32(1 / self.width), np.float32(bins / 2)
        for i in range(0, values.size, _PIECE):
            place = values[i : i + _PIECE].astype(np.float32)
            place *= scale
            place += middle
            index = place.astype(np.int32)
            np.clip(index, 0, bins - 1, out=index)
            self.counts += np.bincount(index, minlength=bins)


class Enhanced(Extremes):
    """AIMET's ``tf_enhanced``: the 8-bit grid of the best ratio of signal to quantisation noise."""

    #: AIMET looks at every second value of an activation.
    STRIDE = 2

    def __init__(self) -> None:
        super().__init__()
        self._histogram = aimet_encodings.Histogram()

    def update(self, values: Values, low: float, high: float) -> None:
        """See :class:`Observer`."""
        super().update(values, low, high)
        self._histogram.update(values, self.STRIDE)

    def range(self) -> tuple[float, float]:
        """The ends of the asymmetric grid; the extremes if all values were zero."""
        if self._histogram.left is None:
            return self.low, self.high
        encoding = aimet_encodings.tf_enhanced_encoding(self._histogram, aimet_encodings.Grid())
        assert encoding is not None
        return encoding.minimum, encoding.maximum


def observer_maker(method: str, percentile: float = PERCENTILE) -> Callable[[], Observer]:
    """What makes an observer for a tensor.

    Parameters
    ----------
    method
        One of :data:`METHODS`: ``naive`` keeps the extremes; ``entropy`` finds the threshold of least
        Kullback-Leibler divergence as MXNet does; ``percentile`` leaves out the outermost values; ``mse`` finds the
        range in which 8 bits give the least squared error; ``sqnr`` is AIMET's ``tf_enhanced``.
    percentile
        For ``percentile``: percentage of the values that is kept, above 50 and up to 100.

    Raises
    ------
    InputError
        If there is no such method or percentile.
    """
    if not 50 < percentile <= 100:
        raise InputError(f"The percentile is {percentile}; it must be above 50 and at most 100.")
    makers: dict[str, Callable[[], Observer]] = {
        "naive": Extremes,
        "entropy": lambda: Histogram(entropy_range),
        "percentile": lambda: Histogram(functools.partial(percentile_range, percentile=percentile)),
        "mse": lambda: Histogram(mse_range),
        "sqnr": Enhanced,
    }
    if method not in makers:
        raise InputError(f"There is no calibration method '{method}'.", hint=f"Methods: {', '.join(makers)}.")
    return makers[method]
