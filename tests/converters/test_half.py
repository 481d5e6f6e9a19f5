"""Half precision: rounding, storing, computing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto
from target_networks import QUICK, SLOW, distance, family, picture, reference, small

from edgepose.errors import GraphError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.half import compute_half, round_to_half, round_weights, store_half, widen_stored

#: Rounding of each weight by 2^-11, through up to a hundred layers.
ROUNDING = 5e-3


def kinds(graph: onnx.ModelProto) -> dict[str, int]:
    values = (*graph.graph.value_info, *graph.graph.input, *graph.graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in values}


@given(
    arrays.arrays(
        np.float32, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 3)),
        elements=st.floats(-60000, 60000, width=32),
    ),
    st.sampled_from((0, 1, -1)),
)  # fmt: skip
def test_a_rounded_weight_is_a_neighbour_of_the_exact_one(weights: np.ndarray, axis: int) -> None:
    rounded = round_to_half(weights, axis)
    assert rounded.shape == weights.shape
    assert rounded.dtype == np.float16
    nearest = weights.astype(np.float16)
    step = np.spacing(np.abs(nearest)).astype(np.float64)
    assert np.all(np.abs(rounded.astype(np.float64) - weights) <= step)
    exact = nearest.astype(np.float32) == weights
    assert np.array_equal(rounded[exact], nearest[exact])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_rounding_errors_cancel_within_a_channel(axis: int) -> None:
    weights = np.random.default_rng(0).standard_normal((8, 64, 3)).astype(np.float32)
    others = tuple(a for a in range(3) if a != axis % 3)

    def drift(rounded: np.ndarray) -> float:
        return float(np.abs((rounded.astype(np.float64) - weights).sum(axis=others)).max())

    rounded = round_to_half(weights, axis)
    # Never more than half a unit of the last place of the largest weight, however many there are.
    assert drift(rounded) <= float(np.spacing(np.float16(np.abs(weights).max())))
    assert drift(rounded) < drift(weights.astype(np.float16))


def test_storing_changes_weights_only_and_halves_the_file() -> None:
    model = family(QUICK[0])
    stored = store_half(model.graph)
    feeds = picture(model)
    expected = reference(model.graph, feeds)
    assert 0 < distance(expected, reference(stored, feeds)) < ROUNDING
    assert stored.ByteSize() < 0.55 * model.graph.ByteSize()
    # The same rounding in the three forms.
    assert distance(reference(stored, feeds), reference(round_weights(model.graph), feeds)) == 0
    assert distance(reference(stored, feeds), reference(widen_stored(stored), feeds)) == 0


def test_biases_are_not_rounded() -> None:
    stored = store_half(small().graph)
    found = {t.name: t.data_type for t in stored.graph.initializer}
    assert found["b1"] == TensorProto.FLOAT
    assert found["w1.half"] == TensorProto.FLOAT16


def test_storing_twice_is_storing_once() -> None:
    once = store_half(small().graph)
    assert store_half(once).SerializeToString(deterministic=True) == once.SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_families_compute_in_half(name: str) -> None:
    model = family(name)
    half = compute_half(model.graph)
    feeds = picture(model)
    assert distance(reference(model.graph, feeds), reference(half.graph, feeds)) < ROUNDING
    before = kinds(model.graph)
    after = kinds(half.graph)
    for value in (*model.graph.graph.input, *model.graph.graph.output):
        assert after[value.name] == before[value.name] == TensorProto.FLOAT
    heavy = [n for n in half.graph.graph.node if n.op_type in ("Conv", "ConvTranspose", "MatMul")]
    in_half = [n for n in heavy if after[n.output[0]] == TensorProto.FLOAT16]
    assert len(in_half) > (0.4 if name == "aimet_pose" else 0.8) * len(heavy)


def test_what_breaks_in_half_stays_float_and_is_told() -> None:
    half = compute_half(family("rtmpose_t").graph)
    kind = kinds(half.graph)
    for node in half.graph.graph.node:
        if node.op_type in ("ReduceL2", "Div", "GlobalAveragePool", "Max"):
            assert kind[node.output[0]] == TensorProto.FLOAT, node.op_type
        if node.op_type == "Mul" and node.input[0] == node.input[1]:
            assert kind[node.output[0]] == TensorProto.FLOAT
    told = " ".join(half.kept)
    assert all(word in told for word in ("ReduceL2", "Div", "GlobalAveragePool", "last layer"))


def chain(scale: float, weights: np.ndarray | None = None) -> onnx.ModelProto:
    """Six convolutions 1 x 1; the second gives values of about ``scale``."""
    rng = np.random.default_rng(3)
    build = GraphBuilder("chain")
    x = build.input("x", (1, 4, 16, 16))
    for i in range(6):
        w = rng.standard_normal((4, 4, 1, 1)).astype(np.float32) / 2
        if i == 1:
            w = w * np.float32(scale) if weights is None else weights
        if i == 2:
            w = w / np.float32(scale)
        x = build.op("Conv", x, build.constant(w, f"w{i}"))
    build.output(x, "y", (1, 4, 16, 16))
    return build.build()


def test_activations_beyond_the_range_stay_float() -> None:
    graph = chain(1e6)
    half = compute_half(chain(1.0))
    large = compute_half(graph)
    assert sum("range of float16" in k for k in half.kept) == 0
    assert any("range of float16" in k for k in large.kept)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 16, 16)).astype(np.float32)}
    assert distance(reference(graph, feeds), reference(large.graph, feeds)) < ROUNDING


def test_weights_beyond_the_range_are_stored_as_they_are() -> None:
    weights = np.full((4, 4, 1, 1), 1e5, np.float32)
    stored = {t.name: t.data_type for t in store_half(chain(1.0, weights)).graph.initializer}
    assert stored["w1"] == TensorProto.FLOAT
    assert stored["w0.half"] == TensorProto.FLOAT16
    not_finite = store_half(chain(1.0, np.full((4, 4, 1, 1), np.inf, np.float32)))
    assert "w1.half" not in {t.name for t in not_finite.graph.initializer}


def test_coordinates_behind_the_last_layer_are_not_rounded() -> None:
    build = GraphBuilder("coordinates")
    x = build.input("x", (1, 2, 8, 8))
    rng = np.random.default_rng(0)
    for i in range(3):
        x = build.op("Conv", x, build.constant(rng.standard_normal((2, 2, 1, 1)).astype(np.float32), f"w{i}"))
    x = build.op("Add", build.op("Mul", x, build.constant(np.float32(0))), build.constant(np.float32(2049.25)))
    build.output(x, "y", (1, 2, 8, 8))
    graph = compute_half(build.build()).graph
    found = reference(graph, {"x": np.ones((1, 2, 8, 8), np.float32)})["y"]
    assert np.all(found == np.float32(2049.25))


def test_a_graph_without_anything_for_half_is_refused() -> None:
    build = GraphBuilder("tiny")
    x = build.op("Relu", build.input("x", (1, 2, 8, 8)))
    build.output(x, "y", (1, 2, 8, 8))
    with pytest.raises(GraphError, match="Nothing of this graph"):
        compute_half(build.build())


def test_control_flow_is_refused() -> None:
    graph = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] a) { a = Relu(x) },
                    else_branch = e () => (float[2] b) { b = Neg(x) }>
    }"""
    )
    with pytest.raises(GraphError, match="If holds a graph"):
        compute_half(graph)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_any_chain_of_layers_stays_close(seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = GraphBuilder("chain")
    x = build.input("x", (1, 4, 16, 16))
    for i in range(5):
        w = (rng.standard_normal((4, 4, 3, 3)) / 6).astype(np.float32)
        y = build.op("Conv", x, build.constant(w, f"w{i}"), pads=[1] * 4)
        kind = rng.integers(6)
        if kind == 0:
            y = build.op("Add", y, x)
        elif kind == 1:
            y = build.op("Mul", y, build.op("Sigmoid", y))
        elif kind == 2:
            y = build.op("Mul", y, build.op("Sigmoid", build.op("GlobalAveragePool", y)))
        elif kind == 3:
            y = build.op("Div", y, build.op("Max", build.op("ReduceL2", y, axes=[1]), build.constant(np.float32(1e-3))))
        elif kind == 4:
            y = build.op("Clip", y, build.constant(np.float32(0)), build.constant(np.float32(6)))
        x = y
    build.output(x, "y", (1, 4, 16, 16))
    graph = build.build()
    feeds = {"x": rng.standard_normal((1, 4, 16, 16)).astype(np.float32)}
    found = reference(compute_half(graph).graph, feeds)
    assert distance(reference(graph, feeds), found) < 2 * ROUNDING
