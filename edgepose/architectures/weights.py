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

from ..errors import ArchitectureError

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

    def table(self, limit: int = 20) -> str:
        """The differences, one a line."""
        rows = [
            *(f"missing     {n}  expected {list(s)}" for n, s in self.missing.items()),
            *(f"mis-shaped  {n}  expected {list(e)}, found {list(f)}" for n, (e, f) in self.misshaped.items()),
            *(f"unexpected  {n}  found {list(s)}" for n, s in self.unexpected.items()),
        ]
        more = [f"... and {len(rows) - limit} more"] if len(rows) > limit else []
        return "\n".join(f"  {row}" for row in (*rows[:limit], *more))


class Weights:
    """Hands out arrays by name and keeps the books.

    Parameters
    ----------
    arrays
        Name -> array of the checkpoint, names already brought to the architecture's own grammar.
    """

    def __init__(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        self.arrays = arrays
        self._taken: set[str] = set()
        self._missing: dict[str, tuple[int, ...]] = {}
        self._misshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._aside: dict[str, str] = {}

    def take(self, name: str, shape: tuple[int, ...]) -> Array:
        """The array ``name`` as float32, which must have ``shape``."""
        self._taken.add(name)
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
    def taken(self) -> int:
        """How many arrays were asked for."""
        return len(self._taken)

    def mismatch(self) -> Mismatch:
        """What did not fit, after everything was taken."""
        left = {n: a.shape for n, a in self.arrays.items() if n not in self._taken and n not in self._aside}
        return Mismatch(self._missing, left, self._misshaped)

    def check(self, family: str) -> None:
        """Raise if anything did not fit.

        Raises
        ------
        ArchitectureError
            With the table of missing, mis-shaped and unexpected arrays.
        """
        mismatch = self.mismatch()
        if mismatch.count:
            raise ArchitectureError(
                f"The arrays do not fit '{family}': {len(mismatch.missing)} missing, {len(mismatch.misshaped)}"
                f" mis-shaped, {len(mismatch.unexpected)} unexpected.\n{mismatch.table()}",
            )
