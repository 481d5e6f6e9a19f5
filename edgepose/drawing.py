"""Drawing poses on a picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .errors import InputError
from .poses import Poses

# Okabe-Ito colours (BGR): distinguishable with any colour vision.  Left, right and middle of the body.
_LEFT, _RIGHT, _MIDDLE = (233, 180, 86), (0, 94, 213), (115, 158, 0)
_BOX = (66, 228, 240)
#: Sub-pixel bits of OpenCV's drawing coordinates.
_SHIFT = 4
#: OpenCV draws with 32-bit fixed-point coordinates; points further out than this are not drawn.
_FAR = 1 << 20


def draw_poses(
    image: npt.NDArray[np.uint8], poses: Poses, *, min_score: float = 0.3, boxes: bool = False
) -> npt.NDArray[np.uint8]:
    """A copy of the picture with skeletons; see :meth:`edgepose.Poses.draw`."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"A picture must be uint8 [H, W, 3]; this is {image.dtype} {list(image.shape)}.")
    canvas = np.ascontiguousarray(image).copy()
    # Line width follows the person's size, so that small people are not covered by their own skeleton.
    for person, box in zip(poses.keypoints, poses.boxes, strict=True):
        drawable = (person[:, 2] >= min_score) & (np.abs(person[:, :2]) < _FAR).all(axis=1)
        extent = float(np.nan_to_num(max(box[2] - box[0], box[3] - box[1]), nan=0.0, posinf=0.0, neginf=0.0))
        width = int(np.clip(round(extent / 90), 1, 12))
        for a, b in poses.keypoint_set.skeleton:
            if drawable[a] and drawable[b]:
                color = _color(poses.names[a], poses.names[b])
                cv2.line(canvas, _fixed(person[a]), _fixed(person[b]), color, width, cv2.LINE_AA, _SHIFT)
        for k in np.flatnonzero(drawable):
            radius = int((width + 0.5) * (1 << _SHIFT))
            cv2.circle(canvas, _fixed(person[k]), radius, (255, 255, 255), -1, cv2.LINE_AA, _SHIFT)
            inner = int(width * 0.8 * (1 << _SHIFT))
            cv2.circle(canvas, _fixed(person[k]), inner, _color(poses.names[k]), -1, cv2.LINE_AA, _SHIFT)
        if boxes and (np.abs(box) < _FAR).all():
            cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), _BOX, max(1, width // 2), cv2.LINE_AA, _SHIFT)
    return canvas


def _fixed(point: npt.NDArray[np.float32]) -> tuple[int, int]:
    scale = 1 << _SHIFT
    return round(float(point[0]) * scale), round(float(point[1]) * scale)


def _color(*names: str) -> tuple[int, int, int]:
    if all(n.startswith("left_") for n in names):
        return _LEFT
    if all(n.startswith("right_") for n in names):
        return _RIGHT
    return _MIDDLE
