"""How well arrays fit an architecture, without building its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .base import Arrays, BuildOptions, Family
from .weights import Mismatch


@dataclass(frozen=True)
class Fit:
    """How well arrays fit one architecture.

    Attributes
    ----------
    expected
        How many arrays it has.
    mismatch
        What does not fit.
    """

    family: str
    architecture: str
    expected: int
    mismatch: Mismatch

    @property
    def matching(self) -> int:
        """How many of the expected arrays are there with the right shape."""
        return self.expected - len(self.mismatch.missing) - len(self.mismatch.misshaped)


def fit(family: Family, architecture: str, arrays: Arrays) -> Fit:
    """Compare names and shapes with what an architecture takes."""
    weights = family.build(architecture, arrays, BuildOptions(books_only=True)).weights
    return Fit(family.name, architecture, weights.taken, weights.mismatch())


def closest(family: Family, architectures: Sequence[str], arrays: Arrays) -> str:
    """The architecture with the fewest arrays that do not fit; the first one of several."""
    return min(architectures, key=lambda name: fit(family, name, arrays).mismatch.count)
