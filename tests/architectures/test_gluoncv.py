"""The fourteen GluonCV networks against what MXNet computed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from synthetic_weights import run

from edgepose.architectures import BuildOptions, architectures, build_network, families, identify
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop

QUICK = (
    "simple_pose_resnet18_v1b",
    "simple_pose_resnet50_v1d",
    "mobile_pose_mobilenet1.0",
    "mobile_pose_mobilenetv2_1.0",
    "mobile_pose_mobilenetv3_large",
    "mobile_pose_mobilenetv3_small",
)
HEAVY = (
    "alpha_pose_resnet101_v1b_coco",
    "simple_pose_resnet50_v1b",
    "simple_pose_resnet101_v1b",
    "simple_pose_resnet152_v1b",
    "simple_pose_resnet101_v1d",
    "simple_pose_resnet152_v1d",
    "mobile_pose_resnet18_v1b",
    "mobile_pose_resnet50_v1b",
)
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.conformance) for name in HEAVY)]


@pytest.fixture(scope="module")
def gluoncv(reference: Path) -> Path:
    return reference / "fixtures" / "gluoncv_aimet"


@pytest.fixture(scope="module")
def schema(gluoncv: Path) -> dict[str, Any]:
    return json.loads((gluoncv / "schema.json").read_text())


@pytest.fixture(scope="module")
def recipe(gluoncv: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("gluoncv_recipe", gluoncv / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stand_ins(schema: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    return {n: np.broadcast_to(np.float32(0), tuple(shape)) for n, shape in schema[name]["params"].items()}


def weights(recipe: ModuleType, schema: dict[str, Any], name: str) -> dict[str, np.ndarray]:
    return {n: recipe.fill(name, n, tuple(shape)) for n, shape in schema[name]["params"].items()}


@pytest.mark.parametrize("name", ALL)
def test_outputs_are_those_of_mxnet(name, gluoncv, schema, recipe):
    arrays = weights(recipe, schema, name)
    recorded = np.load(gluoncv / "io" / f"{name}.npz")
    cases = {"a": tuple(schema[name]["input"]), "b": recorded["input_b"].shape}
    for tag, shape in cases.items():
        image = recorded[f"input_{tag}"] if f"input_{tag}" in recorded else recipe.inp(name, shape)
        expected = recorded[f"output_{tag}"]
        network = build_network(arrays, options=BuildOptions(input_size=shape[2:]))
        heatmaps = run(network.graph, image)["heatmaps"]
        assert heatmaps.shape == expected.shape
        assert np.abs(heatmaps - expected).max() <= 1e-4 * np.abs(expected).max()


def test_half_precision_weights_are_widened(gluoncv, schema, recipe):
    name = "simple_pose_resnet18_v1b"
    arrays = weights(recipe, schema, name)
    half = {n: a.astype(np.float16) if a.ndim == 4 else a for n, a in arrays.items()}
    recorded = np.load(gluoncv / "io" / f"{name}_fp16.npz")
    plain = np.load(gluoncv / "io" / f"{name}.npz")
    for tag in ("a", "b"):
        if f"output_{tag}" not in recorded:
            continue
        image, expected = plain[f"input_{tag}"], recorded[f"output_{tag}"]
        network = build_network(half, options=BuildOptions(input_size=image.shape[2:]))
        heatmaps = run(network.graph, image)["heatmaps"]
        assert np.abs(heatmaps - expected).max() <= 1e-4 * np.abs(expected).max()


def test_every_name_list_is_recognised_as_what_it_is(schema):
    assert len(schema) == 14
    for name in schema:
        family, architecture = identify(stand_ins(schema, name))
        assert architecture == name
        assert family.name.startswith("gluoncv")


def test_every_architecture_takes_exactly_the_arrays_of_its_file(schema):
    known = {name: family for family in families() for name in family.architectures}
    for name, entry in schema.items():
        empty = known[name].build(name, {}, BuildOptions(books_only=True)).weights.expected
        assert {n: list(s) for n, s in empty.items()} == entry["params"]


def test_no_gluoncv_architecture_is_without_reference(schema):
    assert {n for n, text in architectures().items() if text.startswith("GluonCV")} == set(schema)


def test_weights_reach_the_graph_bit_for_bit_under_their_own_names(schema, recipe):
    name = "mobile_pose_mobilenetv3_small"
    arrays = weights(recipe, schema, name)
    graph = build_network(arrays).graph.graph
    held = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    for array_name, array in arrays.items():
        np.testing.assert_array_equal(held[array_name], array)


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_the_graph_is_the_same_network_in_every_opset(opset, gluoncv, schema, recipe):
    name = "mobile_pose_mobilenetv3_small"
    recorded = np.load(gluoncv / "io" / f"{name}.npz")
    network = build_network(weights(recipe, schema, name), options=BuildOptions(input_size=(128, 96), opset=opset))
    assert network.graph.opset_import[0].version == opset
    heatmaps = run(network.graph, recorded["input_b"])["heatmaps"]
    assert np.abs(heatmaps - recorded["output_b"]).max() <= 1e-4 * np.abs(recorded["output_b"]).max()


@pytest.mark.parametrize(("batch", "expected"), [(None, "batch"), (4, 4)])
def test_batch_is_dynamic_unless_it_is_given(batch, expected, schema):
    arrays = stand_ins(schema, "mobile_pose_mobilenetv3_small")
    graph = build_network(arrays, options=BuildOptions(batch=batch)).graph.graph
    for value, rest in ((graph.input[0], [3, 256, 192]), (graph.output[0], [17, 64, 48])):
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert dims == [expected, *rest]


def test_contract_of_simple_pose_and_mobile_pose(schema):
    for name in ("simple_pose_resnet18_v1b", "mobile_pose_mobilenetv2_1.0"):
        spec = build_network(stand_ins(schema, name)).spec
        assert (spec.input.height, spec.input.width, spec.input.color) == (256, 192, "RGB")
        np.testing.assert_allclose(spec.input.mean, np.array([0.485, 0.456, 0.406]) * 255)
        np.testing.assert_allclose(spec.input.std, np.array([0.229, 0.224, 0.225]) * 255)
        assert spec.input.fit == Crop(padding=1.25, convention="msra")
        assert (spec.decoder.type, dict(spec.decoder.options)) == ("heatmap", {})
        assert spec.keypoints == COCO_17


def test_contract_of_alpha_pose_has_means_in_reverse_and_no_deviation(schema):
    spec = build_network(stand_ins(schema, "alpha_pose_resnet101_v1b_coco")).spec
    assert (spec.input.height, spec.input.width, spec.input.color) == (320, 256, "RGB")
    np.testing.assert_allclose(spec.input.mean, np.array([0.406, 0.457, 0.480]) * 255)
    assert spec.input.std == (255, 255, 255)
    assert spec.input.fit == Crop(convention="alphapose")


def test_outputs_agree_with_the_graph(schema):
    network = build_network(stand_ins(schema, "simple_pose_resnet18_v1b"))
    assert network.spec.input.name == network.graph.graph.input[0].name == "input"
    assert set(network.spec.decoder.outputs.values()) == {o.name for o in network.graph.graph.output} == {"heatmaps"}
