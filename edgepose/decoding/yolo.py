"""YOLO-pose: YOLOv8 and 11, YOLO26, YOLOv7-pose.

Layouts and formulas from ultralytics (heads ``Pose`` and ``Pose26``) and the YOLOv7 pose branch (``IKeypoint``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .one_stage import corners, no_flip_test, people, sigmoid
from .options import read_options, require_outputs, take_output
from .topdown import keypoint_set

Array = npt.NDArray[np.float32]

#: Raw heads of YOLOv7-pose by pyramid level; the last one exists in the w6 networks only.
HEADS = ("p3", "p4", "p5", "p6")


@dataclass(frozen=True)
class YoloPoseOptions:
    """Options of :class:`YoloPoseDecoder`.

    Attributes
    ----------
    version
        ``v8`` (also YOLO11), ``v26`` or ``v7``; see :class:`YoloPoseDecoder`.
    score_threshold
        People below this are left out.
    iou_threshold
        People whose box overlaps a better one's by more are left out; ``v26`` needs no such step.
    max_people
        At most as many people are given.
    person_class
        Number of the class that is a person.
    anchors
        Raw heads of ``v7`` only: anchor widths and heights in pixels, head by head, as the network was trained with.
    """

    version: Literal["v8", "v26", "v7"] = "v8"
    score_threshold: float = 0.25
    iou_threshold: float = 0.7
    max_people: int = 300
    person_class: int = 0
    anchors: tuple[float, ...] = ()


class YoloPoseDecoder:
    """Heads of the YOLO pose family; K keypoints, C classes (1 for a network that knows people only).

    ======== ============= =================================================================================
    version  output role   layout
    ======== ============= =================================================================================
    ``v8``   predictions   [N, 4 + C + 3 K, n]: cx, cy, w, h, class scores, K times (x, y, score), in pixels
    ``v26``  predictions   [N, n, 6 + 3 K]: x1, y1, x2, y2, score, class, K times (x, y, score), in pixels
    ``v7``   predictions   [N, n, 5 + C + 3 K]: cx, cy, w, h, objectness, class scores, K times (x, y, score)
    ``v7``   p3, p4, p5    raw, one a stride of 8, 16, 32 (and p6 of 64): [N, A, h, w, 5 + C + 3 K] or
             (, p6)        [N, A (5 + C + 3 K), h, w] for A anchors
    ======== ============= =================================================================================
    """

    def __init__(self, spec: PoseSpec) -> None:
        self.options = read_options(spec.decoder, YoloPoseOptions)
        self._count = len(keypoint_set(spec))
        self._heads: tuple[str, ...] = ()
        if self.options.version == "v7" and "predictions" not in spec.decoder.outputs:
            require_outputs(spec.decoder, HEADS[:3], HEADS[3:])
            self._heads = HEADS[: len(spec.decoder.outputs)]
            anchors = np.array(self.options.anchors, np.float32)
            if not len(anchors) or len(anchors) % (2 * len(self._heads)) or (anchors <= 0).any():
                raise SpecError(
                    f"Decoder 'yolo-pose': the raw heads {', '.join(self._heads)} need the option 'anchors':"
                    " a positive width and height for each anchor of each head."
                )
            self._anchors = anchors.reshape(len(self._heads), -1, 2)
        else:
            require_outputs(spec.decoder, ("predictions",))
        if self.options.person_class < 0:
            raise SpecError("Decoder 'yolo-pose': option 'person_class' must not be negative.")

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        with np.errstate(over="ignore", invalid="ignore"):  # rows that are not finite are left out at the end
            return [self._people(picture) for picture in self._rows(outputs, size)]

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """YOLO has no flip test: its people come in no fixed order."""
        raise no_flip_test("YOLO pose")

    def _rows(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> Array:
        """Decoded rows [N, n, ...]."""
        if self._heads:
            return np.concatenate([self._take_head(outputs, i, size) for i in range(len(self._heads))], axis=1)
        predictions = take_output(outputs, "predictions", (None, None, None))
        return predictions.transpose(0, 2, 1) if self.options.version == "v8" else predictions

    def _people(self, rows: Array) -> Detections:
        """People of one picture, from decoded rows [n, ...]."""
        options, values = self.options, 3 * self._count
        before = {"v8": 4, "v26": 6, "v7": 5}[options.version]
        classes = rows.shape[1] - before - values
        known = classes == 0 if options.version == "v26" else classes > options.person_class
        if not known:
            raise DecodeError(
                f"The predictions have {rows.shape[1]} values a person: too few or too many for {self._count} keypoints"
                f" in the layout of {options.version}.",
                hint="The spec may belong to another model: compare with 'edgepose info'.",
            )
        if options.version == "v26":
            scores = np.where(rows[:, 5] == options.person_class, rows[:, 4], np.float32(0))
        else:
            scores = rows[:, before + options.person_class]
        if options.version == "v7":
            scores = scores * rows[:, 4]
        # Few rows are people: the others need not be moved.
        good = np.flatnonzero(scores >= options.score_threshold)
        rows, scores = rows[good], scores[good]
        return people(
            rows[:, :4] if options.version == "v26" else corners(rows[:, :4]),
            scores,
            rows[:, -values:].reshape(-1, self._count, 3),
            score_threshold=options.score_threshold,
            iou_threshold=1.0 if options.version == "v26" else options.iou_threshold,
            max_people=options.max_people,
        )

    def _take_head(self, outputs: Mapping[str, Array], level: int, size: tuple[int, int]) -> Array:
        """One raw head as decoded rows [N, A h w, 5 + C + 3 K]."""
        role, stride = self._heads[level], 8 << level
        anchors = self._anchors[level]
        height, width = size[0] // stride, size[1] // stride
        if role in outputs and outputs[role].ndim == 5:
            raw = take_output(outputs, role, (None, len(anchors), height, width, None))
        else:
            flat = take_output(outputs, role, (None, None, height, width))
            if flat.shape[1] % len(anchors):
                raise DecodeError(f"Output '{role}' has {flat.shape[1]} channels for {len(anchors)} anchors.")
            raw = flat.reshape(len(flat), len(anchors), -1, height, width).transpose(0, 1, 3, 4, 2)
        if raw.shape[-1] < 6 + 3 * self._count:
            raise DecodeError(f"Output '{role}' has {raw.shape[-1]} values an anchor, too few for its keypoints.")
        y, x = np.mgrid[:height, :width].astype(np.float32)
        cell = np.stack([x, y], axis=-1)
        probability = sigmoid(raw[..., : -3 * self._count])
        center = (2 * probability[..., :2] - np.float32(0.5) + cell) * stride
        extent = np.square(2 * probability[..., 2:4]) * anchors[:, None, None]
        points = raw[..., -3 * self._count :].reshape(*raw.shape[:-1], self._count, 3)
        places = (2 * points[..., :2] - np.float32(0.5) + cell[:, :, None]) * stride
        points = np.concatenate([places, sigmoid(points[..., 2:])], axis=-1).reshape(*raw.shape[:-1], -1)
        decoded = np.concatenate([center, extent, probability[..., 4:], points], axis=-1)
        return decoded.reshape(len(decoded), -1, decoded.shape[-1]).astype(np.float32, copy=False)
