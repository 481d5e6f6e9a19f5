"""Limbs between OpenPose keypoint candidates: pairs, their affinity, and who gets whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .openpose_maps import Field, Index
from .openpose_peaks import Peaks

#: (keypoint A, keypoint B, PAF channel of the x component), in the order in which people are put together.
#: Keypoints are those of :data:`edgepose.keypoints.OPENPOSE_18`; the order is that of Lightweight OpenPose, Open Model
#: Zoo and AIMET alike.
LIMBS = (
    (1, 2, 12), (1, 5, 20), (2, 3, 14), (3, 4, 16), (5, 6, 22), (6, 7, 24), (1, 8, 0), (8, 9, 2), (9, 10, 4),
    (1, 11, 6), (11, 12, 8), (12, 13, 10), (1, 0, 28), (0, 14, 30), (14, 16, 34), (0, 15, 32), (15, 17, 36),
    (2, 16, 18), (5, 17, 26),
)  # fmt: skip

_ENDS = np.array([(a, b) for a, b, _ in LIMBS])
_CHANNELS = np.array([channel for *_, channel in LIMBS])

#: Points of the field that are read along a pair, and how many of them may disagree with it.
_SAMPLES, _MAY_FAIL = 10, 1
#: The samples that are read first: where two of them fail, the others need not be read.  Samples of the middle,
#: because near its ends a pair of two people's keypoints still runs along the limbs of either.
_PROBES = (3, 5, 6)
#: Pairs that are looked at together; keeps the working set in the cache.
_CHUNK = 8192

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Limbs:
    """Pairs of candidates that were found to be limbs, by limb and then by falling affinity.

    Attributes
    ----------
    limb
        [M]: place in :data:`LIMBS`.
    a, b
        [M]: ids of the candidates at its ends.
    affinity
        float64 [M].
    """

    limb: Index
    a: Index
    b: Index
    affinity: Float


def find_limbs(peaks: Peaks, field: Field, threshold: float, penalty_height: int | None = None) -> Limbs:
    """Score all pairs and take them greedily, each candidate once at each end of a limb.

    Parameters
    ----------
    peaks
        The candidates.
    field
        The part affinity fields at the candidates' resolution.
    threshold
        A sample agrees with a pair if the field along it is more than this; 9 of 10 must.
    penalty_height
        None: affinity is the mean of the agreeing samples (Lightweight OpenPose, Open Model Zoo).  A height: it is
        the mean of all samples, less for pairs longer than half this height (AIMET, as in the first OpenPose).
    """
    limb, a, b = _pairs(peaks.starts)
    kept = []
    for start in range(0, len(limb), _CHUNK):
        part = slice(start, start + _CHUNK)
        kept.append(_score(peaks, field, limb[part], a[part], b[part], threshold, penalty_height))
    if not kept:
        empty = np.zeros(0, np.intp)
        return Limbs(empty, empty, empty, np.zeros(0))
    limb, a, b, affinity = (np.concatenate(column) for column in zip(*kept, strict=True))
    # Equal affinities: the originals sort the pairs as they enumerate them, and each reads its order another way.
    order = np.lexsort((-a, -b, -affinity, limb) if penalty_height is None else (b, a, -affinity, limb))
    taken = _take_greedily(limb[order], a[order], b[order])
    order = order[taken]
    return Limbs(limb[order], a[order], b[order], affinity[order])


def _pairs(starts: Index) -> tuple[Index, Index, Index]:
    """Limb and candidates of every possible pair."""
    counts = np.diff(starts)
    of_a, of_b = counts[_ENDS[:, 0]], counts[_ENDS[:, 1]]
    size = of_a * of_b
    limb = np.repeat(np.arange(len(LIMBS)), size)
    local = np.arange(len(limb)) - np.repeat(np.cumsum(size) - size, size)
    b, a = np.divmod(local, of_a[limb])
    return limb, a + starts[_ENDS[limb, 0]], b + starts[_ENDS[limb, 1]]


class _Lines:
    """Straight lines from candidates A to B through the field.

    Lightweight OpenPose and Open Model Zoo compute in float32 and round to the nearest pixel, AIMET in float64 and
    rounds down (``precise``); which pixels are read depends on it.
    """

    def __init__(self, peaks: Peaks, limb: Index, a: Index, b: Index, precise: bool) -> None:
        self._precise = precise
        self._channel = _CHANNELS[limb]
        points: npt.NDArray[Any] = np.stack([peaks.x, peaks.y])
        if precise:
            points = points.astype(np.float64)
        self._start, self._end = points.take(a, axis=1), points.take(b, axis=1)
        vector = self._end - self._start
        self.length: npt.NDArray[Any] = np.sqrt(vector[0] * vector[0] + vector[1] * vector[1])
        if precise:
            self._step = vector / (_SAMPLES - 1)
            self._unit = vector / np.where(self.length > 0, self.length, 1)
        else:
            self._step = vector * np.float32(1 / (_SAMPLES - 1))
            self._unit = vector / (self.length + np.float32(1e-6))

    def dots(self, field: Field, samples: tuple[int, ...]) -> npt.NDArray[Any]:
        """[samples, n]: the field along the line."""
        steps = np.array(samples, self._start.dtype)[:, None]
        along, across = field.at(self._channel, self._pixels(0, steps), self._pixels(1, steps))
        return np.asarray(along * self._unit[0] + across * self._unit[1])

    def _pixels(self, axis: int, steps: npt.NDArray[Any]) -> Index:
        points = self._step[axis] * steps
        points += self._start[axis]
        if self._precise:
            points[steps[:, 0] == _SAMPLES - 1] = self._end[axis]
        else:
            np.rint(points, out=points)
        return np.asarray(points, np.intp)


def _score(
    peaks: Peaks, field: Field, limb: Index, a: Index, b: Index, threshold: float, penalty_height: int | None
) -> tuple[Index, Index, Index, Float]:
    """The pairs that are accepted, with their affinity."""
    precise = penalty_height is not None
    least = np.float32(threshold)
    probes = _Lines(peaks, limb, a, b, precise).dots(field, _PROBES) > least
    likely = np.flatnonzero(probes.sum(axis=0, dtype=np.int8) >= len(_PROBES) - _MAY_FAIL)
    limb, a, b = limb[likely], a[likely], b[likely]
    lines = _Lines(peaks, limb, a, b, precise)
    # A row a pair: the order in which its samples are summed decides between all but equal affinities.
    dots = np.ascontiguousarray(lines.dots(field, tuple(range(_SAMPLES))).T)
    agree = dots > least
    count = agree.sum(axis=1)
    if penalty_height is None:
        affinity = (dots * agree).sum(axis=1) / (count + 1e-6)
    else:
        length = np.where(lines.length > 0, lines.length, 1)
        affinity = dots.mean(axis=1) + np.minimum(0.5 * penalty_height / length - 1, 0)
    accepted = (affinity > 0) & (count >= _SAMPLES - _MAY_FAIL)
    return limb[accepted], a[accepted], b[accepted], affinity[accepted].astype(np.float64)


def _take_greedily(limb: Index, a: Index, b: Index) -> list[int]:
    """Places of the pairs that are taken when they are gone through in order."""
    used: set[tuple[int, int]] = set()
    taken = []
    for place, (part, start, end) in enumerate(zip(limb.tolist(), a.tolist(), b.tolist(), strict=True)):
        # Candidates of different types have different ids, so one set holds both ends.
        if (part, start) not in used and (part, end) not in used:
            used.update(((part, start), (part, end)))
            taken.append(place)
    return taken
