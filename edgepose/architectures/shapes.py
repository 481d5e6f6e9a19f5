"""What the names and shapes of a checkpoint say about the network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from .base import Arrays

#: Lengths beyond these are no channels and no keypoints, but a damaged file.
MAX_CHANNELS = 1 << 16
MAX_KEYPOINTS = 1 << 10


class Shapes:
    """Shapes of the arrays under one prefix.

    Parameters
    ----------
    arrays
        Name -> array of the checkpoint.
    prefix
        What stands before the family's own names.
    """

    def __init__(self, arrays: Arrays, prefix: str = "") -> None:
        self._arrays = arrays
        self.prefix = prefix

    def __contains__(self, name: str) -> bool:
        return self.prefix + name in self._arrays

    def length(self, name: str, axis: int) -> int | None:
        """How long an array is along ``axis``; None if it is missing or has no such axis."""
        array = self._arrays.get(self.prefix + name)
        return array.shape[axis] if array is not None and axis < array.ndim else None

    def majority(self, places: Iterable[tuple[str, int]], default: int, limit: int = MAX_CHANNELS) -> int:
        """The length that most of the arrays agree on, so that a single wrong array does not decide.

        Parameters
        ----------
        places
            Name of an array and axis, several that should all be equally long; the first ones win a tie.
        default
            If none of them is there.
        limit
            Greater lengths do not count.
        """
        found = Counter(n for name, axis in places if 0 < (n := self.length(name, axis) or 0) <= limit)
        return found.most_common(1)[0][0] if found else default

    def keypoints(self, layer: str, default: int = 17) -> int:
        """How many keypoints come out of a layer, by its bias and weight."""
        return self.majority([(f"{layer}.bias", 0), (f"{layer}.weight", 0)], default, MAX_KEYPOINTS)


def find_prefix(arrays: Arrays, pattern: str) -> str | None:
    """What stands before ``pattern`` in the names, by majority; None if no name has it.

    Wrappers add such prefixes: DataParallel ``module.``, a MindSpore loss cell ``network.``.

    Parameters
    ----------
    pattern
        Regular expression that matches from a dot or the start of a name to anywhere in it.
    """
    search = re.compile(rf"((?:.*?\.)?)(?:{pattern})")
    found = Counter(m.group(1) for name in arrays if (m := search.match(name)))
    return max(found, key=lambda p: (found[p], -len(p))) if found else None
