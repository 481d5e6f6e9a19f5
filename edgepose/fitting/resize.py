"""OpenCV's codes of the interpolations that a spec can name."""

from __future__ import annotations

import cv2

INTERPOLATION = {
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
}
