"""MindIR with weights of eight bits, and the configuration for INT8 on Ascend beside it."""

from __future__ import annotations

import configparser
import json
from pathlib import Path
from typing import Any

import cv2
import mindir_samples as samples
import numpy as np
import onnx
import pytest
import target_networks
from edgepose_converters.mindir import fixed_graph
from edgepose_converters.mindir.file import mindir_pieces
from edgepose_converters.mindir.full_quant import CONFIG, PACKAGE, full_quant_config
from edgepose_converters.mindir.int8_weights import store_int8
from edgepose_converters.mindir.operators import lower
from mindir_reader import MindIr

from edgepose.devices import Device
from edgepose.errors import ConversionError, InputError
from edgepose.graph.feeds import Trial, random_feeds
from edgepose.graph.running import Runner
from edgepose.plugins import converter, runtime
from edgepose.sample import sample_picture


def written(graph: onnx.ModelProto) -> MindIr:
    return MindIr(b"".join(mindir_pieces(lower(graph, keep_stored=True))))


def outputs(graph: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    return Runner(graph).run(feeds)


def layered() -> onnx.ModelProto:
    """One of each operator that has weights."""
    nodes = [
        samples.node("Conv", "x w1 b1", "a", pads=[1] * 4),
        samples.node("ConvTranspose", "a w2", "b", strides=[2, 2], pads=[1] * 4),
        samples.node("Conv", "b w3", "c", group=6),
        samples.node("Reshape", "c shape", "d"),
        samples.node("Gemm", "d w4 b4", "e", transB=1),
        samples.node("Gemm", "d w5", "f"),
        samples.node("MatMul", "e w6", "g"),
        samples.node("Concat", "f g", "y", axis=1),
    ]
    arrays = {
        "w1": samples.random(5, 3, 3, 3), "b1": samples.random(5), "w2": samples.random(5, 6, 4, 4),
        "w3": samples.random(6, 1, 1, 1), "shape": np.array([1, -1]), "w4": samples.random(7, 384),
        "b4": samples.random(7), "w5": samples.random(384, 4), "w6": samples.random(7, 2),
    }  # fmt: skip
    return samples.model(nodes, {"x": (1, 3, 4, 4)}, ["y"], arrays)


def test_each_weight_is_a_byte_within_half_a_step_of_its_channel() -> None:
    graph = layered()
    stored = store_int8(graph)
    assert set(stored.names) == {"w1", "w2", "w3", "w4", "w5", "w6"}
    before = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in stored.graph.graph.initializer}
    channels = {"w1": 0, "w2": 1, "w3": 0, "w4": 0, "w5": 1, "w6": 1}
    for name, axis in channels.items():
        codes, scale = after[f"{name}.{axis}.bytes"], after[f"{name}.{axis}.scale"]
        assert codes.dtype == np.uint8
        assert codes.min() >= 1
        others = tuple(a for a in range(codes.ndim) if a != axis)
        # Each channel uses all that a byte can say: its largest weight is the last step.
        assert (np.abs(codes.astype(int) - 128).max(axis=others) == 127).all()
        widened = (codes.astype(np.float32) - 128) * scale
        assert (np.abs(widened - before[name]) <= 0.5001 * scale).all()


def test_all_layers_keep_what_they_compute() -> None:
    stored = store_int8(layered()).graph
    file = written(stored)
    feeds = random_feeds(stored, Trial(3, 1, (64, 64)))
    wanted, given = outputs(stored, feeds)["y"], outputs(file.as_onnx(), feeds)["y"]
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", target_networks.QUICK)
def test_a_quarter_of_the_size_and_the_same_results(name: str) -> None:
    graph = fixed_graph(target_networks.family(name).graph)
    stored = store_int8(graph).graph
    data = b"".join(mindir_pieces(lower(stored, keep_stored=True)))
    file = MindIr(data)
    assert {a.dtype for a in file.parameters.values() if a.ndim == 4 and a.size > a.shape[0]} == {np.dtype(np.uint8)}
    assert len(data) < 0.35 * len(b"".join(mindir_pieces(lower(graph))))
    feeds = random_feeds(stored, Trial(3, 1, (64, 64)))
    wanted, given = outputs(stored, feeds), outputs(file.as_onnx(), feeds)
    assert target_networks.distance(wanted, given) < 1e-5


