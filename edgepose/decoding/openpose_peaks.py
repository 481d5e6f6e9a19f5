"""Peaks of OpenPose heatmaps: the candidates for each keypoint."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .openpose_maps import Array, Index, Resampling, Strips, strips_above

#: Candidates of one type that are looked at, the strongest first.  A bound for outputs that are noise: 368-pixel
#: frames of a crowd give fewer than a hundred.
MAX_PEAKS = 256
#: Peaks of one type closer than this, in pixels of the resampled map, are one (Lightweight OpenPose).
MIN_DISTANCE = 6
#: Largest number of peaks of one type in Open Model Zoo's decoder.
_OMZ_MAX_PEAKS = 100
#: Standard deviation in pixels of AIMET's smoothing, and where its kernel ends, in standard deviations.
_AIMET_SIGMA, _AIMET_TRUNCATE = 3.0, 4.0


@dataclass(frozen=True, eq=False)
class Peaks:
    """Candidates of all types; a candidate's id is its place in the arrays.

    Attributes
    ----------
    x, y
        float32 [P], pixels of the resampled map.
    score
        float32 [P].
    starts
        [K + 1]: candidates of type k have the ids ``starts[k]`` up to, not including, ``starts[k + 1]``.
    centre
        What is to be added to x and y to count from the left and upper edge of the map.
    """

    x: Array
    y: Array
    score: Array
    starts: Index
    centre: float = 0.5

    def __len__(self) -> int:
        return len(self.x)


def cross_peaks(heatmaps: Array, resampling: Resampling, threshold: float) -> Peaks:
    """Peaks of Lightweight OpenPose: at least ``threshold`` and above the four neighbours.

    Of two closer than :data:`MIN_DISTANCE` the one further left survives, further up where they share a column, even
    if it is the weaker.  Outside the map all is zero; a plateau has no peak.
    """
    strips = strips_above(heatmaps, resampling, threshold)
    channel, y, x, score = _above_neighbours(strips, resampling.size[0], np.float32(threshold))
    keep = _strongest(channel, score, MAX_PEAKS)
    channel, y, x, score = channel[keep], y[keep], x[keep], score[keep]
    order = np.lexsort((y, x, channel))
    channel, y, x, score = channel[order], y[order], x[order], score[order]
    alive = _suppress(channel, x, y)
    return _peaks(channel[alive], x[alive], y[alive], score[alive], len(heatmaps))


def pooled_peaks(heatmaps: Array, resampling: Resampling, threshold: float) -> Peaks:
    """Peaks of Open Model Zoo: above ``threshold`` and the largest of a square window, strongest first.

    The window has 2 round(6/7 f) + 1 pixels where a cell of the map has become f.  Each peak moves a quarter of a
    pixel towards its larger neighbour along x and along y, unless it is at the edge.  Maps that are not enlarged are
    counted from their left and upper edge: the peak of the first pixel is at 0.5.
    """
    maps = resampling.dense(heatmaps)
    _, height, width = maps.shape
    pixels_per_cell = height / resampling.cells[0]
    reach = round(6 / 7 * pixels_per_cell)
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    pooled = np.stack([cv2.dilate(m, window) for m in maps])
    channel, y, x = np.nonzero((maps == pooled) & (maps > np.float32(threshold)))
    score = maps[channel, y, x]
    keep = _strongest(channel, score, _OMZ_MAX_PEAKS)
    channel, y, x, score = channel[keep], y[keep], x[keep], score[keep]
    order = np.lexsort((-score, channel))
    channel, y, x, score = channel[order], y[order], x[order], score[order]
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    cx, cy = np.clip(x, 1, max(1, width - 2)), np.clip(y, 1, max(1, height - 2))
    offset = np.zeros((2, len(x)), np.float32)
    if inside.any():
        offset[0] = np.sign(maps[channel, cy, cx + 1] - maps[channel, cy, cx - 1]) * inside
        offset[1] = np.sign(maps[channel, cy + 1, cx] - maps[channel, cy - 1, cx]) * inside
    peaks = _peaks(channel, x + offset[0] / 4, y + offset[1] / 4, score, len(heatmaps))
    if pixels_per_cell != 1:
        return peaks
    moved_x, moved_y = np.minimum(peaks.x + 0.5, width - 1), np.minimum(peaks.y + 0.5, height - 1)
    return Peaks(moved_x.astype(np.float32), moved_y.astype(np.float32), peaks.score, peaks.starts, centre=0.0)


def smoothed_peaks(heatmaps: Array, resampling: Resampling, threshold: float) -> Peaks:
    """Peaks of AIMET's pose model: of the map smoothed by a Gaussian, not below the four neighbours.

    The smoothed value must exceed ``threshold``; the score is the map's own.  They come row by row.
    """
    maps = resampling.dense(heatmaps)
    radius = int(_AIMET_TRUNCATE * _AIMET_SIGMA + 0.5)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / _AIMET_SIGMA) ** 2)
    kernel /= kernel.sum()
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    found = []
    for channel, plane in enumerate(maps):
        smooth = cv2.sepFilter2D(plane, cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT)
        y, x = np.nonzero((smooth == cv2.dilate(smooth, cross)) & (smooth > np.float32(threshold)))
        found.append((np.full(len(x), channel), x, y, plane[y, x]))
    channels, x, y, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    keep = _strongest(channels, score, MAX_PEAKS)
    return _peaks(channels[keep], x[keep], y[keep], score[keep], len(heatmaps))


def _peaks(channel: Index, x: npt.NDArray[np.generic], y: npt.NDArray[np.generic], score: Array, types: int) -> Peaks:
    starts = np.searchsorted(channel, np.arange(types + 1))
    return Peaks(x.astype(np.float32), y.astype(np.float32), score.astype(np.float32), starts)


def _above_neighbours(strips: Strips, height: int, threshold: np.float32) -> tuple[Index, Index, Index, Array]:
    """Channel, y, x and value of the pixels that are above their four neighbours and not below the threshold."""
    width = strips.pixels.shape[1]
    flat = strips.pixels.ravel()
    # Along x on all pixels at once: that leaves the crests, few enough to be looked up one by one.
    crest = flat >= threshold
    crest[1:] &= flat[1:] > flat[:-1]
    crest[:-1] &= flat[:-1] > flat[1:]
    place = np.flatnonzero(crest)
    row = place // width
    for step, edge in ((-width, 0), (width, height - 1)):
        higher = (flat[place] > flat.take(place + step, mode="clip")) | (strips.y[row] == edge)
        place, row = place[higher], row[higher]
    wanted = strips.channel[row] >= 0
    place, row = place[wanted], row[wanted]
    return strips.channel[row], strips.y[row], place - row * width, flat[place]


def _strongest(channel: Index, score: Array, limit: int) -> Index:
    """Places of the ``limit`` strongest of each channel, in their order; ``channel`` may be in any order."""
    if len(channel) <= limit:
        return np.arange(len(channel))
    order = np.lexsort((-score, channel))
    grouped = channel[order]
    rank = np.arange(len(order)) - np.searchsorted(grouped, grouped)
    return np.sort(order[rank < limit])


def _suppress(channel: Index, x: Index, y: Index) -> npt.NDArray[np.bool_]:
    """Mask of the candidates that survive; they are ordered by channel, x and y."""
    alive = np.ones(len(x), bool)
    # Channels lie side by side, further apart than the distance, so that one sweep along x serves all.
    along = x + channel * (int(x.max(initial=0)) + MIN_DISTANCE)
    pairs = []
    for gap in range(1, len(x)):
        dx = along[gap:] - along[:-gap]
        if dx.min() >= MIN_DISTANCE:
            break
        first = np.flatnonzero(dx * dx + (y[gap:] - y[:-gap]) ** 2 < MIN_DISTANCE**2)
        pairs.append(np.stack((first, first + gap)))
    if pairs:
        clashes = np.concatenate(pairs, axis=1)
        for first, second in clashes[:, np.argsort(clashes[0], kind="stable")].T.tolist():
            if alive[first]:
                alive[second] = False
    return alive
