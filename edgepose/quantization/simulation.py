"""Simulated quantisation in AIMET's sense: a float graph that computes on AIMET's grids, for any runtime of ONNX.

Weights are put on their grids; behind each activation stand nodes that do to it what AIMET's fake quantisation does,
``scale * (round(clamp(x, min, max) / scale - offset) + offset)``, in float32, operation by operation, ties rounded away
from zero.  QuantizeLinear has other ties and bit widths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..errors import InputError
from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.inference import check_and_infer
from ..graph.passes.wiring import rename_uses
from ..model import PoseModel
from .aimet_config import SimulationConfig
from .aimet_encodings import (
    BELOW_HALF,
    Encoding,
    Grid,
    Histogram,
    fake_quantise,
    histogram_of,
    percentile_encoding,
    tf_encoding,
    tf_enhanced_encoding,
)
from .aimet_files import AimetEncodings
from .aimet_placement import Sites, place
from .tapping import Taps, batches, float_draft

Array = npt.NDArray[Any]

#: AIMET takes every second element of an activation into its histogram.
_STRIDE = 2
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})


@dataclass(frozen=True)
class Simulation:
    """A network on AIMET's grids.

    Attributes
    ----------
    model
        The graph with its contract; name and type of inputs and outputs are those of the float model.
    encodings
        The grids.
    """

    model: PoseModel
    encodings: AimetEncodings


def simulate(
    model: PoseModel,
    samples: Iterable[Pixels],
    config: SimulationConfig,
    *,
    on_sample: Callable[[], object] = lambda: None,
) -> Simulation:
    """Calibrate and quantise a network as AIMET simulates it.

    Grids of weights are found first, and the weights lie on them while the activations are looked at.

    Parameters
    ----------
    model
        A float32 network, batch normalisation folded.  It is not changed.
    samples
        Calibration pictures: uint8 [B, H, W, 3], fitted to the input.  Each batch weighs the same.
    config
        What is quantised, and how.
    on_sample
        Called after each sample.

    Raises
    ------
    InputError
        If there are no samples, values are not finite, nothing is there to be quantised, or the network is already.
    GraphError
        If the graph is not valid or does not run.
    """
    draft = float_draft(model)
    if any(node.op_type in _QUANTISED for node in draft.graph.node):
        raise InputError("This network is quantised already.", hint="Simulate the float network that it was made of.")
    sites = place(draft, config)
    if not sites.weights and not sites.activations:
        raise InputError("The configuration quantises nothing in this network.")
    parameters = _quantise_weights(draft, sites, config)
    activations = _calibrate(draft, sites, config, batches(model, samples, on_sample))
    insert_grids(draft, activations)
    check_and_infer(draft)
    simulated = PoseModel(draft.finish(), model.spec, model.provenance)
    return Simulation(simulated, AimetEncodings(activations, parameters))


def quantised_weights(model: PoseModel, config: SimulationConfig) -> dict[str, npt.NDArray[np.float32]]:
    """The weights that a simulation computes with, by initialiser."""
    draft = float_draft(model)
    sites = place(draft, config)
    _quantise_weights(draft, sites, config)
    return {name: np.asarray(draft.constant(name), np.float32) for name in sites.weights}


def weight_encodings(array: Array, axis: int | None, grid: Grid, config: SimulationConfig) -> tuple[Encoding, ...]:
    """The grid of a weight, or those of its channels along ``axis``."""
    parts = [array] if axis is None else list(np.moveaxis(array, axis, 0))
    return tuple(_of_weight(np.asarray(part, np.float32), grid, config) for part in parts)


def _quantise_weights(draft: Draft, sites: Sites, config: SimulationConfig) -> dict[str, tuple[Encoding, ...]]:
    found = {}
    for name, site in sites.weights.items():
        array = np.asarray(draft.constant(name), np.float32)
        encodings = found[name] = weight_encodings(array, site.axis, site.grid, config)
        if site.axis is None:
            quantised = fake_quantise(array, encodings[0])
        else:
            parts = zip(np.moveaxis(array, site.axis, 0), encodings, strict=True)
            quantised = np.moveaxis(np.stack([fake_quantise(part, e) for part, e in parts]), 0, site.axis)
        draft.put_constant(name, quantised)
    return found


def _of_weight(array: npt.NDArray[np.float32], grid: Grid, config: SimulationConfig) -> Encoding:
    if not np.isfinite(array).all():
        raise InputError("Weights of the network are not finite; it cannot be quantised.")
    if config.scheme == "tf":
        return tf_encoding(float(array.min()), float(array.max()), grid)
    return _of_histogram(histogram_of(array), grid, config)


def _of_histogram(histogram: Histogram, grid: Grid, config: SimulationConfig) -> Encoding:
    if config.scheme == "percentile":
        encoding = percentile_encoding(histogram, grid)
    else:
        encoding = tf_enhanced_encoding(histogram, grid, shrinking=config.shrinking)
    assert encoding is not None  # there are data
    return encoding


def _calibrate(
    draft: Draft, sites: Sites, config: SimulationConfig, feeds: Iterable[Mapping[str, Array]]
) -> dict[str, Encoding]:
    grids = sites.activations
    taps = Taps(draft, grids)
    extremes: dict[str, tuple[float, float]] = {}
    histograms = {name: Histogram() for name in grids}
    for feed in feeds:
        for name, value in taps.run(feed).items():
            if config.scheme == "tf":
                low, high = extremes.get(name, (np.inf, -np.inf))
                extremes[name] = min(low, float(value.min())), max(high, float(value.max()))
            else:
                histograms[name].update(value, _STRIDE)
    if config.scheme == "tf":
        return {name: tf_encoding(*extremes[name], grid) for name, grid in grids.items()}
    return {name: _of_histogram(histograms[name], grid, config) for name, grid in grids.items()}


def insert_grids(draft: Draft, encodings: Mapping[str, Encoding]) -> None:
    """Nodes that put values on their grids; a value keeps its name, unless it is an input of the graph."""
    prefix = draft.fresh("aimet")
    half = f"{prefix}/below_half"
    draft.put_constant(half, np.asarray(BELOW_HALF))
    made = {name for node in draft.graph.node for name in node.output}
    fed = {name: f"{prefix}/{name}" for name in encodings if name not in made}
    rename_uses(draft.graph, fed)
    nodes = []
    for name in fed:
        nodes += _fake_quantisation(draft, f"{prefix}/{name}", half, encodings[name], name, fed[name])
    for node in draft.graph.node:
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in encodings:
                stem = f"{prefix}/{name}"
                node.output[i] = f"{stem}/float"
                nodes += _fake_quantisation(draft, stem, half, encodings[name], f"{stem}/float", name)
    ordered = onnx.GraphProto(node=nodes)
    del draft.graph.node[:]
    draft.graph.node.extend(ordered.node)


def _fake_quantisation(
    draft: Draft, stem: str, half: str, encoding: Encoding, source: str, target: str
) -> list[onnx.NodeProto]:
    values = {"min": encoding.minimum, "max": encoding.maximum, "scale": encoding.scale, "offset": encoding.offset}
    for part, number in values.items():
        draft.put_constant(f"{stem}/{part}", np.asarray(number, np.float32))
    low, high, scale, offset = (f"{stem}/{part}" for part in values)
    steps = (
        ("Clip", (low, high)),
        ("Div", (scale,)),
        ("Sub", (offset,)),
        ("Add", (half,)),
        ("Floor", ()),
        ("Add", (offset,)),
        ("Mul", (scale,)),
    )
    nodes, value = [], source
    for i, (kind, constants) in enumerate(steps):
        result = target if i == len(steps) - 1 else f"{stem}/step{i}"
        nodes.append(helper.make_node(kind, [value, *constants], [result], name=f"{stem}/step{i}"))
        value = result
    return nodes
