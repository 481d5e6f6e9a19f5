"""OpenPose family: heatmaps and part affinity fields -> people.

The three variants share their limbs and differ in what a peak is, how a limb is scored and how people are put
together; each gives the same people as its original:

``lightweight``
    Lightweight OpenPose (Daniil-Osokin/lightweight-human-pose-estimation.pytorch), also as ported to ixRT.
``omz``
    Open Model Zoo's Python demo for human-pose-estimation-0001.
``aimet``
    ``pose_estimation`` of AIMET's model zoo, after the first OpenPose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..keypoints import OPENPOSE_18
from ..spec import PoseSpec
from .base import Detections
from .bounded import bounded
from .openpose_groups import People, group_aimet, group_lightweight, group_omz
from .openpose_limbs import LIMBS, find_limbs
from .openpose_maps import Field, Resampling
from .openpose_peaks import Peaks, cross_peaks, pooled_peaks, smoothed_peaks
from .options import read_options, require_outputs, take_output

Array = npt.NDArray[np.float32]

_INTERPOLATION = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}
_UPSAMPLE = {"lightweight": 4, "omz": 1, "aimet": 8}
_FACTORS = (1, 2, 4, 8)


@dataclass(frozen=True)
class OpenPoseOptions:
    """Options of :class:`OpenPoseDecoder`; the defaults are the originals' constants.

    Attributes
    ----------
    variant
        Whose rules: ``lightweight``, ``omz`` or ``aimet``.
    upsample
        Factor 1, 2, 4 or 8 by which the maps are enlarged first; None for the variant's own (4, 1, 8).
    interpolation
        How the maps are enlarged.
    keypoint_threshold
        Smallest heatmap value of a keypoint.
    paf_threshold
        Smallest field along a limb.
    """

    variant: Literal["lightweight", "omz", "aimet"] = "lightweight"
    upsample: int | None = None
    interpolation: Literal["cubic", "linear"] = "cubic"
    keypoint_threshold: float = 0.1
    paf_threshold: float = 0.05


class OpenPoseDecoder:
    """Outputs ``heatmaps`` [N, 19, h, w] (18 keypoints and background) and ``pafs`` [N, 38, h, w].

    Coordinates are those of the middle of a map pixel, in a picture whose left edge is 0.  (The demo of Lightweight
    OpenPose gives the pixel's corner, one input pixel further left and up; its evaluation gives the middle.)  A
    person's score is the sum of its keypoints' scores and its limbs' affinities, times the number of its keypoints
    without the neck: the score of the originals' COCO results.  AIMET's is the sum alone, divided by the keypoints
    that COCO knows.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("heatmaps", "pafs"))
        self.options = read_options(spec.decoder, OpenPoseOptions)
        if spec.keypoints is None or spec.keypoints.names != OPENPOSE_18.names:
            raise SpecError("Decoder 'openpose' finds the 18 keypoints of the set 'openpose18'.")
        if self.options.keypoint_threshold <= 0 or self.options.paf_threshold < 0:
            raise SpecError("Decoder 'openpose': 'keypoint_threshold' must be positive, 'paf_threshold' not negative.")
        upsample = self.options.upsample
        if upsample is not None and upsample not in _FACTORS:
            raise SpecError(f"Decoder 'openpose': 'upsample' is {upsample}, must be 1, 2, 4 or 8.")
        self._upsample = upsample or _UPSAMPLE[self.options.variant]
        self._interpolation = _INTERPOLATION[self.options.interpolation]

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`.

        Values that are not finite count as 0.
        """
        heatmaps, pafs = _take(outputs)
        cells = heatmaps.shape[2], heatmaps.shape[3]
        resampling = Resampling(cells, self._upsample, self._interpolation)
        height, width = resampling.size
        scale = np.array([size[1] / width, size[0] / height], np.float32)
        return [self._people(h, p, resampling, scale) for h, p in zip(heatmaps, pafs, strict=True)]

    def decode_in_picture(
        self,
        outputs: Mapping[str, Array],
        size: tuple[int, int],
        to_image: npt.NDArray[np.float64],
        picture: tuple[int, int],
    ) -> list[Detections]:
        """As :meth:`decode`, but on maps resized to the picture's own resolution.

        This is what the originals do to measure AP: the maps are enlarged to the network's input, the padding is cut
        off, the rest is resized to the picture (with linear interpolation and no padding, in one step, as AIMET
        does).  It takes several times as long as :meth:`decode`.

        Parameters
        ----------
        outputs, size
            As for :meth:`decode`.
        to_image
            [N, 2, 3]: :attr:`edgepose.fitting.Fitted.to_image`.
        picture
            (height, width) of the picture in pixels.

        Returns
        -------
        list of Detections
            In pixels of the picture.

        Raises
        ------
        DecodeError
            If the outputs do not have the shape that this decoder reads, or their stride is not 1, 2, 4 or 8.
        """
        heatmaps, pafs = _take(outputs)
        cells = heatmaps.shape[2], heatmaps.shape[3]
        stride = size[0] // cells[0]
        if stride not in _FACTORS or (cells[0] * stride, cells[1] * stride) != size:
            raise DecodeError(f"Maps of {cells[0]} x {cells[1]} do not cover an input of {size[0]} x {size[1]} evenly.")
        found = []
        for heatmap, paf, matrix in zip(heatmaps, pafs, to_image, strict=True):
            window = _window(matrix, picture, size)
            factor, kept = stride, (None if window == (0, 0, *size) else window)
            if kept is None and self.options.interpolation == "linear":
                factor = 1
            resampling = Resampling(cells, factor, self._interpolation, kept, picture)
            found.append(self._people(heatmap, paf, resampling, np.ones(2, np.float32)))
        return found

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average with the mirrored maps; fields along x change their sign."""
        heatmaps, pafs = _take(outputs)
        mirrored, turned = _take(flipped)
        if mirrored.shape != heatmaps.shape:
            raise DecodeError("The outputs of the mirrored picture have another shape than those of the picture.")
        turned = turned[:, _FLIP_PAFS, :, ::-1] * _FLIP_SIGNS[:, None, None]
        return {
            "heatmaps": (heatmaps + mirrored[:, _FLIP_HEATMAPS, :, ::-1]) * np.float32(0.5),
            "pafs": (pafs + turned) * np.float32(0.5),
        }

    def _people(self, heatmaps: Array, pafs: Array, resampling: Resampling, scale: Array) -> Detections:
        options = self.options
        maps = bounded(heatmaps[: len(OPENPOSE_18)])
        height = resampling.size[0]
        if options.variant == "lightweight":
            peaks = cross_peaks(maps, resampling, options.keypoint_threshold)
        elif options.variant == "omz":
            peaks = pooled_peaks(maps, resampling, options.keypoint_threshold)
        else:
            peaks = smoothed_peaks(maps, resampling, options.keypoint_threshold)
        if not len(peaks):
            return _nobody()
        field = Field(bounded(pafs), resampling)
        limbs = find_limbs(peaks, field, options.paf_threshold, height if options.variant == "aimet" else None)
        group = {"lightweight": group_lightweight, "omz": group_omz, "aimet": group_aimet}[options.variant]
        people = group(peaks, limbs)
        if options.variant == "aimet":
            found = (np.delete(people.ids, _NECK, axis=1) >= 0).sum(axis=1)
            scores = people.score / np.maximum(found, 1)
        else:
            scores = people.score * np.maximum(people.count - 1, 0)
        return _detections(peaks, people, scale, scores)


_NECK = OPENPOSE_18.names.index("neck")
#: Heatmaps change places with their mirror images, the background stays.
_FLIP_HEATMAPS = [*OPENPOSE_18.flip_indices, len(OPENPOSE_18)]


def _mirrored_pafs() -> tuple[list[int], Array]:
    flip = OPENPOSE_18.flip_indices
    channel = {(a, b): c for a, b, c in LIMBS}
    source = [0] * (2 * len(LIMBS))
    for (a, b), c in channel.items():
        source[c] = channel[flip[a], flip[b]]
        source[c + 1] = source[c] + 1
    return source, np.array([-1, 1] * len(LIMBS), np.float32)


_FLIP_PAFS, _FLIP_SIGNS = _mirrored_pafs()


def _take(outputs: Mapping[str, Array]) -> tuple[Array, Array]:
    heatmaps = take_output(outputs, "heatmaps", (None, len(OPENPOSE_18) + 1, None, None))
    batch, _, height, width = heatmaps.shape
    pafs = take_output(outputs, "pafs", (batch, 2 * len(LIMBS), height, width))
    if not height or not width:
        raise DecodeError("Output 'heatmaps' has no cells.")
    return heatmaps, pafs


def _window(
    matrix: npt.NDArray[np.float64], picture: tuple[int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the picture in the network input, in pixels."""
    left, top = (round(-matrix[axis, 2] / matrix[axis, axis]) for axis in (0, 1))
    width, height = (round(picture[1 - axis] / matrix[axis, axis]) for axis in (0, 1))
    if top < 0 or left < 0 or top + height > size[0] or left + width > size[1] or height < 1 or width < 1:
        raise DecodeError("The map from the network input to the picture does not place the picture inside the input.")
    return top, left, height, width


def _nobody() -> Detections:
    empty = np.zeros((0, len(OPENPOSE_18), 3), np.float32)
    return Detections(empty, np.zeros(0, np.float32), np.zeros((0, 4), np.float32))


def _detections(peaks: Peaks, people: People, scale: Array, scores: npt.NDArray[np.float64]) -> Detections:
    """Detections from candidates' ids; the box of a person encloses the pixels of its keypoints."""
    centre = np.float32(peaks.centre)
    candidates = np.stack([(peaks.x + centre) * scale[0], (peaks.y + centre) * scale[1], peaks.score], axis=1)
    found = people.ids >= 0
    keypoints = np.zeros((*people.ids.shape, 3), np.float32)
    keypoints[found] = candidates[people.ids[found]]
    position, half = keypoints[..., :2], scale / 2
    low = np.where(found[..., None], position, np.float32(np.inf)).min(axis=1) - half
    high = np.where(found[..., None], position, np.float32(-np.inf)).max(axis=1) + half
    return Detections(keypoints, scores.astype(np.float32), np.concatenate([low, high], axis=1).astype(np.float32))
