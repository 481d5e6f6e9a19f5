"""Fitting by the kind that the spec asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..spec import Crop, FixedHeight, InputSpec, Letterbox

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What the network sees.

    Attributes
    ----------
    pixels
        [B, H, W, 3] BGR, 0..255, uint8; float32 where the fit resizes after normalising (grey levels, not rounded).
    to_image
        float64 [B, 2, 3]: affine map from pixels of the network input to pixels of the picture.
    """

    pixels: Pixels
    to_image: Matrix

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network input in pixels."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[2])


def fit(image: npt.NDArray[np.uint8], spec: InputSpec, boxes: npt.NDArray[np.floating[Any]] | None = None) -> Fitted:
    """Fit a picture to a network input.

    Parameters
    ----------
    image
        uint8 [H, W, 3], BGR.
    spec
        What the network wants.
    boxes
        [B, 4]: x1, y1, x2, y2 of the people in pixels, for models that take person crops; None for others.

    Raises
    ------
    InputError
        If the picture is not uint8 [H, W, 3], or boxes are missing or not finite.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise InputError(
            f"A picture must be uint8 [H, W, 3]; this is {image.dtype} {list(image.shape)}.",
            hint="Read it with cv2.imread, or convert it with cv2.cvtColor.",
        )
    kind = spec.fit
    if isinstance(kind, Crop):
        from .crop import fit_crops

        if boxes is None:
            raise InputError("This model looks at one person at a time and needs person boxes.")
        return fit_crops(image, spec, kind, _checked_boxes(boxes))
    if isinstance(kind, Letterbox):
        from .letterbox import fit_letterbox

        return fit_letterbox(image, spec, kind)
    if isinstance(kind, FixedHeight):
        from .fixed_height import fit_height

        return fit_height(image, spec, kind)
    from .stretch import fit_stretch

    return fit_stretch(image, spec, kind)


def apply(matrix: Matrix, points: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Map points [..., 2] by an affine matrix [2, 3]; float32 [..., 2]."""
    mapped = points.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return mapped.astype(np.float32)


def _checked_boxes(boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    checked = np.asarray(boxes, np.float32).reshape(-1, 4) if np.size(boxes) else np.zeros((0, 4), np.float32)
    if not np.isfinite(checked).all():
        raise InputError("A person box is not finite.")
    return checked