def test_channels_of_zeros_and_tiny_weights_stay_finite() -> None:
    weights = np.zeros((3, 2, 1, 1), np.float32)
    weights[1], weights[2] = 1e-40, 3e38
    graph = samples.model([samples.node("Conv", "x w", "y")], {"x": (1, 2, 4, 4)}, ["y"], {"w": weights})
    stored = store_int8(graph).graph
    found = outputs(written(stored).as_onnx(), {"x": np.full((1, 2, 4, 4), 0.1, np.float32)})["y"]
    assert np.isfinite(found).all()
    assert not found[:, 0].any()
    np.testing.assert_allclose(found[:, 2], 6e37, rtol=1e-5)


def test_weights_that_are_not_numbers_are_refused() -> None:
    weights = np.full((3, 2, 1, 1), np.nan, np.float32)
    graph = samples.model([samples.node("Conv", "x w", "y")], {"x": (1, 2, 4, 4)}, ["y"], {"w": weights})
    with pytest.raises(InputError, match="not finite"):
        store_int8(graph)


def test_deconvolutions_of_single_channels_stay_float_and_are_written() -> None:
    nodes = [
        samples.node("Conv", "x w", "c", pads=[1] * 4),
        samples.node("ConvTranspose", "c k", "y", group=4, strides=[2, 2], pads=[1] * 4),
    ]
    arrays = {"w": samples.random(4, 3, 3, 3), "k": samples.random(4, 1, 4, 4)}
    graph = samples.model(nodes, {"x": (1, 3, 8, 8)}, ["y"], arrays)
    stored = store_int8(graph)
    assert stored.names == ("w",)
    feeds = random_feeds(stored.graph, Trial(3, 1, (64, 64)))
    wanted, given = outputs(stored.graph, feeds)["y"], outputs(written(stored.graph).as_onnx(), feeds)["y"]
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_computed_weights_stay_as_they_are() -> None:
    nodes = [samples.node("MatMul", "x z", "y")]
    graph = samples.model(nodes, {"x": (1, 4, 4), "z": (1, 4, 4)}, ["y"])
    stored = store_int8(graph)
    assert stored.names == ()
    assert [n.op_type for n in stored.graph.graph.node] == ["MatMul"]


