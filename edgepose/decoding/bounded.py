"""Outputs that are numbers, and not beyond all measure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

#: Heatmaps, fields and tags are of the order of 1; sums and products of a few such values stay finite.
LARGEST = np.float32(1e4)


def bounded(maps: Array) -> Array:
    """The maps themselves, or a copy in which what is not finite is 0 and nothing exceeds :data:`LARGEST`."""
    if maps.size and maps.min() >= -LARGEST and maps.max() <= LARGEST:  # false for NaN
        return maps
    return np.clip(np.nan_to_num(maps, nan=0, posinf=0, neginf=0), -LARGEST, LARGEST)
