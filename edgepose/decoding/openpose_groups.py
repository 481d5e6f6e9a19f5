"""People from limbs: the three ways in which the OpenPose family puts them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .openpose_limbs import LIMBS, Limbs
from .openpose_peaks import Peaks

#: Limbs from shoulder to ear: they may complete a person, in some variants, but never begin one.
_EAR_LIMBS = (17, 18)
_KEYPOINTS = 18


@dataclass(frozen=True, eq=False)
class People:
    """Who consists of which candidates.

    Attributes
    ----------
    ids
        int64 [N, 18]: a candidate's id for each keypoint, -1 where there is none.
    score
        float64 [N]: sum over its candidates' scores and its limbs' affinities.
    count
        int64 [N]: keypoints, as the variant counts them; one that was replaced counts again.
    """

    ids: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


@dataclass(eq=False)
class _Person:
    score: float
    count: int = 2
    ids: list[int] = field(default_factory=lambda: [-1] * _KEYPOINTS)


class _Crowd:
    """People in the making, with an index from candidate to its holders in place of a search through all."""

    def __init__(self, candidates: int) -> None:
        # A dictionary is an ordered set here: which of several holders is first or last matters.
        self.people: dict[int, _Person] = {}
        self.holders: list[dict[int, None]] = [{} for _ in range(candidates)]
        self._next = 0

    def begin(self, score: float, *parts: tuple[int, int]) -> None:
        self.people[self._next] = _Person(score)
        for keypoint, candidate in parts:
            self.put(self._next, keypoint, candidate)
        self._next += 1

    def put(self, person: int, keypoint: int, candidate: int) -> None:
        ids = self.people[person].ids
        if ids[keypoint] >= 0:
            self.holders[ids[keypoint]].pop(person, None)
        ids[keypoint] = candidate
        self.holders[candidate][person] = None

    def merge(self, person: int, other: int, affinity: float) -> None:
        gone = self.people.pop(other)
        kept = self.people[person]
        for keypoint, candidate in enumerate(gone.ids):
            if candidate >= 0:
                del self.holders[candidate][other]
                self.put(person, keypoint, candidate)
        kept.score += gone.score + affinity
        kept.count += gone.count

    def overlap(self, person: int, other: int) -> bool:
        both = zip(self.people[person].ids, self.people[other].ids, strict=True)
        return any(one >= 0 and two >= 0 for one, two in both)


def group_lightweight(peaks: Peaks, limbs: Limbs) -> People:
    """Lightweight OpenPose: people grow from the A side only and are never merged.

    A limb is added to everyone who holds its A end, replacing a B end that is there already; if nobody does, it
    begins a person.  The shoulder-to-ear limbs only fill gaps.  People of fewer than 3 keypoints, or of a score of
    less than 0.2 a keypoint, are dropped.
    """

    def add(crowd: _Crowd, limb: int, a: int, b: int, affinity: float, score: list[float]) -> None:
        start, end, _ = LIMBS[limb]
        if limb in _EAR_LIMBS:
            lacks_b = [p for p in crowd.holders[a] if crowd.people[p].ids[end] < 0]
            lacks_a = [p for p in crowd.holders[b] if crowd.people[p].ids[start] < 0]
            for person in lacks_b:
                crowd.put(person, end, b)
            for person in lacks_a:
                crowd.put(person, start, a)
            return
        for person in crowd.holders[a]:
            crowd.put(person, end, b)
            crowd.people[person].count += 1
            crowd.people[person].score += score[b] + affinity
        if not crowd.holders[a]:
            crowd.begin(score[a] + score[b] + affinity, (start, a), (end, b))

    return _group(peaks, limbs, add, least_count=3, least_mean=0.2)


def group_omz(peaks: Peaks, limbs: Limbs) -> People:
    """Open Model Zoo: people grow from both sides, and two that share no keypoint are merged by a limb between them.

    People of fewer than 3 keypoints are dropped.
    """

    def add(crowd: _Crowd, limb: int, a: int, b: int, affinity: float, score: list[float]) -> None:
        start, end, _ = LIMBS[limb]
        first, second = next(iter(crowd.holders[a]), None), next(iter(crowd.holders[b]), None)
        if first is None and second is None:
            crowd.begin(score[a] + score[b] + affinity, (start, a), (end, b))
        elif first is not None and second is not None:
            if first == second:
                crowd.people[first].score += affinity
            elif not crowd.overlap(first, second):
                crowd.merge(first, second, affinity)
        else:
            person, keypoint, candidate = (first, end, b) if first is not None else (second, start, a)
            assert person is not None
            grown = crowd.people[person]
            if grown.ids[keypoint] < 0:
                grown.score += score[candidate]
            crowd.put(person, keypoint, candidate)
            grown.score += affinity
            grown.count += 1

    return _group(peaks, limbs, add, least_count=3, least_mean=-np.inf)


def group_aimet(peaks: Peaks, limbs: Limbs) -> People:
    """AIMET, as in the first OpenPose: a limb goes to the first person who holds one of its ends, and may merge two.

    The shoulder-to-ear limbs begin no person.  People of fewer than 4 keypoints, or of a score of less than 0.4 a
    keypoint, are dropped.
    """

    def add(crowd: _Crowd, limb: int, a: int, b: int, affinity: float, score: list[float]) -> None:
        start, end, _ = LIMBS[limb]
        found = sorted({**crowd.holders[a], **crowd.holders[b]})[:2]
        if not found:
            if limb not in _EAR_LIMBS:
                crowd.begin(score[a] + score[b] + affinity, (start, a), (end, b))
        elif len(found) == 2 and not crowd.overlap(*found):
            crowd.merge(found[0], found[1], affinity)
        elif len(found) == 2 or crowd.people[found[0]].ids[end] != b:
            crowd.put(found[0], end, b)
            crowd.people[found[0]].count += 1
            crowd.people[found[0]].score += score[b] + affinity

    return _group(peaks, limbs, add, least_count=4, least_mean=0.4)


def _group(
    peaks: Peaks,
    limbs: Limbs,
    add: Callable[[_Crowd, int, int, int, float, list[float]], None],
    least_count: int,
    least_mean: float,
) -> People:
    crowd = _Crowd(len(peaks))
    score = peaks.score.tolist()
    columns = (limbs.limb.tolist(), limbs.a.tolist(), limbs.b.tolist(), limbs.affinity.tolist())
    for limb, a, b, affinity in zip(*columns, strict=True):
        add(crowd, limb, a, b, affinity, score)
    kept = [p for p in crowd.people.values() if p.count >= least_count and p.score / p.count >= least_mean]
    return People(
        np.array([p.ids for p in kept], np.int64).reshape(-1, _KEYPOINTS),
        np.array([p.score for p in kept], np.float64),
        np.array([p.count for p in kept], np.int64),
    )
