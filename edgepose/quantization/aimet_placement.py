"""Where AIMET puts its quantisers, on a graph of ONNX.

AIMET wraps the modules of a network in PyTorch.  Here, each operator with an output of its own counts as one.  Results
of joins (Concat) are quantised as inputs of what follows, and operators that only pass values on are not quantised, as
aimet-torch 2.42 was seen to do.  Normalisation of pixels before the first layer and decoding after the last one are no
part of the network that AIMET sees: the picture is quantised where it enters the first layers, and of what follows the
last layers only activations are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from ..graph.draft import Draft
from ..graph.inference import check_and_infer, known_values
from ..graph.passes.wiring import Wiring, attributes_of
from .aimet_config import SimulationConfig
from .aimet_encodings import Grid
from .scheme import LAYERS

#: Operators whose results hold nothing but elements of their input.
_PASSING = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace", "Cast"}
    | {"SpaceToDepth", "Identity", "Expand", "Tile", "Gather", "Dropout"}
)
_JOINS = frozenset({"Concat"})
_ACTIVATIONS = frozenset(
    {"Relu", "PRelu", "LeakyRelu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Tanh", "Softplus"}
)
#: Names of nodes that :mod:`edgepose.graph.embed` adds.
_EMBEDDED = ("edgepose.input/", "edgepose.decoder/")


@dataclass(frozen=True)
class WeightSite:
    """A weight that is quantised: the kind of its grid, and the axis of channels that have their own, or None."""

    grid: Grid
    axis: int | None


@dataclass(frozen=True)
class Sites:
    """What is quantised.

    Attributes
    ----------
    outputs
        Values that operators give -> the kind of grid.
    inputs
        Values that are quantised where they enter an operator -> the kind of grid.
    weights
        Initialiser -> how.
    """

    outputs: Mapping[str, Grid]
    inputs: Mapping[str, Grid]
    weights: Mapping[str, WeightSite]

    @property
    def activations(self) -> dict[str, Grid]:
        """All values that are not weights."""
        return {**self.inputs, **self.outputs}


def place(draft: Draft, config: SimulationConfig) -> Sites:
    """Find what a configuration quantises in a graph.

    Raises
    ------
    GraphError
        If the graph is not valid.
    """
    check_and_infer(draft)
    found = _Graph(draft)
    body = found.body()
    outputs: dict[str, Grid] = {}
    inputs: dict[str, Grid] = {}
    for node in body:
        grid = None if _passes(node) else config.output_grid(node.op_type)
        for name in node.output if grid is not None else ():
            if name in found.floats and grid is not None:
                (inputs if node.op_type in _JOINS else outputs)[name] = grid
        if config.quantises_input(node.op_type):
            inputs.update({n: config.input_grid(node.op_type) for n in node.input if n in found.floats})
    for name in found.inside(body, config.supergroups):
        outputs.pop(name, None)
    if config.model_input:
        inputs.update(dict.fromkeys(found.entries(), config.input_grid()))
    if config.model_output is not None:
        for output in draft.graph.output:
            outputs.pop(output.name, None)
            if config.model_output and output.name in found.floats:
                outputs[output.name] = config.input_grid()
    inputs = {name: grid for name, grid in inputs.items() if name not in outputs}
    return Sites(outputs, inputs, _weights(draft, body, config))


class _Graph:
    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.nodes = [n for n in draft.graph.node if not n.name.startswith(_EMBEDDED)]
        self.wiring = Wiring(draft.graph)
        constants = draft.constants()
        self.floats = {
            name
            for name, value in known_values(draft).items()
            if value.type.tensor_type.elem_type == TensorProto.FLOAT and name not in constants
        }
        self._after = self._reached(draft.graph.node, forwards=True)
        self._before = self._reached(draft.graph.node, forwards=False)

    def body(self) -> list[onnx.NodeProto]:
        """The network's own nodes."""
        found = []
        made: set[str] = set()
        for node in self.nodes:
            between = node.output[0] in self._after and node.output[0] in self._before
            if between or (node.op_type in _ACTIVATIONS and node.input[0] in made):
                found.append(node)
                made.update(node.output)
        return found

    def entries(self) -> list[str]:
        """Values that enter the first layers: the picture, normalised."""
        return [
            node.input[0]
            for node in self.nodes
            if node.op_type in LAYERS and node.input[0] in self.floats and not self._follows_layer(node.input[0])
        ]

    def _follows_layer(self, name: str) -> bool:
        maker = self.wiring.producers.get(name)
        return maker is not None and maker.output[0] in self._after

    def inside(self, body: Iterable[onnx.NodeProto], groups: Iterable[tuple[str, ...]]) -> set[str]:
        """Values between the operators of a supergroup."""
        outputs = {o.name for o in self.draft.graph.output}
        readers = {name: node for node in self.nodes for name in node.input}
        found: set[str] = set()
        for node in body:
            for group in groups:
                chain: list[str] = []
                current: onnx.NodeProto | None = node
                for kind, following in zip(group, (*group[1:], ""), strict=True):
                    if current is None or current.op_type != kind:
                        break
                    if not following:
                        found.update(chain)
                        break
                    value = current.output[0]
                    alone = self.wiring.uses.get(value) == 1 and value not in outputs
                    chain.append(value)
                    current = readers.get(value) if alone else None
        return found

    def _reached(self, nodes: Iterable[onnx.NodeProto], *, forwards: bool) -> set[str]:
        """First outputs of nodes that are layers, come after one, or (backwards) before one."""
        values: set[str] = set()
        found: set[str] = set()
        for node in nodes if forwards else reversed(list(nodes)):
            near, far = (node.input, node.output) if forwards else (node.output, node.input)
            if node.op_type in LAYERS or values.intersection(near):
                found.add(node.output[0])
                values.update(name for name in far if name)
        return found


def _passes(node: onnx.NodeProto) -> bool:
    if node.op_type == "Resize":
        return attributes_of(node).get("mode", b"nearest") == b"nearest"
    return node.op_type in _PASSING


def _weights(draft: Draft, body: Iterable[onnx.NodeProto], config: SimulationConfig) -> dict[str, WeightSite]:
    found: dict[str, WeightSite] = {}
    for node in body:
        if node.op_type not in LAYERS and node.op_type != "PRelu":
            continue
        for name, role in _parameters(draft, node):
            grid, by_channel = config.parameter_grid(node.op_type, role)
            if grid is not None:
                found[name] = WeightSite(grid, _axis(node, role) if by_channel else None)
    return found


def _parameters(draft: Draft, node: onnx.NodeProto) -> list[tuple[str, str]]:
    roles = ("weight", "weight") if node.op_type == "MatMul" else ("", "weight", "bias")
    found = []
    for name, role in zip(node.input, roles, strict=False):
        array = draft.constant(name) if name and role else None
        if array is not None and array.dtype == np.float32 and array.size:
            found.append((name, role))
    return found


def _axis(node: onnx.NodeProto, role: str) -> int | None:
    """AIMET: axis 0; for weights of transposed convolutions 1, whatever the groups.  PyTorch's Linear is [out, in]."""
    if role == "bias":
        return 0
    if node.op_type == "PRelu":
        return None
    if node.op_type == "Gemm":
        return 0 if attributes_of(node).get("transB", 0) else 1
    return 0 if node.op_type == "Conv" else 1
