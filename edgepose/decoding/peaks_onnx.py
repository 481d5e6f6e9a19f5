"""The highest value of each of many rows, as ONNX nodes: what :mod:`.peaks` does in numpy.

ArgMax is not used: with ties each engine has its own rule, and over thousands of values it is slow in some.
"""

from __future__ import annotations

import numpy as np

from .nodes import Nodes


def first_index(nodes: Nodes, rows: str, top: str) -> str:
    """int32 [N, K, 1]: where the first maximum of each row is.

    Parameters
    ----------
    rows
        float32 [N, K, L].
    top
        float32 [N, K, 1]: the maximum of each row.  Nothing equals a NaN; then the result is the last index.
    """
    length = nodes.length(rows, 2)
    zero, one = nodes.constant(0, np.int32), nodes.constant(1, np.int32)
    numbers = nodes.op("Range", zero, length, one)
    candidates = nodes.choose(nodes.op("Equal", rows, top), numbers, nodes.op("Sub", length, one))
    return nodes.reduce("ReduceMin", candidates, [2])


def is_telling(nodes: Nodes, rows: str, top: str) -> str:
    """bool [N, K, 1]: False where a row says nothing: a value is not finite, or all values are the same.

    Parameters
    ----------
    rows
        float32 [N, K, L].
    top
        float32 [N, K, 1]: the maximum of each row.
    """
    lowest = nodes.reduce("ReduceMin", rows, [2])
    return nodes.all_of(nodes.finite(rows, [2]), nodes.op("Less", lowest, top))
