"""MoveNet's order, scale and thresholds as ONNX nodes: what :mod:`.movenet` does in numpy."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import GraphError
from ..spec import PoseSpec
from .movenet import MoveNetMultiDecoder
from .nms_onnx import suppress_boxes
from .nodes import Nodes, PoseNodes

_XY_SCORE = (1, 0, 2)


def emit_movenet_single(nodes: Nodes, spec: PoseSpec, raw: Mapping[str, str], size: str) -> PoseNodes:
    """Nodes from ``keypoints`` [N, 1, K, 3] to one person in each element of the batch."""
    assert spec.keypoints is not None
    fractions = nodes.reshape(raw["keypoints"], [0, len(spec.keypoints), 3])
    fractions = nodes.choose(nodes.finite(fractions, [2]), fractions, nodes.constant(0))
    keypoints = _to_pixels(nodes, fractions, size, axis=2)
    return PoseNodes(keypoints, nodes.reduce("ReduceMean", nodes.pick(keypoints, 2, 2), [1], keepdims=False))


def check_movenet_multi(spec: PoseSpec) -> None:
    """Whether :func:`emit_movenet_multi` can write this decoder.

    Raises
    ------
    GraphError
        If the threshold is not positive: a score of 0 says that a place is empty.
    """
    threshold = MoveNetMultiDecoder(spec).options.score_threshold
    if threshold <= 0:
        raise GraphError(
            f"A 'score_threshold' of {threshold} cannot be put into the graph, where a score of 0 says that nobody"
            " is there.",
            hint="Give a positive threshold in the spec, or leave 'post' out of --embed.",
        )


def emit_movenet_multi(nodes: Nodes, spec: PoseSpec, raw: Mapping[str, str], size: str) -> PoseNodes:
    """Nodes from ``poses`` [N, P, 3 K + 5] to P places for people in each element of the batch.

    Raises
    ------
    GraphError
        If the graph does not say what P is.
    """
    options = MoveNetMultiDecoder(spec).options
    places = nodes.shape(raw["poses"])[1]
    if not isinstance(places, int):
        raise GraphError("The graph does not say how many people its output 'poses' has places for.")
    assert spec.keypoints is not None
    count = len(spec.keypoints)
    last = 3 * count
    finite = nodes.finite(raw["poses"], [2])
    poses = nodes.choose(finite, raw["poses"], nodes.constant(0))
    fractions = nodes.reshape(nodes.span(poses, 0, last, 2), [0, 0, count, 3])
    keypoints = _to_pixels(nodes, fractions, size, axis=3)
    boxes = nodes.pick(poses, [last + 1, last, last + 3, last + 2], 2)
    boxes = nodes.op("Mul", boxes, nodes.op("Concat", size, size, axis=0))
    scores = nodes.pick(poses, last + 4, 2)
    too_low = nodes.op("Less", scores, nodes.constant(options.score_threshold))
    scores = nodes.choose(too_low, nodes.constant(0), scores)
    return PoseNodes(keypoints, suppress_boxes(nodes, boxes, scores, places, options.iou_threshold), boxes)


def _to_pixels(nodes: Nodes, fractions: str, size: str, axis: int) -> str:
    """(y, x, score) as fractions, on the last axis, -> (x, y, score) in pixels of the input."""
    scale = nodes.op("Concat", size, nodes.constant([1]), axis=0)
    return nodes.op("Mul", nodes.pick(fractions, _XY_SCORE, axis), scale)
