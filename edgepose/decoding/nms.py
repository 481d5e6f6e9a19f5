"""Non-maximum suppression: of several answers to one person, the best is kept.

All functions return the numbers of the rows to keep, best first, as int64.  Equal scores keep their order.  Rows that
are not finite are never kept and suppress nothing.

Sources: ``py_cpu_nms`` (whose boxes include their last pixel) and torchvision (whose boxes do not); ``oks_nms`` and
``soft_oks_nms`` of HRNet; ``nearby_joints_nms`` of mmpose, after DEKR.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..keypoints import KeypointSet
from ..oks import mean_areas, pairwise_oks

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.floating[Any]]


def box_nms(boxes: FloatArray, scores: FloatArray, threshold: float, *, inclusive: bool = False) -> Numbers:
    """Greedy suppression of boxes by intersection over union.

    Parameters
    ----------
    boxes
        [N, 4]: x1, y1, x2, y2.
    scores
        [N].
    threshold
        A box is dropped if its overlap with a kept, better one is greater.
    inclusive
        Boxes hold their last pixel: widths are ``x2 - x1 + 1`` (Fast R-CNN, mmpose, rtmlib), not ``x2 - x1``
        (torchvision, YOLO).
    """
    boxes = boxes.astype(np.float64)
    more = 1.0 if inclusive else 0.0
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2] + more, 0), axis=1)
    order = _best_first(scores, _finite(boxes))
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[order, :2])
        high = np.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = np.prod(np.maximum(high - low + more, 0), axis=1)
        union = areas[best] + areas[order] - shared
        # Boxes of no area share nothing, and nothing over nothing is no overlap.
        order = order[shared <= threshold * union]
    return np.array(kept, np.int64)


def oks_nms(
    poses: FloatArray, scores: FloatArray, areas: FloatArray, keypoints: KeypointSet, threshold: float = 0.9
) -> Numbers:
    """Greedy suppression of people by object keypoint similarity.

    Parameters
    ----------
    poses
        [N, K, 2 or more]: x, y in pixels; all K keypoints count, whatever their score.
    scores
        [N].
    areas
        [N] in square pixels; two people are compared at the mean of theirs.  SimpleBaseline takes the padded box.
    keypoints
        The K keypoints with their sigmas.
    threshold
        A person is dropped if the similarity with a kept, better one is greater.

    Raises
    ------
    InputError
        If the keypoint set has no sigmas.
    """
    similarity = pairwise_oks(poses, poses, mean_areas(areas, areas), keypoints)
    order = _best_first(scores, _finite(poses[..., :2]) & np.isfinite(areas))
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[similarity[best, order] <= threshold]
    return np.array(kept, np.int64)


def soft_oks_nms(
    poses: FloatArray,
    scores: FloatArray,
    areas: FloatArray,
    keypoints: KeypointSet,
    threshold: float = 0.9,
    max_people: int = 20,
) -> Numbers:
    """Suppression that lowers the scores of similar people instead of dropping them.

    After each choice of the best, the scores of the others are multiplied by ``exp(-oks**2 / threshold)``.

    Parameters
    ----------
    poses, scores, areas, keypoints
        As for :func:`oks_nms`.
    threshold
        Width of the penalty.
    max_people
        At most as many are kept.

    Raises
    ------
    InputError
        If the keypoint set has no sigmas.
    """
    similarity = pairwise_oks(poses, poses, mean_areas(areas, areas), keypoints)
    penalty = np.exp(-np.square(similarity) / threshold)
    order = _best_first(scores, _finite(poses[..., :2]) & np.isfinite(areas))
    lowered = scores.astype(np.float64)
    kept: list[int] = []
    while len(order) and len(kept) < max_people:
        best, order = order[0], order[1:]
        kept.append(best)
        lowered[order] *= penalty[best, order]
        order = order[np.argsort(-lowered[order], kind="stable")]
    return np.array(kept, np.int64)


def nearby_nms(
    poses: FloatArray,
    scores: FloatArray,
    *,
    distance: float = 0.05,
    min_keypoints: int | None = None,
    max_people: int = 30,
) -> Numbers:
    """Suppression of people many of whose keypoints lie on those of a better one (DEKR).

    Parameters
    ----------
    poses
        [N, K, 2 or more]: x, y in pixels.
    scores
        [N].
    distance
        Two keypoints are close if they are nearer than this fraction of the diagonal of the first person's extent.
    min_keypoints
        Two people are the same if more keypoints than this are close; half of K if None.
    max_people
        At most as many are kept.
    """
    points = poses[..., :2].astype(np.float64)
    needed = points.shape[1] // 2 if min_keypoints is None else min_keypoints
    valid = _finite(points)
    points[~valid] = 0
    diagonal = np.linalg.norm(points.max(axis=1) - points.min(axis=1), axis=1)
    apart = np.linalg.norm(points[:, None] - points[None], axis=3)
    same = np.count_nonzero(apart < distance * diagonal[:, None, None], axis=2) > needed
    np.fill_diagonal(same, True)  # also a person of no extent is the same as itself
    order = _best_first(scores, valid)
    rank = np.full(len(points), len(points))
    rank[order] = np.arange(len(order))
    gone = ~(valid & np.isfinite(scores))
    kept: list[int] = []
    for candidate in order:
        if gone[candidate]:
            continue
        # Closeness is measured by the candidate's own extent, so a better one may be among its like.
        group = np.flatnonzero(same[candidate] & (rank < len(points)))
        best = group[np.argmin(rank[group])]
        if not gone[best]:
            kept.append(best)
            gone[group] = True
    return np.array(sorted(kept, key=lambda i: rank[i])[:max_people], np.int64)


def _best_first(scores: FloatArray, valid: Mask) -> Numbers:
    """Numbers of the usable rows by falling score; equal scores keep their order."""
    usable = np.flatnonzero(valid & np.isfinite(scores))
    return usable[np.argsort(-scores[usable], kind="stable")]


def _finite(rows: FloatArray) -> Mask:
    """Which rows [N, ...] hold finite numbers only; bool [N]."""
    return np.asarray(np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))), np.bool_)
