"""YOLOX: boxes of people, and YOLOX-Pose, which has keypoints as well.

Layout and formulas from YOLOX (Ge et al., 2021; its ONNX export leaves the boxes raw and the scores as probabilities)
and from mmpose's ``yoloxpose_head`` (priors at the top-left corner of each cell).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .one_stage import cells, corners, no_flip_test, people, sigmoid
from .options import read_options, require_outputs, take_output

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class YoloXOptions:
    """Options of :class:`YoloXDecoder`.

    Attributes
    ----------
    strides
        Pixels a cell of each level, in the order of the output.
    logits
        Objectness, class scores and keypoint scores come before their sigmoid.
    score_threshold
        People below this are left out.
    iou_threshold
        People whose box overlaps a better one's by more are left out.
    max_people
        At most as many people are given.
    person_class
        Number of the class that is a person; 0 in COCO's 80.
    """

    strides: tuple[int, ...] = (8, 16, 32)
    logits: bool = False
    score_threshold: float = 0.25
    iou_threshold: float = 0.65
    max_people: int = 300
    person_class: int = 0


class YoloXDecoder:
    """Output ``predictions`` [N, n, 5 + C + 3 K], raw, of n cells, C classes and K keypoints (0 for a detector).

    A row holds dx, dy (in cells), log w, log h (of the size in cells), objectness, C class scores, and K times dx, dy
    (in cells) and a score.  Everything is counted from the top-left corner of the cell.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("predictions",))
        self.options = read_options(spec.decoder, YoloXOptions)
        self._count = 0 if spec.keypoints is None else len(spec.keypoints)
        if not self.options.strides or min(self.options.strides) < 1:
            raise SpecError("Decoder 'yolox': option 'strides' must be positive numbers.")
        if self.options.person_class < 0:
            raise SpecError("Decoder 'yolox': option 'person_class' must not be negative.")

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        index, stride = cells(size, self.options.strides)
        raw = take_output(outputs, "predictions", (None, len(index), None))
        classes = raw.shape[2] - 5 - 3 * self._count
        if classes <= self.options.person_class:
            raise DecodeError(
                f"Output 'predictions' has {raw.shape[2]} values a cell, too few for class"
                f" {self.options.person_class} and {self._count} keypoints.",
                hint="The spec may belong to another model: compare with 'edgepose info'.",
            )
        with np.errstate(over="ignore", invalid="ignore"):  # rows that are not finite are left out at the end
            return [self._people(picture, index, stride, classes) for picture in raw]

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """YOLOX has no flip test: its people come in no fixed order."""
        raise no_flip_test("YOLOX")

    def _people(self, raw: Array, index: Array, stride: Array, classes: int) -> Detections:
        options = self.options
        certain, likely = raw[:, 4], raw[:, 5 + options.person_class]
        scores = sigmoid(certain) * sigmoid(likely) if options.logits else certain * likely
        # Few cells hold a person: the others need not be decoded.
        good = np.flatnonzero(scores >= options.score_threshold)
        raw, index, stride, scores = raw[good], index[good], stride[good], scores[good]
        boxes = corners(np.concatenate([raw[:, :2] + index, np.exp(raw[:, 2:4])], axis=1) * stride)
        points = raw[:, 5 + classes :].reshape(len(raw), self._count, 3)
        places = (points[..., :2] + index[:, None]) * stride[:, None]
        visible = sigmoid(points[..., 2:]) if options.logits else points[..., 2:]
        return people(
            boxes,
            scores,
            np.concatenate([places, visible], axis=2),
            score_threshold=options.score_threshold,
            iou_threshold=options.iou_threshold,
            max_people=options.max_people,
        )
