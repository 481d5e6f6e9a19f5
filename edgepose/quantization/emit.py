"""A float graph and its ranges become a graph with QuantizeLinear and DequantizeLinear, as a target wants them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..errors import InputError
from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..graph.passes.dead_code import remove_dead
from ..graph.passes.wiring import attributes_of, set_attribute
from ..model import PoseModel
from .int8_plan import Placement
from .placement import placed, prepared
from .ranges import Ranges
from .scheme import LAYERS, Scheme
from .subpixel import Rewritten, convolution_weights
from .weights import (
    LARGEST_BIAS,
    SMALLEST_SCALE,
    Float,
    along,
    channel_axis,
    check_rounding,
    quantise_bias,
    quantise_weights,
    scales_for_bias,
    weight_scales,
)

#: Layers whose third input is a bias.
_BIASED = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Quantised:
    """A graph with Q/DQ nodes.

    Attributes
    ----------
    model
        The model; spec, inputs and outputs are those of the float one.
    kept
        Output of each layer that stays in float -> why.
    """

    model: PoseModel
    kept: Mapping[str, str]


@dataclass(frozen=True)
class Encoding:
    """How a value is expressed: ``scale * (integer - zero_point)``, the integers of type ``dtype``."""

    scale: float
    zero_point: int
    dtype: Any


def encoding(low: float, high: float, *, signed: bool, symmetric: bool) -> Encoding:
    """The encoding of values from ``low`` to ``high``.

    A range without 0 is widened to it, for zero is padded with; an empty one may have any scale.

    Parameters
    ----------
    low, high
        The range.
    signed
        ``int8`` instead of ``uint8``.
    symmetric
        Zero point 0; unsigned that needs a range without negatives.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Encoding(1.0, 0, np.int8 if signed else np.uint8)
    if symmetric and signed:
        largest = max(-low, high)
        return Encoding(_scale(largest / 127), 0, np.int8)
    scale = _scale((high - low) / 255)
    start = -128 if signed else 0
    zero = int(np.clip(np.rint(start - low / scale), start, start + 255))
    return Encoding(scale, zero, np.int8 if signed else np.uint8)


def _scale(exact: float) -> float:
    return float(np.float32(max(exact, SMALLEST_SCALE)))


def quantize_model(
    model: PoseModel,
    ranges: Ranges,
    scheme: Scheme,
    keep_float: Collection[str] = (),
    rounding: Mapping[str, npt.NDArray[Any]] | None = None,
) -> Quantised:
    """Insert QuantizeLinear and DequantizeLinear where the target wants them; nowhere if no layer is left for it.

    Parameters
    ----------
    model
        The float model, calibrated as it is.
    ranges
        Ranges of its activations.
    scheme
        What the target wants.
    keep_float
        Layers, or other operators, by name of their output, that stay in float.
    rounding
        Layer -> int8 weights to use instead of the nearest, in the shape of the float weights; their scales are those
        of :func:`~edgepose.quantization.weights.weight_scales`.

    Raises
    ------
    InputError
        If the ranges belong to another network or lack a value, ``keep_float`` or ``rounding`` name what the network
        has not.
    GraphError
        If the graph is not valid ONNX.
    """
    ranges.check(model.graph)
    draft = prepared(model)
    _check_names(draft, keep_float, rounding or {})
    rewritten, placement = placed(draft, scheme, keep_float)
    known = {**ranges.tensors, **{n: ranges.tensors[o] for n, o in rewritten.same_range.items() if o in ranges.tensors}}
    encodings = _encodings(draft, scheme, placement, known)
    _Emitter(draft, scheme, placement, encodings, rewritten, rounding or {}).emit()
    remove_dead(draft)
    check_and_infer(draft)
    kept = {rewritten.layers.get(name, name): reason for name, reason in placement.kept.items()}
    return Quantised(PoseModel(draft.finish(), model.spec, model.provenance), kept)


def _check_names(draft: Draft, keep_float: Collection[str], rounding: Mapping[str, Any]) -> None:
    makers = {o: n for n in draft.graph.node for o in n.output}
    for name in keep_float:
        if name not in makers:
            raise InputError(f"The network has no layer '{name}' to keep in float.")
    for name in rounding:
        if name not in makers or makers[name].op_type not in LAYERS:
            raise InputError(f"The network has no layer '{name}' to round the weights of.")


