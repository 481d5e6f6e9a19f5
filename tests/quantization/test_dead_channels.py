"""Channels that are the same everywhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_networks import Net, constant, nets, outputs, pictures

from edgepose.model import PoseModel
from edgepose.quantization.aimet_config import read_config
from edgepose.quantization.dead_channels import settle_dead_channels
from edgepose.quantization.simulation import simulate


def _with_dead(model: PoseModel, layer: str, channels: list[int], bias: float, loud: str) -> PoseModel:
    """Zero filters with this bias, and large weights for the channels in the next layer, which is depthwise."""
    for tensor in model.graph.graph.initializer:
        array = constant(model, tensor.name) if tensor.name in (f"{layer}.weight", f"{layer}.bias", loud) else None
        if array is not None:
            array[channels] = {f"{layer}.weight": 0.0, f"{layer}.bias": bias, loud: 150.0}[tensor.name]
            tensor.raw_data = array.astype(np.float32).tobytes()
    return model


def _network(seed: int = 0) -> PoseModel:
    net = Net(seed, spread=0.5)
    net.conv(8, name="first")
    net.op("Relu")
    net.conv(depthwise=True, name="filter")
    net.op("Relu")
    net.conv(6, 1, name="point")
    net.op("Relu")
    net.conv(4, name="head")
    return net.build()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.lists(st.integers(0, 7), min_size=1, max_size=4), st.sampled_from([-1.0, 0.0, 0.7]))
def test_the_network_computes_what_it_did(seed: int, channels: list[int], bias: float) -> None:
    model = _with_dead(_network(seed), "first", channels, bias, "filter.weight")
    settled = settle_dead_channels(model)
    before, after = outputs(model), outputs(settled)
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    silenced = not np.any(constant(settled, "filter.weight")[channels])
    # With a positive bias, padding makes the next layer's result differ near the border: it stays.
    assert silenced == (bias <= 0)
    if silenced:
        assert not np.any(constant(settled, "point.weight")[:, channels])


def test_large_weights_for_dead_channels_no_longer_cost_bits() -> None:
    model = _with_dead(_network(3), "first", [1, 5], -0.5, "filter.weight")
    reference = outputs(model)
    errors = []
    for network in (model, settle_dead_channels(model)):
        found = outputs(simulate(network, pictures(), read_config("aimet-w8a8")).model)
        errors.append(np.square(found - reference).mean())
    assert errors[1] < 0.1 * errors[0]


@settings(max_examples=10, deadline=None)
@given(nets())
def test_living_networks_stay_as_they_are(model) -> None:
    assert settle_dead_channels(model) is model
