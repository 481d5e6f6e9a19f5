"""Channels that are the same everywhere: what reads them is simplified, so that it does not widen the ranges.

Training leaves channels whose filters are zero; the normalisation behind has a tiny variance, and the next layer's
weights for them may be a hundred times as large as all others.  In float that is harmless.  A grid for the whole weight
or the whole activation is ruined by it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..graph.passes.wiring import attributes_of
from ..model import PoseModel
from .chains import ChainLayer, chains
from .equalisation import absorb
from .tapping import float_draft

Floats = npt.NDArray[np.float64]


def settle_dead_channels(model: PoseModel) -> PoseModel:
    """Take channels that are constant out of the layers that read them.

    Where a filter is zero, the layer gives its bias.  If ReLU makes that zero, the next layer's weights for the channel
    become zero; else what they make of it goes into the next layer's bias, unless padding makes that differ near the
    border.  From layer to layer, so that a depthwise filter that becomes zero counts as such for the one behind it.

    Parameters
    ----------
    model
        A float network.  It is not changed.

    Returns
    -------
    PoseModel
        It computes the same, but for rounding; the model itself if there is nothing to do.
    """
    draft = float_draft(model)
    settled = sum(_settle(draft, a, b) for chain in chains(draft) for a, b in pairwise(chain))
    if not settled:
        return model
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)


def _settle(draft: Draft, first: ChainLayer, second: ChainLayer) -> int:
    """How many channels of the first layer were taken out of the second one."""
    weight, following = _array(draft, first.weight), _array(draft, second.weight)
    dead = ~np.any(np.moveaxis(weight, first.out_axis, 0).reshape(weight.shape[first.out_axis], -1), axis=1)
    bias = _array(draft, first.bias) if first.bias else np.zeros(len(dead))
    given = np.maximum(bias, 0) if "Relu" in first.activations else bias
    silent = dead & (given == 0)
    steady = dead & (given != 0) & ("PRelu" not in first.activations)
    if not second.bias or not _without_padding(second):
        steady[:] = False
    read = np.any(np.moveaxis(following, second.in_axis, 0).reshape(following.shape[second.in_axis], -1), axis=1)
    taken = (silent | steady) & read
    if not taken.any():
        return 0
    if steady.any():
        absorb(draft, first, second, np.where(steady, given, 0.0))
    moved = np.moveaxis(following, second.in_axis, 0)
    moved[taken] = 0
    _put(draft, second.weight, following)
    return int(taken.sum())


def _without_padding(layer: ChainLayer) -> bool:
    attributes: dict[str, Any] = attributes_of(layer.node)
    plain = attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") and not any(attributes.get("pads", [0]))
    return layer.node.op_type == "Conv" and plain


def _array(draft: Draft, name: str) -> Floats:
    array: Any = draft.constant(name)
    return np.array(array, np.float64)


def _put(draft: Draft, name: str, array: Floats) -> None:
    draft.put_constant(name, array.astype(np.float32))
