"""Single layers against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_weights import run

from edgepose.architectures import BuildOptions
from edgepose.architectures.contract import HeatmapContract
from edgepose.architectures.layers import Layers, checked_size
from edgepose.errors import ArchitectureError

SPEC = HeatmapContract().spec((32, 32), 17)


def compute(layer, arrays, image, opset=17):
    """Output of one layer for the image [1, 3, H, W]."""
    height, width = image.shape[2:]
    net = Layers("layer", arrays, BuildOptions(batch=1, opset=opset))
    y = layer(net, net.input(height, width))
    net.output(y, "y", "height", "width")
    network = net.finish(SPEC)
    assert network.weights.mismatch().count == 0
    return run(network.graph, image)["y"]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("bias", [False, True])
def test_transposed_convolution_doubles_the_size(kernel, bias):
    image, weight, shift = noise(1, 3, 5, 4), noise(3, 2, kernel, kernel, seed=1), noise(2, seed=2)
    arrays = {"d.weight": weight} | ({"d.bias": shift} if bias else {})
    pad = {2: 0, 3: 1, 4: 1}[kernel]
    # Every input pixel spreads its kernel; what sticks out by the padding is cut off.
    full = np.zeros((1, 2, 10 + kernel, 8 + kernel), np.float32)
    for y in range(5):
        for x in range(4):
            spread = np.einsum("nc,cokl->nokl", image[:, :, y, x], weight)
            full[:, :, 2 * y : 2 * y + kernel, 2 * x : 2 * x + kernel] += spread
    expected = full[:, :, pad : pad + 10, pad : pad + 8] + (shift[:, None, None] if bias else 0)
    found = compute(lambda net, x: net.deconv(x, "d", 2, kernel, bias=bias), arrays, image)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_pixel_shuffle_takes_neighbouring_channels():
    image = noise(1, 3, 2, 2)
    weight = np.eye(8, 3, dtype=np.float32)[:, :, None, None]
    wide = np.einsum("oc,nchw->nohw", weight[:, :, 0, 0], image)
    expected = wide.reshape(1, 2, 2, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(1, 2, 4, 4)
    found = compute(lambda net, x: net.pixel_shuffle(net.conv(x, "c", 8)), {"c.weight": weight}, image)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_upsampling_repeats_pixels(opset):
    image = noise(1, 3, 3, 2)
    found = compute(lambda net, x: net.upsample(x, 4), {}, image, opset)
    np.testing.assert_array_equal(found, image.repeat(4, axis=2).repeat(4, axis=3))


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name, opset):
    image = np.linspace(-8, 8, 96, dtype=np.float32).reshape(1, 3, 8, 4)
    found = compute(lambda net, x: getattr(net, name)(x), {}, image, opset)
    np.testing.assert_allclose(found, ACTIVATIONS[name](image), atol=1e-5)


def test_max_pool_padding_of_torch_and_of_mindspore():
    image = noise(1, 3, 6, 4)
    for pads, top in (((1, 1, 1, 1), 1), ((0, 0, 1, 1), 0)):
        padded = np.full((1, 3, 9, 7), -np.inf, np.float32)
        padded[:, :, top : top + 6, top : top + 4] = image
        expected = np.stack(
            [
                np.stack([padded[:, :, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max((2, 3)) for x in range(2)], -1)
                for y in range(3)
            ],
            -2,
        )
        found = compute(lambda net, x, pads=pads: net.max_pool(x, pads=pads), {}, image)
        np.testing.assert_array_equal(found, expected)


def test_dense_layer_on_a_pooled_value():
    image, weight, shift = noise(1, 3, 4, 4), noise(5, 3, seed=1), noise(5, seed=2)
    found = compute(
        lambda net, x: net.conv_dense(net.global_avg_pool(x), "fc", 5), {"fc.weight": weight, "fc.bias": shift}, image
    )
    np.testing.assert_allclose(found[..., 0, 0], image.mean((2, 3)) @ weight.T + shift, atol=1e-5)


@given(height=st.integers(-64, 400), width=st.integers(-64, 400))
@settings(max_examples=200, deadline=None)
def test_input_sizes_are_multiples_of_the_stride_or_refused(height, width):
    fits = min(height, width) >= 32 and height % 32 == 0 and width % 32 == 0
    options = BuildOptions(input_size=(height, width))
    if fits:
        assert checked_size(options, (256, 192)) == (height, width)
    else:
        with pytest.raises(ArchitectureError, match="multiples of 32"):
            checked_size(options, (256, 192))
