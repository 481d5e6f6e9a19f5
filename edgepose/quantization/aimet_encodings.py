"""AIMET's quantisation grids: how it finds them, and what they do to numbers.

Facts from quic/aimet, ``ModelOptimizations/DlQuantization``, releases 1.19 to 2.0: sizes of histogram and candidate
grids, the weight of saturation, the least width of a range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

#: Bit widths that a grid may have.
BITS = range(2, 17)
#: Bins of the histogram, and how much wider than its first tensor it is.
BINS = 512
WIDENING = np.float32(3.0)
#: No range is narrower than this.
LEAST_RANGE = 0.01
#: How much worse saturation is than rounding.
SATURATION_WEIGHT = np.float32(3.0)
#: The largest float32 below one half: ``floor(v + BELOW_HALF)`` rounds v >= 0 half away from zero, for every float32.
BELOW_HALF = np.nextafter(np.float32(0.5), np.float32(0.0))


@dataclass(frozen=True)
class Grid:
    """What kind of grid is wanted.

    Attributes
    ----------
    bits
        Bit width, 2 to 16.
    symmetric
        Whether zero lies in the middle.
    strict
        Whether a symmetric grid gives up its lowest value: -127 to 127 for 8 bits.
    unsigned
        Whether a symmetric grid of values that are never negative starts at zero.
    """

    bits: int = 8
    symmetric: bool = False
    strict: bool = False
    unsigned: bool = True

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise InputError(f"{self.bits} bits are no bit width; it is {BITS[0]} to {BITS[-1]}.")

    @property
    def steps(self) -> int:
        """Number of steps between the least and the greatest value."""
        return (1 << self.bits) - 1 - (self.symmetric and self.strict)


@dataclass(frozen=True)
class Encoding:
    """A grid in place: the values ``scale * (i + offset)`` for i = 0 .. steps.

    Attributes
    ----------
    minimum, maximum
        The least and the greatest value.
    scale
        The step, > 0; AIMET's delta.
    offset
        A whole number; minus the zero point.
    bits
        Bit width.
    symmetric
        Whether it was made as a symmetric grid.
    """

    minimum: float
    maximum: float
    scale: float
    offset: int
    bits: int = 8
    symmetric: bool = False

    def __post_init__(self) -> None:
        finite = all(map(math.isfinite, (self.minimum, self.maximum, self.scale)))
        if not finite or self.scale <= 0 or self.minimum > self.maximum or self.bits not in BITS:
            raise InputError(
                f"An encoding from {self.minimum} to {self.maximum} with the step {self.scale} and {self.bits} bits "
                "is no grid."
            )


def fake_quantise(x: npt.ArrayLike, encoding: Encoding) -> Floats:
    """The values on the grid, as float32; ties are rounded away from zero, as AIMET does."""
    low, high, scale, offset = (
        np.float32(v) for v in (encoding.minimum, encoding.maximum, encoding.scale, encoding.offset)
    )
    steps = np.clip(np.asarray(x, np.float32), low, high) / scale - offset
    result: Floats = scale * (np.floor(steps + BELOW_HALF) + offset)
    return result


def tf_encoding(minimum: float, maximum: float, grid: Grid) -> Encoding:
    """AIMET's scheme ``tf``: the grid that spans the least to the greatest value, zero included.

    Parameters
    ----------
    minimum, maximum
        Over all the data.
    grid
        The kind of grid.
    """
    low, high = min(0.0, float(minimum)), max(0.0, float(maximum))
    high = max(high, low + LEAST_RANGE)
    steps = grid.steps
    if grid.symmetric and not (minimum >= 0 and grid.unsigned):
        return _symmetric(max(-low, high), grid)
    scale = (high - low) / steps
    offset = -min(max(_round(-low / scale), 0), steps) if low < 0 < high else _round(low / scale)
    bottom = scale * offset
    return Encoding(bottom, high - low + bottom, scale, offset, grid.bits, grid.symmetric)


def _symmetric(largest: float, grid: Grid) -> Encoding:
    positive = grid.steps // 2
    scale, offset = largest / positive, -math.ceil(grid.steps / 2)
    return Encoding(offset * scale, positive * scale, scale, offset, grid.bits, True)


class Histogram:
    """Where the values of several tensors lie; every tensor weighs the same.

    The first tensor that is not all zeros fixes the bins: three times as wide as its values.  Later values beyond them
    do not count.  Memory: 512 numbers.
    """

    def __init__(self) -> None:
        self._left: Floats | None = None
        self._sum = np.zeros(BINS, np.float64)
        self._tensors = 0
        self._zeros = 0

    @property
    def seen(self) -> bool:
        """Whether any data came."""
        return self._tensors + self._zeros > 0

    @property
    def left(self) -> Floats | None:
        """Left edges [512] of the bins; None while all data were zero."""
        return self._left

    @property
    def density(self) -> Floats:
        """Share of the values in each bin [512], averaged over the tensors."""
        return (self._sum / max(self._tensors, 1)).astype(np.float32)

    def update(self, values: Array, stride: int = 1) -> None:
        """Take a tensor in.

        Parameters
        ----------
        values
            Any shape.
        stride
            Only every so many elements; AIMET takes every second one of activations and all of weights.

        Raises
        ------
        InputError
            If a value is not finite.
        """
        data = np.asarray(values, np.float32).reshape(-1)[::stride]
        if not data.size:
            return
        low, high = data.min(), data.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            raise InputError("The data to be quantised have values that are not finite (NaN or infinity).")
        if self._left is None:
            if low == 0 == high:
                self._zeros += 1
                return
            self._left = _edges(low, high)
        width = _width(self._left)
        bins = _round_away(data / width - self._left[0] / width).astype(np.int64)
        inside = bins[(bins >= 0) & (bins < BINS)]
        self._sum += np.bincount(inside, minlength=BINS) / data.size
        self._tensors += 1


def _edges(low: np.float32, high: np.float32) -> Floats:
    if low == high:
        high = np.float32(high + np.float32(LEAST_RANGE))
    centre = (low + high) / np.float32(2)
    start = centre - (centre - low) * WIDENING
    width = (high - low) * WIDENING / np.float32(BINS)
    edges: Floats = start + width * np.arange(BINS, dtype=np.float32)
    return edges


def histogram_of(values: Array) -> Histogram:
    """The histogram of one tensor."""
    histogram = Histogram()
    histogram.update(values)
    return histogram


def tf_enhanced_encoding(histogram: Histogram, grid: Grid, *, shrinking: bool = False) -> Encoding | None:
    """AIMET's scheme ``tf_enhanced``: of several hundred grids the one of least rounding and saturation error.

    Parameters
    ----------
    histogram
        The data.
    grid
        The kind of grid.
    shrinking
        Search as AIMET did up to release 1.30: a step that was clamped stays so for the following candidates.  The
        results that its model zoo publishes were made that way.

    Returns
    -------
    Encoding or None
        None if there are no data.
    """
    if not histogram.seen:
        return None
    left, density = histogram.left, histogram.density
    if left is None:  # nothing but zeros
        steps = (1 << grid.bits) - 1
        return _encoding(2.0 / steps, _round(-steps / 2), grid, steps)
    filled = np.flatnonzero(density)
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, 0)
    low, high = min(np.float32(0), left[first]), max(np.float32(0), left[last])
    high = max(high, np.float32(low + np.float32(LEAST_RANGE)))
    if grid.symmetric:
        scales, offsets = _symmetric_candidates(low, high, grid)
    else:
        scales, offsets = _asymmetric_candidates(low, high, grid, shrinking)
    best = int(np.argmin(_costs(left, density, scales, offsets, (1 << grid.bits) - 1)))
    return _encoding(float(scales[best]), int(offsets[best]), grid, grid.steps)


def _encoding(scale: float, offset: int, grid: Grid, steps: int) -> Encoding:
    return Encoding(scale * offset, scale * offset + scale * steps, scale, offset, grid.bits, grid.symmetric)


def _asymmetric_candidates(
    low: np.float32, high: np.float32, grid: Grid, shrinking: bool
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """17 steps by 21 offsets, less those that are wider than the data, and the plain grid."""
    steps = np.float32(grid.steps)
    base = (high - low) / steps
    offset = _round_away(low / base)
    low = base * offset
    high = low + base * steps
    scales: list[np.float32] = []
    offsets: list[int] = []
    for sixteenths in range(1, 18):
        row = base * np.float32(sixteenths / 16)
        for i in range(21):
            scale = row
            start = np.float32(int(-grid.steps + grid.steps * i / 20))
            bottom, top = scale * start, scale * (start + steps)
            if bottom < low and top > high:
                continue
            bottom, top = max(low, bottom), min(high, top)
            scale = (top - bottom) / steps
            if scale <= 0:  # the candidate lies beside the data
                continue
            scales.append(scale)
            offsets.append(int(_round_away(bottom / scale)))
            if shrinking:
                row = scale
    scales.append(base)
    offsets.append(int(offset))
    return np.array(scales, np.float32), np.array(offsets, np.int64)


def _symmetric_candidates(low: np.float32, high: np.float32, grid: Grid) -> tuple[Floats, npt.NDArray[np.int64]]:
    """101 steps, from a hundredth of the one that holds all data."""
    unsigned = grid.unsigned and low >= 0
    largest = high / np.float32(grid.steps) if unsigned else max(-low, high) * np.float32(2) / np.float32(grid.steps)
    scales = (largest * np.arange(1, 102, dtype=np.float32) / np.float32(100)).astype(np.float32)
    return scales, np.full(len(scales), 0 if unsigned else math.floor(-grid.steps / 2), np.int64)


def _width(left: Floats) -> np.float32:
    """Width of the bins; those of a large constant may be narrower than float32 tells apart."""
    width = np.float32(left[1] - left[0])
    if width > 0:
        return width
    whole = (float(left[-1]) - float(left[0])) / (BINS - 1)
    return np.float32(whole) if whole > 0 else np.spacing(np.abs(left[0]))


def _costs(left: Floats, density: Floats, scales: Floats, offsets: npt.NDArray[np.int64], steps: int) -> Floats:
    """Squared error [candidates] of each grid over the histogram; values count as the middle of their bin."""
    width = _width(left)
    middles = left + width / np.float32(2)
    low = scales * offsets.astype(np.float32)
    high = scales * (offsets + steps).astype(np.float32)
    first = np.clip(np.floor((low - left[0]) / width), 0, BINS - 1).astype(np.int64)[:, None]
    last = np.clip(np.floor((high - left[0]) / width), 0, BINS - 1).astype(np.int64)[:, None]
    index = np.arange(BINS)[None, :]
    rounded = _round_away(middles[None, :] / scales[:, None] - offsets[:, None].astype(np.float32))
    on_grid = scales[:, None] * (rounded + offsets[:, None].astype(np.float32))
    nearest = np.where(index < first, middles[first], np.where(index > last, middles[last], on_grid))
    weight = np.where((index < first) | (index > last), SATURATION_WEIGHT, np.float32(1))
    errors = density[None, :] * weight * (middles[None, :] - nearest) ** 2
    costs: Floats = errors.sum(axis=1, dtype=np.float64).astype(np.float32)
    return costs


def percentile_encoding(histogram: Histogram, grid: Grid, percentile: float = 100.0) -> Encoding | None:
    """AIMET's scheme ``percentile``: as ``tf``, for the range that is left when the outermost values are cut off.

    Parameters
    ----------
    histogram
        The data.
    grid
        The kind of grid.
    percentile
        50 to 100; at 100 the range of the histogram.

    Returns
    -------
    Encoding or None
        None if there are no data.
    """
    if not 50 <= percentile <= 100:
        raise InputError(f"The percentile is {percentile}; it must be 50 to 100.")
    if not histogram.seen:
        return None
    left = histogram.left
    if left is None:
        return tf_encoding(0.0, 0.0, grid)
    share = percentile / 100
    below = np.cumsum(histogram.density, dtype=np.float64)
    low = left[int(np.argmax(below >= 1 - share))]
    inner = np.flatnonzero(below < share)
    high = left[inner[-1]] + (left[1] - left[0]) if len(inner) else left[-1]
    return tf_encoding(float(low), float(max(low, high)), grid)


def _round(value: float) -> int:
    """Nearest whole number, ties away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _round_away(values: Any) -> Any:
    """Nearest whole numbers, ties away from zero."""
    return np.copysign(np.floor(np.abs(values) + BELOW_HALF), values)
