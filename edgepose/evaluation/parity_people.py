"""What a network's outputs say about people, who is who in two answers, and which joints can be compared.

A joint can be compared if the reference is sure of where it is.  Two rules set joints aside:

* *weak*: the reference's score is below :data:`WEAK` of the best joint score of the same answer.  Such joints are not
  drawn or used, and lie wherever noise puts them.
* *unsettled*: rounding the reference's own outputs to half precision moves the joint by more than one pixel of the
  network input.  The map is flat there or has two equal peaks; a conversion that changes the last digit of an output
  moves the joint by half a picture, and neither place is wrong.

They are counted, and their shifts are reported apart.  In the same way a person whom the reference itself gains or
loses by such a rounding (just at the score threshold) is neither missing nor too many.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..decoding import Decoder, Detections
from ..decoding.assignment import assign
from ..errors import BundleError
from ..estimator import Stage
from ..fitting import fit
from ..fitting.base import apply
from ..golden import GoldenFrame
from ..keypoints import KeypointSet
from ..oks import mean_areas, pairwise_oks
from ..spec import Crop, PoseSpec

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Outputs = Mapping[str, Array]

#: A joint is weak below this part of the best joint score of an answer; a part, because the scale is the network's own.
WEAK = 0.05
#: Half precision keeps 11 binary digits: its rounding moves a number by at most this part of it.
HALF_GRAIN = 2.0**-11
#: Random roundings that are tried.  One finds a tie of two peaks in about two of five cases.
TRIALS = 4
#: A joint that moves by more than this many pixels of the network input is unsettled.
SETTLED = 1.0
#: Two people are not the same below this OKS, or this overlap of boxes where there is no OKS.
SAME_PERSON = 0.1


@dataclass(frozen=True, eq=False)
class People:
    """People in one picture.

    Attributes
    ----------
    joints
        float32 [N, K, 3]: x and y in pixels of the picture, score.  For a detector of boxes the two corners.
    scores
        float32 [N].
    areas
        float64 [N]: area of each person in square pixels, for OKS.
    """

    joints: Array
    scores: Array
    areas: Floats


@dataclass(frozen=True, eq=False)
class Readout:
    """Raw outputs of a network with what is needed to read people from them.

    Attributes
    ----------
    spec, decoder
        The network's contract, and its decoder.
    outputs
        Role -> float32, batch first.
    size
        (height, width) of the network input in pixels.
    to_image
        float64 [B, 2, 3]: pixels of the network input -> pixels of the picture.
    """

    spec: PoseSpec
    decoder: Decoder
    outputs: Outputs
    size: tuple[int, int]
    to_image: Floats

    def people(self, outputs: Outputs | None = None) -> list[People]:
        """People of each element of the batch, read from ``outputs`` if other ones are given."""
        found = self.decoder.decode(self.outputs if outputs is None else outputs, self.size)
        return [_in_picture(d, m, self.spec, self.size) for d, m in zip(found, self.to_image, strict=True)]

    def half_rounded(self) -> list[list[People]]:
        """:meth:`people` for outputs with errors as half precision makes them, several times."""
        rng = np.random.default_rng(0)
        answers = []
        for _ in range(TRIALS):
            shaken = {
                role: array * (1 + HALF_GRAIN * rng.uniform(-1, 1, array.shape).astype(np.float32))
                for role, array in self.outputs.items()
            }
            answers.append(self.people(shaken))
        return answers

    def pixel(self, index: int) -> float:
        """How many pixels of the picture a pixel of the network input covers, in element ``index`` of the batch."""
        return float(np.sqrt(_area_scale(self.to_image[index])))


def look(stage: Stage, image: npt.NDArray[np.uint8], boxes: Array | None) -> Readout:
    """Run a network on a picture; ``boxes`` [N, 4] of at least one person for a top-down network."""
    fitted = fit(image, stage.spec.input, boxes if stage.spec.is_top_down else None)
    outputs = stage.infer(fitted.pixels)
    return Readout(stage.spec, stage.decoder, outputs, fitted.size, fitted.to_image)


def look_at_golden(stage: Stage, frame: GoldenFrame) -> Readout:
    """Run a network on the input of a golden frame."""
    size, to_image = _placed(frame)
    return Readout(stage.spec, stage.decoder, stage.infer(frame.pixels), size, to_image)


def recorded(spec: PoseSpec, decoder: Decoder, frame: GoldenFrame) -> Readout:
    """The outputs that are stored with a golden frame.

    Raises
    ------
    BundleError
        If an output that the spec names is not there.
    """
    missing = [n for n in spec.decoder.outputs.values() if n not in frame.outputs]
    if missing:
        raise BundleError(
            f"The golden frames have no output {', '.join(map(repr, missing))}.", hint="Convert the checkpoint again."
        )
    size, to_image = _placed(frame)
    outputs = {role: np.asarray(frame.outputs[n], np.float32) for role, n in spec.decoder.outputs.items()}
    return Readout(spec, decoder, outputs, size, to_image)


def similarity(first: People, second: People, keypoints: KeypointSet | None) -> Floats:
    """How much each of N people looks like each of M, 0 to 1; [N, M].

    OKS; the overlap of the joints' extents for keypoints without sigmas and for boxes.
    """
    if keypoints is not None and keypoints.sigmas:
        areas = mean_areas(first.areas, second.areas)
        return pairwise_oks(first.joints.astype(np.float64), second.joints.astype(np.float64), areas, keypoints)
    return _overlap(extent(first.joints), extent(second.joints))


def match(similar: Floats) -> list[tuple[int, int]]:
    """Pairs (row, column) of the same people, so that the pairs are as similar as possible in all."""
    if not similar.size:
        return []
    turned = similar.shape[0] > similar.shape[1]
    cost = 1 - (similar.T if turned else similar)
    pairs = [(row, int(column)) for row, column in enumerate(assign(cost))]
    pairs = sorted((c, r) for r, c in pairs) if turned else pairs
    return [(r, c) for r, c in pairs if similar[r, c] >= SAME_PERSON]


def together(people: Sequence[People]) -> People:
    """The people of several answers about one picture."""
    return People(
        np.concatenate([p.joints for p in people]),
        np.concatenate([p.scores for p in people]),
        np.concatenate([p.areas for p in people]),
    )


def _placed(frame: GoldenFrame) -> tuple[tuple[int, int], Floats]:
    count, height, width = frame.pixels.shape[:3]
    to_image = np.tile(np.eye(2, 3), (count, 1, 1)) if frame.to_image is None else frame.to_image
    return (height, width), to_image


def _in_picture(found: Detections, to_image: Floats, spec: PoseSpec, size: tuple[int, int]) -> People:
    joints = found.keypoints
    if not joints.shape[1]:
        boxes = np.zeros((len(joints), 4), np.float32) if found.boxes is None else found.boxes
        corners = boxes.reshape(-1, 2, 2)
        scores = np.repeat(found.scores, 2).reshape(-1, 2, 1)
        joints = np.concatenate([corners, scores], axis=2).astype(np.float32)
    mapped = joints.copy()
    mapped[..., :2] = apply(to_image, joints[..., :2])
    mapped[joints[..., 2] == 0] = 0
    scale = _area_scale(to_image)
    if isinstance(spec.input.fit, Crop):
        # The crop shows the person's box and the padding around it.
        areas = np.full(len(joints), scale * size[0] * size[1] / spec.input.fit.padding**2)
    else:
        extents = extent(joints) if found.boxes is None else found.boxes
        areas = scale * np.prod(np.maximum(extents[:, 2:] - extents[:, :2], 0), axis=1, dtype=np.float64)
    return People(mapped, found.scores, areas)


def _area_scale(to_image: Floats) -> float:
    """Square pixels of the picture that a square pixel of the input covers."""
    (a, b), (c, d) = to_image[:, :2]
    return float(abs(a * d - b * c))


def extent(joints: Array) -> Array:
    """Boxes [N, 4] around the joints whose score is above 0."""
    seen = joints[..., 2:] > 0
    low = np.where(seen, joints[..., :2], np.float32(np.inf)).min(axis=1, initial=np.inf)
    high = np.where(seen, joints[..., :2], np.float32(-np.inf)).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, np.float32(0)).astype(np.float32)


def _overlap(first: Array, second: Array) -> Floats:
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    common = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0).prod(axis=2)
    both = (a[..., 2:] - a[..., :2]).prod(axis=2) + (b[..., 2:] - b[..., :2]).prod(axis=2) - common
    overlap: Floats = np.divide(common, both, out=np.zeros_like(common), where=both > 0)
    return overlap
