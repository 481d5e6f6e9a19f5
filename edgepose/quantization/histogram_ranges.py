"""From a histogram of a tensor to the range that 8 bits should express.

All take ``counts`` (int64 [bins], bins odd, the middle one centred on zero), the ``width`` of a bin, and the smallest
and largest value ``low`` and ``high``; all give a range within [low, high].
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Levels that MXNet gives to signed tensors, and to those that are never negative.
SIGNED_LEVELS, UNSIGNED_LEVELS = 255, 511
#: MXNet's count in place of an empty bin.
_EPS = 1e-4
#: Steps of 8 bits.
_STEPS = 255
#: Candidates for either end of a range of least squared error: fractions of what was seen.
_FRACTIONS = np.linspace(0.02, 1, 197)


def entropy_range(counts: Counts, width: float, low: float, high: float) -> tuple[float, float]:
    """The range of least Kullback-Leibler divergence, by MXNet's definition.

    MXNet's threshold ``t`` is the larger magnitude of the two ends (its table says (-t, t), or (0, t) where nothing is
    negative); an end that no value reaches is drawn in to the extreme.
    """
    levels = UNSIGNED_LEVELS if low >= 0 else SIGNED_LEVELS
    halves, divergence = divergences(counts, levels)
    best = int(np.argmin(divergence)) if np.isfinite(divergence).any() else len(halves) - 1
    threshold = (float(halves[best]) + 0.5) * width
    bottom, top = max(low, -threshold), min(high, threshold)
    return (bottom, top) if bottom <= top else (low, high)


def divergences(counts: Counts, levels: int) -> tuple[Integers, Floats]:
    """MXNet's divergence of every candidate threshold.

    A candidate keeps ``h`` bins on each side of the middle one.  P: the counts that are kept, those outside laid into
    the first and last bin.  Q: the counts inside without the first bin, merged to ``levels`` groups (the last takes the
    rest), each spread evenly over its bins that are not empty.  Empty bins count as 1e-4, taken from the others.

    Sums over bins are differences of running sums, so that the search costs ``levels`` steps a candidate, not the
    number of bins.  The logarithm of a count less its share of smoothing is expanded to fourth order in that share.

    Returns
    -------
    tuple of ndarray
        ``h`` int64 [candidates], and the divergence float64 [candidates], infinite where it is not defined.
    """
    middle = len(counts) // 2
    halves = np.arange(levels // 2, middle + 1)
    merged = (2 * halves + 1) // levels
    sums = _RunningSums(counts)
    divergence = [_divergences(sums, halves[merged == size], size, levels) for size in np.unique(merged)]
    return halves, np.concatenate(divergence) if divergence else np.zeros(0)


class _RunningSums:
    """Sums over the bins before each edge [bins + 1]."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        some = (counts > 0).astype(np.float64)
        safe = np.maximum(counts, 1).astype(np.float64)
        log = np.log(safe)
        self.mass = _running(counts.astype(np.float64))
        self.filled = _running(some)
        self.mass_log = _running(counts.astype(np.float64) * log)
        self.log = _running(log)
        self.inverse = [_running(some / safe**power) for power in (1, 2, 3)]


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _divergences(sums: _RunningSums, halves: Integers, size: int, levels: int) -> Floats:
    """Divergences of the candidates whose groups are of ``size`` bins."""
    middle = len(sums.counts) // 2
    start, stop = middle - halves, middle + halves + 1
    total = sums.mass[-1]
    bins = (stop - start).astype(np.float64)

    # Edges of the groups [candidates, levels + 1]; the first bin is in P alone.
    edges = start[:, None] + size * np.arange(levels + 1)
    edges[:, 0] += 1
    edges[:, -1] = stop
    mass, filled = np.diff(sums.mass[edges]), np.diff(sums.filled[edges])
    level = mass / np.maximum(filled, 1)
    first_filled, last_filled = filled[:, 0] > 0, filled[:, -1] > 0

    # The last bin is in both; P's has all that lies outside as well.
    first = sums.mass[start + 1]
    outer = sums.counts[stop - 1].astype(np.float64)
    last = outer + total - sums.mass[stop]
    mass[:, -1] -= outer
    filled[:, -1] -= outer > 0

    inner = filled.sum(axis=1)
    first_in_q, last_in_q = (first > 0) & first_filled, (last > 0) & last_filled
    in_p = inner + (first > 0) + (last > 0)
    in_q = inner + first_in_q + last_in_q
    with np.errstate(invalid="ignore", divide="ignore"):
        share_p, share_q = _EPS * (bins - in_p) / in_p, _EPS * (bins - in_q) / in_q
        mass_q = np.einsum("ij,ij->i", level, filled) + level[:, 0] * first_in_q + level[:, -1] * last_in_q
        # A group without counts weighs nothing, whatever its logarithm.
        log_q = np.log(np.maximum(level - share_q[:, None], _EPS))
        cross = np.einsum("ij,ij->i", mass, log_q) - share_p * np.einsum("ij,ij->i", filled, log_q)
        for edge, held, own in ((first, first_in_q, log_q[:, 0]), (last, last_in_q, log_q[:, -1])):
            cross += np.where(edge > 0, (edge - share_p) * np.where(held, own, np.log(_EPS)), 0.0)
        divergence = (_self_term(sums, start + 1, stop - 1, share_p, first, last) - cross) / total
        divergence += np.log(mass_q / total)
    defined = (share_p < 1) & (share_q < 1) & np.isfinite(divergence)
    return np.where(defined, divergence, np.inf)


