"""Coordinates regressed directly: DeepPose, with or without the scale of residual log-likelihood estimation (RLE).

Source: mmpose's regression and RLE heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .options import read_options, require_outputs, take_output
from .topdown import keypoint_set, one_person_each

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RegressionOptions:
    """Options of :class:`RegressionDecoder`.

    Attributes
    ----------
    flip_shift
        In the flip test, move the mirrored coordinates one pixel to the left before averaging.
    """

    flip_shift: bool = True


class RegressionDecoder:
    """Output ``coordinates``: [N, K, 2] as (x, y), or [N, K, 4] as (x, y, sigma_x, sigma_y).

    x and y are fractions of the input's width and height; the sigmas are logits.  The score of a keypoint is 1 minus
    the mean of the two sigmoids, 1 where there are no sigmas, and 0 at the origin where a value is not finite.  The
    score of the person is the mean of the keypoint scores above 0.2, or 0.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("coordinates",))
        self.options = read_options(spec.decoder, RegressionOptions)
        if spec.input.width is None:
            raise SpecError("Decoder 'regression' needs a fixed input width.")
        self._width = spec.input.width
        self._pairs = keypoint_set(spec).flip_indices

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        raw = self._take(outputs)
        finite: Mask = np.asarray(np.isfinite(raw).all(axis=2), np.bool_)
        raw = np.where(finite[..., None], raw, np.float32(0))
        points = raw[..., :2] * np.array([size[1], size[0]], np.float32)
        certain = 1 - _sigmoid(raw[..., 2:]).mean(axis=2) if raw.shape[2] == 4 else np.ones(raw.shape[:2])
        scores = np.where(finite, certain, 0)
        return one_person_each(points, np.asarray(scores, np.float32))

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average with the mirrored coordinates; sigmas are averaged after their sigmoid, as mmpose does."""
        plain, mirrored = self._take(outputs), self._take(flipped)
        if plain.shape != mirrored.shape:
            raise DecodeError(
                f"The outputs for the mirrored input have the shape {list(mirrored.shape)},"
                f" those for the plain one {list(plain.shape)}."
            )
        mirrored = mirrored[:, list(self._pairs)]
        mirrored[..., 0] = 1 - mirrored[..., 0]
        if self.options.flip_shift:
            mirrored[..., 0] -= np.float32(1 / self._width)
        merged: Array = np.asarray((plain + mirrored) / 2, np.float32)
        mean = (_sigmoid(plain[..., 2:]) + _sigmoid(mirrored[..., 2:])) / 2
        # Back to a logit; the smallest probability keeps it finite where a sigmoid is 0 or 1.
        mean = np.clip(mean, 1e-12, 1 - 1e-12)
        merged[..., 2:] = np.log(mean / (1 - mean))
        return {"coordinates": merged}

    def _take(self, outputs: Mapping[str, Array]) -> Array:
        raw = take_output(outputs, "coordinates", (None, len(self._pairs), None))
        if raw.shape[2] not in (2, 4):
            raise DecodeError(f"Output 'coordinates' has {raw.shape[2]} numbers a keypoint; 2 or 4 can be read.")
        return raw


def _sigmoid(logits: Array) -> Floats:
    """1 / (1 + exp(-x)) that does not overflow; float64."""
    return np.asarray(0.5 * (1 + np.tanh(logits.astype(np.float64) / 2)), np.float64)
