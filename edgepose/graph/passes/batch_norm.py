"""Folding batch normalisation into the layer before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from ..draft import Draft
from .wiring import Wiring, attributes_of, remove_nodes, set_attribute

Array = npt.NDArray[np.float64]

#: ONNX default of BatchNormalization's epsilon.
_EPSILON = 1e-5


@dataclass(frozen=True)
class _Norm:
    """y = factor x + shift, by channel."""

    factor: Array
    shift: Array


def fold_batch_norm(draft: Draft) -> int:
    """Fold BatchNormalization into the Conv, ConvTranspose or Gemm whose output it alone reads.

    Computed in float64 and rounded once.  Left alone are normalisations in training mode, of weights that are no
    constants, and those whose result would not be finite in the weights' type.

    Returns
    -------
    int
        How many were folded.
    """
    wiring = Wiring(draft.graph)
    outputs = {o.name for o in draft.graph.output}
    folded = set()
    for norm in [n for n in draft.graph.node if n.op_type == "BatchNormalization" and n.domain == ""]:
        layer = wiring.producers.get(norm.input[0])
        if layer is None or wiring.uses[norm.input[0]] != 1 or norm.input[0] in outputs:
            continue
        constants = _read_norm(draft, norm, wiring)
        if constants is None or not _fold(draft, layer, constants, wiring):
            continue
        # The layer takes over the name of the result, which calibration ranges and readers of the graph know.
        inner, result = norm.input[0], norm.output[0]
        norm.output[0] = inner
        layer.output[0] = result
        wiring.producers[result] = layer
        folded.add(inner)
    _remove_norms(draft, folded)
    return len(folded)


def _remove_norms(draft: Draft, outputs: set[str]) -> None:
    remove_nodes(draft.graph, outputs)
    stale = [i for i, v in enumerate(draft.graph.value_info) if v.name in outputs]
    for i in reversed(stale):
        del draft.graph.value_info[i]


def _read_norm(draft: Draft, node: onnx.NodeProto, wiring: Wiring) -> _Norm | None:
    attributes = attributes_of(node)
    if attributes.get("training_mode", 0) or any(wiring.uses.get(name) for name in node.output[1:]):
        return None
    arrays = [draft.constant(name) for name in node.input[1:5]]
    if any(array is None or not np.issubdtype(array.dtype, np.floating) or array.ndim != 1 for array in arrays):
        return None
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    epsilon = attributes.get("epsilon", _EPSILON)
    assert isinstance(epsilon, float)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        return _Norm(factor, bias - mean * factor)


def _fold(draft: Draft, layer: onnx.NodeProto, norm: _Norm, wiring: Wiring) -> bool:
    if layer.domain != "" or len(layer.input) < 2:
        return False
    weight = draft.constant(layer.input[1])
    name = layer.input[2] if len(layer.input) > 2 else ""
    bias = draft.constant(name) if name else None
    if weight is None or not np.issubdtype(weight.dtype, np.floating) or (name and bias is None):
        return False
    attributes = attributes_of(layer)
    channels = len(norm.factor)
    if layer.op_type in ("Conv", "ConvTranspose"):
        groups = attributes.get("group", 1)
        assert isinstance(groups, int)
        by_channel = _along_outputs(layer.op_type, weight, norm.factor, groups)
        scaled_bias = np.zeros(channels) if bias is None else bias.astype(np.float64)
    elif layer.op_type == "Gemm":
        axis = 0 if attributes.get("transB", 0) else 1
        by_channel = None
        if weight.ndim == 2 and weight.shape[axis] == channels:
            by_channel = norm.factor[:, None] if axis == 0 else norm.factor[None, :]
        beta = attributes.get("beta", 1.0)
        assert isinstance(beta, float)
        if bias is None:
            scaled_bias = np.zeros(channels)
        elif bias.shape in ((), (1,), (channels,), (1, channels)):
            scaled_bias = np.broadcast_to(bias.astype(np.float64) * beta, (1, channels))[0]
        else:
            return False
    else:
        return False
    if by_channel is None or scaled_bias.shape != (channels,):
        return False
    with np.errstate(all="ignore"):
        new_weight = (weight.astype(np.float64) * by_channel).astype(weight.dtype).reshape(weight.shape)
        new_bias = (scaled_bias * norm.factor + norm.shift).astype(weight.dtype)
    if not np.isfinite(new_weight).all() or not np.isfinite(new_bias).all():
        return False
    if layer.op_type == "Gemm":
        set_attribute(layer, "beta", None)
    _set_input(draft, layer, 1, new_weight, wiring, "")
    _set_input(draft, layer, 2, new_bias, wiring, f"{layer.input[1]}_folded_bias")
    return True


def _along_outputs(op_type: str, weight: npt.NDArray[np.generic], factor: Array, groups: int) -> Array | None:
    """The factors in a shape that multiplies the weight by output channel; None if their number does not fit."""
    if op_type == "Conv":
        return factor.reshape(-1, *[1] * (weight.ndim - 1)) if weight.shape[0] == len(factor) else None
    if weight.ndim < 2 or weight.shape[1] * groups != len(factor) or weight.shape[0] % groups:
        return None
    # ConvTranspose: [in, out / groups, ...]; each group of input channels makes its own group of output channels.
    by_input = np.repeat(factor.reshape(groups, 1, -1), weight.shape[0] // groups, axis=1)
    return by_input.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))


def _set_input(
    draft: Draft, node: onnx.NodeProto, position: int, array: npt.NDArray[np.generic], wiring: Wiring, stem: str
) -> None:
    """Replace a constant in place where the node alone uses it, else give the node its own."""
    name = node.input[position] if len(node.input) > position else ""
    if name and wiring.uses[name] == 1:
        draft.put_constant(name, array)
        return
    fresh = draft.add_constant(array, stem or name)
    wiring.uses[fresh] = 1
    if name:
        wiring.uses[name] -= 1
        node.input[position] = fresh
    elif len(node.input) > position:
        node.input[position] = fresh
    else:
        node.input.append(fresh)
