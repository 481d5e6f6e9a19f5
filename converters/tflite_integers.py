"""Which operators of a graph with Q/DQ nodes TFLite computes in integers.

TFLite has no operator between a quantised value and its real one: an operator takes int8 tensors and gives int8
tensors, each with its scale and zero point.  So an operator is computed in integers if all it reads is dequantised
right before it and all it gives is quantised right behind it; others are computed in float, with a DEQUANTIZE before
and a QUANTIZE behind.  Neither changes what the graph says but for the rounding of a sum.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft

from .tflite_file import Array, Grid
from .tflite_lowering import Node

#: Operators whose results are elements of their input: int8 kernels move the numbers, so both have one scale.
_PASSING = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze", "Flatten", "DepthToSpace"}
    | {"Identity", "Gather", "Expand", "Pad", "Resize"}
)
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Operators with int8 kernels that take any scales.
_SCALING = frozenset({"Add", "Sub", "Mul", "GlobalAveragePool", "AveragePool", "Elu", "HardSwish", "LeakyRelu"})
#: Operators whose int8 kernels give one scale and zero point.
_FIXED = {"Sigmoid": Grid(np.array([1 / 256], np.float32), np.array([-128]))}
#: Operators that can end with a bound.
_BOUNDED = _LAYERS | _SCALING
_SMALLEST, _LARGEST = -128, 127
#: A bound above this is none; exporters write the largest float for it.
_NO_LIMIT = 1e38


@dataclass(frozen=True)
class Constant:
    """A constant behind a DequantizeLinear: the name of its integers, and what they mean."""

    name: str
    grid: Grid


@dataclass(frozen=True)
class Plan:
    """A graph in which integers are named.

    Attributes
    ----------
    nodes
        The nodes that are left, in order; those computed in integers read the names of quantised values.
    grids
        Quantised values -> scales and zero points.
    floats
        Operators with weights that are computed in float -> why.
    """

    nodes: list[Node]
    grids: dict[str, Grid]
    floats: dict[str, str]


def plan_integers(draft: Draft, nodes: list[Node]) -> Plan:
    """Decide for each node.  Constants that are read in float become float constants of ``draft``.

    Raises
    ------
    ConversionError
        If a value or a weight is quantised in a way that TFLite has not; the operator is named.
    """
    return _Planner(draft, nodes).plan()


@dataclass(frozen=True)
class End:
    """How what an operator gives is quantised.

    Attributes
    ----------
    value
        What is quantised: the operator's result, or that of the bound behind it.
    quantise
        The QuantizeLinear.
    bound
        The bound, unless the integers end where it does.
    """

    value: str
    quantise: Node
    bound: Node | None = None


class _Planner:
    def __init__(self, draft: Draft, nodes: list[Node]) -> None:
        self.draft = draft
        self.nodes = nodes
        self.outputs = {o.name for o in draft.graph.output}
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.readers: dict[str, list[Node]] = {}
        for node in nodes:
            for name in dict.fromkeys(node.inputs):
                self.readers.setdefault(name, []).append(node)
        self.plan_ = Plan([], {}, {})
        #: Dequantised value -> the integers it is made of.
        self.source: dict[str, str] = {}
        self.constants: dict[str, Constant] = {}
        #: Quantised value -> the name under which an integer operator computes it.
        self.alias: dict[str, str] = {}

    def plan(self) -> Plan:
        for node in self.nodes:
            if node.op == "DequantizeLinear":
                self._dequantise(node)
        done: set[str] = set()
        for node in self.nodes:
            if node.outputs and node.outputs[0] in done:
                continue
            if node.op == "QuantizeLinear":
                self._quantise(node)
            elif node.op == "DequantizeLinear":
                if node.outputs[0] not in self.constants:
                    source = self.source[node.outputs[0]]
                    self.plan_.nodes.append(replace(node, inputs=(self.alias.get(source, source),)))
            else:
                done |= self._integer(node) or self._float(node)
        self._drop_unread()
        return self.plan_

    # ---- Q and DQ ----

    def _grid(self, node: Node) -> Grid:
        scales, zeros = self.draft.constant(node.inputs[1]), None
        if node.has(2):
            zeros = self.draft.constant(node.inputs[2])
            if zeros is None:
                raise node.refuse("its zero point is computed")
        if scales is None or scales.dtype != np.float32:
            raise node.refuse("its scale is computed, or not float32")
        zeros = np.zeros(scales.shape, np.int64) if zeros is None else zeros.astype(np.int64)
        if not np.all(np.isfinite(scales)) or not np.all(np.greater(scales, 0)):
            raise node.refuse("a scale is not positive")
        return Grid(scales.reshape(-1), zeros.reshape(-1), int(node.attributes.get("axis", 1)) if scales.ndim else 0)

    def _dequantise(self, node: Node) -> None:
        name, result = node.inputs[0], node.outputs[0]
        array = self.draft.constant(name)
        if array is not None:
            grid = self._grid(node)
            self.constants[result] = Constant(name, replace(grid, axis=grid.axis % max(array.ndim, 1)))
            return
        self.source[result] = name

    def _quantise(self, node: Node) -> None:
        value, result = node.inputs[0], node.outputs[0]
        if result in self.alias:
            return
        self.plan_.grids[result] = self._activation_grid(node)
        self.plan_.nodes.append(replace(node, inputs=(value,)))

    def _activation_grid(self, node: Node) -> Grid:
        grid = self._grid(node)
        zero = self.draft.constant(node.inputs[2]) if node.has(2) else None
        if grid.scales.size != 1:
            raise node.refuse("it has a scale for each channel; TFLite has one for an activation")
        if zero is None or zero.dtype != np.int8:
            raise node.refuse(f"it gives {'uint8' if zero is None else zero.dtype.name}; TFLite computes with int8")
        return grid

    # ---- in integers ----

    def _integer(self, node: Node) -> set[str]:
        """Plan a node in integers, with the bound behind it; the outputs that it stands for, none if it cannot be."""
        inputs = self._integer_inputs(node)
        closing = [self._closing(o, bounded=node.op in _BOUNDED) for o in node.outputs]
        if inputs is None or not closing or None in closing:
            return set()
        ends = [c for c in closing if c is not None]
        grids = [self._activation_grid(end.quantise) for end in ends]
        own = [self.plan_.grids[i] for i in inputs if i in self.plan_.grids and self.draft.constant(i) is None]
        if node.op in _PASSING and not all(g.is_same(own[0]) for g in grids):
            return set()
        if node.op == "Concat" and not all(g.is_same(grids[0]) for g in own):
            return set()
        if node.op in _FIXED:
            if not 0.5 < grids[0].scales[0] / _FIXED[node.op].scales[0] < 2:
                return set()
            grids = [_FIXED[node.op]]
        for end, grid in zip(ends, grids, strict=True):
            self.plan_.grids[end.value] = grid
            self.alias[end.quantise.outputs[0]] = end.value
        made: tuple[str, ...] = tuple(end.value for end in ends)
        behind: tuple[Node, ...] = ()
        if ends[0].bound is not None:
            self.plan_.grids[node.outputs[0]] = grids[0]
            behind, made = (ends[0].bound,), (node.outputs[0],)
        self.plan_.nodes.extend((replace(node, inputs=tuple(inputs), outputs=made), *behind))
        return {*node.outputs, *(end.value for end in ends)}

    def _integer_inputs(self, node: Node) -> list[str] | None:
        """The quantised values that a node reads; None if it reads others, or TFLite has no such kernel."""
        if node.op in _LAYERS:
            data, rest = node.inputs[:1], node.inputs[1:]
            if not self._weights(node):
                return None
        elif node.op in _PASSING:
            data, rest = node.inputs[:1], node.inputs[1:]
            if node.op == "Resize" and node.text("mode", "nearest") != "nearest":
                return None
            if node.op == "Pad" and not self._pads_zeros(node):
                return None
        elif node.op in _SCALING | _FIXED.keys() | {"Concat"}:
            data, rest = node.inputs, ()
        else:
            return None
        if any(name not in self.source for name in data):
            return None
        quantised = [self.source[name] for name in data]
        names = [self.alias.get(name, name) for name in quantised]
        if any(name not in self.plan_.grids for name in names):
            return None
        found = [self.constants[n].name if n in self.constants else n for n in rest]
        for name in rest:
            if name in self.constants:
                self.plan_.grids[self.constants[name].name] = self.constants[name].grid
        return names + found

    def _pads_zeros(self, node: Node) -> bool:
        value = self.draft.constant(node.inputs[2]) if node.has(2) else np.zeros(1)
        return node.text("mode", "constant") == "constant" and value is not None and not value.any()

    def _weights(self, node: Node) -> bool:
        """Whether weights and bias are int8 and int32 in the form that kernels take."""
        weights = self.constants.get(node.inputs[1])
        if weights is None:
            self.plan_.floats[node.outputs[0]] = "its weights are not quantised"
            return False
        array = self.draft.constant(weights.name)
        assert array is not None
        if array.dtype != np.int8 or weights.grid.zeros.any():
            raise node.refuse("its weights are not int8 with the zero point 0")
        wanted = 1 if node.op in ("ConvTranspose", "MatMul") else 0
        if node.op == "Gemm" and not node.attributes.get("transB", 0):
            wanted = 1
        if weights.grid.scales.size > 1 and weights.grid.axis != wanted:
            raise node.refuse("the scales of its weights are not those of its output channels")
        if not node.has(2):
            return True
        bias = self.constants.get(node.inputs[2])
        integers = None if bias is None else self.draft.constant(bias.name)
        if integers is None or integers.dtype != np.int32:
            self.plan_.floats[node.outputs[0]] = "its bias is not int32"
            return False
        return True

    def _closing(self, name: str, *, bounded: bool) -> End | None:
        """How a value ends in the QuantizeLinear that alone reads it, past a bound or at once; None if it does not."""
        readers = self.readers.get(name, [])
        if name in self.outputs or len(readers) != 1 or self.uses[name] != 1:
            return None
        reader = readers[0]
        if reader.op == "QuantizeLinear":
            return End(name, reader)
        if not bounded or reader.op not in ("Relu", "Clip"):
            return None
        found = self._closing(reader.outputs[0], bounded=False)
        limits = self._limits(reader)
        if found is None or limits is None:
            return None
        grid = self._activation_grid(found.quantise)
        scale, zero = float(grid.scales[0]), int(grid.zeros[0])
        first, last = (_SMALLEST - zero) * scale, (_LARGEST - zero) * scale
        # A number outside the grid becomes its first or last one, which is the bound where the grid ends at it.
        if first >= limits[0] - scale / 2 and last <= limits[1] + scale / 2:
            return found
        return replace(found, bound=reader) if limits in ((0.0, np.inf), (0.0, 6.0)) else None

    def _limits(self, bound: Node) -> tuple[float, float] | None:
        """The smallest and largest value that a bound lets through; None if that is computed."""
        if bound.op == "Relu":
            return 0.0, np.inf
        found = []
        for place, default in ((1, -np.inf), (2, np.inf)):
            array = self.draft.constant(bound.inputs[place]) if bound.has(place) else np.array(default)
            if array is None or array.size != 1:
                return None
            found.append(float(array.reshape(())))
        return found[0], np.inf if found[1] > _NO_LIMIT else found[1]

    # ---- in float ----

    def _float(self, node: Node) -> set[str]:
        """Plan a node as it is."""
        for name in node.inputs:
            constant = self.constants.get(name)
            if constant is not None and self.draft.constant(name) is None:
                self.draft.put_constant(name, self._widened(constant))
        self.plan_.nodes.append(node)
        return set()

    def _widened(self, constant: Constant) -> Array:
        array: Any = self.draft.constant(constant.name)
        shape = [1] * array.ndim
        if constant.grid.scales.size > 1:
            shape[constant.grid.axis] = constant.grid.scales.size
        scales, zeros = constant.grid.scales.reshape(shape), constant.grid.zeros.reshape(shape)
        widened: Array = ((array.astype(np.float64) - zeros) * scales).astype(np.float32).reshape(array.shape)
        return widened

    def _drop_unread(self) -> None:
        """Leave out dequantised values that nothing reads in float."""
        read = self.outputs | {name for node in self.plan_.nodes for name in node.inputs}
        self.plan_.nodes[:] = [n for n in self.plan_.nodes if n.op != "DequantizeLinear" or n.outputs[0] in read]


def refuse_unquantised(plan: Plan) -> None:
    """Refuse a graph in which nothing is computed in integers.

    Raises
    ------
    ConversionError
        If no operator but those that quantise reads integers.
    """
    quantising = ("QuantizeLinear", "DequantizeLinear")
    if not any(n.op not in quantising and name in plan.grids for n in plan.nodes for name in n.inputs):
        raise ConversionError(
            "TFLite: nothing of this graph is quantised in a way that TFLite computes in integers.",
            hint="Calibrate it: edgepose convert MODEL --to tflite --precision int8 --calibration FOLDER.",
        )
