"""Balancing the channels of activations within chains of convolutions, for targets whose weights have a scale each.

An activation has one scale for all its channels, and a small channel has few steps left beside a large one.  The layer
that makes it has a scale for each output channel, so that dividing a channel there costs nothing.  The next layer's
weights are multiplied instead, whose input channels share a scale: how much is moved is a compromise, as in SmoothQuant
(Xiao et al., 2022).  Before a depthwise layer, which has a scale for each channel, everything is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

from ..fitting.base import Pixels
from ..graph.inference import check_and_infer
from ..model import PoseModel
from .chains import chains, largest_weights, scale_channels
from .migration import migration_factors
from .tapping import batches, channel_magnitudes, float_draft

#: Lightweight OpenPose with everything quantised loses .058 OKS as it was trained, .026 when it is equalised by its
#: weights alone, .018 with 0.5 or 0.7 of the differences moved, and more again with all of them (48 pictures).
ALPHA = 0.7
#: A channel that is smaller than this part of the largest is taken for that large: it says little, and what the samples
#: show of it says little about other pictures.
_SMALLEST = 1 / 64


def balance_channels(
    model: PoseModel, samples: Iterable[Pixels], *, alpha: float = ALPHA, on_sample: Callable[[], object] = lambda: None
) -> PoseModel:
    """Give the channels of activations between convolutions about the same range.

    Parameters
    ----------
    model
        A float network; batch normalisation is folded already.  It is not changed.
    samples
        Calibration pictures.
    alpha
        How much of the differences is moved into the weights of a layer that is not depthwise, 0 to 1.
    on_sample
        Called after each sample.

    Returns
    -------
    PoseModel
        It computes the same, but for rounding; the model itself if it has no such activations.

    Raises
    ------
    InputError
        If there are no samples.
    """
    draft = float_draft(model)
    pairs = [pair for chain in chains(draft) for pair in pairwise(chain)]
    if not pairs:
        return model
    names = [second.node.input[0] for _, second in pairs]
    largest = channel_magnitudes(draft, names, batches(model, samples, on_sample), 1)
    for first, second in pairs:
        measured = largest[second.node.input[0]]
        activation = np.where(measured > 0, np.maximum(measured, _SMALLEST * measured.max()), 0.0)
        if second.depthwise:
            factors = migration_factors(activation, np.ones_like(activation), 1.0)
        else:
            factors = migration_factors(activation, largest_weights(draft, second, second.in_axis), alpha)
        scale_channels(draft, first, 1 / factors, first.out_axis, bias=True)
        scale_channels(draft, second, factors, second.in_axis)
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)
