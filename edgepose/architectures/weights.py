"""The arrays of a checkpoint as an architecture asks for them.

An architecture is written once, as the code that builds its graph.  The same code says which arrays it expects: each
:meth:`Weights.take` notes name and shape, and gives a stand-in when the array is missing or mis-shaped, so that one
pass finds everything that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Mismatch:
    """How a checkpoint differs from what an architecture expects.

    Attributes
    ----------
    missing
        Name -> expected shape.
    unexpected
        Name -> shape found.
    misshaped
        Name -> (expected shape, shape found).
    """

    missing: Mapping[str, tuple[int, ...]]
    unexpected: Mapping[str, tuple[int, ...]]
    misshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]

    @property
    def count(self) -> int:
        """How many arrays are wrong."""
        return len(self.missing) + len(self.unexpected) + len(self.misshaped)

    def summary(self) -> str:
        """How many arrays are wrong in which way."""
        return (
            f"{len(self.missing)} missing, {len(self.misshaped)} mis-shaped, {len(self.unexpected)} unexpected arrays"
        )

    def table(self, limit: int = 20) -> str:
        """The differences, one a line; at most ``limit`` of each kind."""
        kinds = {
            "missing": [f"{n}  expected {list(s)}" for n, s in self.missing.items()],
            "mis-shaped": [f"{n}  expected {list(e)}, found {list(f)}" for n, (e, f) in self.misshaped.items()],
            "unexpected": [f"{n}  found {list(s)}" for n, s in self.unexpected.items()],
        }
        lines = []
        for kind, rows in kinds.items():
            lines += [f"  {kind:<10}  {row}" for row in rows[:limit]]
            if len(rows) > limit:
                lines.append(f"  {kind:<10}  ... and {len(rows) - limit} more")
        return "\n".join(lines)


class Weights:
    """Hands out arrays by name and keeps the books.

    Parameters
    ----------
    arrays
        Name -> array of the checkpoint, names already brought to the architecture's own grammar.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.arrays = arrays
        self._expected: dict[str, tuple[int, ...]] = {}
        self._missing: dict[str, tuple[int, ...]] = {}
        self._misshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._aside: dict[str, str] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array ``name`` as float32, which must have ``shape``."""
        self._expected[name] = shape
        array = self.arrays.get(name)
        if array is None:
            self._missing[name] = shape
        elif array.shape != shape:
            self._misshaped[name] = (shape, array.shape)
        else:
            return np.asarray(array, np.float32)
        return np.broadcast_to(np.float32(0), shape)  # takes no memory

    def leave(self, names: Iterable[str], reason: str) -> None:
        """Leave arrays aside that this network has no use for, and say why: they are not unexpected then."""
        self._aside.update(dict.fromkeys(names, reason))

    @property
    def aside(self) -> Mapping[str, str]:
        """Arrays that were left aside -> why."""
        return self._aside

    @property
    def expected(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape of every array that was asked for."""
        return self._expected

    def mismatch(self) -> Mismatch:
        """What did not fit, after everything was taken."""
        left = {n: a.shape for n, a in self.arrays.items() if n not in self._expected and n not in self._aside}
        return Mismatch(self._missing, left, self._misshaped)
