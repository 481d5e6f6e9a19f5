"""Heatmaps of one person's crop as ONNX nodes: what :mod:`.heatmap` does in numpy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import GraphError
from ..spec import PoseSpec
from .heatmap import HeatmapDecoder
from .nodes import Nodes, PoseNodes
from .peaks_onnx import first_index, is_telling
from .topdown_onnx import one_person_each

_LARGEST = np.finfo(np.float32).max


def check_heatmap(spec: PoseSpec) -> None:
    """Whether :func:`emit_heatmap` can write this decoder.

    Raises
    ------
    GraphError
        If the options ask for DARK, or for a combined target.
    """
    decoder = HeatmapDecoder(spec)
    # In float32, DARK was within 4e-5 px of numpy on networks' maps, but on maps of noise, where the curvature is
    # close to 0, one keypoint in six was off by more than 1e-3 px and some by a pixel.
    if decoder.refine in ("dark", "udp-dark"):
        raise GraphError(
            f"A heatmap decoder with refine '{decoder.refine}' cannot be put into the graph: its curvatures need double"
            " precision.",
            hint="Leave 'post' out of --embed, or choose refine 'quarter'.",
        )
    if decoder.options.target == "combined":
        raise GraphError(
            "A heatmap decoder with a combined target cannot be put into the graph: the maximum of its blurred maps"
            " hangs on rounding.",
            hint="Leave 'post' out of --embed.",
        )


def emit_heatmap(nodes: Nodes, spec: PoseSpec, raw: Mapping[str, str], size: str) -> PoseNodes:
    """Nodes from ``heatmaps`` [N, K, h, w] to people.

    The row of the maximum is found first, then its column in that row only.
    """
    decoder = HeatmapDecoder(spec)
    rule = decoder.options.quarter_rule
    maps = raw["heatmaps"]
    flat = nodes.reshape(maps, [0, 0, -1])
    if rule == "mindpose":
        maps = _nan_highest(nodes, maps)
    width = nodes.length(maps, 3)
    tops = nodes.reduce("ReduceMax", maps, [3], keepdims=False)
    top = nodes.reduce("ReduceMax", tops, [2])
    found = nodes.all_of(is_telling(nodes, flat, top), nodes.op("Greater", top, nodes.constant(0)))

    y = first_index(nodes, tops, top)
    begin = nodes.op("Mul", y, width)
    steps = nodes.op("Range", nodes.constant(0, np.int32), width, nodes.constant(1, np.int32))
    searched = flat if rule != "mindpose" else nodes.reshape(maps, [0, 0, -1])
    row = nodes.op("GatherElements", searched, nodes.op("Add", begin, steps), axis=2)
    x = first_index(nodes, row, top)

    xy = nodes.op("Concat", x, y, axis=2)
    cells = nodes.cast(xy, "float32")
    if decoder.refine == "quarter":
        peak = nodes.op("Add", begin, x)
        allowed = nodes.all_of(found, _step_allowed(nodes, xy, nodes.lengths(maps, 3, 2), rule))
        cells = nodes.op("Add", cells, _quarter_step(nodes, flat, peak, width, allowed))
    if rule != "mindpose":
        cells = nodes.choose(found, cells, nodes.constant(-1 if rule == "mmpose" else 0))
    points = nodes.op("Mul", cells, _pixels_per_cell(nodes, decoder, maps, size))
    return one_person_each(nodes, points, nodes.choose(found, top, nodes.constant(0)))


def _nan_highest(nodes: Nodes, maps: str) -> str:
    """Maps in which NaN is the highest value, as numpy's argmax sees it."""
    bounded = nodes.op("Min", maps, nodes.constant(_LARGEST))
    return nodes.choose(nodes.op("IsNaN", maps), nodes.constant(np.inf), bounded)


def _step_allowed(nodes: Nodes, xy: str, extent: str, rule: str) -> str:
    """bool [N, K, 2]: where the step in x and in y applies, see :class:`.heatmap.HeatmapOptions`.

    Parameters
    ----------
    xy
        int32 [N, K, 2]: column and row of the maximum.
    extent
        int32 [2]: width and height of the maps.
    """
    before = nodes.constant(0 if rule == "mindpose" else 1, np.int32)
    last = nodes.op("Sub", extent, nodes.constant(1, np.int32))
    inside = nodes.all_of(nodes.op("Greater", xy, before), nodes.op("Less", xy, last))
    if rule == "msra":
        return nodes.all_of(inside, nodes.pick(inside, [1, 0], 2))
    if rule == "mmpose":
        return nodes.all_of(inside, nodes.op("Greater", nodes.pick(xy, [1, 0], 2), nodes.constant(0, np.int32)))
    return inside


def _quarter_step(nodes: Nodes, flat: str, peak: str, width: str, allowed: str) -> str:
    """float32 [N, K, 2]: a quarter of a cell towards the higher neighbour, where it is allowed.

    Parameters
    ----------
    flat
        float32 [N, K, h w].
    peak
        int32 [N, K, 1]: where the maximum is.
    width
        int32 scalar: w.
    allowed
        bool [N, K, 2].
    """
    strides = nodes.op("Concat", nodes.constant([1], np.int32), nodes.reshape(width, [1]), axis=0)
    # Where no step is allowed both neighbours are the maximum itself: always inside the map, and no slope.
    stride = nodes.choose(allowed, strides, nodes.constant(0, np.int32))
    ahead, behind = (nodes.op("GatherElements", flat, nodes.op(side, peak, stride), axis=2) for side in ("Add", "Sub"))
    slope = nodes.op("Sign", nodes.op("Sub", ahead, behind))
    return nodes.op("Mul", nodes.choose(allowed, slope, nodes.constant(0)), nodes.constant(0.25))


def _pixels_per_cell(nodes: Nodes, decoder: HeatmapDecoder, maps: str, size: str) -> str:
    """float32 [2]: pixels of the input for a cell, in x and y."""
    extent = nodes.cast(nodes.lengths(maps, 3, 2), "float32")
    if not decoder.corners:
        return nodes.op("Div", size, extent)
    one = nodes.constant(1)
    return nodes.op("Div", nodes.op("Sub", size, one), nodes.op("Max", nodes.op("Sub", extent, one), one))
