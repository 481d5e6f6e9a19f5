"""``edgepose eval --simulate``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.graph.builder import GraphBuilder
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.aimet_config import PRESETS
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

Call = Callable[..., object]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network that answers with blurred grey levels: heatmaps without sense, but no constants."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("net", 17)
    x = builder.input("data", ("batch", 3, 64, 48))
    for i, (fed, out) in enumerate(((3, 8), (8, 17))):
        weight = builder.constant((rng.standard_normal((out, fed, 3, 3)) / 5).astype(np.float32), f"layer{i}.weight")
        bias = builder.constant(rng.standard_normal(out).astype(np.float32), f"layer{i}.bias")
        x = builder.op("Conv", x, weight, bias, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
        x = builder.op("Relu", x) if i == 0 else x
    builder.output(x, "heatmaps", ("batch", 17, 16, 12))
    entry = InputSpec("data", 64, 48, Crop(), std=(255.0, 255.0, 255.0))
    spec = PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
    return PoseModel(builder.build(), spec).save(tmp_path / "net.onnx")


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    """Six annotated pictures of noise."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "pictures"
    folder.mkdir()
    images, people = [], []
    for i in range(1, 7):
        coarse = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
        images.append({"id": i, "file_name": f"{i}.png", "width": 160, "height": 120})
        keypoints = [v for k in range(17) for v in (40 + 3 * k, 30 + 2 * k, 2)]
        box = [30, 20, 80, 90]
        people.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "bbox": box,
                "area": 5000.0,
                "iscrowd": 0,
                "num_keypoints": 17,
                "keypoints": keypoints,
            }
        )
    path = tmp_path / "people.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.names), "skeleton": []}
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return path, folder


def _arguments(model: Path, data: tuple[Path, Path]) -> list[object]:
    return ["eval", model, "--annotations", data[0], "--images", data[1], "--boxes", "gt"]


def _calibrated(data: tuple[Path, Path]) -> list[object]:
    return ["--calibration", data[0], "--calibration-images", data[1]]


def test_float_and_simulated_accuracy_stand_side_by_side(edgepose, model, data, tmp_path) -> None:
    report = tmp_path / "report.json"
    arguments = [*_arguments(model, data), "--simulate", "aimet-w8a8", *_calibrated(data), "--calibrate-on", 4]
    done = edgepose(*arguments, "--limit", 3, "--json", report)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0].split() == ["float", "simulated"]
    assert "3 images" in done.out
    found = json.loads(report.read_text())
    assert found["protocol"]["images"] == 3
    simulated = found["simulated"]
    assert set(simulated) - {"simulation"} == set(found) - {"protocol", "simulated"}
    assert simulated["simulation"]["configuration"] == "aimet-w8a8"
    assert simulated["simulation"]["calibration"][0]["samples"] == 4


def test_coarse_grids_change_the_results_and_repairs_are_taken(edgepose, model, data, tmp_path) -> None:
    path = tmp_path / "three.json"
    path.write_text(json.dumps({**PRESETS["w4a8"], "default_param_bw": 3, "default_output_bw": 3}))
    found = {}
    repairs = {"none": [], "all": ["--settle-dead-channels", "--equalise", "--fold-high-biases", "--correct-biases"]}
    plain = tmp_path / "plain.json"
    assert edgepose(*_arguments(model, data), "--results", plain).code == 0
    for name, options in repairs.items():
        results, report = tmp_path / f"{name}.results", tmp_path / f"{name}.json"
        more = ["--simulate", path, *_calibrated(data), *options, "--results", results, "--json", report]
        assert edgepose(*_arguments(model, data), *more).code == 0
        found[name] = json.loads(results.read_text())
        simulation = json.loads(report.read_text())["simulated"]["simulation"]
        assert simulation["equalised"] == simulation["biases_corrected"] == (name == "all")
    keypoints = [np.array([r["keypoints"] for r in f]) for f in (json.loads(plain.read_text()), *found.values())]
    assert not np.array_equal(keypoints[0], keypoints[1])
    assert not np.array_equal(keypoints[1], keypoints[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--simulate", "aimet-w8a8"], "--calibration"),
        (["--simulate", "w9a9", "--calibration", "."], "w9a9"),
        (["--equalise"], "--simulate"),
        (["--simulate", "w4a8", "--calibration", ".", "--device", "jetson"], "ONNX Runtime"),
    ],
)
def test_wrong_usage_is_told(edgepose, model, data, options, message: str) -> None:
    done = edgepose(*_arguments(model, data), *options)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_what_is_no_float_graph_is_refused(edgepose, model, data, tmp_path) -> None:
    bundle = tmp_path / "half"
    assert edgepose("convert", model, "--to", "onnx", "--precision", "fp16", "-o", bundle).code == 0
    done = edgepose(*_arguments(bundle, data), "--simulate", "aimet-w8a8", *_calibrated(data))
    assert done.code == 2
    assert "float32 ONNX graph" in done.err
