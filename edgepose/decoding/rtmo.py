"""RTMO, and other one-stage models that mmdeploy exports with decoding and suppression inside the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError
from ..spec import PoseSpec
from .base import Detections
from .one_stage import no_flip_test, people
from .options import read_options, require_outputs, take_output
from .topdown import keypoint_set

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RTMOOptions:
    """Options of :class:`RTMODecoder`.

    Attributes
    ----------
    score_threshold
        People below this are left out; 0.1 is what RTMO's own test takes.
    iou_threshold
        People whose box overlaps a better one's by more are left out; 1 leaves it at what the graph has done.
    max_people
        At most as many people are given.
    """

    score_threshold: float = 0.1
    iou_threshold: float = 1.0
    max_people: int = 300


class RTMODecoder:
    """Outputs ``dets`` [N, n, 5] (x1, y1, x2, y2, score) and ``keypoints`` [N, n, K, 3], in pixels of the input.

    Rows that only fill up the batch have score 0.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("dets", "keypoints"))
        self.options = read_options(spec.decoder, RTMOOptions)
        self._count = len(keypoint_set(spec))

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        dets = take_output(outputs, "dets", (None, None, 5))
        keypoints = take_output(outputs, "keypoints", (None, None, self._count, 3))
        if dets.shape[:2] != keypoints.shape[:2]:
            raise DecodeError(
                f"Outputs 'dets' {list(dets.shape)} and 'keypoints' {list(keypoints.shape)} tell of different people."
            )
        return [
            people(
                found[:, :4],
                found[:, 4],
                points,
                score_threshold=self.options.score_threshold,
                iou_threshold=self.options.iou_threshold,
                max_people=self.options.max_people,
            )
            for found, points in zip(dets, keypoints, strict=True)
        ]

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """RTMO has no flip test: its people come in no fixed order."""
        raise no_flip_test("RTMO")
