"""Which operators of a graph compute in int8, and which values are quantised for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

from ..graph.draft import Draft, all_graphs
from ..graph.inference import infer_shapes, known_values
from ..graph.passes.wiring import attributes_of
from .scheme import LAYERS, Scheme

#: Operators whose results hold nothing but elements of their first input.
_PASSING = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace"}
    | {"SpaceToDepth", "Identity", "Expand", "Tile", "Gather"}
)

#: Activations that give no negative numbers.
_POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softplus"})
#: Activations that rounding to the integers' range computes by itself.
_BOUNDS = frozenset({"Relu", "Clip"})

_ASKED = "as asked"
_PRODUCT = "a product of two activations"
_COMPUTED = "its weights are computed"
_SHAPE = "a form of the operator that has no int8 kernel"
_GROUPED = "a deconvolution with groups, for which targets have no int8 kernel"
_LAST = "its result is an output, or is decoded to coordinates"
_DECONVOLUTION = "the target has no int8 deconvolution"


@dataclass(frozen=True)
class Placement:
    """What is quantised.

    Attributes
    ----------
    layers
        Indices of the layers that compute with int8 weights.
    operators
        Indices of the other operators that compute in int8.
    tensors
        Values that are quantised, and read dequantised by all.
    groups
        Each of ``tensors`` -> the one that stands for all that have its scale.
    roots
        Stands-for-all -> those of the group whose ranges count; the others only hold elements of these.
    zero_point_free
        Stands-for-all of groups whose zero point must be 0.
    kept
        Output of each layer that stays in float -> why.
    """

    layers: frozenset[int]
    operators: frozenset[int]
    tensors: frozenset[str]
    groups: Mapping[str, str]
    roots: Mapping[str, tuple[str, ...]]
    zero_point_free: frozenset[str]
    kept: Mapping[str, str] = field(default_factory=dict)


class _Graph:
    """Who makes and uses what."""

    def __init__(self, draft: Draft) -> None:
        infer_shapes(draft)
        self.draft = draft
        self.nodes = list(draft.graph.node)
        self.makers = {o: i for i, n in enumerate(self.nodes) for o in n.output if o}
        self.users: dict[str, list[int]] = {}
        for i, node in enumerate(self.nodes):
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(i)
        self.outputs = {o.name for o in draft.graph.output}
        constants = draft.constants()
        kinds = {name: v.type.tensor_type.elem_type for name, v in known_values(draft).items()}
        self.floats = {n for n, kind in kinds.items() if kind == TensorProto.FLOAT and n not in constants}
        # What control flow reads from outside stays as it is.
        self.inside = {
            name for g in all_graphs(draft.graph) if g is not draft.graph for n in g.node for name in n.input
        }

    def data(self, i: int) -> list[str]:
        """The float values, not constants, that a node computes with."""
        node = self.nodes[i]
        names = node.input[:1] if node.op_type in _PASSING or node.op_type in ("Resize", "Pad", "Clip") else node.input
        return [name for name in dict.fromkeys(names) if name in self.floats]

    def single_user(self, name: str) -> int | None:
        """The only node that reads a value; None if there are others, or it is an output."""
        users = self.users.get(name, [])
        return users[0] if len(users) == 1 and name not in self.outputs and name not in self.inside else None

    def passes(self, i: int) -> bool:
        """Whether the results of a node hold elements of its first input, and at most zeros besides."""
        node = self.nodes[i]
        if node.domain or not node.input or node.input[0] not in self.floats:
            return False
        if node.op_type == "Resize":
            return attributes_of(node).get("mode", b"nearest") == b"nearest"
        if node.op_type == "Pad":
            fill = self.draft.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
            return attributes_of(node).get("mode", b"constant") != b"constant" or (fill is not None and not fill.any())
        return node.op_type in _PASSING

    def never_negative(self, name: str) -> bool:
        """Whether a value comes from an activation that gives no negative numbers."""
        while name in self.makers:
            i = self.makers[name]
            node = self.nodes[i]
            if node.op_type == "Clip":
                low = self.draft.constant(node.input[1]) if len(node.input) > 1 else None
                return low is not None and bool(np.all(low.astype(np.float64) >= 0))
            if not self.passes(i):
                return node.op_type in _POSITIVE
            name = node.input[0]
        return False

    def weights_form(self, i: int) -> str | None:
        """Why a layer cannot have int8 weights; None if it can."""
        node = self.nodes[i]
        attributes = attributes_of(node)
        places = list(node.input[1:])
        if not self.data(i):
            return _COMPUTED
        if node.op_type == "MatMul" and node.input[1] in self.floats and node.input[0] in self.floats:
            return _PRODUCT
        arrays = [self.draft.constant(name) for name in places if name]
        if not arrays or any(a is None or a.dtype != np.float32 for a in arrays):
            return _COMPUTED
        weights = arrays[0]
        assert weights is not None
        if node.op_type == "ConvTranspose" and attributes.get("group", 1) != 1:
            return _GROUPED
        if node.op_type in ("Conv", "ConvTranspose"):
            return None if weights.ndim >= 3 else _SHAPE
        if weights.ndim != 2:
            return _SHAPE
        plain = attributes.get("alpha", 1.0) == 1 and attributes.get("beta", 1.0) == 1 and not attributes.get("transA")
        return None if plain else _SHAPE

    def result(self, i: int, fused: Collection[str]) -> str:
        """The value behind the activations that are computed together with a node."""
        name = str(self.nodes[i].output[0])
        while True:
            user = self.single_user(name)
            if user is not None:
                node = self.nodes[user]
                if node.op_type not in fused or node.domain or any(n in self.floats for n in node.input[1:]):
                    return name
                name = str(node.output[0])
                continue
            product = self._gated(name, fused)
            if product is None:
                return name
            name = product

    def _gated(self, name: str, fused: Collection[str]) -> str | None:
        """The product of a value and an activation of it, if nothing else reads either."""
        users = self.users.get(name, [])
        if len(users) != 2 or name in self.outputs or name in self.inside:
            return None
        for gate, product in (users, users[::-1]):
            a, b = self.nodes[gate], self.nodes[product]
            if (
                a.op_type in fused
                and b.op_type == "Mul"
                and list(a.input).count(name) == 1
                and set(b.input) == {name, a.output[0]}
                and self.single_user(a.output[0]) == product
            ):
                return str(b.output[0])
        return None


def place(
    draft: Draft, scheme: Scheme, keep_float: Collection[str] = (), reasons: Mapping[str, str] | None = None
) -> Placement:
    """Decide for every operator and value of a float graph.

    Parameters
    ----------
    draft
        The graph.
    scheme
        What the target wants.
    keep_float
        Outputs of operators that stay in float.
    reasons
        Output of a layer -> why it cannot be quantised, where that is known already.
    """
    graph = _Graph(draft)
    kept = _kept(graph, scheme, frozenset(keep_float), reasons or {})
    layers = frozenset(
        i
        for i, n in enumerate(graph.nodes)
        if n.op_type in LAYERS and not n.domain and n.output[0] in graph.floats and n.output[0] not in kept
    )
    tensors: set[str] = set()
    fed: set[str] = set()
    operators: set[int] = set()
    leading = _leading(graph)
    last = _last(graph)
    for i, node in enumerate(graph.nodes):
        data = graph.data(i)
        if i in layers:
            tensors.update(data)
            if i not in last:
                result = graph.result(i, scheme.fused)
                tensors.add(result)
                fed.add(result)
        elif i not in leading or not data or node.domain or node.output[0] in keep_float:
            continue
        elif graph.passes(i) and (node.op_type not in ("MaxPool",) or "MaxPool" in scheme.operators):
            if data[0] in fed:
                fed.update(node.output)
                tensors.update(o for o in node.output if o in graph.floats)
        elif node.op_type in scheme.operators - LAYERS and _combines(node, data) and fed & set(data):
            operators.add(i)
            tensors.update(data)
            result = graph.result(i, _BOUNDS.intersection(scheme.fused))
            tensors.add(result)
            fed.add(result)
    tensors -= graph.inside
    groups, roots = _groups(graph, scheme, operators, tensors)
    free = frozenset(
        groups[name] for i in layers if graph.nodes[i].op_type == "ConvTranspose" for name in graph.data(i)
    )
    return Placement(layers, frozenset(operators), frozenset(tensors), groups, roots, free, kept)


def _kept(graph: _Graph, scheme: Scheme, asked: frozenset[str], reasons: Mapping[str, str]) -> dict[str, str]:
    last = _last(graph)
    kept = {}
    for i, node in enumerate(graph.nodes):
        if node.op_type not in LAYERS or node.domain or node.output[0] not in graph.floats:
            continue
        name = node.output[0]
        reason = graph.weights_form(i)
        if name in asked:
            kept[name] = _ASKED
        elif name in reasons:
            kept[name] = reasons[name]
        elif reason is not None:
            kept[name] = reason
        elif node.op_type not in scheme.operators:
            kept[name] = "the target computes it in float"
        elif node.op_type == "ConvTranspose" and scheme.deconvolution != "native":
            kept[name] = _DECONVOLUTION
        elif i in last and not scheme.open_end:
            kept[name] = _LAST
    return kept


def _combines(node: onnx.NodeProto, data: list[str]) -> bool:
    """Whether an operator's inputs are all values, none a constant, as int8 kernels want it."""
    return len(data) == len(set(node.input) - {""}) and len(node.output) == 1


