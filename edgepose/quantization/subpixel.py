"""Deconvolution as convolution and depth-to-space, exactly, for runtimes that have no int8 deconvolution.

An output row ``o`` of a deconvolution with stride ``s`` and padding ``p`` sees the kernel rows ``a``, ``a + s``,
``a + 2s`` ... with ``a = (o + p) mod s``, over the input rows ``m``, ``m - 1`` ... with ``m = (o + p) // s``.  So the
rows (and columns) of one residue modulo ``s`` are a convolution with a small kernel; all ``s * s`` of them are computed
as channels of one convolution, cut to where each begins, and woven together by DepthToSpace.
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

Array = npt.NDArray[Any]

#: Activations that may be computed before the results are woven together: few enough values at once, and a runtime
#: then computes them with the convolution.
_COMMUTING = frozenset({"Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Elu", "Tanh", "Clip"})


@dataclass(frozen=True)
class Form:
    """What the weights of a rewritten deconvolution depend on: its strides, and its paddings at the begin (y, x)."""

    strides: tuple[int, int]
    begins: tuple[int, int]


@dataclass(frozen=True)
class Rewritten:
    """What :func:`rewrite_deconvolutions` did.

    Attributes
    ----------
    layers
        Output of the new convolution -> output of the deconvolution that it stands for.
    forms
        Output of the deconvolution -> how its weights were rearranged.
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
        made = _rewrite(draft, node, axes, activation)
        nodes.extend(made)
        moved.add(result)
        layers[made[0].output[0]] = name
        rows, columns = axes
        forms[name] = Form((rows.stride, columns.stride), (rows.begin, columns.begin))
        same[made[0].output[0]] = name
        for new in made[1:]:
            same.update((o, result) for o in new.output if o != result)
    if layers:
        del draft.graph.node[:]
        draft.graph.node.extend(nodes)
        remove_dead(draft)
    return Rewritten(layers, forms, same, refused)


def convolution_weights(weights: Array, form: Form) -> Array:
    """Weights of the convolution that computes all phases of a deconvolution.

    Parameters
    ----------
    weights
        [C_in, C_out, k_h, k_w] of the deconvolution.
    form
        Its strides and paddings.

    Returns
    -------
    ndarray
        [s_h * s_w * C_out, C_in, t_h, t_w]; phases come first, then output channels, as DepthToSpace wants them.
    """
    rows, columns = (_Axis(weights.shape[2 + i], form.strides[i], form.begins[i]) for i in (0, 1))
    padded = np.zeros((*weights.shape[:2], rows.taps * rows.stride, columns.taps * columns.stride), dtype=weights.dtype)
    padded[:, :, : rows.kernel, : columns.kernel] = weights
    phases = []
    for y in range(rows.stride):
        for x in range(columns.stride):
            part = padded[:, :, (y + rows.begin) % rows.stride :: rows.stride]
            part = part[..., (x + columns.begin) % columns.stride :: columns.stride]
            phases.append(part[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))
    return np.ascontiguousarray(np.concatenate(phases))


def _rewrite(
    draft: Draft, node: onnx.NodeProto, axes: tuple[_Axis, _Axis], activation: onnx.NodeProto | None
) -> list[onnx.NodeProto]:
    rows, columns = axes
    weights = draft.constant(node.input[1])
    assert weights is not None  # _axes has looked
    phases = rows.stride * columns.stride
    channels = weights.shape[1]
    name = node.output[0]
    result = name if activation is None else activation.output[0]
    if phases == 1:
        conv, last = name, result
    else:
        conv, last = f"{name}.phases", f"{result}.phases"
    new = convolution_weights(weights, Form((rows.stride, columns.stride), (rows.begin, columns.begin)))
    inputs = [node.input[0], draft.add_constant(new, f"{node.input[1]}.phases")]
    if len(node.input) > 2 and node.input[2]:
        bias = draft.constant(node.input[2])
        assert bias is not None
        inputs.append(draft.add_constant(np.tile(bias, phases), f"{node.input[2]}.phases"))
    pads = [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]]
    made = [helper.make_node("Conv", inputs, [conv], name=conv, kernel_shape=list(new.shape[2:]), pads=pads)]
    if activation is not None:
        moved = _copy(activation)
        moved.input[0] = conv
        moved.output[0] = moved.name = last
        made.append(moved)
    if phases == 1:
        return made
    cuts: list[str] = []
    ahead = (rows.ahead, columns.ahead)
    starts = [(rows.first(y), columns.first(x)) for y in range(rows.stride) for x in range(columns.stride)]
    if ahead == (0, 0):
        woven = last
    else:
        spatial = draft.add_constant(np.array([1, 2, 3], np.int64), f"{name}.axes")
        for i, (top, left) in enumerate(starts):
            begin = draft.add_constant(np.array([i * channels, top, left], np.int64), f"{name}.begin")
            # Counted from the end, so that any input size will do; beyond the end where nothing is cut off.
            ends = [(i + 1) * channels, *(_from_end(a, f) for a, f in zip(ahead, (top, left), strict=True))]
            end = draft.add_constant(np.array(ends, np.int64), f"{name}.end")
            cuts.append(f"{last}.{i}")
            made.append(helper.make_node("Slice", [last, begin, end, spatial], [cuts[-1]], name=cuts[-1]))
        woven = f"{last}.cut"
        made.append(helper.make_node("Concat", cuts, [woven], name=woven, axis=1))
    made.append(helper.make_node("DepthToSpace", [woven], [result], name=result, blocksize=rows.stride, mode="DCR"))
    return made


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
    if attributes.get("group", 1) != 1:
        return "it has groups"
    if list(attributes.get("dilations", [1, 1])) != [1, 1]:
        return "it is dilated"
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"") or "output_shape" in attributes:
        return "its padding depends on the size of its input"
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
        if min(axis.pads) < 0:
            return "its padding is larger than its kernel"
        found.append(axis)
    return found[0], found[1]


def _commutes(draft: Draft, node: onnx.NodeProto) -> bool:
    return node.op_type in _COMMUTING and all(not n or draft.constant(n) is not None for n in node.input[1:])


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
