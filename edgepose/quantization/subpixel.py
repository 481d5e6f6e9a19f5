"""Deconvolution as convolution and depth-to-space, exactly, for runtimes that have no int8 deconvolution.

An output row ``o`` of a deconvolution with stride ``s`` and padding ``p`` sees the kernel rows ``a``, ``a + s``,
``a + 2s`` ... with ``a = (o + p) mod s``, over the input rows ``m``, ``m - 1`` ... with ``m = (o + p) // s``.  So the
rows (and columns) of one residue modulo ``s`` are a convolution with a small kernel; all ``s * s`` of them are computed
as channels of one convolution, cut to where each begins, and woven together by DepthToSpace.  With groups, where those
channels would have to be sorted anew, each residue is a convolution of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..graph.draft import Draft
from ..graph.passes.dead_code import remove_dead
from ..graph.passes.wiring import attributes_of
from .weights import channel_axis, weight_scales

Array = npt.NDArray[Any]

#: Activations that may be computed before the results are woven together: few enough values at once, and a runtime
#: then computes them with the convolution.
_COMMUTING = frozenset({"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Tanh", "Clip"})


@dataclass(frozen=True, eq=False)
class Form:
    """How the weights of a deconvolution were rearranged.

    Attributes
    ----------
    strides, begins
        Its strides, and its paddings at the begin, (y, x).
    groups
        Its groups.
    phase
        The residue (y, x) that the new weights are for; None if they are for all, one after the other.
    scales
        Scales of its own weights, one for each output channel or one for all.
    """

    strides: tuple[int, int]
    begins: tuple[int, int]
    groups: int
    phase: tuple[int, int] | None
    scales: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Rewritten:
    """What :func:`rewrite_deconvolutions` did.

    Attributes
    ----------
    layers
        Output of the new convolution -> output of the deconvolution that it stands for.
    forms
        Output of the new convolution -> how the weights of the deconvolution were rearranged.
    same_range
        New value -> value of the graph before that has the same elements.
    refused
        Output of a deconvolution that was left -> why.
    """

    layers: Mapping[str, str]
    forms: Mapping[str, Form]
    same_range: Mapping[str, str]
    refused: Mapping[str, str]


@dataclass(frozen=True)
class _Axis:
    """One spatial axis of a deconvolution: kernel size, stride, padding at the begin, taps of the small kernel."""

    kernel: int
    stride: int
    begin: int

    @property
    def taps(self) -> int:
        return -(-self.kernel // self.stride)

    def first(self, phase: int) -> int:
        """Where the outputs ``phase``, ``phase + stride`` ... begin in the convolution's result."""
        return (phase + self.begin) // self.stride - self.begin // self.stride

    @property
    def pads(self) -> tuple[int, int]:
        return self.taps - 1 - self.begin // self.stride, (self.stride - 1 + self.begin) // self.stride

    def before(self, phase: int) -> int:
        """Padding at the begin of a convolution for this phase alone."""
        return self.taps - 1 - (phase + self.begin) // self.stride

    @property
    def ahead(self) -> int:
        """How many rows the convolution's result has more than its input."""
        return self.first(self.stride - 1)


def rewrite_deconvolutions(draft: Draft, leave: Collection[str] = ()) -> Rewritten:
    """Rewrite the deconvolutions of a graph, in place.

    Parameters
    ----------
    draft
        The graph.
    leave
        Outputs of deconvolutions that are to stay.
    """
    uses: dict[str, list[onnx.NodeProto]] = {}
    for node in draft.graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    outputs = {o.name for o in draft.graph.output}
    nodes: list[onnx.NodeProto] = []
    moved: set[str] = set()
    layers: dict[str, str] = {}
    forms: dict[str, Form] = {}
    same: dict[str, str] = {}
    refused: dict[str, str] = {}
    for node in draft.graph.node:
        name = node.output[0] if node.output else ""
        if name in moved:
            continue
        if node.op_type != "ConvTranspose" or name in leave:
            nodes.append(_copy(node))
            continue
        axes = _axes(draft, node)
        if isinstance(axes, str):
            refused[name] = axes
            nodes.append(_copy(node))
            continue
        following = uses.get(name, [])
        activation = following[0] if len(following) == 1 and name not in outputs else None
        if activation is not None and not _commutes(draft, activation):
            activation = None
        result = name if activation is None else activation.output[0]
        made, new = _rewrite(draft, node, axes, activation)
        nodes.extend(made)
        moved.add(result)
        forms.update(new)
        layers.update(dict.fromkeys(new, name))
        same.update((o, name if o in new else result) for n in made for o in n.output if o not in (name, result))
    if layers:
        del draft.graph.node[:]
        draft.graph.node.extend(nodes)
        remove_dead(draft)
    return Rewritten(layers, forms, same, refused)