def _has_weights(graph: _Graph, i: int) -> bool:
    node = graph.nodes[i]
    return node.op_type in LAYERS and not node.domain and graph.weights_form(i) is None


def _leading(graph: _Graph) -> set[int]:
    """Nodes from which the way leads to a layer with weights; none of what only decodes is."""
    found: set[int] = set()
    wanted: set[str] = set()
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        if any(o in wanted for o in node.output):
            found.add(i)
        if i in found or _has_weights(graph, i):
            wanted.update(node.input)
    return found


def _last(graph: _Graph) -> set[int]:
    """Layers from which a way leads to an output past no other layer."""
    found: set[int] = set()
    wanted = set(graph.outputs)
    for i in reversed(range(len(graph.nodes))):
        if not any(o in wanted for o in graph.nodes[i].output):
            continue
        if _has_weights(graph, i):
            found.add(i)
        else:
            wanted.update(graph.nodes[i].input)
    return found


def _groups(
    graph: _Graph, scheme: Scheme, operators: Iterable[int], tensors: set[str]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Sets of values that have one scale, and whose ranges decide it.

    What is concatenated shares a scale, since what follows sees one.  But beside others a value without negatives keeps
    its zero point 0, which bounds it at no cost, and each has a scale of its own.
    """
    parent = {name: name for name in tensors}

    def head(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    derived: set[str] = set()
    concats = {i for i in operators if graph.nodes[i].op_type == "Concat"}
    for i, node in enumerate(graph.nodes):
        sources = graph.data(i) if i in concats else [node.input[0]] if graph.passes(i) else []
        results = [o for o in node.output if o in tensors]
        if i in concats and not scheme.symmetric and len({graph.never_negative(s) for s in sources}) > 1:
            continue
        if not sources or not results or not all(s in tensors for s in sources):
            continue
        derived.update(results)
        for name in (*sources, *results):
            parent[head(name)] = head(sources[0])
    groups = {name: head(name) for name in sorted(tensors)}
    roots: dict[str, list[str]] = {}
    for name, first in groups.items():
        if name not in derived:
            roots.setdefault(first, []).append(name)
    return groups, {name: tuple(found) for name, found in roots.items()}
