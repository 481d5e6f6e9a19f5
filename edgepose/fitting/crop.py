"""One crop per person box: the input side of top-down models."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..spec import Crop, InputSpec
from .base import Fitted, Matrix
from .geometry import Integers, crop_geometry

#: Longest side in pixels that OpenCV 4 warps.
_LONGEST = 32766


def fit_crops(image: npt.NDArray[np.uint8], spec: InputSpec, kind: Crop, boxes: npt.NDArray[np.float32]) -> Fitted:
    """Cut every person out of the picture, as one batch.

    Parameters
    ----------
    image
        uint8 [H, W, 3], BGR.
    spec
        What the network wants; its size is fixed.
    kind
        Padding and convention.
    boxes
        Finite, [B, 4]: x1, y1, x2, y2 in pixels, continuous (``x2 - x1`` is the width).  Boxes of no extent, turned
        round or outside the picture give black crops or crops of a single spot, never an error.

    Returns
    -------
    Fitted
        B crops; outside the picture they are black.  No boxes make an empty batch.
    """
    assert spec.height is not None
    assert spec.width is not None
    size = (spec.height, spec.width)
    geometry = crop_geometry(boxes, size, kind, (image.shape[0], image.shape[1]))
    return Fitted(warp_crops(image, geometry.to_input, size, geometry.windows), geometry.to_image)


def warp_crops(
    image: npt.NDArray[np.uint8], to_input: Matrix, size: tuple[int, int], windows: Integers
) -> npt.NDArray[np.uint8]:
    """Warp the picture by each map, bilinearly, black outside.

    Parameters
    ----------
    image
        uint8 [H, W, 3].
    to_input
        float64 [B, 2, 3]: pixels of the picture -> pixels of the crop.
    size
        (height, width) of the crops in pixels.
    windows
        int64 [B, 4]: x1, y1, x2, y2 (exclusive) inside the picture; what lies outside is taken as black.

    Returns
    -------
    ndarray
        uint8 [B, height, width, 3].
    """
    crops = np.zeros((len(to_input), *size, 3), np.uint8)
    for crop, matrix, (x1, y1, x2, y2) in zip(crops, to_input, windows, strict=True):
        if x1 >= x2 or y1 >= y2:
            continue
        shifted = matrix.copy()
        shifted[:, 2] += matrix[:, 0] * x1 + matrix[:, 1] * y1
        # A longer side loses pixels that so coarse a crop would step over anyway.
        step = 1 + max(x2 - x1, y2 - y1) // (_LONGEST + 1)
        shifted[:, :2] *= step
        cv2.warpAffine(image[y1:y2:step, x1:x2:step], shifted, (size[1], size[0]), dst=crop, flags=cv2.INTER_LINEAR)
    return crops
