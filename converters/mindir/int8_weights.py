"""Weights stored as eight bits: a quarter of the size, computed with as float32.

MindSpore's runtimes on the CPU have no INT8 arithmetic.  What all of them read is a weight of unsigned bytes with a
``Cast``, a subtraction of 128 and a product with one scale for each output channel behind it; signed bytes MindSpore
Lite cannot cast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepose.graph.draft import Draft
from edgepose.graph.inference import check_and_infer
from edgepose.graph.passes.dead_code import remove_dead
from edgepose.graph.passes.wiring import attributes_of
from edgepose.quantization.scheme import LAYERS
from edgepose.quantization.weights import IntWeights, along, channel_axis, quantise_weights

#: Byte that stands for zero.
_ZERO = 128


@dataclass(frozen=True)
class StoredWeights:
    """A graph with weights of eight bits.

    Attributes
    ----------
    graph
        The graph; the bytes are ``uint8`` initialisers.
    names
        The weights that are stored so; others are computed, not float32, or of deconvolutions with groups.
    """

    graph: onnx.ModelProto
    names: tuple[str, ...]


def store_int8(model: onnx.ModelProto) -> StoredWeights:
    """Store the weights of convolutions and matrix products as eight bits; everything is computed as before.

    Each weight becomes one of 255 values, symmetric about zero, with a scale of its own for each output channel.

    Raises
    ------
    InputError
        If a weight is not finite.
    """
    draft = Draft(model)
    added: list[onnx.NodeProto] = []
    widened: dict[tuple[str, int | None], str] = {}
    for node in draft.graph.node:
        weights = draft.constant(node.input[1]) if node.op_type in LAYERS else None
        if weights is None or weights.dtype != np.float32 or weights.ndim < 2:
            continue
        if node.op_type == "ConvTranspose" and attributes_of(node).get("group", 1) != 1:
            continue  # the writer takes it apart, for which it needs its weights
        name, axis = node.input[1], _axis(node, weights.ndim)
        if (name, axis) not in widened:
            chain = _chain(draft, f"{name}.{axis}", quantise_weights(weights, axis))
            added += chain
            widened[name, axis] = chain[-1].output[0]
        node.input[1] = widened[name, axis]
    rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in draft.graph.node]
    del draft.graph.node[:]
    draft.graph.node.extend([*added, *rest])
    remove_dead(draft)
    check_and_infer(draft)
    return StoredWeights(draft.finish(), tuple(dict.fromkeys(name for name, _ in widened)))


def _axis(node: onnx.NodeProto, rank: int) -> int | None:
    """Axis of the output channels of its weights."""
    attributes = attributes_of(node)
    if node.op_type == "MatMul":
        return rank - 1
    return channel_axis(node.op_type, transposed=bool(attributes.get("transB", 0)))


def _chain(draft: Draft, stem: str, weights: IntWeights) -> list[onnx.NodeProto]:
    codes = (weights.values.astype(np.int16) + _ZERO).astype(np.uint8)
    factors = weights.scales.reshape(1) if weights.axis is None else along(weights.scales, weights.axis, codes.ndim)
    held = draft.add_constant(codes, f"{stem}.bytes")
    zero = draft.add_constant(np.array([_ZERO], np.float32), f"{stem}.zero")
    scale = draft.add_constant(factors, f"{stem}.scale")
    cast, centred, made = (draft.fresh(f"{stem}.{part}") for part in ("cast", "centred", "float"))
    return [
        helper.make_node("Cast", [held], [cast], name=cast, to=TensorProto.FLOAT),
        helper.make_node("Sub", [cast, zero], [centred], name=centred),
        helper.make_node("Mul", [centred, scale], [made], name=made),
    ]
