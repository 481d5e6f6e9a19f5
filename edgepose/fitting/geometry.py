"""Where a person box lies in the picture and in the network input, by the convention that the model was trained with.

Each function gives two stacks of affine maps, float64 [B, 2, 3]: ``to_input`` from pixels of the picture to pixels of
the network input (what the picture is warped by) and ``to_image`` back.

Sources: SimpleBaseline and HRNet (affine from centre and width), UDP (Huang et al., CVPR 2020: unit intervals between
pixel centres), GluonCV's AlphaPose transforms (integer box, own padding, own way back).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec import Crop
from .base import Matrix

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A box is at least this wide after its aspect is fixed, so that an empty one still has an invertible map.
_MIN_WIDTH = 1.0
# Boxes farther out than this are cut: no picture reaches there, and the warp's arithmetic stays exact.
_FARTHEST = 1e6


@dataclass(frozen=True, eq=False)
class CropGeometry:
    """Maps between the picture and B crops of it.

    Attributes
    ----------
    to_input
        float64 [B, 2, 3]: pixels of the picture -> pixels of the network input.
    to_image
        float64 [B, 2, 3]: pixels of the network input -> pixels of the picture.  The inverse of ``to_input`` for
        ``msra`` and ``udp``; for ``alphapose`` the way back that its authors evaluate with, which differs from the
        inverse by up to two pixels of the picture and two of the input (more below 20 pixels of box).
    windows
        int64 [B, 4]: x1, y1, x2, y2 (exclusive) of the part of the picture that a crop shows; what lies outside is
        black.  Empty where x2 <= x1 or y2 <= y1.
    """

    to_input: Matrix
    to_image: Matrix
    windows: Integers


def crop_geometry(
    boxes: npt.NDArray[np.floating[Any]], size: tuple[int, int], kind: Crop, picture: tuple[int, int]
) -> CropGeometry:
    """Place person boxes in the network input.

    Parameters
    ----------
    boxes
        Finite, [B, 4]: x1, y1, x2, y2 in pixels, continuous: the width is ``x2 - x1``.  Protocols that count pixels
        (``x2 = x1 + w - 1``) apply that before they call.
    size
        (height, width) of the network input in pixels.
    kind
        Padding and convention.
    picture
        (height, width) of the picture in pixels.
    """
    corners: Floats = np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), -_FARTHEST, _FARTHEST)
    if kind.convention == "alphapose":
        return _alphapose(corners, size, picture)
    height, width = size
    centers = (corners[:, :2] + corners[:, 2:]) / 2
    extent = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    aspect = width / height
    # The shorter side grows until the box has the aspect of the input; then both grow by the padding.
    across = np.maximum(np.maximum(extent[:, 0], extent[:, 1] * aspect) * kind.padding, _MIN_WIDTH)
    scales = np.stack([across, across / aspect], axis=1)
    if kind.convention == "udp":
        # Pixel centres of the first and last column lie on the edges of the padded box.
        ratios = np.maximum([width - 1, height - 1], 1) / scales
        origin = np.zeros(2)
        anchors = centers - scales / 2
    else:
        ratios = width / scales[:, [0, 0]]
        origin = np.array([width / 2, height / 2])
        anchors = centers
    to_input = _diagonal(ratios, origin - anchors * ratios)
    to_image = _diagonal(1 / ratios, anchors - origin / ratios)
    return CropGeometry(to_input, to_image, _seen(to_image, size, picture))


def _diagonal(ratios: Floats, offsets: Floats) -> Matrix:
    maps = np.zeros((len(ratios), 2, 3))
    maps[:, 0, 0], maps[:, 1, 1] = ratios[:, 0], ratios[:, 1]
    maps[:, :, 2] = offsets
    return maps


def _seen(to_image: Matrix, size: tuple[int, int], picture: tuple[int, int]) -> Integers:
    """The part of the picture that axis-parallel crops can read, with the neighbours that interpolation needs."""
    height, width = size
    corners = np.array([[-1.0, -1.0], [width, height]])
    spans = corners @ to_image[:, :, :2].transpose(0, 2, 1) + to_image[:, None, :, 2]
    low = np.floor(spans[:, 0]) - 1
    high = np.ceil(spans[:, 1]) + 2
    limit = np.array([picture[1], picture[0]])
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)], axis=1).astype(np.int64)


def _alphapose(boxes: Floats, size: tuple[int, int], picture: tuple[int, int]) -> CropGeometry:
    height, width = size
    last = np.array([picture[1] - 1, picture[0] - 1], np.float64)
    first_corner, second_corner = np.clip(boxes[:, :2], 0, last), np.clip(boxes[:, 2:], 0, last)
    extent = np.maximum(second_corner - first_corner, 0)
    # Wide boxes grow by a fifth, narrow ones by three tenths; the width decides for both axes.
    grow = extent * np.where(extent[:, :1] > 100, 0.2, 0.3) / 2
    low = np.floor(np.maximum(0, first_corner - grow))
    high = np.floor(np.minimum(last, np.maximum(low + 5, second_corner + grow)))
    empty = ((high - low) < 1).any(axis=1) | ((high - low) < 2).all(axis=1)
    high[empty] = low[empty] + 2

    # The crop: the box without its last column and row, centred by whole pixels of padding.
    inner = high - 1 - low
    tall = np.maximum(inner[:, 1], inner[:, 0] * height / width)
    margins = np.stack([tall * width / height, tall], axis=1)
    margins = np.floor((margins - inner) / 2)
    start, end = low - margins, high - 1 + margins
    # Two corners and a third at a right angle make a similarity: multiplication by a complex number.
    diagonal = end - start
    factor = complex(width - 1, height - 1) / (diagonal[:, 0] + 1j * diagonal[:, 1])
    to_input = np.empty((len(boxes), 2, 3))
    to_input[:, 0, 0] = to_input[:, 1, 1] = factor.real
    to_input[:, 1, 0] = factor.imag
    to_input[:, 0, 1] = -factor.imag
    to_input[:, :, 2] = -np.einsum("bij,bj->bi", to_input[:, :, :2], start)

    # The way back: the whole box, centred by fractions.
    whole = high - low
    tall = np.maximum(whole[:, 1], whole[:, 0] * height / width)
    spans = np.stack([tall * width / height, tall], axis=1)
    margins = np.maximum(0, (spans - 1) / 2 - (whole - 1) / 2)
    ratios = np.repeat(tall[:, None] / height, 2, axis=1)
    to_image = _diagonal(ratios, low - margins)

    windows = np.concatenate([low, high], axis=1).astype(np.int64)
    windows[empty] = 0
    return CropGeometry(to_input, to_image, windows)
