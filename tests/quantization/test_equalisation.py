"""Cross-layer equalisation and high biases: AIMET's formulas, and what they must not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from repair_networks import Net, constant, nets, outputs, pictures

from edgepose.quantization.equalisation import absorbed_bias, equalise, fold_high_biases, pair_scales, triplet_scales

#: Largest change of an output, as a part of the largest output, that is rounding of the factors.
ROUNDING = 1e-5

magnitudes = hnp.arrays(np.float64, 6, elements=st.one_of(st.just(0.0), st.floats(1e-4, 1e4)))


@given(magnitudes, magnitudes)
def test_a_pair_is_scaled_by_the_root_of_both_ranges(first, second) -> None:
    scales = pair_scales(first, second)
    for s, r1, r2 in zip(scales, first, second, strict=True):
        assert s == (pytest.approx(r1 / (r1 * r2) ** 0.5) if r1 * r2 else 1)
        if r1 * r2:
            assert r1 / s == pytest.approx(r2 * s)


@given(magnitudes, magnitudes, magnitudes)
def test_a_triplet_is_scaled_by_the_cube_root_of_all_three(first, middle, last) -> None:
    before, after = triplet_scales(first, middle, last)
    for s12, s23, r1, r2, r3 in zip(before, after, first, middle, last, strict=True):
        if not r1 * r2 * r3:
            assert (s12, s23) == (1, 1)
            continue
        t = (r1 * r2 * r3) ** (1 / 3)
        assert (s12, s23) == (pytest.approx(r1 / t), pytest.approx(t / r3))
        assert [r1 / s12, r2 * s12 / s23, r3 * s23] == pytest.approx([t, t, t])


def test_a_bias_is_absorbed_down_to_three_deviations() -> None:
    beta, gamma = np.array([5.0, 2.0, -1.0]), np.array([1.0, -1.0, 0.1])
    assert absorbed_bias(beta, gamma, activated=True).tolist() == [2, 0, 0]
    assert absorbed_bias(beta, gamma, activated=False).tolist() == [5, 2, -1]


@settings(max_examples=25, deadline=None)
@given(nets())
def test_the_network_computes_what_it_did(model) -> None:
    before, after = outputs(model), outputs(equalise(model))
    assert np.abs(after - before).max() <= ROUNDING * max(np.abs(before).max(), 1e-6)


def test_ranges_are_equal_afterwards() -> None:
    net = Net(3, spread=2.0)
    net.conv(8, name="first")
    net.op("Relu")
    net.conv(6, name="second")
    model = net.build()
    equalised = equalise(model)
    first, second = constant(equalised, "first.weight"), constant(equalised, "second.weight")
    ranges = np.abs(first).max(axis=(1, 2, 3))
    np.testing.assert_allclose(ranges, np.abs(second).max(axis=(0, 2, 3)), rtol=1e-5)
    old = constant(model, "first.weight")
    scales = pair_scales(np.abs(old).max(axis=(1, 2, 3)), np.abs(constant(model, "second.weight")).max(axis=(0, 2, 3)))
    np.testing.assert_allclose(first, old / scales[:, None, None, None], rtol=1e-5)
    np.testing.assert_allclose(constant(equalised, "first.bias"), constant(model, "first.bias") / scales, rtol=1e-5)


def test_ranges_of_three_layers_with_a_depthwise_one_are_equal_afterwards() -> None:
    net = Net(4, spread=2.0)
    net.conv(8, 1, name="expand")
    net.op("Relu")
    net.conv(depthwise=True, name="filter")
    net.op("Relu")
    net.conv(6, 1, name="project")
    model = net.build()
    equalised = equalise(model)
    a, b, c = (constant(equalised, f"{n}.weight") for n in ("expand", "filter", "project"))
    ranges = np.abs(a).max(axis=(1, 2, 3))
    np.testing.assert_allclose(ranges, np.abs(b).max(axis=(1, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(ranges, np.abs(c).max(axis=(0, 2, 3)), rtol=1e-5)
    before = outputs(model)
    np.testing.assert_allclose(outputs(equalised), before, atol=ROUNDING * np.abs(before).max())


def test_branches_and_outputs_are_left_alone() -> None:
    net = Net(5, spread=2.0)
    net.conv(6, name="first")
    branch = net.op("Relu")
    net.conv(6, name="second")
    net.op("Add", branch)
    model = net.build()
    equalised = equalise(model)
    for name in ("first.weight", "second.weight"):
        np.testing.assert_array_equal(constant(equalised, name), constant(model, name))


def test_relu6_ends_a_chain_unless_it_is_replaced() -> None:
    net = Net(6, spread=1.0)
    net.conv(6, name="first")
    net.relu6()
    net.conv(6, name="second")
    model = net.build()
    np.testing.assert_array_equal(outputs(equalise(model)), outputs(model))
    replaced = equalise(model, replace_relu6=True)
    assert [n.op_type for n in replaced.graph.graph.node] == ["Conv", "Relu", "Conv"]
    assert np.any(constant(replaced, "first.weight") != constant(model, "first.weight"))


def test_high_biases_move_to_the_next_layer() -> None:
    net = Net(7)
    net.conv(4, 1, name="first")
    net.op("Relu")
    net.conv(4, 1, name="second")
    model = net.build()
    for tensor in model.graph.graph.initializer:
        if tensor.name == "first.bias":
            tensor.raw_data = np.array([100, 100, -100, 0], np.float32).tobytes()
    folded = fold_high_biases(model, pictures())
    moved = constant(model, "first.bias") - constant(folded, "first.bias")
    assert np.all(moved[:2] > 50)
    assert moved[2] == 0
    passed = constant(model, "second.weight")[:, :, 0, 0] @ moved
    np.testing.assert_allclose(constant(folded, "second.bias"), constant(model, "second.bias") + passed, rtol=1e-4)
    before = outputs(model)
    np.testing.assert_allclose(outputs(folded), before, atol=2e-2 * np.abs(before).max())


def test_networks_without_chains_stay_as_they_are() -> None:
    net = Net(8)
    net.conv(4, name="only")
    model = net.build()
    assert fold_high_biases(model, pictures()) is model
    np.testing.assert_array_equal(outputs(equalise(model)), outputs(model))
