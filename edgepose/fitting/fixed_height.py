"""The whole picture brought to one height, padded to a multiple of the stride (OpenPose family)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..spec import FixedHeight, InputSpec
from .base import Fitted
from .resize import INTERPOLATION

#: A network of dynamic width sees pictures of at most this width for their height.
MAX_ASPECT = 16


def fit_height(image: npt.NDArray[np.uint8], spec: InputSpec, kind: FixedHeight) -> Fitted:
    """Resize to ``kind.height``, aspect kept, then pad with ``kind.pad_value``.

    Of odd padding the smaller half is above and left.  Where the network's size is fixed, a picture too wide for it
    becomes less high instead.

    Parameters
    ----------
    image
        uint8 [H, W, 3], BGR.
    spec, kind
        What the network wants.

    Returns
    -------
    Fitted
        One input.  Its pixels are float32 grey levels, not rounded, if the spec resizes after normalising:
        normalising is linear, so it does not matter which of the two comes first.

    Raises
    ------
    InputError
        If the picture is more than :data:`MAX_ASPECT` times as wide as high and the network's size is dynamic.
    """
    height, width = image.shape[:2]
    scale = kind.height / height
    if spec.height is not None and spec.width is not None:
        scale = min(scale, spec.height / height, spec.width / width)
    elif width > MAX_ASPECT * height:
        raise InputError(
            f"The picture is {width} x {height} pixels; this model takes pictures of at most {MAX_ASPECT}:1.",
            hint="Cut it into parts.",
        )
    pixels = _resize(image.astype(np.float32) if kind.resize_after_normalise else image, scale, kind)
    new_height, new_width = pixels.shape[:2]
    if spec.height is not None and spec.width is not None:
        target = spec.height, spec.width
    else:
        target = _up(new_height, kind.stride), _up(max(new_width, kind.min_width or 0), kind.stride)
    spare = target[0] - new_height, target[1] - new_width
    top, left = (spare[0] // 2, spare[1] // 2) if kind.anchor == "center" else (0, 0)
    padded = np.full((1, *target, 3), kind.pad_value, pixels.dtype)
    padded[0, top : top + new_height, left : left + new_width] = pixels
    to_image = np.array([[[1 / scale, 0, -left / scale], [0, 1 / scale, -top / scale]]], np.float64)
    return Fitted(padded, to_image)


def _resize(image: npt.NDArray[Any], scale: float, kind: FixedHeight) -> npt.NDArray[Any]:
    """Resize by a factor that is not rounded to whole pixels, as the originals do; so it is the same in x and y."""
    height, width = image.shape[:2]
    interpolation = INTERPOLATION[kind.interpolation]
    if min(round(height * scale), round(width * scale)) < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return np.asarray(cv2.resize(image, size, interpolation=interpolation), image.dtype)
    if scale == 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation), image.dtype)


def _up(value: int, stride: int) -> int:
    return -(-value // stride) * stride
