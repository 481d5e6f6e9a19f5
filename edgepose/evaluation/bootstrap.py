"""How certain a difference in AP is, by resampling the pictures."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .coco import CocoAnnotations

#: COCO keypoint results.
Results = Sequence[Mapping[str, Any]]
#: Resamplings; the ends of a 95 % interval repeat to a tenth of its width.
RESAMPLINGS = 1000


@dataclass(frozen=True)
class Interval:
    """A difference in AP, in points of 100, with its 95 % interval over the pictures.

    Attributes
    ----------
    value
        The difference.
    low, high
        Ends of the interval: one difference in forty is below and one above it.
    at_least
        What the difference is at least with 95 % confidence: one in twenty is below it.
    """

    value: float
    low: float
    high: float
    at_least: float


def ap_difference(
    truth: CocoAnnotations,
    before: Sequence[Results],
    after: Sequence[Results],
    image_ids: Sequence[int],
    *,
    resamplings: int = RESAMPLINGS,
    seed: int = 0,
) -> Interval:
    """AP of ``after`` less AP of ``before``, both on the same resampled pictures (paired bootstrap).

    A picture that is drawn counts with all its views.

    Parameters
    ----------
    truth
        The annotations.
    before, after
        COCO keypoint results of two models, for each view; AP is the mean over the views.
    image_ids
        Pictures that count.
    resamplings
        How often as many pictures are drawn with replacement.
    seed
        Of the draw.
    """
    pairs = [[_PerImage(truth, results, image_ids) for results in pair] for pair in zip(before, after, strict=True)]

    def apart(chosen: npt.NDArray[np.int64]) -> float:
        return float(np.mean([new.ap(chosen) - old.ap(chosen) for old, new in pairs]))

    draw = np.random.default_rng(seed)
    count = len(image_ids)
    value = apart(np.arange(count))
    differences = [apart(draw.integers(0, count, count)) for _ in range(resamplings)]
    low, at_least, high = np.percentile(differences, [2.5, 5, 97.5])
    return Interval(100 * value, 100 * float(low), 100 * float(high), 100 * float(at_least))


class _PerImage:
    """COCO's matching, done once for each picture, accumulated over any choice of them."""

    def __init__(self, truth: CocoAnnotations, results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> None:
        self._evaluation = truth.evaluation(results, image_ids)
        # Of all sizes of people together, which come first: only AP is asked for.
        del self._evaluation.params.areaRng[1:], self._evaluation.params.areaRngLbl[1:]
        with contextlib.redirect_stdout(io.StringIO()):
            self._evaluation.evaluate()
        # Ordered by category, area, picture; one category.
        self._matched = np.array(self._evaluation.evalImgs, dtype=object).reshape(-1, len(image_ids))

    def ap(self, chosen: npt.NDArray[np.int64]) -> float:
        """AP over the pictures with these numbers, repetitions counted."""
        evaluation = self._evaluation
        evaluation.evalImgs = list(self._matched[:, chosen].reshape(-1))
        evaluation.params.imgIds = list(range(len(chosen)))
        evaluation._paramsEval.imgIds = evaluation.params.imgIds
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        counted = precision[precision > -1]
        return float(counted.mean()) if counted.size else 0.0
