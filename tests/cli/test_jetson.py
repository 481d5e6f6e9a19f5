"""From a graph to poses on a Jetson and on a PC's GPU, through the command line; the GPU and TensorRT are stand-ins."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import nvidia_machine
import pytest
from poses_by_command import near, persons, write_network

from edgepose.bundle import read_bundle
from edgepose.loading import load

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the plans that are built on the device."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgepose" / "plans"


@pytest.fixture(params=nvidia_machine.VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def jetson(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Jetson with each version of TensorRT."""
    nvidia_machine.jetson(tmp_path / "root", monkeypatch)
    with nvidia_machine.checked(nvidia_machine.nvidia(monkeypatch, version=version)) as machine:
        yield machine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_network(tmp_path / "edges.onnx")


@pytest.mark.parametrize(
    ("version", "precision", "limit"),
    [
        *((version, "fp32", 1e-3) for version in nvidia_machine.VERSIONS),
        *((version, "fp16", 3.0) for version in nvidia_machine.VERSIONS),
        # Calibration takes seconds; all versions take the same graph, by flag or by type.
        *((version, "int8", 10.0) for version in ("8.6", "11.4")),
    ],
)
def test_convert_and_run(
    edgepose: Call, jetson: Any, version: str, source: Path, precision: str, limit: float, cache: Path
) -> None:
    target = source.with_name("bundle")
    more = ["--calibration", PARK.parent, "--max-shift", "9"] if precision == "int8" else []
    done = edgepose("convert", source, "--to", "tensorrt", "--precision", precision, "-o", target, *more)
    assert done.code == 0, done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].engine == "model.engine"
    assert bundle.manifest.tools["tensorrt"].startswith(version)
    assert bundle.manifest.measured["parity"]["status"] == "executed"
    assert f"TensorRT {version}" in bundle.manifest.measured["parity"]["runtime"]
    ours, said = persons(edgepose, target, "--device", "jetson")
    assert f"TensorRT {version}" in said
    assert "on Orin" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert near(ours, others, limit) >= 0.9
    assert not cache.exists()


def test_convert_on_a_workstation_and_run_on_the_jetson(
    edgepose: Call,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = source.with_name("bundle")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    options = ["--option", "max_batch=2", "--option", "workspace=64"]
    done = edgepose("convert", source, "--to", "tensorrt", "--precision", "fp16", "-o", target, *options)
    assert done.code == 0, done.err
    assert "Not built here" in done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].engine == "model.recipe.json"
    assert "tensorrt" not in bundle.manifest.tools
    assert bundle.manifest.measured["parity"]["status"] == "not executed"
    nvidia_machine.jetson(tmp_path / "root", monkeypatch)
    with nvidia_machine.checked(nvidia_machine.nvidia(monkeypatch, version=version)):
        ours, _ = persons(edgepose, target, "--device", "jetson")
        assert "this takes minutes, once" in caplog.text
        caplog.clear()
        again, _ = persons(edgepose, target, "--device", "jetson")
        assert caplog.text == ""
    assert ours == again
    (plan,) = cache.glob("*.engine")
    assert nvidia_machine.head(plan)["pools"] == {"WORKSPACE": 64 << 20}
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert near(ours, others, 3.0) >= 0.9
    read_bundle(target)


@pytest.mark.parametrize("version", ["10.3"])
def test_the_embedded_model_with_both_of_its_networks(edgepose: Call, jetson: Any, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    done = edgepose("convert", "accurate", "--to", "tensorrt", "-o", target)
    assert done.code == 0, done.err
    ours, _ = persons(edgepose, target, "--device", "jetson")
    found = edgepose("run", PARK, "--device", "cpu", "--json", "-")
    others = json.loads(found.out)["persons"]
    assert near(ours, others, 0.5) == 1


@pytest.mark.parametrize("version", ["10.3"])
def test_what_stands_in_the_way_is_told(
    edgepose: Call, jetson: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "tensorrt", "-o", target).code == 0

    def refused(*more: str) -> str:
        done = edgepose("run", PARK, "--model", target, *more)
        assert done.code == 2
        assert "Traceback" not in done.err
        return done.err

    said = refused("--device", "cpu")
    assert "does not run on the device 'cpu'" in said
    assert "edgepose convert CHECKPOINT --to mindir | onnx" in said
    assert "There is no GPU 3 here" in refused("--device", "jetson:3")
    with nvidia_machine.checked(nvidia_machine.nvidia(monkeypatch, version="11.4")):
        said = refused("--device", "jetson")
        assert "built by TensorRT 10.3.0" in said
        assert "edgepose convert" in said
    with nvidia_machine.checked(nvidia_machine.nvidia(monkeypatch, version="10.3", driver=False)):
        assert "CUDA driver version is insufficient" in refused("--device", "jetson")
    with nvidia_machine.checked(nvidia_machine.nvidia(monkeypatch, version="10.3", gpus=[("Orin", "8.7", 1000, 16)])):
        assert "out of memory" in refused("--device", "jetson")
    nvidia_machine.nvidia(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "system-site-packages" in refused("--device", "jetson")


@pytest.mark.parametrize("version", ["10.3"])
def test_two_estimators_in_one_process_and_a_second_thread(edgepose: Call, jetson: Any, source: Path) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "tensorrt", "-o", target).code == 0
    image = cv2.imread(str(PARK))
    boxes = np.array([[100, 40, 220, 330], [150, 60, 250, 300]], np.float32)
    with load(source, device="cpu", detector=None) as reference:
        wanted = reference(image, boxes).keypoints
    found: list[Any] = []
    with load(target, device="jetson", detector=None) as one, load(target, device="jetson", detector=None) as two:
        thread = threading.Thread(target=lambda: found.append(two(image, boxes).keypoints))
        thread.start()
        found.append(one(image, boxes).keypoints)
        thread.join()
        one.close()
        found.append(two(image, boxes).keypoints)
    assert len(found) == 3
    for keypoints in found:
        assert np.allclose(keypoints, wanted, atol=1e-3)


@pytest.mark.parametrize("version", ["10.3"])
def test_doctor_names_the_version_and_the_way_to_cuda(edgepose: Call, jetson: Any) -> None:
    done = edgepose("doctor", "--device", "jetson", "--json")
    engines = {e["name"]: e for e in json.loads(done.out)["engines"] if e["kind"] == "runtime"}
    assert engines["tensorrt"]["available"]
    assert "TensorRT 10.3.0, 1 GPU(s) through cuda.bindings.runtime" in engines["tensorrt"]["found"]
