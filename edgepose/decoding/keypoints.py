"""Keypoints that the graph itself has decoded (:func:`edgepose.graph.embed.embed`); what is left is to take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError
from ..spec import PoseSpec
from .base import Detections
from .options import read_options, require_outputs, take_output
from .topdown import keypoint_set

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class KeypointsOptions:
    """:class:`KeypointsDecoder` has no options."""


class KeypointsDecoder:
    """Outputs ``keypoints`` and ``scores``, and ``boxes`` where the network finds boxes; all in pixels of the input.

    * ``keypoints`` [N, K, 3] as (x, y, score) and ``scores`` [N]: one person in each element of the batch, whatever
      the score.  This is how top-down models come.
    * ``keypoints`` [N, P, K, 3], ``scores`` [N, P] and, if there are any, ``boxes`` [N, P, 4]: each element of the
      batch has P places for people.  A place whose score is not positive is empty.

    People come best first.  A keypoint that is not finite has score 0 and lies at the origin; a person with a score or
    box that is not finite has score 0, which in the second form is nobody.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("keypoints", "scores"), ("boxes",))
        read_options(spec.decoder, KeypointsOptions)
        self._count = len(keypoint_set(spec))
        self._has_boxes = "boxes" in spec.decoder.outputs

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        places = np.ndim(outputs.get("keypoints", 0)) == 4
        lead: tuple[None, ...] = (None, None) if places else (None,)
        keypoints = take_output(outputs, "keypoints", (*lead, self._count, 3))
        scores = take_output(outputs, "scores", lead)
        boxes = take_output(outputs, "boxes", (*lead, 4)) if self._has_boxes else None
        if not keypoints.shape[:-2] == scores.shape == (scores if boxes is None else boxes[..., 0]).shape:
            raise DecodeError(
                f"Outputs 'keypoints' {list(keypoints.shape)}, 'scores' {list(scores.shape)}"
                + ("" if boxes is None else f" and 'boxes' {list(boxes.shape)}")
                + " do not belong together."
            )
        keypoints = _zero_unless_finite(keypoints)
        scores = _zero_unless_finite(scores[..., None])[..., 0]
        if boxes is not None:
            scores = np.where(np.isfinite(boxes).all(axis=-1), scores, np.float32(0))
        if not places:
            return [
                Detections(keypoints[i : i + 1], scores[i : i + 1], None if boxes is None else boxes[i : i + 1])
                for i in range(len(scores))
            ]
        found = []
        for i, score in enumerate(scores):
            people = np.argsort(-score, kind="stable")
            people = people[score[people] > 0]
            found.append(Detections(keypoints[i][people], score[people], None if boxes is None else boxes[i][people]))
        return found

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """The flip test averages what comes before the keypoints, which this graph does not give."""
        raise DecodeError(
            "There is no flip test for a model whose decoder is inside the graph: it averages the raw outputs, which"
            " such a graph no longer gives.",
            hint="Convert the model without --embed post, or run it without --flip.",
        )


def _zero_unless_finite(rows: Array) -> Array:
    """Rows (the last axis) in which anything is not finite become zeros."""
    return np.where(np.isfinite(rows).all(axis=-1, keepdims=True), rows, np.float32(0))
