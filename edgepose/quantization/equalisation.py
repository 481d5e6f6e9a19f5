"""Cross-layer equalisation and folding of high biases, by AIMET's formulas.

Both move numbers from one convolution to the next so that all channels of a weight, and of an activation, have about
the same range; then one grid suits all of them.  Formulas: Nagel et al., Data-Free Quantization Through Weight
Equalization and Bias Correction, 2019, as in quic/aimet's ``cross_layer_equalization.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..model import PoseModel
from .chains import ChainLayer, chains, largest_weights, put_weights, scale_channels, weights_of
from .tapping import batches, channel_means, float_draft

Array = npt.NDArray[np.float64]

#: A channel whose mean lies this many standard deviations above zero is hardly cut by ReLU (AIMET's constant).
_DEVIATIONS = 3.0


def pair_scales(first: Array, second: Array) -> Array:
    """Factors s [C] that give two layers the same range in each channel: W1 / s, W2 * s.

    Parameters
    ----------
    first
        Largest magnitude [C] of the first weight in each output channel.
    second
        Largest magnitude [C] of the second weight in each input channel.
    """
    root = np.sqrt(first * second)
    return _quotient(first, root, root)


def triplet_scales(first: Array, middle: Array, last: Array) -> tuple[Array, Array]:
    """Factors s12, s23 [C] for a depthwise layer between two others: W1 / s12, W2 * s12 / s23, W3 * s23."""
    root = np.cbrt(first * middle * last)
    return _quotient(first, root, root), _quotient(root, last, root)


def _quotient(over: Array, under: Array, root: Array) -> Array:
    """``over / under``; 1 where a channel is zero in one of the layers, or a factor would not be a usable number."""
    with np.errstate(all="ignore"):
        found = np.asarray(over / under, np.float64)
    usable = (root > 0) & np.isfinite(found) & (found > np.finfo(np.float32).tiny) & (found < 2.0**100)
    return np.where(usable, found, 1.0)


def absorbed_bias(beta: Array, gamma: Array, activated: bool) -> Array:
    """The part a [C] of a layer's bias that the next layer can take over.

    Parameters
    ----------
    beta, gamma
        Mean, and standard deviation or its negative, [C] of the values before the activation: what the batch
        normalisation behind the layer was trained to give.
    activated
        Whether ReLU stands between the layers.
    """
    return np.maximum(0.0, beta - _DEVIATIONS * np.abs(gamma)) if activated else beta


def equalise(model: PoseModel, *, replace_relu6: bool = False) -> PoseModel:
    """Cross-layer equalisation.

    A channel that is zero in one of two layers keeps its weights in the other, however large: take those out before,
    with :func:`~edgepose.quantization.dead_channels.settle_dead_channels`.

    Parameters
    ----------
    model
        A float network; batch normalisation is folded already.  It is not changed.
    replace_relu6
        First replace each ReLU6 by ReLU, as AIMET does: else it ends a chain.  This changes what the network computes
        where values exceed 6.

    Returns
    -------
    PoseModel
        It computes the same, but for rounding, unless a ReLU6 was replaced.
    """
    draft = float_draft(model)
    if replace_relu6:
        _replace_relu6(draft)
    for chain in chains(draft):
        position = 0
        while position + 1 < len(chain):
            middle = chain[position + 1]
            if middle.depthwise and position + 2 < len(chain) and not chain[position + 2].depthwise:
                _scale_triplet(draft, chain[position], middle, chain[position + 2])
                position += 2
            else:
                _scale_pair(draft, chain[position], middle)
                position += 1
    return _finished(draft, model)


def fold_high_biases(
    model: PoseModel, samples: Iterable[Pixels], *, on_sample: Callable[[], object] = lambda: None
) -> PoseModel:
    """Move what is never cut by ReLU from a layer's bias into the next layer's.

    AIMET takes mean and deviation of the values from the batch normalisation behind the layer.  It is folded in
    edgepose's graphs, so that they are measured on samples instead, which also serves networks without any.
    Values below three deviations and zero padding make the result approximate, as in AIMET.

    Parameters
    ----------
    model
        A float network, equalised before if it is at all.  It is not changed.
    samples
        Calibration pictures.
    on_sample
        Called after each.
    """
    draft = float_draft(model)
    pairs = [
        (first, second) for chain in chains(draft) for first, second in pairwise(chain) if first.bias and second.bias
    ]
    if not pairs:
        return model
    measured = channel_means(draft, [first.node.output[0] for first, _ in pairs], batches(model, samples, on_sample))
    for first, second in pairs:
        mean, deviation = measured[first.node.output[0]]
        absorb(draft, first, second, absorbed_bias(mean, deviation, first.activated))
    return _finished(draft, model)


def absorb(draft: Draft, first: ChainLayer, second: ChainLayer, amount: Array) -> None:
    """Take ``amount`` [C] from the first layer's bias; the second one's gets what its weight makes of it."""
    weight = weights_of(draft, second.weight)
    if second.depthwise:
        passed = weight.reshape(len(weight), -1).sum(axis=1) * amount
    else:
        kernel = np.moveaxis(weight, (second.out_axis, second.in_axis), (0, 1))
        passed = kernel.reshape(*kernel.shape[:2], -1).sum(axis=2) @ amount
    put_weights(draft, first.bias, weights_of(draft, first.bias) - amount)
    put_weights(draft, second.bias, weights_of(draft, second.bias) + passed)


def _scale_pair(draft: Draft, first: ChainLayer, second: ChainLayer) -> None:
    scales = pair_scales(largest_weights(draft, first, first.out_axis), largest_weights(draft, second, second.in_axis))
    scale_channels(draft, first, 1 / scales, first.out_axis, bias=True)
    scale_channels(draft, second, scales, second.in_axis)


def _scale_triplet(draft: Draft, first: ChainLayer, middle: ChainLayer, last: ChainLayer) -> None:
    before, after = triplet_scales(
        largest_weights(draft, first, first.out_axis),
        largest_weights(draft, middle, 0),
        largest_weights(draft, last, last.in_axis),
    )
    scale_channels(draft, first, 1 / before, first.out_axis, bias=True)
    scale_channels(draft, middle, before / after, 0)
    if middle.bias:
        put_weights(draft, middle.bias, weights_of(draft, middle.bias) / after)
    scale_channels(draft, last, after, last.in_axis)


def _replace_relu6(draft: Draft) -> None:
    for node in draft.graph.node:
        if node.op_type != "Clip" or len(node.input) != 3:
            continue
        bounds = [draft.constant(name) for name in node.input[1:]]
        if [None if b is None else b.reshape(-1).tolist() for b in bounds] == [[0.0], [6.0]]:
            node.op_type = "Relu"
            del node.input[1:]


def _finished(draft: Draft, model: PoseModel) -> PoseModel:
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)