def convolution_weights(weights: Array, form: Form) -> Array:
    """Weights of the convolution that computes one phase of a deconvolution, or all of them.

    Parameters
    ----------
    weights
        [C_in, C_out / groups, k_h, k_w] of the deconvolution.
    form
        How to rearrange them.

    Returns
    -------
    ndarray
        [C_out, C_in / groups, t_h, t_w]; for all phases s_h * s_w times as long: phases come first, then output
        channels, as DepthToSpace wants them.
    """
    rows, columns = (_Axis(weights.shape[2 + i], form.strides[i], form.begins[i]) for i in (0, 1))
    inside, outside = weights.shape[0] // form.groups, weights.shape[1]
    padded = np.zeros(
        (form.groups, inside, outside, rows.taps * rows.stride, columns.taps * columns.stride), dtype=weights.dtype
    )
    padded[..., : rows.kernel, : columns.kernel] = weights.reshape(form.groups, inside, outside, *weights.shape[2:])
    every = [(y, x) for y in range(rows.stride) for x in range(columns.stride)]
    phases = []
    for y, x in every if form.phase is None else [form.phase]:
        part = padded[..., (y + rows.begin) % rows.stride :: rows.stride, :]
        part = part[..., (x + columns.begin) % columns.stride :: columns.stride]
        turned = part[..., ::-1, ::-1].swapaxes(1, 2)
        phases.append(turned.reshape(form.groups * outside, inside, rows.taps, columns.taps))
    return np.ascontiguousarray(np.concatenate(phases))


class _Rewriter:
    """Makes the nodes that stand for one deconvolution."""

    def __init__(self, draft: Draft, node: onnx.NodeProto, axes: tuple[_Axis, _Axis]) -> None:
        weights = draft.constant(node.input[1])
        assert weights is not None  # _axes has looked
        self.draft, self.node, self.weights = draft, node, weights
        self.rows, self.columns = axes
        self.groups = int(str(attributes_of(node).get("group", 1)))
        self.bias = draft.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        axis = channel_axis("ConvTranspose", groups=self.groups, shape=weights.shape)
        self.scales = weight_scales(weights, axis)
        self.made: list[onnx.NodeProto] = []
        self.forms: dict[str, Form] = {}

    def phases(self) -> list[tuple[int, int]]:
        return [(y, x) for y in range(self.rows.stride) for x in range(self.columns.stride)]

    def convolution(self, result: str, pads: list[int], phase: tuple[int, int] | None) -> None:
        """One convolution, for a phase or for all."""
        strides = self.rows.stride, self.columns.stride
        form = Form(strides, (self.rows.begin, self.columns.begin), self.groups, phase, self.scales)
        new = convolution_weights(self.weights, form)
        inputs = [self.node.input[0], self.draft.add_constant(new, f"{self.node.input[1]}.phases")]
        if self.bias is not None:
            times = len(self.phases()) if phase is None else 1
            inputs.append(self.draft.add_constant(np.tile(self.bias, times), f"{self.node.input[2]}.phases"))
        kernel = list(new.shape[2:])
        node = helper.make_node("Conv", inputs, [result], result, kernel_shape=kernel, pads=pads, group=self.groups)
        self.made.append(node)
        self.forms[result] = form

    def one_for_all(self, conv: str, last: str, activation: onnx.NodeProto | None) -> str:
        """One convolution, the activation, and the phases cut from it; returns the name of their concatenation."""
        rows, columns = self.rows, self.columns
        self.convolution(conv, [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]], None)
        if activation is not None:
            self.activate(activation, conv, last)
        if (rows.ahead, columns.ahead) == (0, 0):
            return last
        channels = self.weights.shape[1]
        axes = self.draft.add_constant(np.array([1, 2, 3], np.int64), f"{conv}.axes")
        cuts = []
        for i, (y, x) in enumerate(self.phases()):
            top, left = rows.first(y), columns.first(x)
            begin = self.draft.add_constant(np.array([i * channels, top, left], np.int64), f"{conv}.begin")
            # Counted from the end, so that any input size will do; beyond the end where nothing is cut off.
            ends = [(i + 1) * channels, _from_end(rows.ahead, top), _from_end(columns.ahead, left)]
            end = self.draft.add_constant(np.array(ends, np.int64), f"{conv}.end")
            cuts.append(f"{last}.{i}")
            self.made.append(helper.make_node("Slice", [last, begin, end, axes], [cuts[-1]], name=cuts[-1]))
        self.made.append(helper.make_node("Concat", cuts, [f"{last}.cut"], name=f"{last}.cut", axis=1))
        return f"{last}.cut"

    def one_for_each(self, conv: str, last: str, activation: onnx.NodeProto | None) -> str:
        """A convolution and an activation for each phase; returns the name of their concatenation."""
        parts = []
        for i, (y, x) in enumerate(self.phases()):
            before = self.rows.before(y), self.columns.before(x)
            pads = [*before, self.rows.taps - 1 - before[0], self.columns.taps - 1 - before[1]]
            self.convolution(f"{conv}.{i}", pads, (y, x))
            parts.append(f"{conv}.{i}")
            if activation is not None:
                parts[-1] = f"{last}.{i}"
                self.activate(activation, f"{conv}.{i}", parts[-1])
        self.made.append(helper.make_node("Concat", parts, [f"{last}.cut"], name=f"{last}.cut", axis=1))
        return f"{last}.cut"

    def activate(self, activation: onnx.NodeProto, source: str, result: str) -> None:
        moved = _copy(activation)
        moved.input[0] = source
        moved.output[0] = moved.name = result
        self.made.append(moved)


