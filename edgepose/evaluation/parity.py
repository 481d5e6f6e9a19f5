"""How far two answers about the same pictures lie apart: in pixels of the picture and in OKS, then in tensors.

:mod:`.parity_people` says which joints count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..oks import pairwise_oks
from ..spec import PoseSpec
from .parity_people import SETTLED, WEAK, People, Readout, match, similarity, together

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
_NONE = np.zeros(0)


@dataclass(frozen=True)
class TensorError:
    """How far an output of the network moved.

    Attributes
    ----------
    largest, mean
        Of the absolute difference; infinite if a value is not finite.
    scale
        Largest absolute value of the reference.
    """

    largest: float
    mean: float
    scale: float

    @property
    def relative(self) -> float:
        """Largest difference as a part of the largest reference value."""
        return self.largest / self.scale if self.scale else self.largest


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two answers about one picture or golden frame.

    Attributes
    ----------
    source
        Which picture.
    stage
        ``detector`` or ``pose``.
    shifts
        float64 [J]: distance in pixels of the picture of each joint that counts.
    score_shifts
        float64 [J]: score of the same joints, less the reference's.
    aside
        float64: distances of the joints that do not count and that both found.
    weak, unsettled
        How many joints the reference scores too low, or is not settled about.
    lost
        Joints that count and that only one of the two found.
    oks
        float64 [P]: OKS of each person with the same person of the reference, over the joints that count; one that the
        model did not find has a similarity of 0.  Empty where the joints have no sigmas.
    oks_scores
        float64 [P]: score that the reference gives each of them.
    people
        How many people both found.
    missing, extra
        People of the reference that the model did not find, and the other way round.
    alone_scores
        float64: scores of the people that are missing or extra.
    person_scores
        float64 [P]: score of each person, less the reference's.
    tensors
        Errors of the raw outputs by role, where both have the same.
    """

    source: str
    stage: str
    shifts: Floats = field(default_factory=lambda: _NONE)
    score_shifts: Floats = field(default_factory=lambda: _NONE)
    aside: Floats = field(default_factory=lambda: _NONE)
    weak: int = 0
    unsettled: int = 0
    lost: int = 0
    oks: Floats = field(default_factory=lambda: _NONE)
    oks_scores: Floats = field(default_factory=lambda: _NONE)
    people: int = 0
    missing: int = 0
    extra: int = 0
    alone_scores: Floats = field(default_factory=lambda: _NONE)
    person_scores: Floats = field(default_factory=lambda: _NONE)
    tensors: Mapping[str, TensorError] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Parity:
    """How far a model lies from its reference over all comparisons.

    Attributes
    ----------
    comparisons
        One for each picture or golden frame and stage.
    unreadable
        Pictures that could not be read, and why.
    """

    comparisons: Sequence[Comparison]
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def shifts(self) -> Floats:
        """Distances in pixels of all joints that count."""
        return _joined([c.shifts for c in self.comparisons])

    @property
    def max(self) -> float:
        """Largest distance in pixels."""
        return float(self.shifts.max(initial=0.0))

    @property
    def p99(self) -> float:
        """Distance in pixels that one joint in a hundred exceeds."""
        shifts = self.shifts
        with np.errstate(invalid="ignore"):
            return float(np.percentile(shifts, 99)) if len(shifts) else 0.0

    @property
    def mean(self) -> float:
        """Mean distance in pixels."""
        shifts = self.shifts
        return float(shifts.mean()) if len(shifts) else 0.0

    @property
    def moved(self) -> float:
        """Share of the joints that moved by more than one pixel."""
        shifts = self.shifts
        return float((shifts > 1).mean()) if len(shifts) else 0.0

    def failures(self, max_shift: float | None = None) -> list[str]:
        """What is wrong, in words; nothing if the two agree.

        Parameters
        ----------
        max_shift
            No joint that counts may move by more than this many pixels of the picture.
        """
        found = []
        missing, extra, lost = (sum(getattr(c, n) for c in self.comparisons) for n in ("missing", "extra", "lost"))
        if missing:
            found.append(f"{missing} people of the reference were not found")
        if extra:
            found.append(f"{extra} people were found that the reference does not have")
        if lost:
            found.append(f"{lost} joints were found by one of the two only")
        broken = {role for c in self.comparisons for role, e in c.tensors.items() if not math.isfinite(e.largest)}
        if broken:
            found.append(f"the outputs {', '.join(sorted(broken))} are not finite")
        if not math.isfinite(self.max):
            found.append("a joint lies nowhere: its position is not finite")
        elif max_shift is not None and self.max > max_shift:
            found.append(f"a joint moved by {self.max:.3g} px; at most {max_shift:g} px are allowed")
        if not len(self.shifts) and not found:
            found.append("no joint could be compared: the reference found nobody, or is sure of no joint")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become null."""
        parts = self.comparisons
        oks, scores = _joined([c.oks for c in parts]), _joined([c.score_shifts for c in parts])
        persons, aside = _joined([c.person_scores for c in parts]), _joined([c.aside for c in parts])
        roles = {role for c in parts for role in c.tensors}
        return {
            "pixels": {
                "max": _plain(self.max),
                "p99": _plain(self.p99),
                "mean": _plain(self.mean),
                "moved": self.moved,
            },
            "oks": {"min": _plain(oks.min()), "mean": _plain(oks.mean())} if len(oks) else None,
            "scores": {"joints": _signed(scores), "people": _signed(persons)},
            "joints": {
                "compared": len(self.shifts),
                "lost": sum(c.lost for c in parts),
                "weak": sum(c.weak for c in parts),
                "unsettled": sum(c.unsettled for c in parts),
                "set_aside_max": _plain(aside.max(initial=0.0)),
            },
            "people": {
                "matched": sum(c.people for c in parts),
                "missing": sum(c.missing for c in parts),
                "extra": sum(c.extra for c in parts),
            },
            "tensors": {role: _worst([c.tensors[role] for c in parts if role in c.tensors]) for role in sorted(roles)},
            "rules": {"weak_below": WEAK, "settled_within": SETTLED, "moved_above": 1.0},
        }


def compare(reference: Readout, model: Readout, source: str, stage: str = "pose") -> Comparison:
    """Compare two answers about the same picture.

    Two top-down networks looked at the same boxes, one an element of the batch: their people belong together by
    number.  Otherwise who is who is found by OKS.

    Raises
    ------
    InputError
        If the two find different keypoints.
    DecodeError
        If outputs do not have the form that a decoder reads.
    """
    same_keypoints(reference.spec, model.spec)
    by_number = reference.spec.is_top_down and model.spec.is_top_down
    true, found, noisy = reference.people(), model.people(), reference.half_rounded()
    if reference.spec.is_top_down != model.spec.is_top_down:
        true, found, noisy = [together(true)], [together(found)], [[together(n)] for n in noisy]
    best = max((float(p.joints[..., 2].max(initial=0)) for p in true), default=0.0)
    pictures = [
        _compare_people(true[i], found[i], [n[i] for n in noisy], reference, i, max(WEAK * best, 1e-12), by_number)
        for i in range(len(true))
    ]
    return Comparison(
        source,
        stage,
        shifts=_joined([p.shifts for p in pictures]),
        score_shifts=_joined([p.score_shifts for p in pictures]),
        aside=_joined([p.aside for p in pictures]),
        weak=sum(p.weak for p in pictures),
        unsettled=sum(p.unsettled for p in pictures),
        lost=sum(p.lost for p in pictures),
        oks=_joined([p.oks for p in pictures]),
        oks_scores=_joined([p.oks_scores for p in pictures]),
        people=sum(p.people for p in pictures),
        missing=sum(p.missing for p in pictures),
        extra=sum(p.extra for p in pictures),
        alone_scores=_joined([p.alone_scores for p in pictures]),
        person_scores=_joined([p.person_scores for p in pictures]),
        tensors=tensor_errors(reference.outputs, model.outputs),
    )


def same_keypoints(reference: PoseSpec, model: PoseSpec) -> None:
    """Raise InputError if two models find different keypoints, or one finds boxes only."""
    names = [None if s.keypoints is None else s.keypoints.names for s in (reference, model)]
    if names[0] != names[1]:
        counts = ["boxes" if n is None else f"{len(n)} keypoints" for n in names]
        raise InputError(
            f"The model finds {counts[1]}, the reference {counts[0]}, not the same ones: they cannot be compared.",
            hint="Give a reference with the same keypoints in the same order.",
        )


def tensor_errors(
    reference: Mapping[str, npt.NDArray[np.float32]], model: Mapping[str, npt.NDArray[np.float32]]
) -> dict[str, TensorError]:
    """Errors of the outputs that both have, in the same shape."""
    return {
        role: tensor_error(array, model[role])
        for role, array in reference.items()
        if role in model and model[role].shape == array.shape and array.size
    }


def tensor_error(reference: npt.NDArray[Any], value: npt.NDArray[Any]) -> TensorError:
    """Error of a tensor against another one of its shape; places where both have the same infinity or NaN are equal."""
    before, after = reference.astype(np.float64), value.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(after - before)
    equal = (before == after) | (np.isnan(before) & np.isnan(after))
    apart = np.where(equal, 0.0, np.where(np.isfinite(apart), apart, np.inf))
    finite = np.isfinite(before)
    return TensorError(float(apart.max(initial=0)), float(apart.mean()), float(np.abs(before[finite]).max(initial=0)))


def _compare_people(
    true: People,
    found: People,
    noisy: Sequence[People],
    reference: Readout,
    index: int,
    limit: float,
    by_number: bool,
) -> Comparison:
    """Compare the people of one picture, or of one crop."""
    keypoints = reference.spec.keypoints

    def pairs_with(others: People) -> list[tuple[int, int]]:
        if by_number:
            return [(i, i) for i in range(len(true.joints))]
        return match(similarity(true, others, keypoints))

    settled, steady = _settled(true, noisy, pairs_with, SETTLED * reference.pixel(index))
    pairs = pairs_with(found)
    rows, columns = [r for r, _ in pairs], [c for _, c in pairs]
    ours, theirs, sure = true.joints[rows], found.joints[columns], settled[rows]
    apart = np.linalg.norm(theirs[..., :2].astype(np.float64) - ours[..., :2], axis=2)
    apart[np.isnan(apart)] = np.inf
    strong = ours[..., 2] >= limit
    both = (ours[..., 2] > 0) & (theirs[..., 2] > 0)
    counted = strong & sure & both
    only_one = sure & ((strong & (theirs[..., 2] <= 0)) | ((ours[..., 2] <= 0) & (theirs[..., 2] >= limit)))
    missing = [i for i in range(len(true.joints)) if steady[i] and i not in rows]
    spare = [i for i in range(len(found.joints)) if i not in columns]
    at_threshold = [match(similarity(n, found, keypoints)) for n in noisy] if spare else []
    known = {column for pairs_of in at_threshold for _, column in pairs_of}
    extra = [i for i in spare if i not in known]
    oks, measured = [], []
    if keypoints is not None and keypoints.sigmas:
        expected = strong & sure & (ours[..., 2] > 0)
        placed = theirs[..., :2].astype(np.float64)
        placed[theirs[..., 2] <= 0] = np.inf
        measured = [i for i in range(len(rows)) if expected[i].any()]
        for i in measured:
            here, there = placed[i : i + 1], ours[i : i + 1].astype(np.float64)
            oks.append(pairwise_oks(here, there, true.areas[rows[i]], keypoints, expected[i])[0, 0])
    return Comparison(
        "",
        "",
        shifts=apart[counted],
        score_shifts=(theirs[..., 2].astype(np.float64) - ours[..., 2])[counted],
        aside=apart[both & ~counted],
        weak=int((~strong).sum()),
        unsettled=int((strong & ~sure).sum()),
        lost=int(only_one.sum()),
        oks=np.array(oks, np.float64),
        oks_scores=true.scores[[rows[i] for i in measured]].astype(np.float64),
        people=len(pairs),
        missing=len(missing),
        extra=len(extra),
        alone_scores=np.concatenate([true.scores[missing], found.scores[extra]]).astype(np.float64),
        person_scores=found.scores[columns].astype(np.float64) - true.scores[rows],
    )


def _settled(true: People, noisy: Sequence[People], pairs_with: Any, limit: float) -> tuple[Mask, Mask]:
    """Which joints [N, K] stay where they are in noise, and which people [N] are still found."""
    settled = np.ones(true.joints.shape[:2], np.bool_)
    steady = np.ones(len(true.joints), np.bool_)
    for others in noisy:
        pairs = pairs_with(others)
        seen = np.zeros(len(steady), np.bool_)
        for row, column in pairs:
            before, after = true.joints[row], others.joints[column]
            seen[row] = True
            moved = np.linalg.norm(after[:, :2] - before[:, :2], axis=1) > limit
            settled[row] &= ~moved & ((before[:, 2] > 0) == (after[:, 2] > 0))
        steady &= seen
    return settled, steady


def _joined(parts: Sequence[Floats]) -> Floats:
    return np.concatenate(parts) if parts else _NONE


def _signed(shifts: Floats) -> dict[str, float | None]:
    """Largest shift by size, and the mean with its sign."""
    if not len(shifts):
        return {"max": 0.0, "mean": 0.0}
    return {"max": _plain(np.abs(shifts).max()), "mean": _plain(shifts.mean())}


def _worst(errors: Sequence[TensorError]) -> dict[str, float | None]:
    largest, scale = max(e.largest for e in errors), max(e.scale for e in errors)
    mean = sum(e.mean for e in errors) / len(errors)
    return {"max": _plain(largest), "mean": _plain(mean), "scale": _plain(scale)}


def _plain(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
