"""Poses: the one result type of edgepose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import DependencyError, InputError
from .keypoints import KeypointSet

if TYPE_CHECKING:
    import supervision

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Poses:
    """The people found in one picture, best first.

    Attributes
    ----------
    keypoints
        float32 [N, K, 3]: x and y in pixels of the picture, score.  A keypoint that the model did not find has
        score 0.
    scores
        float32 [N]: confidence of each person, in the model's own scale.
    boxes
        float32 [N, 4]: x1, y1, x2, y2 in pixels of the picture.
    keypoint_set
        What the K keypoints are.
    size
        (height, width) of the picture in pixels.
    ids
        int64 [N] track identities, or None if nothing was tracked.
    """

    keypoints: Array
    scores: Array
    boxes: Array
    keypoint_set: KeypointSet
    size: tuple[int, int]
    ids: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        count, k = len(self.scores), len(self.keypoint_set)
        shapes = (self.keypoints.shape, self.scores.shape, self.boxes.shape)
        if shapes != ((count, k, 3), (count,), (count, 4)):
            raise InputError(f"Poses of {k} keypoints: keypoints, scores and boxes have the shapes {shapes}.")
        if self.ids is not None and self.ids.shape != (count,):
            raise InputError(f"Poses: {self.ids.shape} ids for {count} people.")

    @classmethod
    def empty(cls, keypoint_set: KeypointSet, size: tuple[int, int]) -> Poses:
        """Nobody was found."""
        k = len(keypoint_set)
        return cls(
            np.zeros((0, k, 3), np.float32), np.zeros(0, np.float32), np.zeros((0, 4), np.float32), keypoint_set, size
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Poses]:
        """One Poses of one person at a time."""
        return (self[i : i + 1] for i in range(len(self)))

    def __getitem__(self, index: int | slice | npt.NDArray[Any] | list[int]) -> Poses:
        """The people selected by a number, slice, mask or list of numbers."""
        rows = [index] if isinstance(index, (int, np.integer)) else index
        return Poses(
            self.keypoints[rows],
            self.scores[rows],
            self.boxes[rows],
            self.keypoint_set,
            self.size,
            None if self.ids is None else self.ids[rows],
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The K keypoint names."""
        return self.keypoint_set.names

    def keypoint(self, name: str) -> Array:
        """float32 [N, 3]: x, y, score of the keypoint ``name`` of every person.

        Raises
        ------
        InputError
            If the set has no keypoint of that name.
        """
        if name not in self.names:
            raise InputError(f"There is no keypoint '{name}'.", hint=f"There are: {', '.join(self.names)}.")
        return self.keypoints[:, self.names.index(name)]

    def to_dict(self) -> list[dict[str, Any]]:
        """One object a person: ``score``, ``box`` [x1, y1, x2, y2], ``keypoints`` [[x, y, score]...], ``id``.

        ``id`` is there only if the people were tracked.

        Numbers that are not finite become null, because JSON has no such numbers.
        """
        people: list[dict[str, Any]] = []
        for i in range(len(self)):
            person: dict[str, Any] = {
                "score": _plain(self.scores[i]),
                "box": [_plain(v) for v in self.boxes[i]],
                "keypoints": [[_plain(v) for v in point] for point in self.keypoints[i]],
            }
            if self.ids is not None:
                person["id"] = int(self.ids[i])
            people.append(person)
        return people

    def to_coco(self, image_id: int = 0, category_id: int = 1) -> list[dict[str, Any]]:
        """COCO keypoint results, as its evaluation server takes them.

        Parameters
        ----------
        image_id, category_id
            Copied into each result; 1 is COCO's person.

        Returns
        -------
        list of dict
            ``image_id``, ``category_id``, ``keypoints`` (x, y, score, K times in a row), ``score``.
        """
        return [
            {
                "image_id": image_id,
                "category_id": category_id,
                "keypoints": [_plain(v) for v in self.keypoints[i].ravel()],
                "score": _plain(self.scores[i]),
            }
            for i in range(len(self))
        ]

    def to_supervision(self) -> supervision.KeyPoints:
        """The same people as ``supervision.KeyPoints``.

        Raises
        ------
        DependencyError
            If supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DependencyError("supervision", "Poses.to_supervision()", "supervision") from error
        if not len(self):
            return supervision.KeyPoints.empty()
        xy, confidence = self.keypoints[..., :2].copy(), self.keypoints[..., 2].copy()
        data: dict[str, Any] = {} if self.ids is None else {"tracker_id": self.ids.copy()}
        class_id = np.zeros(len(self), np.int64)
        try:
            return supervision.KeyPoints(xy=xy, keypoint_confidence=confidence, class_id=class_id, data=data)
        except TypeError:  # supervision before 0.28 calls the same field 'confidence'
            return supervision.KeyPoints(xy=xy, confidence=confidence, class_id=class_id, data=data)

    def draw(
        self, image: npt.NDArray[np.uint8], *, min_score: float = 0.3, boxes: bool = False
    ) -> npt.NDArray[np.uint8]:
        """A copy of the picture with the skeletons drawn on it.

        Parameters
        ----------
        image
            uint8 [H, W, 3], BGR.
        min_score
            Keypoints of a lower score, and limbs that end in one, are left out.
        boxes
            Draw the person boxes as well.

        Raises
        ------
        InputError
            If the picture is not uint8 [H, W, 3].
        """
        from .drawing import draw_poses

        return draw_poses(image, self, min_score=min_score, boxes=boxes)


def _plain(value: np.floating[Any]) -> float | None:
    """Shortest decimal that reads back as the same float32."""
    return float(str(value)) if np.isfinite(value) else None
