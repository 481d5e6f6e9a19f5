"""MoveNet: decoding is inside the network; what is left is order, scale and thresholds.

Output layouts from the MoveNet model cards: single pose [N, 1, 17, 3] as (y, x, score); multi pose [N, 6, 56] as 17
times (y, x, score), then ymin, xmin, ymax, xmax, score.  All coordinates are fractions of the padded input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .nms import box_nms
from .options import read_options, require_outputs, take_output

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MoveNetMultiOptions:
    """Options of :class:`MoveNetMultiDecoder`.

    Attributes
    ----------
    score_threshold
        People below this are left out.
    iou_threshold
        Of people whose boxes overlap by more than this, the best is kept.
    """

    score_threshold: float = 0.1
    iou_threshold: float = 0.7


class MoveNetMultiDecoder:
    """Output ``poses`` [N, P, 3 K + 5] of MoveNet MultiPose."""

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("poses",))
        self.options = read_options(spec.decoder, MoveNetMultiOptions)
        self._count = _keypoint_count(spec)

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        poses = take_output(outputs, "poses", (None, None, 3 * self._count + 5))
        height, width = size
        found = []
        for people in poses:
            people = people[np.isfinite(people).all(axis=1)]
            people = people[people[:, -1] >= self.options.score_threshold]
            keypoints = _to_pixels(people[:, : 3 * self._count].reshape(-1, self._count, 3), size)
            boxes = people[:, [-4, -5, -2, -3]] * np.array([width, height, width, height], np.float32)
            keep = box_nms(boxes, people[:, -1], self.options.iou_threshold)
            found.append(Detections(keypoints[keep], people[keep, -1], boxes[keep]))
        return found

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """MoveNet has no flip test: its people come in no fixed order."""
        raise DecodeError("There is no flip test for a MoveNet multi-pose model.", hint="Run it without --flip.")


@dataclass(frozen=True)
class MoveNetSingleOptions:
    """:class:`MoveNetSingleDecoder` has no options."""


class MoveNetSingleDecoder:
    """Output ``keypoints`` [N, 1, K, 3] of MoveNet SinglePose."""

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("keypoints",))
        read_options(spec.decoder, MoveNetSingleOptions)
        self._count = _keypoint_count(spec)
        assert spec.keypoints is not None
        self._flip = list(spec.keypoints.flip_indices)

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        raw = take_output(outputs, "keypoints", (None, 1, self._count, 3))
        raw = np.where(np.isfinite(raw).all(axis=-1, keepdims=True), raw, np.float32(0))
        keypoints = _to_pixels(raw, size)
        scores = keypoints[..., 2].mean(axis=-1)
        return [Detections(k, s) for k, s in zip(keypoints, scores, strict=True)]

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average with the mirrored keypoints."""
        shape = (None, 1, self._count, 3)
        plain = take_output(outputs, "keypoints", shape)
        mirrored = take_output(flipped, "keypoints", shape)[:, :, self._flip].copy()
        mirrored[..., 1] = 1 - mirrored[..., 1]
        return {"keypoints": ((plain + mirrored) / 2).astype(np.float32)}


def _keypoint_count(spec: PoseSpec) -> int:
    if spec.keypoints is None:
        raise SpecError(f"Decoder '{spec.decoder.type}' needs a keypoint set in the spec.")
    return len(spec.keypoints)


def _to_pixels(keypoints: Array, size: tuple[int, int]) -> Array:
    """(y, x, score) as fractions -> (x, y, score) in pixels of the input."""
    height, width = size
    return keypoints[..., [1, 0, 2]] * np.array([width, height, 1], np.float32)
