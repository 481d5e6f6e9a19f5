"""Object keypoint similarity: how well two people's keypoints lie on one another, 0 to 1.

Source: the COCO keypoint evaluation (cocodataset.org/#keypoints-eval) and ``oks_iou`` of the SimpleBaseline lineage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InputError
from .keypoints import KeypointSet

Floats = npt.NDArray[np.float64]


def pairwise_oks(
    first: npt.NDArray[np.floating[Any]],
    second: npt.NDArray[np.floating[Any]],
    areas: npt.ArrayLike,
    keypoints: KeypointSet,
    visible: npt.NDArray[np.bool_] | None = None,
) -> Floats:
    """OKS of every person of one group with every person of another.

    Parameters
    ----------
    first
        [N, K, 2 or more]: x, y in pixels; what follows is not read.  Distances are taken in the precision given.
    second
        [M, K, 2 or more].
    areas
        Areas of the people in square pixels, of any shape that broadcasts to [N, M]: [M] for ground truth against
        which N detections are held, :func:`mean_areas` for people of equal right.
    keypoints
        The K keypoints with their sigmas.
    visible
        Which keypoints count, broadcasting to [N, M, K]: ``visibility > 0`` [M, K] for ground truth.  All if None.

    Returns
    -------
    ndarray
        float64 [N, M]; 0 where no keypoint counts or a coordinate that counts is not finite.

    Raises
    ------
    InputError
        If the keypoint set has no sigmas or the shapes do not fit.
    """
    count = len(keypoints)
    for people in (first, second):
        if people.ndim != 3 or people.shape[1] != count or people.shape[2] < 2:
            raise InputError(f"OKS of '{keypoints.name}' reads keypoints [N, {count}, 2], not {list(people.shape)}.")
    if not keypoints.sigmas:
        raise InputError(
            f"Keypoint set '{keypoints.name}' has no sigmas, so OKS is not defined for it.",
            hint="Give the set 'sigmas' in the spec, one for each keypoint.",
        )
    variances = (2 * np.asarray(keypoints.sigmas)) ** 2
    with np.errstate(invalid="ignore", over="ignore"):
        apart = first[:, None, :, :2] - second[None, :, :, :2]
        squared = np.square(apart).sum(axis=3)
        # np.spacing(1), as in the originals: people of no area do not divide by zero.
        scale = np.broadcast_to(np.asarray(areas, np.float64), squared.shape[:2]) + np.spacing(1)
        similar = np.exp(-(squared / variances / scale[..., None] / 2))
    if visible is None:
        similarity: Floats = similar.mean(axis=2)
    else:
        counted = np.broadcast_to(visible, similar.shape)
        total = np.sum(similar, axis=2, where=counted)
        similarity = total / np.maximum(np.count_nonzero(counted, axis=2), 1)
    return np.nan_to_num(similarity, nan=0.0)


def mean_areas(first: npt.NDArray[np.floating[Any]], second: npt.NDArray[np.floating[Any]]) -> Floats:
    """Mean area [N, M] of each pair from areas [N] and [M]."""
    return (first.astype(np.float64)[:, None] + second.astype(np.float64)[None]) / 2
