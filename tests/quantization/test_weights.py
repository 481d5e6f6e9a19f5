"""Int8 weights and int32 biases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_networks import ONNX_RUNTIME, OPENVINO, Network, observed, picture, residual, sqnr
from onnx import numpy_helper

from edgepose.errors import InputError
from edgepose.graph.running import Runner
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.scheme import Scheme
from edgepose.quantization.weights import channel_axis, quantise_bias, quantise_weights, scales_for_bias, weight_scales


@given(
    seed=st.integers(0, 2**31),
    axis=st.sampled_from([None, 0, 1]),
    magnitude=st.floats(1e-30, 1e30),
)
@settings(max_examples=50, deadline=None)
def test_each_weight_is_the_nearest_integer(seed, axis, magnitude):
    rng = np.random.default_rng(seed)
    weights = (magnitude * rng.standard_normal((4, 3, 2, 2))).astype(np.float32)
    done = quantise_weights(weights, axis)
    assert done.values.dtype == np.int8
    assert done.values.min() >= -127
    scales = done.scales if axis is None else done.scales.reshape([-1 if a == axis else 1 for a in range(4)])
    assert np.all(np.abs(done.dequantised().astype(np.float64) - weights) <= 0.5001 * scales)
    if magnitude > 1e-15:
        peaks = np.abs(done.values).max(axis=None if axis is None else tuple(a for a in range(4) if a != axis))
        assert np.all(peaks == 127)


def test_channels_of_zeros_and_weights_that_are_not_finite():
    weights = np.zeros((3, 2, 1, 1), np.float32)
    weights[1] = 5
    assert np.array_equal(quantise_weights(weights, 0).dequantised(), weights)
    weights[2, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        weight_scales(weights, 0)


def test_a_bias_that_is_large_beside_its_weights_still_fits():
    scales = np.array([1e-12, 1e-2], np.float32)
    bias = np.array([3.0, -2.0], np.float32)
    grown = scales_for_bias(scales, bias, 1e-3)
    assert grown[1] == scales[1]
    assert grown[0] > scales[0]
    values, units = quantise_bias(bias, grown, 1e-3)
    assert np.abs(values).max() <= 2**30
    assert np.allclose(values * units.astype(np.float64), bias, rtol=1e-5)


def test_a_network_with_such_a_bias_stays_right():
    net = Network()
    tiny = net.build.constant(np.full((8, 3, 3, 3), 1e-13, np.float32), "tiny")
    bias = net.build.constant(np.linspace(-1, 1, 8, dtype=np.float32), "bias")
    x = net.build.op("Conv", net.x, tiny, bias, name="almost-constant", pads=[1] * 4)
    model = net.model(net.conv(net.relu(x), 8, 17, 1))
    done = quantize_model(model, observed(model, [picture(model)]), ONNX_RUNTIME)
    feeds = picture(model, 4)
    assert sqnr(Runner(model.graph).run(feeds), Runner(done.model.graph).run(feeds)) > 35


def float_weights(model):
    return {
        n.output[0]: numpy_helper.to_array(next(t for t in model.graph.graph.initializer if t.name == n.input[1]))
        for n in model.graph.graph.node
        if n.op_type in ("Conv", "ConvTranspose")
    }


@pytest.mark.parametrize("scheme", [ONNX_RUNTIME, OPENVINO, Scheme(per_channel=False, deconvolution="subpixel")])
def test_rounding_that_is_given_is_used(scheme):
    """Rounding everything to the nearest by ourselves changes nothing; rounding downwards does what it says."""
    model = residual()
    ranges = observed(model, [picture(model)])
    down, near = {}, {}
    for name, weights in float_weights(model).items():
        axis = channel_axis("ConvTranspose" if name == "up" else "Conv") if scheme.per_channel else None
        scales = weight_scales(weights, axis)
        shape = [-1 if a == axis else 1 for a in range(4)]
        exact = weights / (scales if axis is None else scales.reshape(shape)).astype(np.float64)
        near[name] = np.rint(exact).astype(np.int8)
        down[name] = np.clip(np.floor(exact), -127, 127).astype(np.int8)
    feeds = picture(model, 4)
    usual, same, lower = (
        Runner(quantize_model(model, ranges, scheme, rounding=r).model.graph).run(feeds) for r in (None, near, down)
    )
    if scheme.deconvolution == "native":
        assert np.array_equal(usual["heatmaps"], same["heatmaps"])
    else:  # a phase of a deconvolution has a finer scale than the whole
        assert sqnr(usual, same) > 30
    assert sqnr(usual, lower) < 25


def test_the_weights_of_a_given_rounding_are_those_of_the_file():
    model = residual()
    ranges = observed(model, [picture(model)])
    rng = np.random.default_rng(0)
    given_ = {"expand": rng.integers(-127, 128, float_weights(model)["expand"].shape).astype(np.int8)}
    graph = quantize_model(model, ranges, OPENVINO, rounding=given_).model.graph
    stored = [numpy_helper.to_array(t) for t in graph.graph.initializer if t.data_type == 3]
    assert any(s.shape == given_["expand"].shape and np.array_equal(s, given_["expand"]) for s in stored)


@pytest.mark.parametrize(
    ("rounding", "words"),
    [
        ({"stem": np.zeros((1, 2, 3, 4), np.int8)}, "shape"),
        ({"stem": np.zeros((16, 3, 3, 3), np.float32)}, "integers"),
        ({"stem": np.full((16, 3, 3, 3), -128, np.int8)}, "-127"),
        ({"up": np.zeros(7, np.int8)}, "dimensions"),
        ({"sum": np.zeros(7, np.int8)}, "no layer 'sum'"),
    ],
)
def test_rounding_of_another_network(rounding, words):
    model = residual()
    with pytest.raises(InputError, match=words):
        quantize_model(model, observed(model, [picture(model)]), ONNX_RUNTIME, rounding=rounding)
