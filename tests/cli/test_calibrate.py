"""edgepose calibrate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.aimet_files import read_encodings
from edgepose.quantization.ranges import Ranges
from edgepose.spec import DecoderSpec, InputSpec, PoseSpec, Stretch

if TYPE_CHECKING:
    from conftest import Call


def save_network(path: Path, seed: int = 0) -> Path:
    """Two convolutions with a ReLU between them."""
    rng = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Conv", ["data", "first"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Conv", ["relu", "second"], ["heatmaps"]),
    ]
    weights = {"first": (4, 3, 3, 3), "second": (17, 4, 1, 1)}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 32, 24])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, ["batch", 17, 16, 12])],
        [numpy_helper.from_array(rng.normal(0, 0.3, s).astype(np.float32), n) for n, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    spec = PoseSpec(InputSpec("data", 32, 24, Stretch()), DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
    return PoseModel(model, spec).save(path)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save_network(tmp_path / "small.onnx")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), np.random.default_rng(i).integers(0, 256, (40, 30, 3), np.uint8))
    return folder


def test_ranges_are_written(edgepose: Call, network: Path, pictures: Path, tmp_path: Path) -> None:
    output = tmp_path / "ranges.json"
    done = edgepose("calibrate", network, pictures, "--method", "naive", "--limit", 3, "-o", output)
    assert done.code == 0, done.err
    assert "4 ranges, naive, 3 pictures, 3 samples" in done.out
    ranges = Ranges.load(output)
    assert set(ranges.tensors) == {"data", "conv", "relu", "heatmaps"}
    assert ranges.data["source"] == "pictures pictures"
    assert str(tmp_path) not in output.read_text()
    # The file is of this network, and can be used again.
    ranges.check(PoseModel.from_onnx(network).graph)


def test_ranges_are_merged_and_written_for_aimet(edgepose: Call, network: Path, pictures: Path, tmp_path: Path) -> None:
    first, second, both = (tmp_path / n for n in ("first.json", "second.json", "both.json"))
    assert edgepose("calibrate", network, pictures, "--limit", 2, "--method", "naive", "-o", first).code == 0
    other = tmp_path / "other"
    other.mkdir()
    for i in range(2):
        cv2.imwrite(str(other / f"{i}.png"), np.random.default_rng(90 + i).integers(99, 120, (40, 30, 3), np.uint8))
    assert edgepose("calibrate", network, other, "--method", "naive", "-o", second).code == 0
    aimet = tmp_path / "small.encodings"
    done = edgepose(
        "calibrate", network, other, "--method", "naive", "--merge", first, "--encodings", aimet, "-o", both
    )  # fmt: skip
    assert done.code == 0, done.err
    one, two, merged = (Ranges.load(p) for p in (first, second, both))
    assert merged.tensors == two.merge(one).tensors
    assert merged.tensors["heatmaps"] == one.tensors["heatmaps"] != two.tensors["heatmaps"]
    for name, (low, high) in merged.tensors.items():
        encoding = read_encodings(aimet).activations[name]
        step = encoding.scale
        assert encoding.minimum == pytest.approx(min(low, 0), abs=step)
        assert encoding.maximum == pytest.approx(max(high, 0), abs=step)
    again = tmp_path / "again.json"
    done = edgepose("calibrate", network, other, "--method", "naive", "--merge", aimet, "-o", again)
    assert done.code == 0, done.err
    assert Ranges.load(again).method == "naive+aimet"


def test_ranges_of_another_network_are_refused(edgepose: Call, network: Path, pictures: Path, tmp_path: Path) -> None:
    other = save_network(tmp_path / "other.onnx", seed=1)
    assert edgepose("calibrate", other, pictures, "-o", tmp_path / "other.json").code == 0
    done = edgepose("calibrate", network, pictures, "--merge", tmp_path / "other.json", "-o", tmp_path / "r.json")
    assert done.code == 2
    assert "other.json' were calibrated on another network" in done.err
    assert not (tmp_path / "r.json").exists()


def test_unreadable_pictures_are_told(edgepose: Call, network: Path, pictures: Path, tmp_path: Path) -> None:
    (pictures / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = edgepose("calibrate", network, pictures, "-o", tmp_path / "ranges.json")
    assert done.code == 1
    assert "left out" in done.err
    assert "2.png" in done.err
    assert "3 pictures" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "magic"], "no calibration method 'magic'"),
        (["--percentile", "99"], "--method percentile"),
        (["--method", "percentile", "--percentile", "12"], "must be above 50"),
        (["--images", "."], "no COCO JSON"),
        (["--merge", "none.json"], "none.json"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_wrong_use(
    arguments: list[str], said: str, edgepose: Call, network: Path, pictures: Path, tmp_path: Path
) -> None:
    done = edgepose("calibrate", network, pictures, *arguments, "-o", tmp_path / "ranges.json")
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "ranges.json").exists()


def test_bad_sources(edgepose: Call, network: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    single = tmp_path / "single"
    single.mkdir()
    (single / "a.png").write_bytes((pictures / "0.png").read_bytes())
    output = tmp_path / "ranges.json"
    for source, said in (
        ("empty", "holds no pictures"),
        ("none", "no file or folder"),
        ("single", "only one usable picture"),
        ("imported", "no ranges to import"),
    ):
        given = source if source == "imported" else tmp_path / source
        done = edgepose("calibrate", network, given, "-o", output)
        assert done.code == 2
        assert said in done.err
        assert not output.exists()
    assert edgepose("calibrate", network, single, "--limit", 1, "-o", output).code == 0


def test_a_file_of_ranges_is_of_one_network(edgepose: Call, pictures: Path, tmp_path: Path) -> None:
    done = edgepose("calibrate", "accurate", pictures, "-o", tmp_path / "ranges.json")
    assert done.code == 2
    assert "has two networks" in done.err


def test_what_cannot_be_written_is_refused_before_the_work(
    edgepose: Call, network: Path, pictures: Path, tmp_path: Path
) -> None:
    for output in (tmp_path, tmp_path / "none" / "ranges.json"):
        done = edgepose("calibrate", network, pictures, "-o", output)
        assert done.code == 2
        assert "Cannot write" in done.err
        assert "reading" not in done.err


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_an_interrupted_calibration_leaves_nothing(network: Path, pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for i in range(4, 3000):
        (pictures / f"{i}.png").symlink_to(pictures / "0.png")
    command = [sys.executable, "-m", "edgepose", "calibrate", network, pictures, "--limit", "3000"]
    process = subprocess.Popen(
        [*map(str, command), "-o", str(folder / "ranges.json")], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    while "simplifying" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGINT
    assert "interrupted" in said
    assert "Traceback" not in said
    assert list(folder.iterdir()) == []