def _self_term(
    sums: _RunningSums, start: Integers, stop: Integers, share: Floats, first: Floats, last: Floats
) -> Floats:
    """Sum of p log p over the bins that are not empty, with ``share`` taken off each."""

    def between(running: Floats) -> Floats:
        return running[stop] - running[start]

    # x log x at x = count - share, by Taylor: derivatives log x + 1, 1/x, -1/x^2, 2/x^3.
    inside = between(sums.mass_log) - share * (between(sums.log) + between(sums.filled))
    for order, inverse in zip((2, 3, 4), sums.inverse, strict=True):
        inside += share**order / (order * (order - 1)) * between(inverse)
    for edge in (first, last):
        rest = np.where(edge > 0, edge - share, 1.0)
        inside += rest * np.log(rest)
    return inside


def percentile_range(counts: Counts, width: float, low: float, high: float, percentile: float) -> tuple[float, float]:
    """The range that holds ``percentile`` per cent of the values.

    Half of the others are left out on either side; all of them above where nothing is negative, below where nothing
    is positive.  Inside a bin the values are taken to be spread evenly.
    """
    cut = (1 - percentile / 100) * float(counts.sum()) / max((low < 0) + (high > 0), 1)
    if cut <= 0:
        return low, high
    running = _running(counts.astype(np.float64))

    def place(target: float, side: Literal["left", "right"]) -> float:
        # The bin in which the running sum passes the target; it is not empty.
        index = int(np.clip(np.searchsorted(running, target, side) - 1, 0, len(counts) - 1))
        part = (target - running[index]) / max(int(counts[index]), 1)
        return float((index - len(counts) / 2 + part) * width)

    bottom = max(low, place(cut, "right")) if low < 0 else low
    top = min(high, place(running[-1] - cut, "left")) if high > 0 else high
    return (bottom, top) if bottom <= top else (low, high)


def mse_range(counts: Counts, width: float, low: float, high: float) -> tuple[float, float]:
    """The range in which 256 levels give the least squared error.

    Values inside err by a twelfth of the squared step, those outside by their distance to the range.  Zero is always a
    level, so that what lies in the middle bin does not err: half of a tensor after ReLU does not.
    """
    centers = (np.arange(len(counts)) - len(counts) // 2) * width
    running = [_running(counts * centers**power) for power in (0, 1, 2)]
    bottoms = low * _FRACTIONS if low < 0 else np.array([min(low, 0.0)])
    tops = high * _FRACTIONS if high > 0 else np.array([max(high, 0.0)])
    below, above = np.searchsorted(centers, bottoms, "left"), np.searchsorted(centers, tops, "right")
    # Sum of n (x - end)^2 over the values that lie outside.
    n, s, q = (r[below] for r in running)
    lost_below = q - 2 * bottoms * s + bottoms**2 * n
    n, s, q = (r[-1] - r[above] for r in running)
    lost_above = q - 2 * tops * s + tops**2 * n
    inside = running[0][above][None, :] - running[0][below][:, None] - counts[len(counts) // 2]
    step = (tops[None, :] - bottoms[:, None]) / _STEPS
    error = inside * step**2 / 12 + lost_below[:, None] + lost_above[None, :]
    i, j = np.unravel_index(int(np.argmin(error)), error.shape)
    return max(low, float(bottoms[i])), min(high, float(tops[j]))
