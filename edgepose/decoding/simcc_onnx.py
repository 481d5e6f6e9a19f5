"""SimCC as ONNX nodes: what :mod:`.simcc` does in numpy."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import GraphError
from ..spec import PoseSpec
from .nodes import Nodes, PoseNodes
from .peaks_onnx import first_index, is_telling
from .simcc import VISIBILITY_BETA, SimCCDecoder
from .topdown_onnx import one_person_each


def check_simcc(spec: PoseSpec) -> None:
    """Whether :func:`emit_simcc` can write this decoder.

    Raises
    ------
    GraphError
        If the options ask for DARK.
    """
    if SimCCDecoder(spec).options.dark:
        raise GraphError(
            "A SimCC decoder with 'dark' cannot be put into the graph: its curvatures need double precision.",
            hint="Leave 'post' out of --embed, or set 'dark' to false in the spec.",
        )


def emit_simcc(nodes: Nodes, spec: PoseSpec, raw: Mapping[str, str], size: str) -> PoseNodes:
    """Nodes from ``simcc_x`` [N, K, bins along x] and ``simcc_y`` [N, K, bins along y] to people."""
    options = SimCCDecoder(spec).options
    axes = [raw["simcc_x"], raw["simcc_y"]]
    tops = [nodes.reduce("ReduceMax", rows, [2]) for rows in axes]
    lower = nodes.op("Min", *tops)
    found = nodes.all_of(
        *(is_telling(nodes, rows, top) for rows, top in zip(axes, tops, strict=True)),
        nodes.op("Greater", lower, nodes.constant(0)),
    )
    index = nodes.op("Concat", *(first_index(nodes, rows, top) for rows, top in zip(axes, tops, strict=True)), axis=2)
    bins = nodes.choose(found, nodes.cast(index, "float32"), nodes.constant(-1))
    points = nodes.op("Div", bins, nodes.constant(options.split_ratio))
    if options.score == "visibility":
        assert options.sigma is not None
        shares = zip(axes, tops, options.sigma, strict=True)
        scores = nodes.op("Min", *(_largest_share(nodes, *share) for share in shares))
    elif options.score == "mean":
        scores = nodes.op("Mul", nodes.op("Add", *tops), nodes.constant(0.5))
    else:
        scores = lower
    return one_person_each(nodes, points, nodes.choose(found, scores, nodes.constant(0)))


def _largest_share(nodes: Nodes, rows: str, top: str, sigma: float) -> str:
    """Largest softmax probability of each row; float32 [N, K, 1]."""
    below = nodes.op("Mul", nodes.op("Sub", rows, top), nodes.constant(VISIBILITY_BETA * sigma))
    return nodes.op("Reciprocal", nodes.reduce("ReduceSum", nodes.op("Exp", below), [2]))
