"""What is wrong, or slow, in a graph with Q/DQ nodes, whoever made it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from ..graph.draft import Array, Draft
from .scheme import ACTIVATIONS, LAYERS, Scheme

#: Operators of integers, instead of Q/DQ around float ones.
_INTEGER = frozenset({"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm"})
#: Operators that move values about between a layer and its closing Q.
_PASSING = frozenset(
    {"Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "Identity"}
)


@dataclass(frozen=True)
class Finding:
    """Something that costs speed, or gives wrong numbers, on some target.

    Attributes
    ----------
    rule
        ``open-result``, ``weight-zero-point``, ``unsigned-weights``, ``float-weights``, ``one-sided-input``,
        ``signed-zero-point``, ``signed-activations``, ``integer-bias``, ``deconvolution`` or ``integer-operators``.
    nodes
        Names of the nodes (of their outputs, where they have none).
    message
        What that means, in a sentence.
    """

    rule: str
    nodes: tuple[str, ...]
    message: str


_MESSAGES = {
    "open-result": "int8 goes in and float comes out: the layer, or what follows it, is not computed in int8 by targets"
    " that need the result quantised after the activation",
    "weight-zero-point": "weights with a zero point: OpenVINO computes them in float, and some wrongly",
    "unsigned-weights": "unsigned weights: OpenVINO computes them in float, and some wrongly",
    "float-weights": "weights are stored as float and quantised at run time: the file is not smaller",
    "one-sided-input": "int8 weights, but the input is not quantised: computed in float, and the weights dequantised"
    " in each run",
    "signed-zero-point": "signed activations with a zero point other than 0: accelerators refuse them, OpenVINO"
    " computes in float",
    "signed-activations": "signed activations and signed weights: several times slower in ONNX Runtime on x86",
    "integer-bias": "int32 biases: accelerators' parsers refuse to dequantise them",
    "deconvolution": "a deconvolution with int8 weights: ONNX Runtime computes it in float and dequantises the weights"
    " in each run",
    "integer-operators": "operators of integers instead of Q/DQ around float ones: only ONNX Runtime takes them",
}


def lint(graph: onnx.ModelProto, scheme: Scheme | None = None) -> list[Finding]:
    """Look at the Q/DQ nodes of a graph.

    Parameters
    ----------
    graph
        The graph; nothing is found in one without quantisation.
    scheme
        What the graph is meant for, so that only what is wrong there is told; None to tell all.

    Returns
    -------
    list of Finding
        One for each rule that is broken, the nodes in the order of the graph.

    Raises
    ------
    GraphError
        If the message is damaged.
    """
    found: dict[str, list[str]] = {}
    linter = _Linter(Draft(graph))
    for node in linter.draft.graph.node:
        for rule in linter.rules(node):
            found.setdefault(rule, []).append(node.name or node.output[0])
    wanted = [rule for rule in _MESSAGES if rule in found and not _meant(rule, scheme)]
    if scheme is not None and scheme.open_end and "open-result" in wanted:
        last = linter.last()
        found["open-result"] = [name for name in found["open-result"] if name not in last]
    return [Finding(rule, tuple(found[rule]), _MESSAGES[rule]) for rule in wanted if found[rule]]


def _meant(rule: str, scheme: Scheme | None) -> bool:
    if scheme is None:
        return False
    wanted = {
        "signed-activations": scheme.activations == "int8",
        "integer-bias": scheme.bias == "int32",
        "deconvolution": scheme.deconvolution == "native",
    }
    return wanted.get(rule, False)


class _Linter:
    """Who makes and uses what."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.makers = {o: n for n in draft.graph.node for o in n.output if o}
        self.users: dict[str, list[onnx.NodeProto]] = {}
        for node in draft.graph.node:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)
        self.outputs = {o.name for o in draft.graph.output}

    def rules(self, node: onnx.NodeProto) -> list[str]:
        """The rules that a node breaks."""
        if node.op_type in _INTEGER or node.op_type.startswith("QLinear"):
            return ["integer-operators"]
        if node.op_type == "QuantizeLinear":
            zero = self._zero(node)
            signed = zero is not None and zero.dtype == np.int8
            return ["signed-zero-point"] if signed and zero is not None and zero.any() else []
        if node.op_type == "DequantizeLinear":
            stored = self.draft.constant(node.input[0])
            return ["integer-bias"] if stored is not None and stored.dtype == np.int32 else []
        return self._layer(node) if node.op_type in LAYERS and not node.domain and len(node.input) > 1 else []

    def _layer(self, node: onnx.NodeProto) -> list[str]:
        weights, data = self.makers.get(node.input[1]), self.makers.get(node.input[0])
        if weights is None or weights.op_type != "DequantizeLinear":
            return []
        stored = self._constant(weights)
        if stored is None and self._source(weights) is None:
            return []  # a product of two activations
        found = []
        quantizer = self.makers.get(weights.input[0])
        zero = self._zero(weights) if stored is not None or quantizer is None else self._zero(quantizer)
        if zero is not None and zero.any():
            found.append("weight-zero-point")
        kind = stored if stored is not None else zero
        if kind is None or kind.dtype == np.uint8:
            found.append("unsigned-weights")
        if stored is None:
            found.append("float-weights")
        if data is None or data.op_type != "DequantizeLinear":
            return [*found, "one-sided-input"]
        activation = self.makers.get(data.input[0])
        grid = self._zero(data) if activation is None else self._zero(activation)
        if grid is not None and grid.dtype == np.int8:
            found.append("signed-activations")
        if node.op_type == "ConvTranspose":
            found.append("deconvolution")
        if not self._closed(node.output[0]):
            found.append("open-result")
        return found

    def _constant(self, dequantizer: onnx.NodeProto) -> Array | None:
        return self.draft.constant(dequantizer.input[0])

    def _source(self, dequantizer: onnx.NodeProto) -> Array | None:
        """Float weights that are quantised at run time."""
        quantizer = self.makers.get(dequantizer.input[0])
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            return None
        return self.draft.constant(quantizer.input[0])

    def _zero(self, node: onnx.NodeProto) -> Array | None:
        if len(node.input) > 2 and node.input[2]:
            return self.draft.constant(node.input[2])
        # Without one, QuantizeLinear gives uint8 with the zero point 0.
        return np.zeros((), np.uint8) if node.op_type == "QuantizeLinear" else None

    def _closed(self, name: str) -> bool:
        """Whether a result is quantised, after activations and sums at most, wherever it goes."""
        pending, seen = [name], set()
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            users = self.users.get(current, [])
            if current in self.outputs or not users:
                return False
            for user in users:
                if user.op_type == "QuantizeLinear":
                    continue
                if user.op_type not in {*ACTIVATIONS, *_PASSING, "Add", "Mul", "BatchNormalization", "MaxPool"}:
                    return False
                pending.extend(user.output)
        return True

    def last(self) -> set[str]:
        """Layers from which a way leads to an output past no other layer."""
        wanted, found = set(self.outputs), set()
        for node in reversed(self.draft.graph.node):
            if not any(o in wanted for o in node.output):
                continue
            if node.op_type in LAYERS:
                found.add(node.name or node.output[0])
            else:
                wanted.update(node.input)
        return found
