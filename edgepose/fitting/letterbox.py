"""The whole picture, aspect kept, padded to the input size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..spec import InputSpec, Letterbox
from .base import Fitted
from .resize import INTERPOLATION


def fit_letterbox(image: npt.NDArray[np.uint8], spec: InputSpec, kind: Letterbox) -> Fitted:
    """Resize with the aspect kept, then pad with ``pad_value``."""
    height, width = image.shape[:2]
    if spec.height is not None and spec.width is not None:
        target = (spec.height, spec.width)
        ratio = min(target[0] / height, target[1] / width)
    else:
        assert kind.long_side is not None
        target = None
        ratio = kind.long_side / max(height, width)
    if not kind.upscale:
        ratio = min(ratio, 1.0)
    new_h, new_w = max(1, round(height * ratio)), max(1, round(width * ratio))
    if target is None:
        target = (_up(new_h, kind.stride), _up(new_w, kind.stride))
    resized = cv2.resize(image, (new_w, new_h), interpolation=INTERPOLATION[kind.interpolation])
    pad_h, pad_w = target[0] - new_h, target[1] - new_w
    # Half a pixel of odd padding goes to the bottom and right, as in the YOLO lineage.
    top, left = (pad_h // 2, pad_w // 2) if kind.anchor == "center" else (0, 0)
    padded = np.full((1, *target, 3), kind.pad_value, np.uint8)
    padded[0, top : top + new_h, left : left + new_w] = resized
    # Rounding to whole pixels makes the two axes' ratios differ a little; each axis is mapped back by its own.
    sx, sy = width / new_w, height / new_h
    to_image = np.array([[[sx, 0, -left * sx], [0, sy, -top * sy]]], np.float64)
    return Fitted(padded, to_image)


def _up(value: int, stride: int) -> int:
    return -(-value // stride) * stride
