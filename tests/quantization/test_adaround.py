"""Learned rounding."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from repair_networks import Net, constant, heatmaps, nets, outputs, pictures, trained

from edgepose.errors import InputError
from edgepose.fitting import to_tensor
from edgepose.graph.draft import Draft
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.adaround import adaround, round_matrix
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.patches import matrix_form
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme
from edgepose.quantization.tapping import Taps, batches
from edgepose.quantization.weights import quantise_weights

PER_TENSOR = Scheme(per_channel=False)


def _layer(node: onnx.NodeProto, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return Runner(model).run({"x": x})["y"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[onnx.NodeProto, tuple[int, ...]]:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, inner, out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel, strides, dilations = draw(pair), draw(pair), draw(pair)
    reach = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
    pads = [draw(st.integers(0, r)) for r in (*reach, *reach)]
    kind = draw(st.sampled_from(["Conv", "ConvTranspose"]))
    more = {"output_padding": [draw(st.integers(0, s - 1)) for s in strides]} if kind == "ConvTranspose" else {}
    node = helper.make_node(
        kind,
        ["x", "w"],
        ["y"],
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        group=groups,
        **more,
    )
    shape = (groups * out, inner) if kind == "Conv" else (groups * inner, out)
    return node, (*shape, *kernel)


@settings(deadline=None)
@given(convolutions(), st.integers(0, 1000))
def test_a_convolution_is_a_product_of_matrices(layer, seed: int) -> None:
    node, shape = layer
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal(shape).astype(np.float32)
    form = matrix_form(node, weight)
    assert form is not None
    channels = shape[0] if node.op_type == "ConvTranspose" else shape[1] * form.groups
    x = rng.standard_normal((2, channels, 8, 9)).astype(np.float32)
    y = _layer(node, weight, x)
    matrix = form.matrix(weight)
    np.testing.assert_array_equal(form.weight(matrix), weight)
    assert form.positions(x) == y.shape[0] * y.shape[2] * y.shape[3]
    seen = form.patches(x, np.arange(form.positions(x)))
    found = np.concatenate(list(matrix @ seen.swapaxes(1, 2)))
    np.testing.assert_allclose(found, y.transpose(1, 0, 2, 3).reshape(found.shape), atol=1e-4)


@pytest.mark.parametrize(("kind", "options"), [("MatMul", {}), ("Gemm", {}), ("Gemm", {"transB": 1})])
def test_a_product_is_one(kind: str, options: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    node = helper.make_node(kind, ["x", "w"], ["y"], **options)
    weight = rng.standard_normal((3, 5) if options else (5, 3)).astype(np.float32)
    x = rng.standard_normal((4, 5)).astype(np.float32)
    form = matrix_form(node, weight)
    assert form is not None
    matrix = form.matrix(weight)
    np.testing.assert_array_equal(form.weight(matrix), weight)
    seen = form.patches(x, np.arange(form.positions(x)))
    np.testing.assert_allclose((seen @ matrix.swapaxes(1, 2))[0], _layer(node, weight, x), atol=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 2), st.integers(1, 3), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_rounding_lies_between_the_nearest_and_the_best_of_all(seed: int, groups: int, out: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((groups, out, size))
    mix = rng.standard_normal((groups, size, 12))
    moments = mix @ mix.swapaxes(1, 2) / 12
    target = matrix @ moments
    steps = np.full((groups, out), 0.3)
    learned = round_matrix(matrix, steps, moments, target)
    damping = 0.01 * np.trace(moments, axis1=1, axis2=2) / size

    def error(values: np.ndarray, g: int, o: int) -> float:
        difference = values * steps[g, o] - matrix[g, o]
        return float(difference @ (moments[g] + damping[g] * np.eye(size)) @ difference)

    low = np.floor(matrix / 0.3)
    assert np.all((learned == low) | (learned == low + 1))
    for g, o in product(range(groups), range(out)):
        nearest = error(np.rint(matrix[g, o] / 0.3), g, o)
        best = min(error(low[g, o] + np.array(up), g, o) for up in product((0, 1), repeat=size))
        assert best - 1e-12 <= error(learned[g, o], g, o) <= nearest + 1e-12


def _with(model: PoseModel, rounding: dict[str, np.ndarray] | None) -> PoseModel:
    """The network with int8 weights, nothing else quantised."""
    draft = Draft(model.graph)
    for node in draft.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            weight = draft.constant(node.input[1])
            assert weight is not None
            chosen = None if rounding is None else rounding.get(node.output[0])
            draft.put_constant(node.input[1], quantise_weights(weight, None, rounding=chosen).dequantised())
    return PoseModel(draft.finish(), model.spec)


@settings(max_examples=10, deadline=None)
@given(nets(spreads=(1.0,)))
def test_every_layer_gets_int8_weights_that_are_neighbours(model) -> None:
    rounding = adaround(model, pictures(4), PER_TENSOR)
    layers = {n.output[0]: n.input[1] for n in model.graph.graph.node if n.op_type in ("Conv", "ConvTranspose")}
    assert rounding.keys() == layers.keys()
    for name, values in rounding.items():
        weight = constant(model, layers[name])
        scale = quantise_weights(weight, None).scales
        assert values.dtype == np.int8
        assert np.abs(values - weight / scale).max() <= 1.001


def test_the_output_is_nearer_on_other_pictures() -> None:
    errors = {"nearest": 0.0, "learned": 0.0}
    for seed in range(4):
        net = Net(seed, spread=1.5)
        for i in range(4):
            net.conv(12, name=f"layer{i}")
            net.op("Relu")
        net.conv(4, 1, name="head")
        model = net.build()
        rounding = adaround(model, pictures(16), PER_TENSOR)
        other = {"data": to_tensor(np.concatenate(pictures(8, seed=77)), model.spec.input)}
        wanted = Runner(model.graph).run(other)["heatmaps"]
        for kind, chosen in (("nearest", None), ("learned", rounding)):
            found = Runner(_with(model, chosen).graph).run(other)["heatmaps"]
            errors[kind] += float(np.square(found - wanted).mean() / np.square(wanted).mean())
    assert errors["learned"] < 0.7 * errors["nearest"]


def test_the_emitter_takes_it() -> None:
    net = Net(2)
    net.conv(8, name="first")
    net.op("Relu")
    net.deconv(4, name="second")
    net.conv(4, 1, name="head")
    model = net.build()
    (feed,) = batches(model, pictures(2))
    seen = Taps(model.graph, ["data", *(o for n in model.graph.graph.node for o in n.output)]).run(feed)
    ranges = Ranges({name: (float(v.min()), float(v.max())) for name, v in seen.items()}, "naive")
    for scheme in (Scheme(), PER_TENSOR, Scheme(deconvolution="subpixel")):
        rounding = adaround(model, pictures(), scheme)
        quantised = quantize_model(model, ranges, scheme, (), rounding)
        assert set(quantised.kept) == {"heatmaps"}
        plain, learned = (outputs(quantize_model(model, ranges, scheme, (), r).model) for r in (None, rounding))
        assert np.any(plain != learned)
        reference = outputs(model)
        assert np.abs(learned - reference).mean() < 0.05 * np.abs(reference).max()


def test_only_the_named_layers_are_rounded() -> None:
    net = Net(3)
    net.conv(8, name="first")
    net.op("Relu")
    net.conv(4, name="second")
    model = net.build()
    assert set(adaround(model, pictures(), PER_TENSOR, ["heatmaps"])) == {"heatmaps"}
    with pytest.raises(InputError, match="no samples"):
        adaround(model, [], PER_TENSOR)


def test_a_trained_network_is_nearer_on_other_people(reference: Path) -> None:
    """With one scale for each weight, on people of the validation set."""
    model, train, val = trained(reference)
    rounding = adaround(model, train, PER_TENSOR)
    assert len(rounding) == sum(n.op_type in ("Conv", "ConvTranspose") for n in model.graph.graph.node)
    wanted, nearest, learned = (heatmaps(m, val) for m in (model, _with(model, None), _with(model, rounding)))
    assert np.square(learned - wanted).mean() < 0.7 * np.square(nearest - wanted).mean()
