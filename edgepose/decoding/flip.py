"""Outputs of the mirrored input, brought back to the side of the plain one and averaged with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError

Array = npt.NDArray[np.float32]


def merge_flipped(plain: Array, flipped: Array, pairs: Sequence[int], *, mirror: bool, shift: bool = False) -> Array:
    """Average an output with that of the mirrored input.

    Parameters
    ----------
    plain, flipped
        float32 [N, K, ...], of the same shape; the last axis runs along x.
    pairs
        For each of the K keypoints its mirror image (``KeypointSet.flip_indices``).
    mirror
        Turn the last axis round: the output is laid out along x.
    shift
        Move the mirrored output one cell to the right before averaging; its first cell stays.  Cell ``i`` of a
        heatmap stands for pixel ``stride * i``, so mirroring the input moves the maximum by about one cell.

    Returns
    -------
    ndarray
        float32 [N, K, ...].

    Raises
    ------
    DecodeError
        If the shapes differ.
    """
    if plain.shape != flipped.shape:
        raise DecodeError(
            f"The outputs for the mirrored input have the shape {list(flipped.shape)},"
            f" those for the plain one {list(plain.shape)}."
        )
    back = flipped[:, list(pairs)]
    if mirror:
        back = back[..., ::-1]
    merged = plain.copy()
    if shift:
        merged[..., 1:] += back[..., :-1]
        merged[..., :1] += back[..., :1]
    else:
        merged += back
    merged *= np.float32(0.5)
    return merged
