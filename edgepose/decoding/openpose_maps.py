"""Resampling of OpenPose maps: heatmaps where something can be, part affinity fields where they are asked for.

The original algorithms resize 57 maps in full and then look at a few hundred of their pixels.  Here a heatmap is
resized only in the rows that can hold a value above the threshold, and a field is resized along x only; along y it is
interpolated at the points that the grouping asks for.  Both give the values of the full resize to float32 rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Index = npt.NDArray[np.intp]

#: Rows beyond a cell that a 4-tap kernel reaches when it interpolates inside the cell.
_REACH = 2
#: The bound that prunes rows is lowered by this fraction, far more than float32 rounds away.
_MARGIN = np.float32(1 - 1e-4)


@dataclass(frozen=True)
class Resampling:
    """From the cells of the network's maps to the pixels in which people are looked for.

    Attributes
    ----------
    cells
        (height, width) of the maps.
    factor
        Whole factor by which they are enlarged first: 1, 2, 4 or 8.
    interpolation
        OpenCV's code, ``cv2.INTER_CUBIC`` or ``cv2.INTER_LINEAR``.
    window
        (top, left, height, width) of the part that is kept then, in enlarged pixels; None for all of it.
    target
        (height, width) to which that part is resized at last; None to leave it.
    """

    cells: tuple[int, int]
    factor: int
    interpolation: int
    window: tuple[int, int, int, int] | None = None
    target: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result in pixels."""
        if self.target is not None:
            return self.target
        if self.window is not None:
            return self.window[2:]
        return self.cells[0] * self.factor, self.cells[1] * self.factor

    @property
    def enlarges_only(self) -> bool:
        """Whether there is neither a window nor a second resize."""
        return self.window is None and self.target is None

    def dense(self, maps: Array) -> Array:
        """All pixels: [C, h, w] -> [C, H, W]."""
        count, height, width = maps.shape
        enlarged = maps
        if self.factor > 1:
            # One resize of all maps, one below the other: OpenCV's cost of a call and of starting its threads is
            # paid once.  The repeated edge rows between two maps are what OpenCV itself does at an edge.
            rows = np.clip(np.arange(-_REACH, height + _REACH), 0, height - 1)
            stacked = self._resize(maps[:, rows].reshape(-1, width), len(rows) * count * self.factor, self._wide)
            edge = _REACH * self.factor
            enlarged = stacked.reshape(count, len(rows) * self.factor, -1)[:, edge:-edge]
        if self.window is not None:
            top, left, tall, wide = self.window
            enlarged = enlarged[:, top : top + tall, left : left + wide]
        if self.target is None or enlarged.shape[1:] == self.target:
            return np.ascontiguousarray(enlarged)
        result = np.empty((count, *self.target), np.float32)
        for source, out in zip(enlarged, result, strict=True):
            out[...] = self._resize(np.ascontiguousarray(source), *self.target)
        return result

    def along_x(self, maps: Array) -> Array:
        """Resized along x only: [C, h, w] -> [C, h, W]."""
        count, height, width = maps.shape
        rows = self._resize(maps.reshape(-1, width), count * height, self._wide)
        if self.window is not None:
            rows = np.ascontiguousarray(rows[:, self.window[1] : self.window[1] + self.window[3]])
        rows = self._resize(rows, count * height, self.size[1])
        return rows.reshape(count, height, -1)

    @property
    def _wide(self) -> int:
        return self.cells[1] * self.factor

    def _resize(self, image: Array, height: int, width: int) -> Array:
        if image.shape == (height, width):
            return image
        return np.asarray(cv2.resize(image, (width, height), interpolation=self.interpolation), np.float32)


@lru_cache(maxsize=64)
def y_taps(resampling: Resampling) -> tuple[Index, Array]:
    """What makes each pixel row: the first of T neighbouring cell rows [H], and their weights [T, H].

    They are read off a resized identity matrix, so that they are OpenCV's own.
    """
    height = resampling.cells[0]
    turned = Resampling(
        cells=(1, height),
        factor=resampling.factor,
        interpolation=resampling.interpolation,
        window=None if resampling.window is None else (0, resampling.window[0], 1, resampling.window[2]),
        target=None if resampling.target is None else (1, resampling.target[0]),
    )
    matrix = turned.along_x(np.eye(height, dtype=np.float32)[:, None])[:, 0]
    used = matrix != 0
    first = used.argmax(axis=0)
    taps = int((height - used[::-1].argmax(axis=0) - first).max())
    first = np.minimum(first, height - taps)
    weights = np.take_along_axis(matrix, first + np.arange(taps)[:, None], axis=0)
    first.setflags(write=False)
    weights.setflags(write=False)
    return first, weights


