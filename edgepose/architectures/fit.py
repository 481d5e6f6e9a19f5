"""How well arrays fit an architecture, without building its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..spec import PoseSpec
from .base import Arrays, BuildOptions, Family
from .weights import Mismatch


@dataclass(frozen=True)
class Fit:
    """How well arrays fit one architecture.

    Attributes
    ----------
    family, architecture
        Their names.
    expected
        Name -> shape of every array that the architecture takes.
    mismatch
        What does not fit.
    aside
        Arrays that the network has no use for -> why.
    spec
        Contract of the network as the arrays tell its sizes.
    """

    family: str
    architecture: str
    expected: Mapping[str, tuple[int, ...]]
    mismatch: Mismatch
    aside: Mapping[str, str]
    spec: PoseSpec

    @property
    def matching(self) -> int:
        """How many of the expected arrays are there with the right shape."""
        return len(self.expected) - len(self.mismatch.missing) - len(self.mismatch.misshaped)

    def likeness(self) -> float:
        """Share of the arrays, expected or found, that agree in name and shape."""
        return self.matching / (len(self.expected) + len(self.mismatch.unexpected))

    def likeness_of_shapes(self, arrays: Arrays) -> float:
        """The same, but by shapes alone, whatever the arrays are called."""
        expected = Counter(self.expected.values())
        found = Counter(a.shape for a in arrays.values())
        return sum((expected & found).values()) / max(1, sum((expected | found).values()))


def fit(family: Family, architecture: str, arrays: Arrays, options: BuildOptions | None = None) -> Fit:
    """Compare names and shapes with what an architecture takes."""
    network = family.build(architecture, arrays, replace(options or BuildOptions(), books_only=True))
    weights = network.weights
    return Fit(family.name, architecture, weights.expected, weights.mismatch(), weights.aside, network.spec)


def closest(family: Family, architectures: Sequence[str], arrays: Arrays) -> str:
    """The architecture with the fewest arrays that do not fit; the first one of several."""
    return min(architectures, key=lambda name: fit(family, name, arrays).mismatch.count)
