"""Associative embedding: heatmaps and tag maps -> people.

Two variants, each like its original:

``omz``
    Open Model Zoo's Python demo (human-pose-estimation-0005 to 0007, and higher-hrnet-w32 with its own constants).
``higherhrnet``
    HRNet/HigherHRNet-Human-Pose-Estimation, ``lib/core/group.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .bounded import bounded
from .embedding_groups import Candidates, TaggedPerson, group_by_tag
from .options import read_options, require_outputs, take_output

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

#: COCO's joints from head to foot, hips before arms, as all descendants of the original take them.
_COCO_ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)
#: Mean score of the joints that a person must exceed in Open Model Zoo; HigherHRNet keeps everybody.
_POSE_THRESHOLD = {"omz": 0.1, "higherhrnet": -float("inf")}
#: From the corner of a map pixel to where the original sees its peak.
_OFFSET = {"omz": 0.0, "higherhrnet": 0.5}


@dataclass(frozen=True)
class AssociativeEmbeddingOptions:
    """Options of :class:`AssociativeEmbeddingDecoder`; the defaults are the originals' constants.

    Attributes
    ----------
    variant
        Whose rules: ``omz`` or ``higherhrnet``.
    peaks
        ``window``: a joint is where the heatmap has the maximum of a window of ``kernel`` x ``kernel``.  ``sign``: the
        network did this itself and gives all other values negated (human-pose-estimation-0005 to 0007).
    kernel
        Odd size of the window in map pixels.
    upsample
        Factor by which the maps are enlarged first, linearly (HigherHRNet's evaluation: to the network's input).
    offset
        What is added to x and y of a map pixel; None for the variant's own (0 and 0.5).
    detection_threshold
        A joint's heatmap value is more than this.
    tag_threshold
        Tags of one person differ by less than this.
    pose_threshold
        The mean score of a person's joints is more than this; None for the variant's own (0.1 and no limit).
    max_people
        Candidates of each joint.
    """

    variant: Literal["omz", "higherhrnet"] = "omz"
    peaks: Literal["window", "sign"] = "window"
    kernel: int = 5
    upsample: int = 1
    offset: float | None = None
    detection_threshold: float = 0.1
    tag_threshold: float = 1.0
    pose_threshold: float | None = None
    max_people: int = 30


class AssociativeEmbeddingDecoder:
    """Outputs ``heatmaps`` [N, K, h, w] and ``embeddings`` [N, K, h, w] or [N, K, h, w, E].

    Where the network finds the peaks itself and gives them as a map of their own, that is ``nms_heatmaps``
    [N, K, h, w], 0 elsewhere.  A person's score is the mean of its joints' scores, those that are missing counting 0;
    joints that only the tags reveal are added afterwards.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("heatmaps", "embeddings"), ("nms_heatmaps",))
        self.options = read_options(spec.decoder, AssociativeEmbeddingOptions)
        if spec.keypoints is None:
            raise SpecError("Decoder 'associative-embedding' needs a keypoint set in the spec.")
        options = self.options
        if options.kernel < 1 or options.kernel % 2 == 0:
            raise SpecError(f"Decoder 'associative-embedding': 'kernel' is {options.kernel}, must be odd.")
        if not 1 <= options.upsample <= 8 or not 1 <= options.max_people <= 100:
            raise SpecError("Decoder 'associative-embedding': 'upsample' is 1 to 8, 'max_people' 1 to 100.")
        if options.detection_threshold < 0:
            raise SpecError("Decoder 'associative-embedding': 'detection_threshold' must not be negative.")
        self._count = len(spec.keypoints)
        self._flip = list(spec.keypoints.flip_indices)
        self._order = _COCO_ORDER if self._count == len(_COCO_ORDER) else tuple(range(self._count))
        given = options.pose_threshold
        self._pose_threshold = _POSE_THRESHOLD[options.variant] if given is None else given
        self._offset = np.float32(_OFFSET[options.variant] if options.offset is None else options.offset)

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`.

        Values that are not finite count as 0.
        """
        heatmaps, embeddings = self._take(outputs)
        peaks = None
        if "nms_heatmaps" in outputs:
            peaks = take_output(outputs, "nms_heatmaps", heatmaps.shape)
        found = []
        for place, (maps, tags) in enumerate(zip(heatmaps, embeddings, strict=True)):
            found.append(self._people(maps, tags, None if peaks is None else peaks[place], size))
        return found

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average the heatmaps; the tags of the mirrored picture are no average but a second tag of each pixel."""
        if "nms_heatmaps" in outputs or self.options.peaks == "sign":
            raise DecodeError(
                "There is no flip test for a network that finds the peaks of its heatmaps itself.",
                hint="Run it without --flip.",
            )
        heatmaps, embeddings = self._take(outputs)
        mirrored, turned = self._take(flipped)
        if mirrored.shape != heatmaps.shape:
            raise DecodeError("The outputs of the mirrored picture have another shape than those of the picture.")
        return {
            "heatmaps": (heatmaps + mirrored[:, self._flip, :, ::-1]) * np.float32(0.5),
            "embeddings": np.concatenate([embeddings, turned[:, self._flip, :, ::-1]], axis=-1),
        }

    def _take(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        """Heatmaps [N, K, h, w] and embeddings [N, K, h, w, E]."""
        heatmaps = take_output(outputs, "heatmaps", (None, self._count, None, None))
        if 0 in heatmaps.shape[2:]:
            raise DecodeError("Output 'heatmaps' has no cells.")
        tags = outputs.get("embeddings")
        if tags is not None and np.ndim(tags) == heatmaps.ndim:
            return heatmaps, take_output(outputs, "embeddings", heatmaps.shape)[..., None]
        return heatmaps, take_output(outputs, "embeddings", (*heatmaps.shape, None))

    def _people(self, maps: Array, tags: Array, peaks: Array | None, size: tuple[int, int]) -> Detections:
        options = self.options
        maps, tags = bounded(maps), bounded(tags)
        peaks = None if peaks is None else bounded(peaks)
        if options.peaks == "sign" and peaks is None:
            peaks, maps = maps, np.abs(maps)
        if options.upsample > 1:
            maps = _enlarge(maps[..., None], options.upsample)[..., 0]
            tags = _enlarge(tags, options.upsample)
            peaks = None
        if peaks is None:
            window = np.ones((options.kernel, options.kernel), np.uint8)
            peaks = np.stack([m * (m == cv2.dilate(m, window)) for m in maps])
        candidates = [self._candidates(p, t) for p, t in zip(peaks, tags, strict=True)]
        omz = options.variant == "omz"
        people = group_by_tag(
            candidates,
            self._order,
            options.tag_threshold,
            prefer_near=omz,
            most=None if omz else options.max_people,
        )
        scores = np.array([p.joints[:, 2].mean() for p in people], np.float32)
        kept = scores > self._pose_threshold
        people = [p for p, keep in zip(people, kept, strict=True) if keep]
        keypoints = np.zeros((len(people), self._count, 3), np.float32)
        for person, out in zip(people, keypoints, strict=True):
            out[...] = person.joints
            self._complete(person, maps, tags, out)
            _shift_a_quarter(out, maps, edges=not omz)
        seen = keypoints[..., 2] > 0
        scale = np.array([size[1] / maps.shape[2], size[0] / maps.shape[1]], np.float32)
        keypoints[..., :2] = (keypoints[..., :2] + self._offset) * scale * seen[..., None]
        return Detections(keypoints, scores[kept])

    def _candidates(self, peaks: Array, tags: Array) -> Candidates:
        flat = peaks.ravel()
        place = np.flatnonzero(flat > np.float32(self.options.detection_threshold))
        place = place[np.argsort(-flat[place], kind="stable")][: self.options.max_people]
        y, x = np.divmod(place, peaks.shape[1])
        return Candidates(np.stack([x, y], axis=1).astype(np.float32), flat[place], tags[y, x])

    def _complete(self, person: TaggedPerson, maps: Array, tags: Array, joints: Array) -> None:
        """Put each missing joint where the tag is like the person's, and of such places where the heatmap is highest.

        Differences of tags are compared in whole numbers.
        """
        for joint in np.flatnonzero(joints[:, 2] <= 0):
            if self.options.variant == "omz":
                apart = np.floor(np.abs(tags[joint, ..., 0] - person.tag[0]) + np.float32(0.5))
            else:
                apart = np.rint(np.linalg.norm(tags[joint] - person.tag, axis=-1))
            apart -= maps[joint]
            y, x = np.divmod(int(apart.argmin()), apart.shape[1])
            if maps[joint, y, x] > 0:
                joints[joint] = x, y, maps[joint, y, x]


def _shift_a_quarter(joints: Array, maps: Array, *, edges: bool) -> None:
    """Move each joint a quarter of a pixel towards its larger neighbour along x and along y.

    Open Model Zoo leaves joints within a pixel of the edge, and those between equal neighbours; HigherHRNet
    (``edges``) repeats the edge, and moves left and up between equals.
    """
    _, height, width = maps.shape
    for joint in np.flatnonzero(joints[:, 2] > 0):
        plane = maps[joint]
        x, y = int(joints[joint, 0]), int(joints[joint, 1])
        if not edges and not (1 < x < width - 1 and 1 < y < height - 1):
            continue
        along = plane[y, min(x + 1, width - 1)] - plane[y, max(x - 1, 0)]
        down = plane[min(y + 1, height - 1), x] - plane[max(y - 1, 0), x]
        for axis, slope in enumerate((along, down)):
            direction = np.sign(slope)
            joints[joint, axis] += np.float32(0.25) * (-1 if edges and direction == 0 else direction)


def _enlarge(maps: Array, factor: int) -> Array:
    """[K, h, w, E] -> [K, h factor, w factor, E], linearly."""
    size = maps.shape[2] * factor, maps.shape[1] * factor
    planes = [[cv2.resize(np.ascontiguousarray(m[..., e]), size) for e in range(m.shape[-1])] for m in maps]
    return np.stack([np.stack(p, axis=-1) for p in planes]).astype(np.float32)
