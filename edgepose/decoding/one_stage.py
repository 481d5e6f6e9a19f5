"""What the one-stage decoders (YOLO, YOLOX, RTMO) have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError
from .base import Detections
from .nms import box_nms

Array = npt.NDArray[np.float32]

# Suppression begins with so many of the best candidates and takes more only if too few people remain.
_FIRST_CANDIDATES = 1024


def sigmoid(logits: Array) -> Array:
    """Logistic function of float32 logits; float32 of the same shape."""
    with np.errstate(over="ignore"):  # exp(-logit) becomes infinite and its inverse 0, as it should
        return (1 / (1 + np.exp(-logits))).astype(np.float32)


def corners(center_size: Array) -> Array:
    """[..., 4] (cx, cy, w, h) -> (x1, y1, x2, y2)."""
    half = center_size[..., 2:] / 2
    return np.concatenate([center_size[..., :2] - half, center_size[..., :2] + half], axis=-1)


def cells(size: tuple[int, int], strides: Sequence[int]) -> tuple[Array, Array]:
    """The cells of a head, level by level, row by row.

    Parameters
    ----------
    size
        (height, width) of the network input in pixels.
    strides
        Pixels a cell, one number a level.

    Returns
    -------
    index, stride
        float32 [n, 2]: column and row of each cell; float32 [n, 1]: its stride.
    """
    index, scale = [], []
    for stride in strides:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        index.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        scale.append(np.full((len(index[-1]), 1), stride))
    return np.concatenate(index).astype(np.float32), np.concatenate(scale).astype(np.float32)


def people(
    boxes: Array, scores: Array, keypoints: Array, *, score_threshold: float, iou_threshold: float, max_people: int
) -> Detections:
    """The people among candidates: good enough, finite, and not hidden behind a better one.

    Parameters
    ----------
    boxes
        float32 [n, 4]: x1, y1, x2, y2.
    scores
        float32 [n].
    keypoints
        float32 [n, K, 3].
    score_threshold
        Candidates below it, and those of score 0, are left out.
    iou_threshold
        Candidates whose box overlaps a better person's by more are left out; 1 keeps all.
    max_people
        At most as many are given.

    Returns
    -------
    Detections
        Best first.
    """
    good = np.flatnonzero((scores >= score_threshold) & (scores > 0))
    finite = np.isfinite(boxes[good]).all(axis=1) & np.isfinite(keypoints[good]).all(axis=(1, 2))
    good = good[finite & np.isfinite(scores[good])]
    good = good[np.argsort(-scores[good], kind="stable")]
    if iou_threshold < 1:
        # What is kept among the best does not depend on those after them.
        count = _FIRST_CANDIDATES
        kept = box_nms(boxes[good[:count]], scores[good[:count]], iou_threshold)
        while len(kept) < max_people and count < len(good):
            count *= 4
            kept = box_nms(boxes[good[:count]], scores[good[:count]], iou_threshold)
        good = good[kept]
    good = good[:max_people]
    return Detections(keypoints[good], scores[good], boxes[good])


def no_flip_test(family: str) -> DecodeError:
    """The error of a flip test with a one-stage model, whose people come in no fixed order."""
    return DecodeError(f"There is no flip test for a {family} model.", hint="Run it without --flip.")
