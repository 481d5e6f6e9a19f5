"""Whole MXNet networks: the fixtures of GluonCV, and a trained pair with its ONNX twin."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepose.checkpoints import read_checkpoint
from edgepose.checkpoints.mxnet_symbol import SymbolGraph, parse_symbol
from edgepose.errors import GraphError
from edgepose.graph.check import compare
from edgepose.graph.mxnet import import_mxnet
from edgepose.graph.passes import apply, optimise
from edgepose.graph.running import Runner

QUICK = ("simple_pose_resnet18_v1b", "simple_pose_resnet50_v1d", "mobile_pose_mobilenet1.0")
QUICK += ("mobile_pose_mobilenetv2_1.0", "mobile_pose_mobilenetv3_large", "mobile_pose_mobilenetv3_small")
HEAVY = ("simple_pose_resnet50_v1b", "simple_pose_resnet101_v1b", "simple_pose_resnet152_v1b")
HEAVY += ("simple_pose_resnet101_v1d", "simple_pose_resnet152_v1d", "mobile_pose_resnet18_v1b")
HEAVY += ("mobile_pose_resnet50_v1b", "alpha_pose_resnet101_v1b_coco")
ALL = [*QUICK, *(pytest.param(name, marks=pytest.mark.conformance) for name in HEAVY)]
#: Of the largest reference value, as the fixtures state it.
TOLERANCE = 1e-4

Deployed = Callable[..., tuple[SymbolGraph, dict[str, Any]]]


@pytest.fixture(scope="module")
def gluoncv(reference: Path) -> Path:
    return reference / "fixtures" / "gluoncv_aimet"


@pytest.fixture(scope="module")
def recipe(gluoncv: Path) -> ModuleType:
    loaded = importlib.util.spec_from_file_location("gluoncv_recipe", gluoncv / "recipe.py")
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def deployed(gluoncv: Path, recipe: ModuleType) -> Deployed:
    schema = json.loads((gluoncv / "schema.json").read_text())

    def load(model: str, variant: str = "") -> tuple[SymbolGraph, dict[str, Any]]:
        names = json.loads((gluoncv / "deploy" / f"{model}-names.json").read_text())
        shapes = schema[model]["params"]
        arrays = {flat: recipe.fill(model, own, tuple(shapes[own])) for flat, own in names.items()}
        text = (gluoncv / "deploy" / f"{model}{variant}-symbol.json").read_bytes()
        return parse_symbol(text, model, 1 << 28), arrays

    return load


def relative_error(output: np.ndarray, expected: np.ndarray) -> float:
    assert output.shape == expected.shape
    return float(np.abs(output - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("model", ALL)
def test_fixture_gives_what_mxnet_gave(model: str, deployed: Deployed, gluoncv: Path, recipe: ModuleType) -> None:
    symbol, arrays = deployed(model)
    with np.load(gluoncv / "io" / f"{model}.npz") as stored:
        cases = {key: stored[key] for key in stored}
    height, width = (4 * n for n in cases["output_a"].shape[2:])
    given = cases.get("input_a")
    given = recipe.inp(model, (1, 3, height, width)) if given is None else given

    graph, ranges = import_mxnet(symbol, arrays, input_size=(height, width), batch=1)
    assert not ranges
    # Bit for bit the arrays of the file, under their names; a scale that is fixed to 1 is left out.
    plain = {name.partition(":")[2]: array for name, array in arrays.items()}
    found = {t.name: t for t in graph.graph.initializer if t.name in plain}
    assert found.keys() == plain.keys()
    assert all(numpy_helper.to_array(found[name]).tobytes() == plain[name].tobytes() for name in plain)
    optimised = optimise(graph)
    # Pixel shuffles come back together from six axes as well.
    assert not {"BatchNormalization", "Transpose"} & {n.op_type for n in optimised.graph.node}
    (output,) = Runner(optimised).run({"data": given}).values()
    assert relative_error(output, cases["output_a"]) < TOLERANCE

    # Another size, a batch of two through a dynamic one, and the oldest opset.
    graph, _ = import_mxnet(symbol, arrays, input_size=cases["input_b"].shape[2:], opset=11)
    (output,) = Runner(graph).run({"data": cases["input_b"]}).values()
    assert relative_error(output, cases["output_b"]) < TOLERANCE


@pytest.mark.parametrize("variant", ["naive", "entropy"])
def test_quantised_fixture_is_the_float_network_with_its_ranges(
    variant: str, deployed: Deployed, gluoncv: Path
) -> None:
    model = "simple_pose_resnet18_v1b"
    symbol, arrays = deployed(model, f"-quantized-{variant}")
    quantised, ranges = import_mxnet(symbol, arrays, input_size=(256, 192), batch=1)
    plain, _ = import_mxnet(deployed(model)[0], arrays, input_size=(256, 192), batch=1)
    (difference,) = compare(plain, quantised)
    assert difference.largest == 0
    with np.load(gluoncv / "deploy" / f"{model}-quantized-outputs.npz") as outputs:
        expected = outputs["output_fp32"]
    with np.load(gluoncv / "io" / f"{model}.npz") as stored:
        (output,) = Runner(quantised).run({"data": stored["input_a"]}).values()
    assert relative_error(output, expected) < TOLERANCE

    noted = {
        node.name: (float(node.attrs["min_calib_range"]), float(node.attrs["max_calib_range"]))
        for node in symbol.nodes
        if "min_calib_range" in node.attrs
    }
    assert sorted(noted.values()) == sorted(ranges.values())
    # Under the names that the values have in the float graph too.
    assert set(ranges) <= {value for node in plain.graph.node for value in node.output} | {"data"}
    assert ranges["data"] == noted["data_quantize"]
    assert ranges["batchnormcudnnoff0_fwd"] == noted["quantized_batchnormcudnnoff0_fwd"]
    assert ranges["resnetv1b_relu0_fwd"] == noted["quantized_sg_mkldnn_conv_bn_act_0"]


def test_half_precision_weights_are_widened(deployed: Deployed, gluoncv: Path) -> None:
    model = "simple_pose_resnet18_v1b"
    symbol, arrays = deployed(model)
    stored = {n: a.astype(np.float16) if n.endswith("weight") and a.ndim == 4 else a for n, a in arrays.items()}
    graph, _ = import_mxnet(symbol, stored, input_size=(256, 192), batch=1)
    with np.load(gluoncv / "io" / f"{model}_fp16.npz") as case, np.load(gluoncv / "io" / f"{model}.npz") as full:
        key = next(k for k in case if k.startswith("output"))
        given = case["input_a"] if "input_a" in case else full["input_a"]
        (output,) = Runner(graph).run({"data": given}).values()
        assert relative_error(output, case[key].astype(np.float32)) < TOLERANCE


def test_trained_pair_equals_its_onnx_twin(reference: Path) -> None:
    folder = reference / "data" / "weights" / "ultralight_simplepose"
    stem = folder / "Ultralight-Nano-SimplePose"
    checkpoint = read_checkpoint(stem.with_suffix(".params"), symbol=stem.with_suffix(".json"))
    graph, _ = import_mxnet(checkpoint.graph, checkpoint.arrays, input_size=(256, 192), batch=1)
    twin = onnx.load(folder / "deploy.onnx")
    theirs = {t.name: t for t in twin.graph.initializer}
    ours = {t.name: t for t in graph.graph.initializer}
    assert theirs.keys() == checkpoint.arrays.keys()
    for name, tensor in theirs.items():
        assert numpy_helper.to_array(ours[name]).tobytes() == numpy_helper.to_array(tensor).tobytes()
    (difference,) = compare(apply(twin), graph)
    assert difference.relative < TOLERANCE
    (difference,) = compare(apply(twin), optimise(graph, opset=11))
    assert difference.relative < TOLERANCE


def edited(reference_text: bytes, change: Callable[[dict[str, Any]], None]) -> SymbolGraph:
    document = json.loads(reference_text)
    change(document)
    return parse_symbol(json.dumps(document).encode(), "edited", 1 << 26)


def conv_symbol() -> bytes:
    def variable(name: str) -> dict[str, Any]:
        return {"op": "null", "name": name, "inputs": []}

    conv = {"kernel": "(3, 3)", "num_filter": "4", "no_bias": "True", "pad": "(1, 1)"}
    nodes = [variable("data"), variable("w"), {"op": "Convolution", "name": "conv", "attrs": conv}]
    nodes[2]["inputs"] = [[0, 0, 0], [1, 0, 0]]
    return json.dumps({"nodes": nodes, "arg_nodes": [0, 1], "heads": [[2, 0, 0]]}).encode()


WEIGHT = {"arg:w": np.ones((4, 3, 3, 3), np.float32)}


def test_a_network_of_one_layer() -> None:
    graph, _ = import_mxnet(edited(conv_symbol(), lambda d: None), WEIGHT, input_size=(8, 8))
    assert [i.name for i in graph.graph.input] == ["data"]
    assert [o.name for o in graph.graph.output] == ["conv"]


def test_channels_are_read_from_the_weight() -> None:
    grey = {"w": np.ones((4, 1, 3, 3), np.float32)}
    graph, _ = import_mxnet(edited(conv_symbol(), lambda d: None), grey, input_size=(8, 8))
    assert graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value == 1


def rename_operator(document: dict[str, Any]) -> None:
    document["nodes"][2]["op"] = "Convolutions"


def wrong_layout(document: dict[str, Any]) -> None:
    document["nodes"][2]["attrs"]["layout"] = "NHWC"


def second_output(document: dict[str, Any]) -> None:
    document["heads"] = [[2, 1, 0]]


def too_many_pads(document: dict[str, Any]) -> None:
    document["nodes"][2]["attrs"]["pad"] = "(1, 1, 1, 1, 1)"


def no_inputs(document: dict[str, Any]) -> None:
    document["nodes"][2]["inputs"] = []


def two_inputs(document: dict[str, Any]) -> None:
    document["nodes"][1]["name"] = "other_weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_operator, "operator Convolutions of node 'conv' is not supported"),
        (wrong_layout, "'conv' cannot be translated: its layout is NHWC"),
        (second_output, "Output 1 of the MXNet operator Convolution 'conv'"),
        (too_many_pads, "'conv'"),
        (no_inputs, "'conv'|has no input"),
        (two_inputs, "other_weight"),
    ],
)
def test_what_cannot_be_translated_is_named(change: Callable[[dict[str, Any]], None], says: str) -> None:
    with pytest.raises(GraphError, match=says):
        import_mxnet(edited(conv_symbol(), change), WEIGHT, input_size=(8, 8))


def test_a_wrong_weight_is_named() -> None:
    wrong = {"w": np.ones((4, 3, 3), np.float32)}
    with pytest.raises(GraphError, match=r"'conv' .* its weight 'w' has the shape \[4, 3, 3\], not \[4, 3, 3, 3\]"):
        import_mxnet(edited(conv_symbol(), lambda d: None), wrong, input_size=(8, 8))