def _encodings(
    draft: Draft, scheme: Scheme, placement: Placement, known: Mapping[str, tuple[float, float]]
) -> dict[str, Encoding]:
    makers = {o: n for n in draft.graph.node for o in n.output}
    found = {}
    for first, roots in placement.roots.items():
        spans = [_range_of(name, known, makers) for name in roots]
        low, high = min(s[0] for s in spans), max(s[1] for s in spans)
        signed = scheme.activations == "int8" or (first in placement.zero_point_free and low < 0)
        symmetric = scheme.symmetric or first in placement.zero_point_free
        found[first] = encoding(low, high, signed=signed, symmetric=symmetric)
    return {name: found[first] for name, first in placement.groups.items()}


def _range_of(
    name: str, known: Mapping[str, tuple[float, float]], makers: Mapping[str, onnx.NodeProto]
) -> tuple[float, float]:
    wanted = name
    positive = False
    while name not in known:
        node = makers.get(name)
        if node is None or node.op_type not in _SAME_RANGE:
            raise InputError(
                f"The ranges lack the value '{wanted}'.", hint="Calibrate this network: --calibration FOLDER."
            )
        positive = positive or node.op_type == "Relu"
        name = node.input[0]
    low, high = known[name]
    return (max(low, 0.0), max(high, 0.0)) if positive else (low, high)


#: Operators whose results stay within the range of their first input.
_SAME_RANGE = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "Reshape", "Transpose", "Slice", "Split", "Squeeze", "Unsqueeze"}
    | {"Flatten", "DepthToSpace", "SpaceToDepth", "Identity", "Expand", "Tile", "Gather", "Resize", "Relu"}
)


