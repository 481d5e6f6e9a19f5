"""People from candidates by their tags (associative embedding: Newell et al., 2017)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .assignment import assign

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

#: Cost of giving a candidate to nobody.
_NOBODY = np.float32(1e10)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates for one joint, the strongest first.

    Attributes
    ----------
    position
        float32 [n, 2]: x and y of the map pixel.
    score
        float32 [n].
    tag
        float32 [n, E].
    """

    position: Array
    score: Array
    tag: Array


@dataclass(eq=False)
class TaggedPerson:
    """A person in the making.

    Attributes
    ----------
    joints
        float32 [K, 3]: x, y, score; 0 where there is none.
    tag, centre
        Means over the joints found so far: float32 [E] and [2].
    """

    joints: Array
    tag: Array
    centre: Array
    count: int = 0

    def add(self, joint: int, candidates: Candidates, place: int) -> None:
        """Give the person a candidate for ``joint``."""
        position = candidates.position[place]
        self.joints[joint, :2] = position
        self.joints[joint, 2] = candidates.score[place]
        self.tag = (self.tag * self.count + candidates.tag[place]) / (self.count + 1)
        self.centre = (self.centre * self.count + position) / (self.count + 1)
        self.count += 1


def group_by_tag(
    candidates: list[Candidates],
    order: tuple[int, ...],
    tag_threshold: float,
    *,
    prefer_near: bool,
    most: int | None = None,
) -> list[TaggedPerson]:
    """Give each candidate to the person with the nearest tag, joint after joint; what fits nobody begins a person.

    Parameters
    ----------
    candidates
        For each of K joints.
    order
        Joints, the most reliable first.
    tag_threshold
        Tags of one person differ by less than this.
    prefer_near
        Among people whose tags are near enough, prefer those whose joints are near in the picture (Open Model Zoo).
    most
        How many people, the first ones, may be given candidates; None for all.
    """
    people: list[TaggedPerson] = []
    for joint in order:
        found = candidates[joint]
        known = people[:most]
        columns: Index = np.full(len(found.score), -1, np.intp)
        if known and len(found.score):
            columns = _match(found, known, np.float32(tag_threshold), prefer_near)
        for place, column in enumerate(columns.tolist()):
            if column < 0:
                blank = np.zeros((len(candidates), 3), np.float32)
                person = TaggedPerson(blank, np.zeros_like(found.tag[place]), np.zeros(2, np.float32))
                people.append(person)
            else:
                person = known[column]
            person.add(joint, found, place)
    return people


def _match(found: Candidates, people: list[TaggedPerson], threshold: np.float32, prefer_near: bool) -> Index:
    """Person of each candidate, -1 for nobody's."""
    tags = np.stack([p.tag for p in people])
    apart = np.linalg.norm(found.tag[:, None] - tags[None], axis=2)
    cost = apart.copy()
    if prefer_near:
        centres = np.stack([p.centre for p in people])
        distance = np.linalg.norm(found.position[:, None] - centres[None], axis=2)
        distance /= distance.min(axis=0, keepdims=True) + np.float32(1e-10)
        close = apart < threshold
        cost[close] *= distance[close]
    cost = np.round(cost) * 100 - found.score[:, None]
    count, known = cost.shape
    if count > known:
        cost = np.pad(cost, ((0, 0), (0, count - known)), constant_values=_NOBODY)
    # Far candidates can be scaled beyond any cost that matters; what is dearer than nobody stays nobody's.
    columns = assign(np.minimum(cost, _NOBODY).astype(np.float64))
    taken = columns < known
    taken[taken] = apart[taken, columns[taken]] < threshold
    return np.where(taken, columns, -1)
