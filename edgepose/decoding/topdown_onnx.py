"""What the decoders of one person's crop have in common, as ONNX nodes: what :mod:`.topdown` does in numpy."""

from __future__ import annotations

from .nodes import Nodes, PoseNodes
from .scoring import VISIBLE


def one_person_each(nodes: Nodes, points: str, scores: str) -> PoseNodes:
    """One person for each crop.

    Parameters
    ----------
    points
        float32 [N, K, 2]: x, y in pixels of the network input.
    scores
        float32 [N, K, 1].

    Returns
    -------
    PoseNodes
        The score of a person is the mean of the keypoint scores above 0.2, or 0.
    """
    visible = nodes.op("Greater", scores, nodes.constant(VISIBLE))
    count = nodes.reduce("ReduceSum", nodes.cast(visible, "float32"), [1])
    # Divided before they are summed: the sum of large scores overflows, their mean does not.
    shares = nodes.op("Div", scores, count)
    people = nodes.reduce("ReduceSum", nodes.choose(visible, shares, nodes.constant(0)), [1, 2], keepdims=False)
    return PoseNodes(nodes.op("Concat", points, scores, axis=2), people)
