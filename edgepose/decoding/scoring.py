"""Scores of people from the scores of their keypoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

#: Keypoints count for the score of a person above this (``IN_VIS_THRE`` of the SimpleBaseline lineage).
VISIBLE = 0.2


Floats = npt.NDArray[np.float64]


def mean_visible_score(keypoint_scores: npt.NDArray[np.floating[Any]], threshold: float = VISIBLE) -> Floats:
    """Mean of the scores above a threshold, over the last axis; 0 where none is.

    Parameters
    ----------
    keypoint_scores
        [..., K].
    threshold
        A score counts if it is greater.

    Returns
    -------
    ndarray
        float64 [...].
    """
    visible = keypoint_scores > threshold
    count = np.count_nonzero(visible, axis=-1)
    total: Floats = np.sum(keypoint_scores, axis=-1, dtype=np.float64, where=visible)
    return np.asarray(total / np.maximum(count, 1), np.float64)


def rescore(
    keypoint_scores: npt.NDArray[np.floating[Any]],
    box_scores: npt.NDArray[np.floating[Any]],
    threshold: float = VISIBLE,
) -> Floats:
    """Score of each person as SimpleBaseline, HRNet and mmpose submit it: mean keypoint score times box score.

    Parameters
    ----------
    keypoint_scores
        [N, K].
    box_scores
        [N]: scores of the detector; 1 for ground-truth boxes.
    threshold
        Keypoints count above it: 0.2 there, 0 in GluonCV's evaluation.

    Returns
    -------
    ndarray
        float64 [N].
    """
    return mean_visible_score(keypoint_scores, threshold) * box_scores.astype(np.float64)
