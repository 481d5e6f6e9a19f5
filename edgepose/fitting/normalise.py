"""Pixels -> the tensor that the network is fed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..spec import InputSpec
from .base import Pixels


def to_tensor(pixels: Pixels, spec: InputSpec) -> npt.NDArray[Any]:
    """Colour order, normalisation, layout and element type as the spec says.

    Parameters
    ----------
    pixels
        [B, H, W, 3] BGR, 0..255.
    spec
        What the network wants.

    Returns
    -------
    ndarray
        [B, 3, H, W] or [B, H, W, 3], C-contiguous.
    """
    dtype = np.dtype(spec.dtype)
    nchw = spec.layout == "NCHW"
    batch, height, width, _ = pixels.shape
    out = np.empty((batch, 3, height, width) if nchw else (batch, height, width, 3), dtype)
    for channel in range(3):
        source = pixels[..., 2 - channel if spec.color == "RGB" else channel]
        target = out[:, channel] if nchw else out[..., channel]
        if spec.is_raw:
            target[...] = source
        else:
            plane = source.astype(np.float32)
            plane -= np.float32(spec.mean[channel])
            plane *= np.float32(1 / spec.std[channel])
            target[...] = plane
    return out
