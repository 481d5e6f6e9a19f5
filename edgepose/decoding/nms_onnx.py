"""Non-maximum suppression of few boxes as ONNX nodes: what :func:`.nms.box_nms` does in numpy.

ONNX has an operator for it, whose result has as many rows as there are boxes left; devices want fixed sizes.
"""

from __future__ import annotations

import numpy as np

from .nodes import Nodes


def suppress_boxes(nodes: Nodes, boxes: str, scores: str, places: int, threshold: float) -> str:
    """float32 [N, P]: the scores, 0 for boxes that a better one suppresses.

    Each round of the unrolled loop settles one more box in the order of the scores: the best is kept; a box is dropped
    if a kept, better one overlaps it.  Nodes grow with P, and work with its square.

    Parameters
    ----------
    boxes
        Finite float32 [N, P, 4]: x1, y1, x2, y2.
    scores
        float32 [N, P], not negative.
    places
        P.
    threshold
        Intersection over union above which the lower score is dropped.
    """
    bars, beams = [0, places, 1], [0, 1, places]
    conflict = nodes.all_of(
        _overlap(nodes, boxes, places, threshold),
        _better(nodes, nodes.reshape(scores, bars), nodes.reshape(scores, beams), places),
    )
    conflict = nodes.cast(conflict, "float32")
    kept = nodes.constant(np.ones((1, places, 1)))
    for _ in range(places - 1):
        dropped = nodes.reduce("ReduceMax", nodes.op("Mul", conflict, kept), [1])
        kept = nodes.reshape(nodes.op("Sub", nodes.constant(1), dropped), bars)
    return nodes.op("Mul", scores, nodes.reshape(kept, [-1, places]))


def _overlap(nodes: Nodes, boxes: str, places: int, threshold: float) -> str:
    """bool [N, P, P]: where intersection over union is above the threshold."""
    zero = nodes.constant(0)
    low, high = nodes.pick(boxes, [0, 1], 2), nodes.pick(boxes, [2, 3], 2)
    bars, beams = ([0, places, 1, 2], [0, 1, places, 2])
    first = nodes.op("Max", nodes.reshape(low, bars), nodes.reshape(low, beams))
    last = nodes.op("Min", nodes.reshape(high, bars), nodes.reshape(high, beams))
    shared = _product(nodes, nodes.op("Max", nodes.op("Sub", last, first), zero), 3)
    area = _product(nodes, nodes.op("Max", nodes.op("Sub", high, low), zero), 2)
    both = nodes.op("Add", nodes.reshape(area, bars[:3]), nodes.reshape(area, beams[:3]))
    union = nodes.op("Sub", both, shared)
    return nodes.op("Greater", shared, nodes.op("Mul", union, nodes.constant(threshold)))


def _better(nodes: Nodes, bars: str, beams: str, places: int) -> str:
    """bool [N, P, P]: where the box of the row comes before that of the column; of equal scores the first does."""
    earlier = nodes.constant(np.triu(np.ones((1, places, places)), 1), np.bool_)
    tie = nodes.all_of(nodes.op("Equal", bars, beams), earlier)
    return nodes.op("Or", nodes.op("Greater", bars, beams), tie)


def _product(nodes: Nodes, sides: str, axis: int) -> str:
    """Width times height, which lie on ``axis``."""
    return nodes.op("Mul", nodes.pick(sides, 0, axis), nodes.pick(sides, 1, axis))
