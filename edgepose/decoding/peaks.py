"""The highest value of each of many rows, and whether it means anything."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def find_peaks(rows: Array) -> tuple[Integers, Array, Mask]:
    """Find the first maximum of each row.

    Parameters
    ----------
    rows
        float32 [M, L], L > 0.

    Returns
    -------
    index
        int64 [M]: where the first maximum is.
    value
        float32 [M]: the maximum.
    found
        bool [M]: False where the row says nothing: a value is not finite, or all values are the same.
    """
    index = np.argmax(rows, axis=1)
    value = rows[np.arange(len(rows)), index]
    with np.errstate(invalid="ignore"):  # NaN in a row is what is being looked for
        lowest = rows.min(axis=1)
        found = (lowest > -np.inf) & (lowest < value) & (value < np.inf)
    return index, value, found