class _Emitter:
    """Writes the nodes."""

    def __init__(
        self,
        draft: Draft,
        scheme: Scheme,
        placement: Placement,
        encodings: Mapping[str, Encoding],
        rewritten: Rewritten,
        rounding: Mapping[str, npt.NDArray[Any]],
    ) -> None:
        self._draft = draft
        self._scheme = scheme
        self._placement = placement
        self._encodings = encodings
        self._rewritten = rewritten
        self._rounding = rounding
        self._taken = {*draft.constants(), *(i.name for i in draft.graph.input)}
        self._taken.update(o for n in draft.graph.node for o in n.output)
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in draft.graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._nodes: list[onnx.NodeProto] = []
        self._scalars: dict[Encoding, tuple[str, str]] = {}
        self._readable: dict[str, str] = {}

    def emit(self) -> None:
        """Replace the nodes of the graph."""
        for value in self._draft.graph.input:
            self._pair(value.name)
        for i, old in enumerate(list(self._draft.graph.node)):
            node = onnx.NodeProto()
            node.CopyFrom(old)
            if i in self._placement.layers:
                self._give_weights(node)
            elif self._scheme.bias == "int32" and self._tempts(node):
                self._guard(node)
            for port, name in enumerate(node.input):
                node.input[port] = self._readable.get(name, name)
            self._nodes.append(node)
            for name in node.output:
                self._pair(name)
        del self._draft.graph.node[:]
        self._draft.graph.node.extend(self._nodes)

    def _pair(self, name: str) -> None:
        """Quantise a value; from here on it is read dequantised."""
        encoding = self._encodings.get(name)
        if encoding is None:
            return
        if encoding not in self._scalars:
            scale = self._constant(np.array(encoding.scale, np.float32), f"{name}.scale")
            zero = self._constant(np.array(encoding.zero_point, encoding.dtype), f"{name}.zero_point")
            self._scalars[encoding] = scale, zero
        grid = self._scalars[encoding]
        quantised, readable = self._fresh(f"{name}.quantized"), self._fresh(f"{name}.dequantized")
        self._nodes.append(helper.make_node("QuantizeLinear", [name, *grid], [quantised], name=quantised))
        self._nodes.append(helper.make_node("DequantizeLinear", [quantised, *grid], [readable], name=readable))
        self._readable[name] = readable

    def _give_weights(self, node: onnx.NodeProto) -> None:
        source = self._encodings[node.input[0]].scale
        name = node.output[0]
        weights = self._draft.constant(node.input[1])
        bias_name = node.input[2] if len(node.input) > 2 else ""
        bias = self._draft.constant(bias_name) if bias_name and self._scheme.bias == "int32" else None
        assert weights is not None  # placement has looked
        attributes: dict[str, Any] = dict(attributes_of(node))
        axis = None
        if self._scheme.per_channel:
            groups = int(attributes.get("group", 1))
            transposed = bool(attributes.get("transB"))
            axis = channel_axis(node.op_type, transposed=transposed, groups=groups, shape=weights.shape)
        scales, rounded = self._learned(name, weights, axis)
        channels = 1 if axis is None else weights.shape[axis]
        if bias is not None and (axis is None or bias.size in (1, channels)):
            flat = np.broadcast_to(bias.reshape(-1), max(channels, bias.size)).astype(np.float32)
            usable = scales_for_bias(scales, flat, source)
            if rounded is not None:
                grown = along(scales.astype(np.float64) / usable, axis, weights.ndim)
                rounded = np.rint(rounded * grown).astype(np.int8)
            scales = usable
            numbers, units = quantise_bias(flat, scales, source)
            node.input[2] = self._dequantised(numbers, units, 0 if scales.ndim else None, bias_name)
        done = quantise_weights(weights, axis, scales, rounded)
        node.input[1] = self._dequantised(done.values, done.scales, axis, node.input[1])

    def _tempts(self, node: onnx.NodeProto) -> bool:
        """Whether a float layer stands between quantised values, bounds aside."""
        if node.op_type not in _BIASED or node.input[0] not in self._readable:
            return False
        name = node.output[0]
        while name not in self._encodings:
            users = self._users.get(name, [])
            if len(users) != 1 or users[0].op_type not in ("Relu", "Clip"):
                return False
            name = users[0].output[0]
        return True

    def _guard(self, node: onnx.NodeProto) -> None:
        """Keep a float layer between quantised values in float.

        ONNX Runtime (1.23 and later) gives such a layer int8 weights of its own, one scale for all of them, unless its
        bias is no plain constant.  So the bias is stored as int32 that is finer than float32 at its largest.
        """
        weights = self._draft.constant(node.input[1])
        given = node.input[2] if len(node.input) > 2 else ""
        bias = self._draft.constant(given) if given else None
        if weights is None or (given and (bias is None or bias.ndim != 1)):
            return
        if bias is None:
            attributes: dict[str, Any] = dict(attributes_of(node))
            groups = int(attributes.get("group", 1)) if node.op_type == "ConvTranspose" else 1
            first = node.op_type == "Conv" or bool(attributes.get("transB"))
            bias = np.zeros(groups * weights.shape[0 if first else 1], np.float32)
        unit = np.asarray(max(float(np.abs(bias).max(initial=0.0)) / LARGEST_BIAS, SMALLEST_SCALE), np.float32)
        numbers = np.rint(bias.astype(np.float64) / unit).astype(np.int32)
        name = self._dequantised(numbers, unit, None, given or f"{node.output[0]}.bias")
        del node.input[2:]
        node.input.append(name)

    def _learned(self, name: str, weights: npt.NDArray[Any], axis: int | None) -> tuple[Float, npt.NDArray[Any] | None]:
        """Scales of a layer's weights, and the rounding that was learned for them."""
        scales = weight_scales(weights, axis)
        original = self._rewritten.layers.get(name, name)
        rounding = self._rounding.get(original)
        form = self._rewritten.forms.get(name)
        if rounding is None:
            return scales, None
        if form is not None:
            if rounding.ndim != 4:
                raise InputError(f"The rounded weights of '{original}' have {rounding.ndim} dimensions, not 4.")
            rounding = convolution_weights(rounding, form)
            # Learned with the deconvolution's own scales.
            own = form.scales if axis is not None else form.scales.max()
            scales = np.resize(own, scales.shape)
        check_rounding(rounding, weights.shape)
        return scales, rounding

    def _dequantised(self, values: npt.NDArray[Any], scales: Float, axis: int | None, stem: str) -> str:
        """Add an array of integers and its DequantizeLinear; returns the name of the result."""
        inputs = [
            self._constant(values, f"{stem}.quantized"),
            self._constant(scales, f"{stem}.scale"),
            self._constant(np.zeros(scales.shape, values.dtype), f"{stem}.zero_point"),
        ]
        result = self._fresh(f"{stem}.dequantized")
        node = helper.make_node("DequantizeLinear", inputs, [result], name=result)
        set_attribute(node, "axis", axis)
        self._nodes.append(node)
        return result

    def _constant(self, array: npt.NDArray[Any], stem: str) -> str:
        name = self._fresh(stem)
        self._draft.put_constant(name, array)
        return name

    def _fresh(self, stem: str) -> str:
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name
