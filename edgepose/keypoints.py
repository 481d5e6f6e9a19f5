"""Keypoint sets: names, skeleton, mirror pairs and OKS sigmas.

Sources of the constants: COCO-17 sigmas from the COCO keypoint evaluation (cocodataset.org/#keypoints-eval);
Halpe-26 from the Halpe full-body data set; whole-body sigmas from COCO-WholeBody (Jin et al., ECCV 2020).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import SpecError


@dataclass(frozen=True)
class KeypointSet:
    """What the K keypoints of a model are.

    Attributes
    ----------
    name
        Short name, ``coco17`` for instance.
    names
        K keypoint names, in the order of the model's outputs.
    skeleton
        Pairs of indices to draw as limbs.
    flip_pairs
        Pairs of indices that change places in a mirrored image.
    sigmas
        K standard deviations of OKS, as fractions of the object scale (the ``.026 .025 ...`` of COCO); empty when
        the set has none, in which case OKS cannot be computed.
    """

    name: str
    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0 or len(set(self.names)) != count:
            raise SpecError(f"Keypoint set '{self.name}': names must be at least one and all different.")
        if self.sigmas and len(self.sigmas) != count:
            raise SpecError(f"Keypoint set '{self.name}': {len(self.sigmas)} sigmas for {count} keypoints.")
        if any(not (math.isfinite(s) and s > 0) for s in self.sigmas):
            raise SpecError(f"Keypoint set '{self.name}': sigmas must be positive numbers.")
        for kind, pairs in (("skeleton", self.skeleton), ("flip_pairs", self.flip_pairs)):
            if any(len(p) != 2 or not all(0 <= i < count for i in p) for p in pairs):
                raise SpecError(f"Keypoint set '{self.name}': {kind} points outside its {count} keypoints.")
        flat = [i for pair in self.flip_pairs for i in pair]
        if len(flat) != len(set(flat)):
            raise SpecError(f"Keypoint set '{self.name}': a keypoint is in two flip pairs.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def flip_indices(self) -> tuple[int, ...]:
        """For each keypoint the index of its mirror image (itself when it has none)."""
        order = list(range(len(self.names)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "names": list(self.names),
            "skeleton": [list(p) for p in self.skeleton],
            "flip_pairs": [list(p) for p in self.flip_pairs],
            "sigmas": list(self.sigmas),
        }

    @classmethod
    def from_dict(cls, data: str | Mapping[str, Any]) -> KeypointSet:
        """Build from plain data, or from the name of a known set.

        Raises
        ------
        SpecError
            If the data is not that of a keypoint set.
        """
        if isinstance(data, str):
            if data not in KEYPOINT_SETS:
                raise SpecError(
                    f"Unknown keypoint set '{data}'.",
                    hint=f"Known: {', '.join(KEYPOINT_SETS)}; or give names, skeleton, flip_pairs and sigmas.",
                )
            return KEYPOINT_SETS[data]
        if not isinstance(data, Mapping):
            raise SpecError(f"A keypoint set is a name or an object, not {type(data).__name__}.")
        try:
            return cls(
                name=str(data["name"]),
                names=tuple(str(n) for n in data["names"]),
                skeleton=tuple((int(a), int(b)) for a, b in data.get("skeleton", ())),
                flip_pairs=tuple((int(a), int(b)) for a, b in data.get("flip_pairs", ())),
                sigmas=tuple(float(s) for s in data.get("sigmas", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpecError(f"Keypoint set is not well formed: {error!r}.") from error


def _sides(order: str) -> tuple[str, ...]:
    """Expand ``eye ear`` to ``left_eye right_eye left_ear right_ear``."""
    return tuple(f"{side}_{part}" for part in order.split() for side in ("left", "right"))


_BODY_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
    0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
_BODY_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
_BODY_FLIP = tuple((i, i + 1) for i in range(1, 17, 2))

COCO_17 = KeypointSet(
    name="coco17",
    names=("nose", *_sides("eye ear shoulder elbow wrist hip knee ankle")),
    skeleton=_BODY_SKELETON,
    flip_pairs=_BODY_FLIP,
    sigmas=_BODY_SIGMAS,
)

OPENPOSE_18 = KeypointSet(
    name="openpose18",
    names=(
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    skeleton=(
        (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
        (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
    ),
    flip_pairs=((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13), (14, 15), (16, 17)),
    # The neck is not a COCO keypoint; Lightweight OpenPose gives it the shoulder's sigma.
    sigmas=(
        0.026, 0.079, 0.079, 0.072, 0.062, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087, 0.089,
        0.025, 0.025, 0.035, 0.035,
    ),
)  # fmt: skip

HALPE_26 = KeypointSet(
    name="halpe26",
    names=(*COCO_17.names, "head", "neck", "hip", *_sides("big_toe small_toe heel")),
    skeleton=(
        (15, 13), (13, 11), (11, 19), (16, 14), (14, 12), (12, 19), (17, 18), (18, 19), (18, 5), (5, 7), (7, 9),
        (18, 6), (6, 8), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (15, 20), (15, 22), (15, 24), (16, 21),
        (16, 23), (16, 25),
    ),
    flip_pairs=(*_BODY_FLIP, (20, 21), (22, 23), (24, 25)),
    sigmas=(*_BODY_SIGMAS, 0.026, 0.026, 0.066, *([0.079] * 6)),
)  # fmt: skip

_HAND = ("root", *(f"{f}{i}" for f in ("thumb", "forefinger", "middle", "ring", "pinky") for i in range(1, 5)))
_HAND_SIGMAS = (
    0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017,
    0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031,
)  # fmt: skip
_HAND_LIMBS = tuple((0 if i == 1 else finger + i - 1, finger + i) for finger in (0, 4, 8, 12, 16) for i in range(1, 5))
# Mirror pairs of the 68 face points (300-W numbering): contour, brows, nose, eyes, mouth.
_FACE_FLIP = (
    *((i, 16 - i) for i in range(8)),
    *((i, 43 - i) for i in range(17, 22)),
    (31, 35), (32, 34),
    (36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46),
    (48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67),
)  # fmt: skip

COCO_WHOLEBODY_133 = KeypointSet(
    name="coco_wholebody133",
    names=(
        *COCO_17.names,
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
        *(f"face_{i}" for i in range(68)),
        *(f"left_hand_{part}" for part in _HAND),
        *(f"right_hand_{part}" for part in _HAND),
    ),
    skeleton=(
        *_BODY_SKELETON,
        (15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22), (9, 91), (10, 112),
        *((91 + a, 91 + b) for a, b in _HAND_LIMBS),
        *((112 + a, 112 + b) for a, b in _HAND_LIMBS),
    ),
    flip_pairs=(
        *_BODY_FLIP,
        (17, 20), (18, 21), (19, 22),
        *((23 + a, 23 + b) for a, b in _FACE_FLIP),
        *((91 + i, 112 + i) for i in range(21)),
    ),
    sigmas=(
        *_BODY_SIGMAS,
        0.068, 0.066, 0.066, 0.092, 0.094, 0.094,
        0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038, 0.043,
        0.041, 0.045,
        0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015,
        0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010,
        0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034,
        0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011,
        0.008, 0.008, 0.008, 0.010, 0.008,
        *_HAND_SIGMAS,
        *_HAND_SIGMAS,
    ),
)  # fmt: skip

KEYPOINT_SETS: dict[str, KeypointSet] = {s.name: s for s in (COCO_17, OPENPOSE_18, HALPE_26, COCO_WHOLEBODY_133)}