def _rewrite(
    draft: Draft, node: onnx.NodeProto, axes: tuple[_Axis, _Axis], activation: onnx.NodeProto | None
) -> tuple[list[onnx.NodeProto], dict[str, Form]]:
    """The new nodes, and by output of each new convolution how its weights were rearranged."""
    name = node.output[0]
    result = name if activation is None else activation.output[0]
    rewriter = _Rewriter(draft, node, axes)
    stride = axes[0].stride
    if stride == 1:
        rewriter.one_for_all(name, result, activation)
        return rewriter.made, rewriter.forms
    form = rewriter.one_for_all if rewriter.groups == 1 else rewriter.one_for_each
    woven = form(f"{name}.phases", f"{result}.phases", activation)
    weave = helper.make_node("DepthToSpace", [woven], [result], name=f"{result}.woven", blocksize=stride, mode="DCR")
    return [*rewriter.made, weave], rewriter.forms


def _from_end(ahead: int, first: int) -> int:
    """End of a slice that begins at ``first`` and has as many elements as the input, of ``input + ahead``."""
    return first - ahead if first < ahead else np.iinfo(np.int64).max


def _axes(draft: Draft, node: onnx.NodeProto) -> tuple[_Axis, _Axis] | str:
    """The two axes, or why there is no exact rewrite."""
    weights = draft.constant(node.input[1])
    attributes: dict[str, Any] = dict(attributes_of(node))
    if weights is None or (len(node.input) > 2 and node.input[2] and draft.constant(node.input[2]) is None):
        return "its weights are computed"
    if weights.ndim != 4:
        return "it is not two-dimensional"
    if list(attributes.get("dilations", [1, 1])) != [1, 1]:
        return "it is dilated"
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"") or "output_shape" in attributes:
        return "its padding depends on the size of its input"
    groups = attributes.get("group", 1)
    strides, pads = attributes.get("strides", [1, 1]), attributes.get("pads", [0] * 4)
    more = attributes.get("output_padding", [0, 0])
    if strides[0] != strides[1]:
        return "its strides differ"
    found = []
    for i in (0, 1):
        kernel, stride, begin, end = weights.shape[2 + i], strides[i], pads[i], pads[i + 2]
        if kernel - begin - end + more[i] != stride:
            return "its result is not its input enlarged by the stride"
        axis = _Axis(kernel, stride, begin)
        least = min(axis.pads) if groups == 1 else axis.before(stride - 1)
        if least < 0:
            return "its padding is larger than its kernel"
        found.append(axis)
    return found[0], found[1]


def _commutes(draft: Draft, node: onnx.NodeProto) -> bool:
    return node.op_type in _COMMUTING and all(not n or draft.constant(n) is not None for n in node.input[1:])


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
