"""Bias correction: AIMET's formulas, and that means are what they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_networks import Net, constant, nets, pictures

from edgepose.errors import InputError
from edgepose.fitting import to_tensor
from edgepose.graph.draft import Draft
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.aimet_config import read_config
from edgepose.quantization.bias_correction import correct_biases, correct_biases_analytically, expected_input
from edgepose.quantization.simulation import quantised_weights

W4 = read_config("w4a8")


def _values(model: PoseModel, name: str, weights: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """A value inside for all pictures, with other weights."""
    draft = Draft(model.graph)
    for key, array in (weights or {}).items():
        draft.put_constant(key, array.astype(np.float32))
    if name not in [o.name for o in draft.graph.output]:
        draft.graph.output.add(name=name)
    runner = Runner(draft)
    return np.concatenate([runner.run({"data": to_tensor(p, model.spec.input)})[name] for p in pictures()])


def _means(value: np.ndarray) -> np.ndarray:
    return value.mean(axis=(0, 2, 3), dtype=np.float64)


@settings(max_examples=12, deadline=None)
@given(nets())
def test_every_layer_has_the_mean_that_it_has_in_float(model) -> None:
    weights = quantised_weights(model, W4)
    corrected = correct_biases(model, weights, pictures())
    layers = [n.output[0] for n in model.graph.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert len(layers) >= 2
    for name in layers:
        wanted = _values(model, name)
        found = _values(corrected, name, weights)
        assert np.abs(_means(found) - _means(wanted)).max() <= 1e-4 * max(np.abs(wanted).max(), np.abs(found).max())


def test_the_correction_of_one_layer_is_the_mean_shift_of_its_output() -> None:
    net = Net(1, spread=1.0)
    net.conv(5, name="only", bias=False)
    model = net.build()
    weights = quantised_weights(model, W4)
    corrected = correct_biases(model, weights, pictures())
    shift = _means(_values(model, "heatmaps", weights)) - _means(_values(model, "heatmaps"))
    np.testing.assert_allclose(constant(corrected, "only.weight_corrected_bias"), -shift, rtol=1e-3, atol=1e-6)
    assert np.abs(shift).max() > 1e-3


def test_weights_stay_float() -> None:
    net = Net(2)
    net.conv(5, name="first")
    net.op("Relu")
    net.conv(5, name="second")
    model = net.build()
    weights = quantised_weights(model, W4)
    for corrected in (
        correct_biases(model, weights, pictures()),
        correct_biases_analytically(model, weights, pictures()),
    ):
        for name in weights:
            np.testing.assert_array_equal(constant(corrected, name), constant(model, name))
        assert np.any(constant(corrected, "second.bias") != constant(model, "second.bias"))


@given(st.floats(-8, 8), st.floats(-4, 4), st.sampled_from(["relu", "relu6", None]))
def test_expected_inputs_are_those_of_clipped_normal_values(beta: float, gamma: float, activation) -> None:
    grid = np.linspace(-12, 12, 100_001)
    density = np.exp(-(grid**2) / 2)
    values = beta + abs(gamma) * grid
    if activation is not None:
        values = np.clip(values, 0, 6 if activation == "relu6" else None)
    wanted = (values * density).sum() / density.sum()
    found = expected_input(np.array([beta]), np.array([gamma]), activation)
    assert found == pytest.approx([wanted], abs=1e-4)


def test_the_analytical_correction_of_linear_layers_is_exact() -> None:
    net = Net(3, spread=1.0)
    net.conv(6, name="first")
    net.conv(4, 1, name="second")
    model = net.build()
    weights = {"second.weight": quantised_weights(model, W4)["second.weight"]}
    corrected = correct_biases_analytically(model, weights, pictures())
    shift = (weights["second.weight"] - constant(model, "second.weight"))[:, :, 0, 0] @ _means(_values(model, "first"))
    moved = constant(corrected, "second.bias") - constant(model, "second.bias")
    np.testing.assert_allclose(moved, -shift, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(
        _means(_values(corrected, "heatmaps", weights)), _means(_values(model, "heatmaps")), rtol=1e-3, atol=1e-5
    )


def test_the_analytical_correction_behind_relu_nearly_restores_the_mean() -> None:
    net = Net(4, spread=1.0)
    net.conv(8, name="first")
    net.op("Relu")
    net.conv(4, 1, name="second")
    model = net.build()
    weights = {"second.weight": quantised_weights(model, W4)["second.weight"]}
    wanted = _means(_values(model, "heatmaps"))
    before = _means(_values(model, "heatmaps", weights)) - wanted
    corrected = correct_biases_analytically(model, weights, pictures())
    after = _means(_values(corrected, "heatmaps", weights)) - wanted
    assert np.linalg.norm(after) < 0.5 * np.linalg.norm(before)


def test_other_weights_and_no_samples_are_refused() -> None:
    net = Net(5)
    net.conv(4, name="only")
    model = net.build()
    with pytest.raises(InputError, match="does not fit"):
        correct_biases(model, {"only.weight": np.zeros((1, 2))}, pictures())
    with pytest.raises(InputError, match="does not fit"):
        correct_biases(model, {"other": np.zeros((1, 2))}, pictures())
    with pytest.raises(InputError, match="no samples"):
        correct_biases(model, quantised_weights(model, W4), [])
