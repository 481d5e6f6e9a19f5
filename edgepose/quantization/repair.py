"""Learned rounding and bias correction together, for a graph with Q/DQ nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..fitting.base import Pixels
from ..graph.passes.wiring import attributes_of
from ..model import PoseModel
from .adaround import adaround
from .bias_correction import bias_corrections, with_corrections
from .emit import Quantised, quantize_model
from .placement import quantisable
from .ranges import Ranges
from .scheme import Scheme
from .tapping import float_draft
from .weights import channel_axis, quantise_weights

#: Samples that are enough; all their values between two layers are in memory.
SAMPLES = 16


@dataclass(frozen=True)
class Repair:
    """What was learned for a network and a scheme.

    Attributes
    ----------
    model
        The float network.
    scheme
        The target's form of INT8.
    rounding
        Layer -> int8 weights.
    corrections
        Layer -> numbers [C] to be added to its bias when its weights are int8.
    """

    model: PoseModel
    scheme: Scheme
    rounding: Mapping[str, npt.NDArray[np.int8]]
    corrections: Mapping[str, npt.NDArray[np.float64]]

    def quantised(self, ranges: Ranges, keep_float: Collection[str] = ()) -> Quantised:
        """The graph with Q/DQ nodes; layers that stay in float are as they were.

        Parameters
        ----------
        ranges
            Of the float network's activations: the repaired one has the same.
        keep_float
            As for :func:`~edgepose.quantization.emit.quantize_model`.

        Raises
        ------
        InputError
            If the ranges belong to another network.
        """
        ranges.check(self.model.graph)
        corrections = {name: c for name, c in self.corrections.items() if name not in keep_float}
        rounding = {name: r for name, r in self.rounding.items() if name not in keep_float}
        corrected = with_corrections(self.model, corrections)
        return quantize_model(corrected, dataclasses.replace(ranges, graph=""), self.scheme, keep_float, rounding)


def learn_repair(
    model: PoseModel, samples: Iterable[Pixels], scheme: Scheme, *, on_layer: Callable[[], object] = lambda: None
) -> Repair:
    """Learn the rounding of all layers that can be int8, then correct their biases.

    Parameters
    ----------
    model
        The float network, equalised before if it is at all.
    samples
        Calibration pictures, about :data:`SAMPLES`; read twice.
    scheme
        The target's form of INT8.
    on_layer
        Called after each layer.

    Raises
    ------
    InputError
        If there are no samples.
    """
    layers = {layer.name for layer in quantisable(model, scheme)}
    rounding = adaround(model, samples, scheme, layers, on_layer=on_layer)
    draft = float_draft(model)
    weights = {}
    for node in draft.graph.node:
        if node.output[0] not in layers:
            continue
        weight = draft.constant(node.input[1])
        assert weight is not None  # quantisable has looked
        axis = None
        if scheme.per_channel:
            attributes: dict[str, Any] = attributes_of(node)
            groups, transposed = int(attributes.get("group", 1)), bool(attributes.get("transB", 0))
            axis = channel_axis(node.op_type, transposed=transposed, groups=groups, shape=weight.shape)
        chosen = rounding.get(node.output[0])
        weights[node.input[1]] = quantise_weights(weight, axis, rounding=chosen).dequantised()
    return Repair(model, scheme, rounding, bias_corrections(model, weights, samples))
