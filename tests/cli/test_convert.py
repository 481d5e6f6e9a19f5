"""edgepose convert, and edgepose info on checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgepose as package
from edgepose.bundle import read_bundle
from edgepose.checkpoints import read_checkpoint
from edgepose.golden import read_golden
from edgepose.graph.check import compare
from edgepose.model import PoseModel

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"
ULTRALIGHT = {
    "input": {
        "name": "data",
        "height": 256,
        "width": 192,
        "mean": [123.675, 116.28, 103.53],
        "std": [58.395, 57.12, 57.375],
        "fit": {"kind": "crop"},
    },
    "decoder": {"type": "heatmap", "outputs": {"heatmaps": "hybridsequential0_conv7_fwd"}},
    "keypoints": "coco17",
}


@pytest.fixture
def ultralight_spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(ULTRALIGHT))
    return path


def test_lightweight_openpose_with_no_option_given(edgepose: Call, reference: Path, tmp_path: Path) -> None:
    weights = reference / "data/weights/lightweight_openpose/lightweight_openpose.pth"
    done = edgepose("convert", weights, "--to", "onnx", "-o", tmp_path / "bundle")
    assert done.code == 0, done.err
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.manifest.source["checkpoint"] == weights.name
    assert len(bundle.manifest.source["sha256"]) == 64
    assert bundle.manifest.stages[0].spec.decoder.type == "openpose"
    assert len(read_golden(bundle.path("golden.npz"))) == 1
    found = edgepose("run", PARK, "--model", tmp_path / "bundle", "--json", "-")
    (line,) = found.out.splitlines()
    noses = sorted(person["keypoints"][0][:2] for person in json.loads(line)["persons"][:2])
    # Read off the picture by eye; at height 256 a pixel of the network is three of the picture.
    np.testing.assert_allclose(noses, [[458, 90], [868, 405]], atol=20)


def test_mxnet_pair_equals_its_onnx_twin(
    edgepose: Call, reference: Path, tmp_path: Path, ultralight_spec: Path
) -> None:
    folder = reference / "data/weights/ultralight_simplepose"
    for source, target in {"Ultralight-Nano-SimplePose.params": "pair.onnx", "deploy.onnx": "twin.onnx"}.items():
        done = edgepose("convert", folder / source, "--to", "onnx", "--spec", ultralight_spec, "-o", tmp_path / target)
        assert done.code == 0, done.err
    pair, twin = (PoseModel.from_onnx(tmp_path / name) for name in ("pair.onnx", "twin.onnx"))
    differences = compare(twin.graph, pair.graph)
    assert max(d.relative for d in differences) < 1e-4
    arrays = read_checkpoint(folder / "Ultralight-Nano-SimplePose.params").arrays
    original = {i.name: numpy_helper.to_array(i) for i in onnx.load(folder / "deploy.onnx").graph.initializer}
    assert len(arrays) == 291
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, original[name])


def test_a_top_down_bundle_runs_with_the_embedded_detector(
    edgepose: Call, reference: Path, tmp_path: Path, ultralight_spec: Path
) -> None:
    source = reference / "data/weights/ultralight_simplepose/Ultralight-Nano-SimplePose.json"
    assert edgepose("convert", source, "--to", "onnx", "--spec", ultralight_spec, "-o", tmp_path / "ul").code == 0
    found = edgepose("run", PARK, "--model", tmp_path / "ul", "--detector", "fast", "--json", tmp_path / "x.jsonl")
    assert found.code == 0, found.err
    persons = json.loads((tmp_path / "x.jsonl").read_text())["persons"]
    assert len(persons) == 2
    again = edgepose("run", PARK, "--model", tmp_path / "ul", "--boxes", tmp_path / "x.jsonl", "--json", "-")
    for ours, others in zip(json.loads(again.out)["persons"], persons, strict=True):
        np.testing.assert_allclose(ours["keypoints"], others["keypoints"], atol=1e-3)


def test_an_unsafe_pickle_is_refused_by_name(edgepose: Call, reference: Path, tmp_path: Path) -> None:
    path = reference / "data/weights/formats/unsafe_pickle_EfficientPoseRT.pth"
    for arguments in (["info", path], ["convert", path, "--to", "onnx", "-o", tmp_path / "x"]):
        done = edgepose(*arguments)
        assert done.code == 2
        assert "MainModel.KitModel" in done.err
    assert not (tmp_path / "x").exists()


def test_an_unknown_network_is_described(edgepose: Call, reference: Path, tmp_path: Path) -> None:
    path = reference / "data/weights/formats/posenet_mobilenet_v1_050.pth"
    done = edgepose("convert", path, "--to", "onnx", "-o", tmp_path / "x")
    assert done.code == 2
    assert "62 arrays" in done.err
    assert "MobileNet v1" in done.err
    assert not (tmp_path / "x").exists()


def test_info_on_a_checkpoint_builds_nothing(edgepose: Call, reference: Path) -> None:
    path = reference / "fixtures/gluoncv_aimet/mobile_pose_mobilenetv3_small.params"
    report = json.loads(edgepose("info", path, "--json").out)
    assert report["format"] == "mxnet-params"
    assert report["architecture"] == "mobile_pose_mobilenetv3_small"
    assert report["arrays"] == 223
    assert report["missing"] == report["misshaped"] == report["unexpected"] == {}
    text = edgepose("info", path).out
    assert "mobile_pose_mobilenetv3_small" in text
    assert "coco17: 17" in text


def foreign(path: Path) -> Path:
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=1),
        helper.make_node("Identity", ["y"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, 64, 48])],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["batch", 1, 64, 48])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


SPOT = {
    "input": {"name": "x", "height": 64, "width": 48, "fit": {"kind": "crop"}},
    "decoder": {"type": "heatmap", "outputs": {"heatmaps": "z"}},
    "keypoints": {"name": "spot", "names": ["spot"]},
}


def test_a_foreign_graph_gets_its_spec(edgepose: Call, tmp_path: Path) -> None:
    graph, spec = foreign(tmp_path / "f.onnx"), tmp_path / "spec.json"
    assert "--spec" in edgepose("convert", graph, "--to", "onnx", "-o", tmp_path / "o").err
    spec.write_text(json.dumps(SPOT))
    for opset in ("11", "17", "21"):
        target = tmp_path / f"o{opset}.onnx"
        done = edgepose("convert", graph, "--to", "onnx", "--spec", spec, "--opset", opset, "-o", target)
        assert done.code == 0, done.err
        assert onnx.load(target).opset_import[0].version == int(opset)
        assert [n.op_type for n in onnx.load(target).graph.node] == ["ReduceMax"]
        assert edgepose("info", target, "--json").code == 0
    again = edgepose("convert", tmp_path / "o17.onnx", "--to", "onnx", "--batch", "2", "-o", tmp_path / "fixed.onnx")
    assert again.code == 0, again.err
    assert package.load(tmp_path / "fixed.onnx").stages[-1].batch == 2


def test_embedded_graphs_give_the_same_people(edgepose: Call, tmp_path: Path) -> None:
    graph, spec = foreign(tmp_path / "f.onnx"), tmp_path / "spec.json"
    spec.write_text(json.dumps(SPOT))
    persons = {}
    for parts in ("none", "pre", "post", "pre,post"):
        target = tmp_path / parts
        done = edgepose("convert", graph, "--to", "onnx", "--spec", spec, "--embed", parts, "-o", target)
        assert done.code == 0, done.err
        stage = read_bundle(target).manifest.stages[0]
        assert (stage.spec.input.dtype == "uint8") == ("pre" in parts)
        assert (stage.spec.decoder.type == "keypoints") == ("post" in parts)
        persons[parts] = json.loads(edgepose("run", PARK, "--model", target, "--json", "-").out)["persons"]
    assert len(persons["none"]) == 2
    for found in persons.values():
        for ours, others in zip(found, persons["none"], strict=True):
            np.testing.assert_allclose(ours["keypoints"], others["keypoints"], atol=1e-3)
    assert edgepose("convert", graph, "--to", "onnx", "--spec", spec, "--embed", "all").code == 2


def test_another_input_size(edgepose: Call, reference: Path, tmp_path: Path, ultralight_spec: Path) -> None:
    folder = reference / "data/weights/ultralight_simplepose"
    for source in ("Ultralight-Nano-SimplePose.params", "deploy.onnx"):
        target = tmp_path / f"{source}.onnx"
        done = edgepose(
            *("convert", folder / source, "--to", "onnx", "--spec", ultralight_spec),
            *("--input-size", "128x96", "-o", target),
        )
        assert done.code == 0, done.err
        model = PoseModel.from_onnx(target)
        assert (model.spec.input.height, model.spec.input.width) == (128, 96)
        shape = model.graph.graph.input[0].type.tensor_type.shape.dim
        assert [d.dim_value for d in shape][2:] == [128, 96]
        assert edgepose("run", PARK, "--model", target).code == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decoder": {"type": "heatmap", "outputs": {"heatmaps": "nope"}}}, "nope"),
        ({"input": {**SPOT["input"], "name": "nope"}}, "nope"),  # type: ignore[dict-item]
        ({"input": {**SPOT["input"], "width": 64}}, "48"),  # type: ignore[dict-item]
        ({"decoder": {"type": "heatmapp", "outputs": {"heatmaps": "z"}}}, "Did you mean 'heatmap'"),
        ({"decoder": {"type": "heatmap", "outputs": {"heatmaps": "z"}, "options": {"refin": 1}}}, "refin"),
    ],
)
def test_a_spec_that_does_not_fit(edgepose: Call, tmp_path: Path, change: dict[str, object], words: str) -> None:
    graph, spec = foreign(tmp_path / "f.onnx"), tmp_path / "spec.json"
    spec.write_text(json.dumps({**SPOT, **change}))
    done = edgepose("convert", graph, "--to", "onnx", "--spec", spec, "-o", tmp_path / "o")
    assert done.code == 2
    assert words in done.err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope.pth", "--to", "onnx"],
        [PARK, "--to", "onnx"],
        [PARK, "--to", "caffe"],
        [PARK],
        [PARK, "--to", "onnx", "--input-size", "256"],
        [PARK, "--to", "onnx", "--batch", "0"],
        [PARK, "--to", "onnx", "--opset", "7"],
        ["/", "--to", "onnx"],
        ["/dev/null", "--to", "onnx"],
    ],
    ids=lambda a: " ".join(map(str, a[1:])) or "no target",
)
def test_wrong_use(
    edgepose: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str | Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = edgepose("convert", *arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert list(tmp_path.iterdir()) == []
