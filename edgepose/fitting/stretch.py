"""The whole picture, aspect not kept."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..spec import InputSpec, Stretch
from .base import Fitted
from .resize import INTERPOLATION


def fit_stretch(image: npt.NDArray[np.uint8], spec: InputSpec, kind: Stretch) -> Fitted:
    """Resize to the input size, each axis by its own ratio.

    With a dynamic input size the longer axis of the picture (the vertical one of a square) becomes ``long_side`` and
    the other ``short_side``; without ``short_side`` the input is square.  The way back is that of the resize itself,
    between the centres of pixels: ``X + 1/2 = (x + 1/2) * ratio``.
    """
    height, width = image.shape[:2]
    if spec.height is not None and spec.width is not None:
        new_h, new_w = spec.height, spec.width
    else:
        assert kind.long_side is not None
        short = kind.short_side or kind.long_side
        new_h, new_w = (short, kind.long_side) if height < width else (kind.long_side, short)
    resized = image
    if (new_h, new_w) != (height, width):
        resized = np.asarray(
            cv2.resize(image, (new_w, new_h), interpolation=INTERPOLATION[kind.interpolation]), np.uint8
        )
    sx, sy = width / new_w, height / new_h
    to_image = np.array([[[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2]]], np.float64)
    return Fitted(resized[None], to_image)
