"""Which nodes of a graph may compute in float16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from ..errors import GraphError
from .draft import Draft
from .inference import infer_shapes, known_values
from .running import Runner, Tensor

#: Operators that hold the weights and do the work.
HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
#: Operators that lose nothing but the rounding of their result, and which of their inputs are data.
_LIGHT: Mapping[str, int | None] = {
    **dict.fromkeys(
        ("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Identity"), None
    ),
    **dict.fromkeys(("Add", "Sub", "Mul", "MaxPool", "AveragePool", "Concat", "DepthToSpace"), None),
    **dict.fromkeys(("Reshape", "Transpose", "Split", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Pad"), None),
    # Scales are float32 in every precision.
    "Resize": 1,
}
#: Activations above this in a trial stay float32: other pictures may give more.
_SAFE = 65504.0 / 16

_BEFORE = "first layers and what comes before them, where rounding counts most"
_BEHIND = "last layer and what follows it, so that peaks do not tie"
_NORMALISES = "sums, squares or divides"
_ATTENTION = "product of two activations, or its square: range unknown"
_UNTRIED = "not tried in float16"
_RANGE = "values or weights beyond the range of float16"
_BETWEEN = "between two others that stay"


@dataclass(frozen=True)
class Plan:
    """What becomes float16.

    Attributes
    ----------
    half
        Indices of the nodes that compute in float16.
    reasons
        Index of each other node with float32 results -> why it stays.
    floats
        Names of all float32 values and weights.
    """

    half: frozenset[int]
    reasons: Mapping[int, str]
    floats: frozenset[str]


def data_inputs(node: onnx.NodeProto) -> range:
    """Places of the inputs whose type follows the node's."""
    return range(_LIGHT.get(node.op_type) or len(node.input))


def plan(draft: Draft, large: frozenset[str], first: int = 1) -> Plan:
    """Decide for every node.

    Parameters
    ----------
    draft
        The graph.
    large
        Values and weights that float16 cannot hold, as :func:`too_large` gives them.
    first
        How many of the first convolutions and matrix products stay float32.
    """
    nodes = list(draft.graph.node)
    floats = _floats(draft)
    before, behind = _outside(nodes)
    before |= set([i for i, n in enumerate(nodes) if n.op_type in HEAVY][:first])
    reasons: dict[int, str] = {}
    for i, node in enumerate(nodes):
        if not any(o in floats for o in node.output):
            continue
        if i in before or i in behind:
            reasons[i] = _BEFORE if i in before else _BEHIND
        elif reason := _objection(draft, node, floats):
            reasons[i] = reason
        elif any(name in large for name in (*node.input, *node.output)):
            reasons[i] = _RANGE
    _fill_gaps(nodes, reasons)
    half = frozenset(i for i, n in enumerate(nodes) if i not in reasons and any(o in floats for o in n.output))
    return Plan(half, {i: f"{nodes[i].op_type}, {reason}" for i, reason in reasons.items()}, floats)


def _objection(draft: Draft, node: onnx.NodeProto, floats: frozenset[str]) -> str | None:
    varying = [name for name in node.input if name in floats and draft.constant(name) is None]
    if node.op_type in HEAVY:
        return _ATTENTION if len(varying) > 1 else None
    if node.op_type == "Mul" and len(node.input) == 2 and node.input[0] == node.input[1]:
        return _ATTENTION
    if node.op_type == "Resize" and any(a.name == "mode" and a.s != b"nearest" for a in node.attribute):
        return _NORMALISES
    if node.op_type in _LIGHT:
        return None
    normalising = node.op_type.startswith(("Reduce", "Global")) or node.op_type.endswith(("Normalization", "max"))
    return _NORMALISES if normalising or node.op_type in ("Div", "Sqrt", "Pow", "Exp", "Max", "Min") else _UNTRIED


def _outside(nodes: list[onnx.NodeProto]) -> tuple[set[int], set[int]]:
    """Nodes with no heavy one before them, and nodes with no heavy one behind them."""
    reached: set[str] = set()
    before = set()
    for i, node in enumerate(nodes):
        if not any(name in reached for name in node.input):
            before.add(i)
        if node.op_type in HEAVY or i not in before:
            reached.update(node.output)
    needed: set[str] = set()
    behind = set()
    for i in reversed(range(len(nodes))):
        node = nodes[i]
        if not any(o in needed for o in node.output):
            behind.add(i)
        if node.op_type in HEAVY or i not in behind:
            needed.update(node.input)
    return before, behind


def _fill_gaps(nodes: list[onnx.NodeProto], reasons: dict[int, str]) -> None:
    """Let light nodes stay float32 where all around them do: two casts to save nothing are a loss."""
    makers = {o: i for i, node in enumerate(nodes) for o in node.output}
    users: dict[str, list[int]] = {}
    for i, node in enumerate(nodes):
        for name in node.input:
            users.setdefault(name, []).append(i)
    for i, node in enumerate(nodes):
        if i in reasons or node.op_type in HEAVY:
            continue
        sources = [makers[name] for name in node.input if name in makers]
        targets = [user for o in node.output for user in users.get(o, [])]
        if sources and all(s in reasons for s in sources) and all(t in reasons for t in targets):
            reasons[i] = _BETWEEN


def too_large(draft: Draft, feeds: Mapping[str, Tensor]) -> frozenset[str]:
    """Values and weights that float16 cannot hold, or not safely, as a run with ``feeds`` shows.

    Raises
    ------
    GraphError
        If the graph has control flow, whose insides are not looked at.
    """
    for node in draft.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise GraphError(f"The operator {node.op_type} holds a graph of its own; such graphs stay float32.")
    floats = _floats(draft)
    large = {
        name
        for name in draft.constants()
        if name in floats and (array := draft.constant(name)) is not None and not _within(array, 65504.0)
    }
    watched = [o for n in draft.graph.node for o in n.output if o in floats]
    probe = Draft(draft.finish())
    listed = {o.name for o in probe.graph.output}
    probe.graph.output.extend(onnx.ValueInfoProto(name=o) for o in watched if o not in listed)
    infer_shapes(probe)
    values = Runner(probe, "graph").run(feeds)
    return frozenset(large | {name for name in watched if not _within(values[name], _SAFE)})


def _floats(draft: Draft) -> frozenset[str]:
    infer_shapes(draft)
    kinds = {name: v.type.tensor_type.elem_type for name, v in known_values(draft).items()}
    kinds |= {name: header.data_type for name, header in draft.constants().items()}
    return frozenset(name for name, kind in kinds.items() if kind == TensorProto.FLOAT)


def _within(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], limit: float) -> bool:
    return bool(np.all(np.abs(array.astype(np.float32, copy=False)) <= limit))
