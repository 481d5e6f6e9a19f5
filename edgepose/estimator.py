"""From pictures to poses: one code for every model and every device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from .decoding import Decoder, Detections
from .decoding.nms import oks_nms
from .devices import Device
from .errors import InputError, SpecError
from .fitting import Fitted, fit, to_tensor
from .fitting.base import apply
from .fitting.geometry import crop_geometry
from .plugins import Session
from .poses import Poses
from .spec import Crop, PoseSpec

Image = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float32]

#: Two answers of a top-down model are the same person above this OKS (SimpleBaseline's OKS_THRE); detectors give
#: several boxes for one person.
DUPLICATE_OKS = 0.9

#: People of one frame that go through a network of dynamic batch at once; bounds the memory of a crowd.
MAX_BATCH = 32


@dataclass(frozen=True, eq=False)
class Stage:
    """A loaded network with its contract."""

    spec: PoseSpec
    session: Session
    decoder: Decoder

    @property
    def batch(self) -> int | None:
        """Fixed batch size of the engine, or None if any."""
        shape = self._input_shape()
        return shape[0] if shape else None

    def _input_shape(self) -> tuple[int | None, ...]:
        name = self.spec.input.name
        return next((i.shape for i in self.session.inputs if i.name == name), ())

    def detect(self, fitted: Fitted, *, flip: bool = False) -> list[Detections]:
        """People in each element of a batch, in pixels of the network input."""
        if not len(fitted.pixels):
            return []
        outputs = self.infer(fitted.pixels)
        if flip:
            outputs = self.decoder.merge_flip(outputs, self.infer(fitted.pixels[:, :, ::-1]))
        return self.decoder.decode(outputs, fitted.size)

    def infer(self, pixels: npt.NDArray[Any]) -> Mapping[str, npt.NDArray[np.float32]]:
        """Raw float32 outputs by the decoder's role names, for [B, H, W, 3] BGR pixels."""
        size = self.batch or MAX_BATCH
        parts = [self._infer_part(pixels[i : i + size]) for i in range(0, len(pixels), size)]
        if len(parts) == 1:
            return parts[0]
        return {role: np.concatenate([p[role] for p in parts]) for role in self.spec.decoder.outputs}

    def _infer_part(self, pixels: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        tensor = to_tensor(pixels, self.spec.input)
        count, batch = len(tensor), self.batch
        if batch is not None and count < batch:
            tensor = np.concatenate([tensor, np.zeros((batch - count, *tensor.shape[1:]), tensor.dtype)])
        results = self.session.run({self.spec.input.name: tensor})
        return {role: np.asarray(results[name], np.float32)[:count] for role, name in self.spec.decoder.outputs.items()}


class Estimator:
    """Finds people in pictures.  Made by :func:`edgepose.load`; safe to use from one thread at a time.

    Attributes
    ----------
    name
        Name of the model.
    device
        The device that it runs on.
    stages
        Its networks: one, or a detector and a top-down network.
    """

    def __init__(
        self, name: str, device: Device, stages: Sequence[Stage], *, flip: bool = False, min_score: float | None = None
    ) -> None:
        self.name = name
        self.device = device
        self.stages = tuple(stages)
        self._flip = flip
        self._min_score = min_score
        keypoints = self.stages[-1].spec.keypoints
        if keypoints is None:
            raise SpecError(f"'{name}' finds person boxes only, no keypoints.", hint="Use it as --detector.")
        self.keypoint_set = keypoints

    @property
    def placement(self) -> str:
        """What each stage really runs on, as read back from its engine."""
        return "; ".join(dict.fromkeys(s.session.placement for s in self.stages))

    @overload
    def __call__(self, image: Image, boxes: npt.ArrayLike | None = None) -> Poses: ...

    @overload
    def __call__(self, image: Sequence[Image], boxes: Sequence[npt.ArrayLike] | None = None) -> list[Poses]: ...

    def __call__(self, image: Image | Sequence[Image], boxes: Any = None) -> Poses | list[Poses]:
        """Find the people in a picture, or in each of several.

        Parameters
        ----------
        image
            uint8 [H, W, 3], BGR as OpenCV reads it; or a sequence of such pictures, of any sizes; or uint8
            [B, H, W, 3].
        boxes
            Person boxes [N, 4] as x1, y1, x2, y2 in pixels, or [N, 5] with a score, for a top-down model, in place of
            its detector's; for several pictures a sequence of such arrays.

        Returns
        -------
        Poses or list of Poses
            Best person first; an empty Poses if nobody was found.

        Raises
        ------
        InputError
            If a picture or box has the wrong form.
        DeviceError
            If the engine fails.
        """
        if isinstance(image, np.ndarray) and image.ndim != 4:
            return self._one(image, boxes)
        if boxes is not None and len(boxes) != len(image):
            raise InputError(f"Boxes for {len(boxes)} pictures were given with {len(image)} pictures.")
        given = [None] * len(image) if boxes is None else boxes
        return [self._one(picture, b) for picture, b in zip(image, given, strict=True)]

    def _one(self, image: Image, boxes: npt.ArrayLike | None) -> Poses:
        last = self.stages[-1]
        if not last.spec.is_top_down:
            if boxes is not None:
                raise InputError(f"'{self.name}' looks at whole pictures; it takes no person boxes.")
            return self._whole_picture(image, last)
        if boxes is not None:
            people, scores = _split_scores(boxes)
            return self._confident(self._top_down(image, people, scores))
        if len(self.stages) < 2:
            raise InputError(
                f"'{self.name}' looks at one person at a time and was given neither person boxes nor a detector.",
                hint="Give boxes, or load it with a detector.",
            )
        return without_duplicates(self._top_down(image, *self.boxes(image)), last.spec)

    def boxes(self, image: Image) -> tuple[Boxes, npt.NDArray[np.float32]]:
        """Person boxes [N, 4] as x1, y1, x2, y2 in pixels, and scores [N], of the first stage."""
        stage = self.stages[0]
        fitted = fit(image, stage.spec.input)
        detections = stage.detect(fitted)[0]
        return _boxes_in_picture(detections, fitted.to_image[0], image.shape[:2]), detections.scores

    def _whole_picture(self, image: Image, stage: Stage) -> Poses:
        fitted = fit(image, stage.spec.input)
        detections = stage.detect(fitted, flip=self._flip)[0]
        keypoints = _in_picture(detections.keypoints, fitted.to_image[0])
        boxes = _boxes_in_picture(detections, fitted.to_image[0], image.shape[:2])
        return self._confident(self._poses(keypoints, detections.scores, boxes, image))

    def _confident(self, poses: Poses) -> Poses:
        """Without the people below the least score; a detector leaves out weak boxes by itself."""
        return poses if self._min_score is None else poses[poses.scores >= self._min_score]

    def _top_down(self, image: Image, boxes: Boxes, box_scores: npt.NDArray[np.float32]) -> Poses:
        stage = self.stages[-1]
        fitted = fit(image, stage.spec.input, boxes)
        found = stage.detect(fitted, flip=self._flip)
        if not found:
            return Poses.empty(self.keypoint_set, (image.shape[0], image.shape[1]))
        keypoints = np.concatenate([_in_picture(d.keypoints, m) for d, m in zip(found, fitted.to_image, strict=True)])
        scores = np.concatenate([d.scores for d in found]) * box_scores
        return self._poses(keypoints, scores, boxes, image)

    def _poses(
        self, keypoints: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], boxes: Boxes, image: Image
    ) -> Poses:
        order = np.argsort(-scores, kind="stable")
        size = image.shape[0], image.shape[1]
        return Poses(keypoints[order], scores[order], boxes[order], self.keypoint_set, size)

    def close(self) -> None:
        """Release the engines."""
        for stage in self.stages:
            stage.session.close()

    def __enter__(self) -> Estimator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def without_duplicates(poses: Poses, spec: PoseSpec) -> Poses:
    """People of a top-down model without those that OKS-NMS finds to be the same; all if the set has no sigmas."""
    if len(poses) < 2 or not poses.keypoint_set.sigmas:
        return poses
    areas = _crop_areas(poses, spec)
    return poses[oks_nms(poses.keypoints, poses.scores, areas, poses.keypoint_set, DUPLICATE_OKS)]


