"""edgepose verify."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper

from edgepose.keypoints import KeypointSet
from edgepose.model import PoseModel
from edgepose.sample import sample_picture
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

if TYPE_CHECKING:
    from conftest import Call

SIZE = 64, 48


def brightest(path: Path, **changes: Any) -> Path:
    """A top-down network of one node: its only keypoint is where the first channel of the crop is brightest."""
    nodes = [helper.make_node("Slice", ["x", "from", "to", "axis"], ["y"])]
    values = [("from", [0]), ("to", [1]), ("axis", [1])]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 3, *SIZE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 1, *SIZE])],
        [helper.make_tensor(name, onnx.TensorProto.INT64, [1], v) for name, v in values],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = PoseSpec(
        InputSpec("x", *SIZE, Crop(), std=(255.0, 255.0, 255.0)),
        DecoderSpec("heatmap", {"heatmaps": "y"}, {"refine": "none"}),
        KeypointSet("bright", ("spot",), sigmas=(0.1,)),
    )
    spec = spec.replace(input=dataclasses.replace(spec.input, **changes))
    return PoseModel(model, spec).save(path)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Two people, each with a red spot on the chest and a blue one on the shins."""
    image, boxes = sample_picture()
    image = image // 4
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    for x1, y1, x2, y2 in boxes:
        for channel, part in ((2, 0.2), (0, 0.8)):
            squared = (columns - (x1 + x2) / 2) ** 2 + (rows - y1 - part * (y2 - y1)) ** 2
            # A spot with one brightest pixel: of a disc no place would be sure.
            spot = 255 * np.exp(-squared / (2 * 5**2))
            image[..., channel] = np.maximum(image[..., channel], spot.astype(np.uint8))
    path = tmp_path / "people.png"
    cv2.imwrite(str(path), image)
    persons = [{"box": b.tolist()} for b in boxes]
    (tmp_path / "boxes.jsonl").write_text(json.dumps({"source": path.name, "persons": persons}))
    return path


def test_the_embedded_model_against_its_golden_outputs(edgepose: Call) -> None:
    done = edgepose("verify", "--device", "cpu", "--max-shift", "0.05")
    assert done.code == 0, done.err
    assert "accurate against golden outputs" in done.out
    assert done.err == ""


def test_json(edgepose: Call, tmp_path: Path) -> None:
    done = edgepose("verify", "fast", "--device", "cpu", "--json", "-")
    assert done.code == 0
    report = json.loads(done.out)
    assert {"max", "p99", "mean", "moved"} == set(report["pixels"])
    assert report["oks"]["min"] > 0.999
    assert set(report["scores"]) == {"joints", "people"}
    assert set(report["tensors"]) == {"poses"}
    assert report["people"] == {"matched": 2, "missing": 0, "extra": 0}
    assert report["passed"] is True
    edgepose("verify", "fast", "--device", "cpu", "--json", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_swapped_channels_exceed_the_gate_and_are_blamed(edgepose: Call, picture: Path, tmp_path: Path) -> None:
    sound, swapped = brightest(tmp_path / "a.onnx"), brightest(tmp_path / "b.onnx", color="BGR")
    arguments = ["--against", sound, "--images", picture, "--boxes", tmp_path / "boxes.jsonl"]
    assert edgepose("verify", sound, *arguments, "--max-shift", "0").code == 0
    assert edgepose("verify", swapped, *arguments).code == 0
    done = edgepose("verify", swapped, *arguments, "--max-shift", "5", "--blame")
    assert done.code == 1
    assert "at most 5 px are allowed" in done.err
    assert "the first step that differs is colour: the channels are swapped" in done.out
    report = json.loads(edgepose("verify", swapped, *arguments, "--max-shift", "5", "--blame", "--json", "-").out)
    assert report["passed"] is False
    assert report["blame"]["first"]["name"] == "colour"
    # The spots lie 0.6 of the height of each person apart.
    heights = [y2 - y1 for _, y1, _, y2 in sample_picture()[1]]
    assert report["pixels"]["max"] == pytest.approx(0.6 * max(heights), abs=12)


def test_foreign_engines_with_their_specs(edgepose: Call, picture: Path, tmp_path: Path) -> None:
    for name, color in {"a": "RGB", "b": "BGR"}.items():
        own = brightest(tmp_path / f"{name}-own.onnx", color=color)
        model = PoseModel.from_onnx(own)
        del model.graph.metadata_props[:]
        onnx.save(model.graph, tmp_path / f"{name}.onnx")
        (tmp_path / f"{name}.json").write_text(model.spec.to_json())
    paths = [tmp_path / n for n in ("b.onnx", "b.json", "a.onnx", "a.json")]
    done = edgepose(
        "verify", paths[0], "--spec", paths[1], "--against", paths[2], "--against-spec", paths[3], "--blame"
    )
    assert done.code == 0, done.err
    assert "is colour" in done.out
    assert edgepose("verify", paths[0], "--against", paths[2], "--against-spec", paths[3]).code == 2


def test_a_picture_that_cannot_be_read(edgepose: Call, picture: Path, tmp_path: Path) -> None:
    sound = brightest(tmp_path / "a.onnx")
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:100])
    done = edgepose("verify", sound, "--against", sound, "--images", picture, "--images", broken)
    assert done.code == 1
    assert "broken.png" in done.err
    assert "a.onnx against a.onnx" in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["fast", "--blame"],
        ["fast", "--images", "people.png"],
        ["fast", "--against", "fast", "--boxes", "boxes.jsonl"],
        ["fast", "--against-spec", "x.json"],
        ["fast", "--max-shift", "-1"],
        ["fast", "--max-shift", "few"],
        ["fast", "--against", "nope"],
        ["fast", "--against", "fast", "--images", "nope.png"],
        ["fast", "--against", "a.onnx"],
        ["fast", "--device", "toaster"],
        ["a.onnx"],
        ["nope"],
    ],
    ids=" ".join,
)
def test_wrong_use(
    edgepose: Call, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    brightest(tmp_path / "a.onnx")
    monkeypatch.chdir(tmp_path)
    done = edgepose("verify", *arguments)
    assert done.code == 2
    assert "Traceback" not in done.err
    assert done.err