@dataclass(frozen=True, eq=False)
class Strips:
    """Rows of resized maps, one below the other.

    Attributes
    ----------
    pixels
        [R, W + 1]; the last column is 0, so that the first and last pixel of a row have a neighbour of 0 beside them
        when the array is read flat.
    channel
        [R]: which map a row belongs to; -1 for rows that are there only as neighbours.
    y
        [R]: where in that map.
    """

    pixels: Array
    channel: Index
    y: Index


def strips_above(maps: Array, resampling: Resampling, threshold: float) -> Strips:
    """The pixel rows that can hold a value of at least ``threshold``, with a neighbour row on each side.

    A pixel is a weighted sum of cells up to two rows away, with weights of both signs; so it is at most the sum of
    the positive weights times the largest cell, minus the sum of the negative ones times the smallest.
    """
    count, height, _ = maps.shape
    if not resampling.enlarges_only or resampling.factor == 1:
        dense = resampling.dense(maps)
        tall, wide = dense.shape[1:]
        pixels = np.zeros((count * tall, wide + 1), np.float32)
        pixels.reshape(count, tall, -1)[..., :-1] = dense
        return Strips(pixels, np.repeat(np.arange(count), tall), np.tile(np.arange(tall), count))
    plus, minus = _gains(resampling.factor, resampling.interpolation)
    kernel = np.ones((1, 2 * _REACH + 1), np.uint8)
    largest = cv2.dilate(maps.max(axis=2), kernel)
    smallest = cv2.erode(maps.min(axis=2), kernel)
    bound = plus * np.maximum(largest, 0) + minus * np.maximum(-smallest, 0)
    active = bound >= np.float32(threshold) * _MARGIN
    needed = np.zeros((count, height + 2 * _REACH), bool)
    for shift in range(2 * _REACH + 1):
        needed[:, shift : shift + height] |= active
    channel, row = np.nonzero(needed)
    row -= _REACH
    inside = np.clip(row, 0, height - 1)
    factor = resampling.factor
    pixels = np.zeros((len(channel) * factor, maps.shape[2] * factor + 1), np.float32)
    if len(channel):
        size = pixels.shape[1] - 1, pixels.shape[0]
        cv2.resize(maps[channel, inside], size, dst=pixels[:, :-1], interpolation=resampling.interpolation)
    owner = np.where(active[channel, inside] & (row == inside), channel, -1)
    y = (row[:, None] * factor + np.arange(factor)).ravel()
    return Strips(pixels, np.repeat(owner, factor), y)


@lru_cache(maxsize=16)
def _gains(factor: int, interpolation: int) -> tuple[np.float32, np.float32]:
    """Largest sums of positive and of negative weights that a pixel of the enlarged map has."""
    weights = y_taps(Resampling((16, 16), factor, interpolation))[1]
    plus, minus = np.maximum(weights, 0).sum(axis=0), np.maximum(-weights, 0).sum(axis=0)
    both = np.outer(plus, plus) + np.outer(minus, minus), np.outer(plus, minus) + np.outer(minus, plus)
    return np.float32(both[0].max()), np.float32(both[1].max())


class Field:
    """Part affinity fields [2 L, h, w], x and y component of each limb, to be read at single pixels."""

    def __init__(self, pafs: Array, resampling: Resampling) -> None:
        resized = resampling.along_x(pafs)
        _, height, width = resized.shape
        self._plane = height * width
        first, self._weights = y_taps(resampling)
        self._first = first * width
        # The x component of each tap's row, and the y component one plane further on.
        flat = resized.ravel()
        self._rows = [(flat[t * width :], flat[t * width + self._plane :]) for t in range(len(self._weights))]

    def at(self, channel: Index, x: Index, y: Index) -> tuple[Array, Array]:
        """Channels ``channel`` and ``channel + 1`` at pixels (x, y); all three of one shape."""
        index = self._first.take(y)
        index += x
        index += channel * self._plane
        along = np.zeros(x.shape, np.float32)
        across = np.zeros(x.shape, np.float32)
        # From the last tap to the first, as OpenCV sums them.
        for (x_row, y_row), weights in zip(self._rows[::-1], self._weights[::-1], strict=True):
            weight = weights.take(y)
            along += weight * x_row.take(index)
            across += weight * y_row.take(index)
        return along, across
