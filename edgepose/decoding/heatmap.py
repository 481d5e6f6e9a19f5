"""Heatmaps of one person's crop: SimpleBaseline, HRNet, MobilePose, FastPose, ViTPose and their kin.

Sources: ``get_final_preds`` of SimpleBaseline and HRNet, mmpose's MSRAHeatmap and UDPHeatmap codecs, mindpose's
top-down decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import Crop, PoseSpec
from .base import Detections
from .dark import gaussian_blur, refine_dark, refine_udp
from .flip import merge_flipped
from .options import read_options, require_outputs, take_output
from .peaks import find_peaks
from .topdown import keypoint_set, one_person_each

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: Reach of the offset maps of UDP's combined target, as a fraction of the heatmap's longer side (mmpose UDPHeatmap).
COMBINED_RADIUS = 0.0546875


@dataclass(frozen=True)
class HeatmapOptions:
    """Options of :class:`HeatmapDecoder`.

    Attributes
    ----------
    target
        ``gaussian``: one map a keypoint.  ``combined``: three, UDP's class map and its offsets in x and y.
    refine
        Position within the cell: ``quarter`` of a cell towards the higher neighbour, ``none``, ``dark`` or
        ``udp-dark``.  Default ``quarter``; the offsets of a ``combined`` target are its refinement.
    quarter_rule
        Where the quarter step applies: ``msra`` (SimpleBaseline, HRNet, GluonCV: columns and rows 2 to n - 2, both or
        neither), ``mmpose`` (2 to n - 2, each axis by itself, the other one not 0) or ``mindpose`` (1 to n - 2, each
        axis by itself).  It also says where a keypoint lies whose map is nowhere positive: at (0, 0), at (-1, -1)
        cells, or at its maximum.
    blur_kernel
        Odd width in cells of the Gaussian blur before DARK: 11 for a training sigma of 2 cells, 17 for 3.
    align
        Cell ``i`` of ``n`` stands for input pixel ``i * size / n`` (``stride``), or the first and last cell for the
        first and last pixel, ``i * (size - 1) / (n - 1)`` (``corners``, UDP).  Default: ``corners`` for a ``udp``
        crop, ``stride`` otherwise.
    flip_shift
        In the flip test, move the mirrored maps one cell to the right.  Default: with ``stride`` yes, with
        ``corners`` no.
    """

    target: Literal["gaussian", "combined"] = "gaussian"
    refine: Literal["quarter", "none", "dark", "udp-dark"] | None = None
    quarter_rule: Literal["msra", "mmpose", "mindpose"] = "msra"
    blur_kernel: int = 11
    align: Literal["stride", "corners"] | None = None
    flip_shift: bool | None = None


class HeatmapDecoder:
    """Output ``heatmaps`` [N, K, h, w] ([N, 3 K, h, w] for a combined target) of a top-down model.

    Each crop gives one person.  The score of a keypoint is the value of its map's maximum, in the network's own scale;
    it is 0 where the map says nothing (not finite, constant or nowhere positive).  The score of the person is the mean
    of the keypoint scores above 0.2, or 0.

    Attributes
    ----------
    options
        As the spec gives them.
    refine
        The refinement in effect; that of a combined target is its own.
    corners
        Whether the outermost cells stand for the outermost pixels, see ``HeatmapOptions.align``.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("heatmaps",))
        self.options = read_options(spec.decoder, HeatmapOptions)
        if self.options.blur_kernel % 2 == 0 or not 1 <= self.options.blur_kernel <= 255:
            raise SpecError("Decoder 'heatmap': option 'blur_kernel' must be an odd number from 1 to 255.")
        self._combined = self.options.target == "combined"
        if self._combined and self.options.refine is not None:
            raise SpecError("Decoder 'heatmap': a combined target has its own refinement; leave 'refine' out.")
        self.refine = self.options.refine or "quarter"
        keypoints = keypoint_set(spec)
        self._pairs = keypoints.flip_indices
        fit = spec.input.fit
        udp = isinstance(fit, Crop) and fit.convention == "udp"
        self.corners = udp if self.options.align is None else self.options.align == "corners"
        self._shift = not self.corners if self.options.flip_shift is None else self.options.flip_shift

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        maps = self._take(outputs)
        count, channels, height, width = maps.shape
        maps = maps.reshape(count * channels, height, width)
        cells, scores = self._decode_combined(maps) if self._combined else self._decode_gaussian(maps)
        if self.corners:
            pixels = np.array([(size[1] - 1) / max(width - 1, 1), (size[0] - 1) / max(height - 1, 1)])
        else:
            pixels = np.array([size[1] / width, size[0] / height])
        points = len(self._pairs)
        return one_person_each((cells * pixels).reshape(count, points, 2), scores.reshape(count, points))

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average with the mirrored maps, left and right keypoints exchanged."""
        plain, mirrored = self._take(outputs), self._take(flipped)
        if self._combined:
            shape = plain.shape
            plain, mirrored = (m.reshape(len(m), len(self._pairs), 3, *m.shape[2:]) for m in (plain, mirrored))
            mirrored = mirrored * np.array([1, -1, 1], np.float32).reshape(3, 1, 1)
            merged = merge_flipped(plain, mirrored, self._pairs, mirror=True, shift=self._shift)
            return {"heatmaps": merged.reshape(shape)}
        return {"heatmaps": merge_flipped(plain, mirrored, self._pairs, mirror=True, shift=self._shift)}

    def _take(self, outputs: Mapping[str, Array]) -> Array:
        channels = len(self._pairs) * (3 if self._combined else 1)
        maps = take_output(outputs, "heatmaps", (None, channels, None, None))
        if 0 in maps.shape[2:]:
            raise DecodeError(f"Output 'heatmaps' has the shape {list(maps.shape)}: its maps are empty.")
        return maps

    def _decode_gaussian(self, maps: Array) -> tuple[Floats, Array]:
        """Maps [M, h, w] -> cells (x, y) [M, 2], scores [M]."""
        height, width = maps.shape[1:]
        index, scores, found = find_peaks(maps.reshape(-1, height * width))
        scores, found = _positive(scores, found)
        y, x = np.divmod(index, width)
        cells = self._place(x, y, found)
        if self.refine == "none":
            return cells, scores
        if not found.all():
            maps, x, y = maps[found], x[found], y[found]
        if self.refine == "quarter":
            cells[found] += quarter_step(maps, x, y, self.options.quarter_rule)
        else:
            refine = refine_dark if self.refine == "dark" else refine_udp
            cells[found] += refine(maps, x, y, self.options.blur_kernel)
        return cells, scores

    def _decode_combined(self, maps: Array) -> tuple[Floats, Array]:
        """Maps [3 M, h, w] -> cells (x, y) [M, 2], scores [M]."""
        height, width = maps.shape[1:]
        finite = np.isfinite(maps).reshape(-1, 3, height * width).all(axis=(1, 2))
        maps = np.where(np.repeat(finite, 3)[:, None, None], maps, np.float32(0))
        kernel = self.options.blur_kernel
        _, _, varied = find_peaks(maps[::3].reshape(-1, height * width))
        classes = gaussian_blur(maps[::3], 2 * kernel + 1, "reflect")
        index, scores, found = find_peaks(classes.reshape(-1, height * width))
        scores, found = _positive(scores, found & varied)
        y, x = np.divmod(index, width)
        cells = self._place(x, y, found)
        number = np.arange(len(classes))
        for axis in (0, 1):
            offsets = gaussian_blur(maps[axis + 1 :: 3], kernel, "reflect")[number, y, x]
            cells[found, axis] += offsets[found] * (COMBINED_RADIUS * max(width, height))
        return cells, scores

    def _place(self, x: Integers, y: Integers, found: Mask) -> Floats:
        """Cells [M, 2] of the maxima; keypoints that were not found go where the rule puts them."""
        cells = np.stack([x, y], axis=1).astype(np.float64)
        if self.options.quarter_rule != "mindpose":
            cells[~found] = -1 if self.options.quarter_rule == "mmpose" else 0
        return cells


def quarter_step(maps: Array, x: Integers, y: Integers, rule: Literal["msra", "mmpose", "mindpose"]) -> Floats:
    """A quarter of a cell towards the higher neighbour, on each axis.

    Parameters
    ----------
    maps
        float32 [M, h, w].
    x, y
        int64 [M]: column and row of the maximum of each map.
    rule
        Where the step applies, see :class:`HeatmapOptions`.

    Returns
    -------
    ndarray
        float64 [M, 2]: -0.25, 0 or 0.25; 0 between equal neighbours.
    """
    height, width = maps.shape[1:]
    first = 1 if rule == "mindpose" else 2
    allowed = np.array([(x >= first) & (x <= width - 2), (y >= first) & (y <= height - 2)])
    if rule == "msra":
        allowed[:] = allowed[0] & allowed[1]
    elif rule == "mmpose":
        allowed &= (y > 0, x > 0)
    cell = np.arange(len(maps)) * (height * width) + y * width + x
    # Where a neighbour lies outside the map, what is read in its place is not used.
    steps = np.array([[1], [width], [-1], [-width]])
    east, south, west, north = maps.reshape(-1).take(cell + steps, mode="clip")
    slope = np.array([east - west, south - north])
    return np.asarray(np.where(allowed, 0.25 * np.sign(slope), 0).T, np.float64)


def _positive(scores: Array, found: Mask) -> tuple[Array, Mask]:
    """Only a positive maximum is a keypoint; the others score 0."""
    found = found & (scores > 0)
    return np.where(found, scores, np.float32(0)), found
