"""Chains of convolutions that only activations join which take a positive factor through: ReLU and PReLU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..graph.draft import Draft
from ..graph.passes.wiring import Wiring, attributes_of

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: f(s x) = s f(x) for s > 0.
_HOMOGENEOUS = frozenset({"Relu", "PRelu"})


@dataclass
class ChainLayer:
    """A convolution in a chain.

    Attributes
    ----------
    node
        Its Conv or ConvTranspose.
    depthwise
        Whether each channel has its own filter; else there are no groups.
    activations
        What stands between it and the next one: ``Relu``, ``PRelu``.
    """

    node: onnx.NodeProto
    depthwise: bool
    activations: tuple[str, ...] = ()

    @property
    def activated(self) -> bool:
        """Whether anything stands between it and the next one."""
        return bool(self.activations)

    @property
    def weight(self) -> str:
        """Name of the weight."""
        return str(self.node.input[1])

    @property
    def bias(self) -> str:
        """Name of the bias; empty if there is none."""
        return str(self.node.input[2]) if len(self.node.input) > 2 else ""

    @property
    def out_axis(self) -> int:
        """Axis of the output channels in the weight."""
        return 1 if self.node.op_type == "ConvTranspose" and not self.depthwise else 0

    @property
    def in_axis(self) -> int:
        """Axis of the input channels in the weight; of a depthwise layer, that of its channels."""
        return 0 if self.depthwise else 1 - self.out_axis


def along(values: Array, axis: int, rank: int) -> Array:
    """Numbers by channel, shaped to multiply an array."""
    return values.reshape([-1 if a == axis else 1 for a in range(rank)])


def weights_of(draft: Draft, name: str) -> Floats:
    """A constant, float64."""
    array: Any = draft.constant(name)
    return np.asarray(array, np.float64)


def put_weights(draft: Draft, name: str, array: Floats) -> None:
    """Replace a constant."""
    draft.put_constant(name, array.astype(np.float32))


def largest_weights(draft: Draft, layer: ChainLayer, axis: int) -> Floats:
    """Largest magnitude of a layer's weights along all axes but one."""
    weight = np.abs(weights_of(draft, layer.weight))
    return np.asarray(weight.max(axis=tuple(a for a in range(weight.ndim) if a != axis)))


def scale_channels(draft: Draft, layer: ChainLayer, factors: Floats, axis: int, *, bias: bool = False) -> None:
    """Multiply a layer's weights, and if asked for its bias, by a factor for each place of an axis."""
    weight = weights_of(draft, layer.weight)
    put_weights(draft, layer.weight, weight * along(factors, axis, weight.ndim))
    if bias and layer.bias:
        put_weights(draft, layer.bias, weights_of(draft, layer.bias) * factors)


def chains(draft: Draft) -> list[list[ChainLayer]]:
    """The chains of two or more layers, in the graph's order.

    A layer belongs to one if :func:`chain_layer` knows it.  Branches and graph outputs end a chain.
    """
    wiring = Wiring(draft.graph)
    outputs = {o.name for o in draft.graph.output}
    users = {name: node for node in draft.graph.node for name in node.input}
    layers = {n.output[0]: layer for n in draft.graph.node if (layer := chain_layer(draft, n, wiring)) is not None}
    following: dict[str, str] = {}
    for name, layer in layers.items():
        end, node = name, _only_user(name, wiring, outputs, users)
        while node is not None and node.op_type in _HOMOGENEOUS and node.input[0] == end and _rises(draft, node):
            layer.activations += (node.op_type,)
            end = node.output[0]
            node = _only_user(end, wiring, outputs, users)
        if node is not None and node.output[0] in layers and node.input[0] == end:
            following[name] = node.output[0]
    starts = [name for name in layers if name not in set(following.values()) and name in following]
    return [_walk(name, following, layers) for name in starts]


def _walk(name: str, following: dict[str, str], layers: dict[str, ChainLayer]) -> list[ChainLayer]:
    chain = [layers[name]]
    while name in following:
        name = following[name]
        chain.append(layers[name])
    return chain


def _only_user(name: str, wiring: Wiring, outputs: set[str], users: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    return users.get(name) if wiring.uses.get(name) == 1 and name not in outputs else None


def _rises(draft: Draft, node: onnx.NodeProto) -> bool:
    """A ReLU, or a PReLU with known slopes."""
    return node.op_type == "Relu" or draft.constant(node.input[1]) is not None


def chain_layer(draft: Draft, node: onnx.NodeProto, wiring: Wiring) -> ChainLayer | None:
    """A convolution whose weight and bias are constants that it alone uses; None for all else.

    It is depthwise or without groups.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain:
        return None
    weight = draft.constant(node.input[1])
    parameters = [name for name in node.input[1:3] if name]
    if weight is None or weight.dtype != np.float32 or any(wiring.uses[name] != 1 for name in parameters):
        return None
    if any(draft.constant(name) is None for name in parameters):
        return None
    groups = attributes_of(node).get("group", 1)
    depthwise = groups != 1 and groups == weight.shape[0] and weight.shape[1] == 1
    return ChainLayer(node, depthwise) if groups == 1 or depthwise else None
