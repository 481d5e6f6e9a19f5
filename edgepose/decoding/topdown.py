"""What the decoders of one person's crop have in common."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import SpecError
from ..keypoints import KeypointSet
from ..spec import PoseSpec
from .base import Detections
from .scoring import mean_visible_score

Array = npt.NDArray[np.float32]


def keypoint_set(spec: PoseSpec) -> KeypointSet:
    """The keypoints of a spec.

    Raises
    ------
    SpecError
        If it has none.
    """
    if spec.keypoints is None:
        raise SpecError(f"Decoder '{spec.decoder.type}' needs a keypoint set in the spec.")
    return spec.keypoints


def one_person_each(points: npt.NDArray[np.float64] | Array, scores: Array) -> list[Detections]:
    """One person for each crop.

    Parameters
    ----------
    points
        [N, K, 2]: x, y in pixels of the network input.
    scores
        float32 [N, K].

    Returns
    -------
    list of Detections
        N, each of one person; its score is the mean of the keypoint scores above 0.2, or 0.
    """
    keypoints = np.concatenate([points.astype(np.float32), scores[..., None]], axis=2)
    people = mean_visible_score(scores).astype(np.float32)
    return [Detections(keypoints[i : i + 1], people[i : i + 1]) for i in range(len(keypoints))]
