"""Bias correction: taking back the shift of a layer's mean that rounding its weights causes.

Formulas: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, as in quic/aimet's
``bias_correction.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import InputError
from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..graph.passes.wiring import Wiring, attributes_of
from ..model import PoseModel
from .chains import along, chains
from .stepping import Stepper, by_channel
from .tapping import batches, channel_means, float_draft

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Axis of the channels in what a layer gives.
_CHANNELS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1}


def correct_biases(
    model: PoseModel,
    weights: Mapping[str, Array],
    samples: Iterable[Pixels],
    *,
    on_sample: Callable[[], object] = lambda: None,
) -> PoseModel:
    """Empirical bias correction: make each layer's mean over samples what it is in float.

    Parameters
    ----------
    model, weights, samples, on_sample
        As for :func:`bias_corrections`.

    Returns
    -------
    PoseModel
        The float network with other biases, to be quantised to these weights.  Layers without bias get one.
    """
    return with_corrections(model, bias_corrections(model, weights, samples, on_sample=on_sample))


def bias_corrections(
    model: PoseModel,
    weights: Mapping[str, Array],
    samples: Iterable[Pixels],
    *,
    on_sample: Callable[[], object] = lambda: None,
) -> dict[str, Floats]:
    """What empirical bias correction adds to the biases.

    Layer by layer, with unquantised activations; each layer sees what the corrected layers before it give.  All
    samples' values between two layers are in memory: a few dozen samples are enough.

    Parameters
    ----------
    model
        The float network.  It is not changed.
    weights
        What the quantised network will compute with instead: initialiser -> float weights on their grid
        (:func:`~edgepose.quantization.simulation.quantised_weights`,
        :meth:`~edgepose.quantization.weights.IntWeights.dequantised`).
    samples
        Calibration pictures.
    on_sample
        Called after each.

    Returns
    -------
    dict
        Output of the layer -> numbers [C] to be added to its bias.

    Raises
    ------
    InputError
        If there are no samples, or a weight has another shape than the network's.
    """
    exact, quantised = float_draft(model), float_draft(model)
    for name, array in weights.items():
        old = exact.constant(name)
        if old is None or old.shape != array.shape:
            raise InputError(f"The quantised weight '{name}' does not fit the network.")
        quantised.put_constant(name, np.asarray(array, old.dtype))
    layers = [n for n in exact.graph.node if _correctable(n) and n.input[1] in weights]
    feeds = list(batches(model, samples, on_sample))
    reference, shifted = Stepper(exact, feeds), Stepper(quantised, feeds)
    corrections: dict[str, Floats] = {}
    for node in layers:
        name, axis = node.output[0], _CHANNELS[node.op_type]
        (wanted,), (found,) = reference.advance(name), shifted.advance(name)
        count, target = by_channel(wanted, axis)
        shift = (by_channel(found, axis)[1] - target) / count
        corrections[name] = -shift
        shifted.change(name, partial(_less, shift, axis))
    return corrections


def correct_biases_analytically(
    model: PoseModel,
    weights: Mapping[str, Array],
    samples: Iterable[Pixels],
    *,
    on_sample: Callable[[], object] = lambda: None,
) -> PoseModel:
    """Analytical bias correction: from how the values before a layer are distributed.

    AIMET takes mean and deviation from batch normalisation.  It is folded in edgepose's graphs, so that they are
    measured.  Only layers directly behind another one, or behind its ReLU, are corrected.

    Parameters
    ----------
    model, weights, samples, on_sample
        As for :func:`correct_biases`.
    """
    draft = float_draft(model)
    pairs = [
        (a, b)
        for chain in chains(draft)
        for a, b in pairwise(chain)
        if b.weight in weights and set(a.activations) <= {"Relu"}
    ]
    if not pairs:
        return model
    measured = channel_means(draft, {a.node.output[0] for a, _ in pairs}, batches(model, samples, on_sample))
    corrections = {}
    for first, second in pairs:
        mean, deviation = measured[first.node.output[0]]
        expected = expected_input(mean, deviation, "relu" if first.activated else None)
        change = np.asarray(weights[second.weight], np.float64) - np.asarray(draft.constant(second.weight), np.float64)
        if second.depthwise:
            shift = change.reshape(len(change), -1).sum(axis=1) * expected
        else:
            kernel = np.moveaxis(change, (second.out_axis, second.in_axis), (0, 1))
            shift = kernel.reshape(*kernel.shape[:2], -1).sum(axis=2) @ expected
        corrections[second.node.output[0]] = -shift
    return with_corrections(model, corrections)


def expected_input(beta: Floats, gamma: Floats, activation: str | None) -> Floats:
    """Mean [C] of normally distributed values after an activation.

    Parameters
    ----------
    beta, gamma
        Mean, and standard deviation or its negative, [C] of the values.
    activation
        ``relu``, ``relu6``, or None.
    """
    if activation is None:
        return beta
    beta, deviation = np.asarray(beta, np.float64), np.maximum(np.abs(np.asarray(gamma, np.float64)), 1e-12)
    low = -beta / deviation
    if activation == "relu":
        return np.asarray(beta * (1 - _normal_below(low)) + deviation * _normal(low))
    high = (6 - beta) / deviation
    inside = _normal_below(high) - _normal_below(low)
    return np.asarray(beta * inside + deviation * (_normal(low) - _normal(high)) + 6 * (1 - _normal_below(high)))


def _normal(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi))


def _normal_below(x: Floats) -> Floats:
    return np.asarray([0.5 * math.erfc(-v / math.sqrt(2)) for v in np.ravel(x)]).reshape(np.shape(x))


def _correctable(node: onnx.NodeProto) -> bool:
    return node.op_type in _CHANNELS and attributes_of(node).get("beta", 1.0) == 1.0


def _less(shift: Floats, axis: int, value: Array) -> Array:
    return np.asarray(value - along(shift, axis, value.ndim), value.dtype)


def with_corrections(model: PoseModel, corrections: Mapping[str, Floats]) -> PoseModel:
    """The network with numbers [C] added to the biases of layers, by the layers' outputs."""
    draft = float_draft(model)
    uses = Wiring(draft.graph).uses
    for node in draft.graph.node:
        if node.output[0] in corrections:
            _add_to_bias(draft, node, corrections[node.output[0]], uses)
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)


def _add_to_bias(draft: Draft, node: onnx.NodeProto, amount: Floats, uses: Mapping[str, int]) -> None:
    name = node.input[2] if len(node.input) > 2 else ""
    old = draft.constant(name) if name else np.zeros(len(amount), np.float32)
    if old is None:
        return  # computed biases stay as they are
    bias = (np.broadcast_to(old.astype(np.float64), amount.shape) + amount).astype(np.float32)
    if name and uses.get(name) == 1 and old.shape == bias.shape:
        draft.put_constant(name, bias)
        return
    fresh = draft.add_constant(bias, f"{node.input[1]}_corrected_bias")
    del node.input[2:]
    node.input.append(fresh)
