"""Known people, and specs to decode them with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepose.decoding import Detections
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.spec import DecoderSpec, InputSpec, Letterbox, PoseSpec

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class People:
    """P people: boxes [P, 4] as x1, y1, x2, y2; scores [P], falling; keypoints [P, K, 3]."""

    boxes: Floats
    scores: Floats
    keypoints: Floats

    def __len__(self) -> int:
        return len(self.scores)


def apart(count: int, size: tuple[int, int], seed: int = 0, keypoints: int = 17) -> People:
    """People side by side whose boxes do not touch."""
    rng = np.random.default_rng(seed)
    height, width = size
    slot = width / max(count, 1)
    low = np.stack([slot * (np.arange(count) + 0.1), rng.uniform(0, 0.3, count) * height], -1)
    extent = np.stack([np.full(count, 0.8 * slot), rng.uniform(0.3, 0.6, count) * height], -1)
    points = low[:, None] + rng.uniform(-0.1, 1.1, (count, keypoints, 2)) * extent[:, None]
    visible = rng.uniform(0.05, 0.95, (count, keypoints, 1))
    scores = np.sort(rng.uniform(0.3, 0.95, count))[::-1]
    return People(np.concatenate([low, low + extent], 1), scores, np.concatenate([points, visible], 2))


def spec(
    decoder: str,
    outputs: tuple[str, ...],
    options: dict[str, Any] | None = None,
    keypoints: KeypointSet | None = COCO_17,
) -> PoseSpec:
    fed = InputSpec("images", None, None, Letterbox(long_side=640))
    return PoseSpec(fed, DecoderSpec(decoder, {o: o for o in outputs}, options or {}), keypoints)


def logit(probability: Any) -> Any:
    return np.log(probability) - np.log1p(-np.asarray(probability))


def assert_found(found: Detections, people: People, pixels: float = 1e-3, scores: float = 1e-5) -> None:
    """The same people in the same order."""
    assert len(found.scores) == len(people)
    assert found.boxes is not None
    for array in (found.boxes, found.scores, found.keypoints):
        assert array.dtype == np.float32
    np.testing.assert_allclose(found.scores, people.scores, atol=scores)
    np.testing.assert_allclose(found.boxes, people.boxes, atol=pixels)
    np.testing.assert_allclose(found.keypoints[..., :2], people.keypoints[..., :2], atol=pixels)
    np.testing.assert_allclose(found.keypoints[..., 2], people.keypoints[..., 2], atol=scores)
