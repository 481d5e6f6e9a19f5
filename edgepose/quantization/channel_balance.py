"""Balancing the channels of activations between convolutions, for targets whose weights have a scale each.

An activation has one scale for all its channels, and a small channel has few steps left beside a large one.  The
layers that make it have a scale for each output channel, so that dividing a channel there costs nothing.  The weights
that read it are multiplied instead, whose input channels share a scale: how much is moved is a compromise, as in
SmoothQuant (Xiao et al., 2022).  Before a depthwise layer, which has a scale for each channel, everything is moved.
Sums and branches tie channels of several layers together, which get one factor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..model import PoseModel
from .chains import ChainLayer, scale_channels, weights_of
from .channel_groups import ChannelGroup, channel_groups
from .migration import migration_factors
from .tapping import batches, channel_magnitudes, float_draft

Floats = npt.NDArray[np.float64]

#: Lightweight OpenPose with everything quantised loses .027 OKS with this part of the differences moved, .031 with 0.7,
#: .034 with 0.85 (81 pictures).
ALPHA = 0.5
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
        How much of the differences is moved into the weights of layers that are not depthwise, 0 to 1.
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
    groups = channel_groups(draft)
    if not groups:
        return model
    names = [name for group in groups for name, _ in group.values]
    largest = channel_magnitudes(draft, names, batches(model, samples, on_sample), 1)
    found = [_factors(draft, group, largest, alpha) for group in groups]
    for group, factors in zip(groups, found, strict=True):
        for maker in group.makers:
            scale_channels(draft, maker, 1 / factors, maker.out_axis, bias=True)
        for reader, first in group.readers:
            whole = np.ones(weights_of(draft, reader.weight).shape[reader.in_axis])
            whole[first : first + group.width] = factors
            scale_channels(draft, reader, whole, reader.in_axis)
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)


def _factors(draft: Draft, group: ChannelGroup, largest: Mapping[str, Floats], alpha: float) -> Floats:
    """What the channels of a group are divided by."""
    activation = np.zeros(group.width)
    for name, first in group.values:
        activation = np.maximum(activation, _part(largest[name], first, group.width) / (largest[name].max() or 1.0))
    activation = np.where(activation > 0, np.maximum(activation, _SMALLEST * activation.max()), 0.0)
    weight = np.zeros(group.width)
    shared = [(reader, first) for reader, first in group.readers if not reader.depthwise]
    for reader, first in shared:
        weight = np.maximum(weight, _part(_relative_weights(draft, reader), first, group.width))
    if shared:
        return migration_factors(activation, weight, alpha)
    return migration_factors(activation, np.ones(group.width), 1.0)


def _relative_weights(draft: Draft, layer: ChainLayer) -> Floats:
    """Largest weight of each input channel, as a part of the largest one of the same output channel."""
    weight = np.abs(np.moveaxis(weights_of(draft, layer.weight), (layer.out_axis, layer.in_axis), (0, 1)))
    by_channel = weight.reshape(*weight.shape[:2], -1).max(axis=2)
    whole = by_channel.max(axis=1, keepdims=True)
    return np.asarray((by_channel / np.where(whole > 0, whole, 1.0)).max(axis=0))


def _part(array: Floats, first: int, width: int) -> Floats:
    return array[first : first + width]