@pytest.fixture
def no_mindspore(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EDGEPOSE_MINDSPORE_PYTHON", "EDGEPOSE_MSLITE_PYTHON"):
        monkeypatch.setenv(variable, "/nonexistent/python")
    monkeypatch.setenv("PATH", "/nonexistent")


def test_a_conversion_says_what_it_is_and_brings_the_configuration(no_mindspore: None, tmp_path: Path) -> None:
    model = target_networks.small()
    made = converter("mindir").convert(model, tmp_path, "int8", {"skip_quant_node": "first, last"})
    assert sorted(made.files) == sorted(p.name for p in tmp_path.iterdir()) == [CONFIG, "model.mindir"]
    assert any("no faster than FP32" in note for note in made.notes)
    assert any("not run on hardware" in note for note in made.notes)
    text = (tmp_path / CONFIG).read_text()
    assert "1 x 3 x 64 x 48" in text
    assert f"{4 * 3 * 64 * 48} bytes" in text
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert dict(parser["common_quant_param"]) == {
        "quant_type": "FULL_QUANT", "bit_num": "8", "skip_quant_node": "first,last",
    }  # fmt: skip
    assert parser["full_quant_param"]["target_device"] == "ASCEND"
    assert parser["data_preprocess_param"]["calibrate_path"] == "image:./calibration"
    assert parser["data_preprocess_param"]["input_type"] == "BIN"
    assert parser["ascend_context"]["input_shape"] == "image:[1,3,64,48]"


def test_without_nodes_to_skip_the_configuration_names_none(no_mindspore: None, tmp_path: Path) -> None:
    converter("mindir").convert(target_networks.small(), tmp_path, "int8", {})
    assert "skip_quant_node" not in (tmp_path / CONFIG).read_text()


def test_with_a_calibration_set_all_that_ascend_takes_lies_together(no_mindspore: None, tmp_path: Path) -> None:
    picture, boxes = sample_picture()
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture // number)
    corners = np.asarray(boxes)[:, :4].tolist()
    people = [
        {"id": 10 * number + i, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 17, "area": 900.0}
        | {"bbox": [x0, y0, x1 - x0, y1 - y0], "keypoints": [x0 + 1, y0 + 1, 2] * 17}
        for i, (x0, y0, x1, y1) in enumerate(corners, 1)
        for number in (1, 2)
    ]
    height, width = picture.shape[:2]
    images = [{"id": n, "file_name": f"{n}.png", "height": height, "width": width} for n in (1, 2)]
    labels = tmp_path / "people.json"
    labels.write_text(json.dumps({"images": images, "annotations": people, "categories": [{"id": 1}]}))
    model, out = target_networks.family("mobile_pose_mobilenetv3_small"), tmp_path / "out"
    out.mkdir()
    last = model.graph.graph.node[-1]
    options = {"calibration": str(labels), "images": str(tmp_path), "skip_quant_node": last.name or last.output[0]}
    made = converter("mindir").convert(model, out, "int8", options)
    assert sorted(made.files) == sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    package = out / PACKAGE
    parser = configparser.ConfigParser()
    parser.read_string((package / CONFIG).read_text())
    inputs = sorted((package / "calibration").iterdir())
    assert parser["data_preprocess_param"]["calibrate_size"] == str(len(inputs))
    assert len(inputs) == 2 * len(boxes) > 0
    graph = onnx.load(package / "network.onnx")
    assert parser["common_quant_param"]["skip_quant_node"] in {n.name for n in graph.graph.node}
    # Each file is what the network is fed, and the network there is the float one.
    feeds = {model.spec.input.name: np.fromfile(inputs[0], "<f4").reshape(1, 3, 256, 192)}
    exact = outputs(model.graph, feeds)
    assert target_networks.distance(exact, outputs(graph, feeds)) < 1e-5
    assert 0.5 < np.abs(feeds[model.spec.input.name]).max() < 5


def test_nodes_to_skip_that_are_not_there_are_named(no_mindspore: None, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8))
    options = {"calibration": str(tmp_path / "a.png"), "skip_quant_node": "nowhere"}
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(ConversionError, match="no node nowhere"):
        converter("mindir").convert(target_networks.small(), out, "int8", options)


@pytest.mark.parametrize("name", ["two\nlines", "a:b", "a,b", "[section]", "#", " "])
def test_names_that_would_break_the_configuration_are_refused(name: str) -> None:
    graph = fixed_graph(target_networks.small().graph)
    with pytest.raises(ConversionError, match="cannot stand in a configuration"):
        full_quant_config(graph, (name,))


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("fp32", {"skip_quant_node": "a"}, "is for INT8"),
        ("fp16", {"calibration": "pictures"}, "is for INT8"),
        ("int8", {"via": "mslite"}, "INT8 files do not run"),
        ("int8", {"mindir_version": 3}, "written by MindSpore, which is not here"),
        ("int8", {"skip_quant_node": "a=b"}, "cannot stand in a configuration"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(
    no_mindspore: None, tmp_path: Path, precision: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        converter("mindir").convert(target_networks.small(), tmp_path, precision, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.conformance
@pytest.mark.parametrize("version", [1, 3])
@pytest.mark.parametrize("engine", ["mindspore-lite", "mindspore"])
@pytest.mark.parametrize("name", [*target_networks.QUICK, *target_networks.SLOW])
def test_mindspore_runs_it(name: str, engine: str, version: int, tmp_path: Path) -> None:
    if (engine, version) == ("mindspore-lite", 3):
        pytest.skip("MindSpore Lite 2.0 reads version 1 only")
    found = runtime(engine)
    if not found.probe().available:
        pytest.skip(f"{found.probe().looked_for} needed: {found.probe().remedy}")
    model = target_networks.family(name)
    made = converter("mindir").convert(model, tmp_path, "int8", {"mindir_version": version})
    graph = store_int8(fixed_graph(model.graph)).graph
    feeds = random_feeds(graph, Trial(4, 1, (64, 64)))
    session = found.open(tmp_path / made.engine, Device("cpu"), {})
    try:
        given = session.run(feeds)
    finally:
        session.close()
    assert target_networks.distance(outputs(graph, feeds), given) < 3e-5
