"""Positions below one cell of a heatmap from the curvature of its logarithm (DARK, and its form for UDP).

Around a maximum the logarithm of a Gaussian is a parabola: one Newton step from the highest cell leads to the centre.
Sources: DARK (Zhang et al., CVPR 2020), UDP (Huang et al., CVPR 2020), and their forms in mmpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


def gaussian_blur(maps: Array, kernel: int, border: Literal["zero", "reflect"] = "zero") -> Array:
    """Blur many maps at once.

    Parameters
    ----------
    maps
        Finite float32 [M, h, w].
    kernel
        Odd width of the kernel; its sigma is OpenCV's ``0.3 * ((kernel - 1) * 0.5 - 1) + 0.8``.
    border
        What lies outside a map: zeros, or the map mirrored at the centres of its outermost cells.

    Returns
    -------
    ndarray
        float32 [M, h, w].
    """
    half = kernel // 2
    count, height, width = maps.shape
    around = ((0, 0), (half, half), (half, half))
    padded = np.pad(maps, around) if border == "zero" else np.pad(maps, around, mode="reflect")
    # All maps stand on one another in a single tall picture; the padding keeps them apart.
    tall = padded.reshape(count * (height + 2 * half), width + 2 * half)
    blurred = np.asarray(cv2.GaussianBlur(tall, (kernel, kernel), 0), np.float32).reshape(padded.shape)
    return blurred[:, half : half + height, half : half + width]


def peak_factor(blurred: Array, peak: Array) -> Array:
    """Factors [M] that bring blurred rows [M, ...] to the maximum they had before; 1 where nothing positive is left."""
    highest = blurred.reshape(len(blurred), -1).max(axis=1)
    positive = highest > 0
    factor: Array = np.divide(peak, highest, out=np.ones_like(peak), where=positive)
    return factor


def refine_dark(maps: Array, x: Integers, y: Integers, kernel: int) -> Floats:
    """DARK: one Newton step with differences over two cells.

    Parameters
    ----------
    maps
        Finite float32 [M, h, w].
    x, y
        int64 [M]: column and row of the maximum of each map.
    kernel
        Odd width of the blur; 11 for a training sigma of 2 cells, 17 for 3.

    Returns
    -------
    ndarray
        float64 [M, 2]: what to add to (x, y); 0 within two cells of the border and where the curvature vanishes.
    """
    height, width = maps.shape[1:]
    at = _log_around(maps, x, y, kernel, 1e-10, np.inf)
    gradient = np.stack([(at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2], axis=1)
    centre = at(0, 0)
    xx = (at(2, 0) - 2 * centre + at(-2, 0)) / 4
    yy = (at(0, 2) - 2 * centre + at(0, -2)) / 4
    xy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    inside = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    return np.where(inside[:, None], _newton(gradient, xx, xy, yy), 0)


def refine_udp(maps: Array, x: Integers, y: Integers, kernel: int) -> Floats:
    """DARK as UDP does it: differences over one cell, applied up to the border.

    Parameters and result are those of :func:`refine_dark`.
    """
    at = _log_around(maps, x, y, kernel, 1e-3, 50.0)
    centre = at(0, 0)
    east, west, south, north = at(1, 0), at(-1, 0), at(0, 1), at(0, -1)
    gradient = np.stack([(east - west) / 2, (south - north) / 2], axis=1)
    tiny = float(np.finfo(np.float32).eps)
    xx = east - 2 * centre + west + tiny
    yy = south - 2 * centre + north + tiny
    xy = (at(1, 1) - east - south + 2 * centre - west - north + at(-1, -1)) / 2
    return _newton(gradient, xx, xy, yy)


def refine_line(rows: Array, index: Integers, kernel: int) -> Floats:
    """DARK along one axis, for SimCC.

    Parameters
    ----------
    rows
        Finite float32 [M, L].
    index
        int64 [M]: where the maximum of each row is.
    kernel
        Odd width of the blur.

    Returns
    -------
    ndarray
        float64 [M]: what to add to ``index``.
    """
    if not len(rows):
        return np.zeros(0)
    half = kernel // 2
    length = rows.shape[1]
    padded = np.pad(rows, ((0, 0), (half, half)))
    blurred = np.asarray(cv2.GaussianBlur(padded, (kernel, 1), 0), np.float32)[:, half : half + length]
    factor = peak_factor(blurred, rows.max(axis=1))
    number = np.arange(len(rows))

    def at(step: int) -> Floats:
        values = blurred[number, np.clip(index + step, 0, length - 1)] * factor
        return np.asarray(np.log(np.clip(values, 1e-3, 50.0)), np.float64)

    slope = (at(1) - at(-1)) / 2
    curvature = 1e-9 + (at(2) - 2 * at(0) + at(-2)) / 4
    return -slope / curvature


def _log_around(
    maps: Array, x: Integers, y: Integers, kernel: int, low: float, high: float
) -> Callable[[int, int], Floats]:
    """Function (dx, dy) -> logarithm of the blurred maps that many cells from (x, y), at most 2; float64 [M].

    The blurred maps are scaled to the maximum they had before and clipped to low .. high.  Beyond the border the
    function gives the border's own value.
    """
    height, width = maps.shape[1:]
    peak = maps[np.arange(len(maps)), y, x]
    if (kernel + 4) ** 2 <= height * width:
        around = _blur_around(maps, x, y, kernel)
        # The scale is a constant in the logarithm and drops out of every difference.  It is at least 1 and lifts no
        # value above the peak, so it decides about clipping only where a value lies below ``low`` now.
        clipped = (around.min(axis=(1, 2)) < low) | (peak > high)
    else:
        around = np.zeros((len(maps), 5, 5))
        clipped = np.ones(len(maps), np.bool_)
    if clipped.any():
        around[clipped] = _scaled_around(maps[clipped], x[clipped], y[clipped], kernel)
    logarithm = np.asarray(np.log(np.clip(around, low, high)), np.float64)
    number = np.arange(len(maps))

    def at(dx: int, dy: int) -> Floats:
        row, column = np.clip(y + dy, 0, height - 1) - y, np.clip(x + dx, 0, width - 1) - x
        return np.asarray(logarithm[number, 2 + row, 2 + column], np.float64)

    return at


_STEPS = np.arange(-2, 3)


def _blur_around(maps: Array, x: Integers, y: Integers, kernel: int) -> Floats:
    """The 5 x 5 cells around (x, y) of the blurred maps, from just the cells that reach them; float64 [M, 5, 5].

    Cells beyond the border hold what the blur spills over it.
    """
    height, width = maps.shape[1:]
    half = kernel // 2
    reach = np.arange(-half - 2, half + 3)
    rows, columns = y[:, None] + reach, x[:, None] + reach
    patches = maps[
        np.arange(len(maps))[:, None, None],
        np.clip(rows, 0, height - 1)[:, :, None],
        np.clip(columns, 0, width - 1)[:, None, :],
    ].astype(np.float64)
    patches *= ((rows >= 0) & (rows < height))[:, :, None]
    patches *= ((columns >= 0) & (columns < width))[:, None, :]
    weights = cv2.getGaussianKernel(kernel, 0)[:, 0]
    band = np.zeros((5, kernel + 4))
    for i in range(5):
        band[i, i : i + kernel] = weights
    return np.asarray(band @ patches @ band.T, np.float64)


def _scaled_around(maps: Array, x: Integers, y: Integers, kernel: int) -> Floats:
    """The 5 x 5 cells around (x, y) of the blurred maps, scaled to the maximum they had before; float64 [M, 5, 5].

    Beyond the border they repeat the border.
    """
    height, width = maps.shape[1:]
    number = np.arange(len(maps))
    blurred = gaussian_blur(maps, kernel)
    factor = peak_factor(blurred, maps[number, y, x])
    rows = np.clip(y[:, None] + _STEPS, 0, height - 1)[:, :, None]
    columns = np.clip(x[:, None] + _STEPS, 0, width - 1)[:, None, :]
    return np.asarray(blurred[number[:, None, None], rows, columns] * factor[:, None, None], np.float64)


def _newton(gradient: Floats, xx: Floats, xy: Floats, yy: Floats) -> Floats:
    """Minus the inverse Hessian times the gradient; 0 where there is no inverse."""
    determinant = xx * yy - xy * xy
    usable = determinant != 0
    inverse = np.divide(1, determinant, out=np.zeros_like(determinant), where=usable)
    step_x = (yy * gradient[:, 0] - xy * gradient[:, 1]) * inverse
    step_y = (xx * gradient[:, 1] - xy * gradient[:, 0]) * inverse
    step = -np.stack([step_x, step_y], axis=1)
    return np.where(np.isfinite(step), step, 0)
