"""Regressed coordinates as ONNX nodes: what :mod:`.regression` does in numpy."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import GraphError
from ..spec import PoseSpec
from .nodes import Nodes, PoseNodes
from .topdown_onnx import one_person_each


def emit_regression(nodes: Nodes, spec: PoseSpec, raw: Mapping[str, str], size: str) -> PoseNodes:
    """Nodes from ``coordinates`` [N, K, 2 or 4] to people.

    Raises
    ------
    GraphError
        If the graph does not say whether it gives 2 or 4 numbers a keypoint.
    """
    coordinates = raw["coordinates"]
    channels = nodes.shape(coordinates)[2]
    if channels not in (2, 4):
        raise GraphError(f"The output 'coordinates' has {channels} numbers a keypoint; 2 or 4 can be read.")
    zero, one = nodes.constant(0), nodes.constant(1)
    finite = nodes.finite(coordinates, [2])
    points = nodes.op("Mul", nodes.choose(finite, nodes.span(coordinates, 0, 2, 2), zero), size)
    certain = one
    if channels == 4:
        sigmas = nodes.op("Sigmoid", nodes.span(coordinates, 2, 4, 2))
        certain = nodes.op("Sub", one, nodes.reduce("ReduceMean", sigmas, [2]))
    return one_person_each(nodes, points, nodes.choose(finite, certain, zero))