def _crop_areas(poses: Poses, spec: PoseSpec) -> npt.NDArray[np.float64]:
    """Areas [N] in square pixels that the crops cover: SimpleBaseline's object area, padding included."""
    entry = spec.input
    assert isinstance(entry.fit, Crop)
    assert entry.height is not None
    assert entry.width is not None
    maps = crop_geometry(poses.boxes, (entry.height, entry.width), entry.fit, poses.size).to_image
    areas: npt.NDArray[np.float64] = np.abs(np.linalg.det(maps[:, :, :2])) * entry.height * entry.width
    return areas


def _in_picture(keypoints: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Keypoints [N, K, 3] mapped to the picture; those that were not found stay (0, 0, 0)."""
    mapped = keypoints.copy()
    mapped[..., :2] = apply(matrix, keypoints[..., :2])
    mapped[keypoints[..., 2] == 0] = 0
    return mapped


def _split_scores(boxes: npt.ArrayLike) -> tuple[Boxes, npt.NDArray[np.float32]]:
    """[N, 4] boxes with score 1, or [N, 5] boxes with their own."""
    try:
        rows = np.asarray(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"Person boxes must be numbers [N, 4] or [N, 5]: {error}.") from error
    if not rows.size:
        rows = np.zeros((0, 4), np.float32)
    if rows.ndim != 2 or rows.shape[1] not in (4, 5):
        raise InputError(f"Person boxes must be [N, 4] or [N, 5]; these are {list(rows.shape)}.")
    scores = rows[:, 4].copy() if rows.shape[1] == 5 else np.ones(len(rows), np.float32)
    return rows[:, :4].copy(), scores


def _boxes_in_picture(detections: Detections, matrix: npt.NDArray[np.float64], size: tuple[int, ...]) -> Boxes:
    """Boxes mapped to the picture and clipped to it; from the keypoints' extent if the decoder finds no boxes."""
    boxes = detections.boxes
    if boxes is None:
        boxes = _extent(detections.keypoints)
    corners = apply(matrix, boxes.reshape(-1, 2, 2))
    limits = np.array([size[1], size[0]], np.float32)
    return np.clip(corners, 0, limits).reshape(-1, 4)


def _extent(keypoints: npt.NDArray[np.float32]) -> Boxes:
    if not keypoints.shape[0] or not keypoints.shape[1]:
        return np.zeros((keypoints.shape[0], 4), np.float32)
    seen = keypoints[..., 2:] > 0
    low = np.where(seen, keypoints[..., :2], np.float32(np.inf)).min(axis=1)
    high = np.where(seen, keypoints[..., :2], np.float32(-np.inf)).max(axis=1)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0).astype(np.float32)
