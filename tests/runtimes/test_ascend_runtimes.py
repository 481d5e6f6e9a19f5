"""MindSpore Lite and ONNX Runtime on Ascend, both stood in for.  No Ascend device has run any of it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import ascend_machine
import numpy as np
import pytest
from ascend_machine import expected, network, pictures
from edgepose_converters.mindir import MindIrConverter
from edgepose_runtimes.mindspore_lite import PRECISION_MODES, MindSporeLite
from edgepose_runtimes.onnxruntime_cann import OnnxRuntimeCann

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.graph.passes import set_batch

DEVICE = Device("ascend310")
LITE = Path(__file__).parent / "stand_ins" / "mindspore_lite"
RECORD = Path(__file__).parent / "stand_ins" / "mindspore_lite_2.0.0.json"


# ---- MindSpore Lite


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ascend_machine.lite_python(tmp_path_factory.mktemp("lite"))


@pytest.fixture
def lite(interpreter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many devices MindSpore Lite and the operating system see, and which version it is."""

    def machine(devices: int = 1, newer: bool = True, shown: int | None = None) -> None:
        monkeypatch.setenv("MSLITE_STAND_IN", json.dumps({"devices": devices, "newer": newer}))
        ascend_machine.cards(tmp_path / "root", monkeypatch, devices if shown is None else shown)

    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", str(interpreter))
    monkeypatch.setenv("EDGEPOSE_MINDSPORE_PYTHON", "/nonexistent/python")
    return machine


def mindir(folder: Path) -> Path:
    """A MindIR file with what the stand-in needs to compute it beside."""
    model = network()
    environment = pytest.MonkeyPatch()
    with environment.context() as patch:
        patch.setenv("EDGEPOSE_MSLITE_PYTHON", "/nonexistent/python")
        engine = folder / MindIrConverter().convert(model, folder, "fp32", {}).engine
    graph = folder / "network.onnx"
    graph.write_bytes(set_batch(model.graph, 1).SerializeToString())
    said = {"inputs": [["image", [1, 3, 64, 48], "float32"]], "graph": str(graph)}
    engine.with_name(f"{engine.name}.json").write_text(json.dumps(said))
    return engine


def test_mindspore_lite_computes_on_ascend_and_says_how(lite: Any, tmp_path: Path) -> None:
    lite(devices=2)
    options = {"precision_mode": "enforce_origin", "provider": "ge"}
    session = MindSporeLite().open(mindir(tmp_path), Device("ascend310", 1), options)
    assert session.placement.endswith("target ascend (CPU as backup), device 1, enforce_origin, provider ge")
    feeds = pictures(network())
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(network().graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()


def test_half_precision_is_the_default_and_is_told(lite: Any, tmp_path: Path) -> None:
    lite()
    engine = mindir(tmp_path)
    session = MindSporeLite().open(engine, DEVICE, {})
    assert session.placement.endswith("target ascend (CPU as backup), device 0, enforce_fp16")
    session.close()
    for mode in PRECISION_MODES:
        session = MindSporeLite().open(engine, DEVICE, {"precision_mode": mode})
        assert mode in session.placement
        session.close()


def test_a_version_without_the_graph_engine_says_so(lite: Any, tmp_path: Path) -> None:
    lite(newer=False)
    # MindSpore Lite 2.0.0 takes the attribute without a word and does nothing.
    with pytest.raises(DeviceError, match="has no 'provider' for Ascend"):
        MindSporeLite().open(mindir(tmp_path), DEVICE, {"provider": "ge"})


@pytest.mark.parametrize(
    ("device", "options", "words"),
    [
        (DEVICE, {"precision_mode": "fp16"}, "'precision_mode' is 'fp16'"),
        (DEVICE, {"provider": "acl"}, "'provider' is 'acl'"),
        (DEVICE, {"threads": 2}, "no option threads"),
        (Device("cpu"), {"precision_mode": "enforce_fp16"}, "no option precision_mode"),
        (Device("ascend310", 1), {}, "There is no device 'ascend310:1': 1 /dev/davinci"),
    ],
)
def test_devices_and_options_of_mindspore_lite(
    lite: Any, tmp_path: Path, device: Device, options: Any, words: str
) -> None:
    lite()
    with pytest.raises(DeviceError, match=words):
        MindSporeLite().open(tmp_path / "model.mindir", device, options)


def test_a_device_that_mindspore_lite_does_not_see(lite: Any, tmp_path: Path) -> None:
    lite(devices=1, shown=2)
    with pytest.raises(DeviceError, match="build_from_file failed"):
        MindSporeLite().open(mindir(tmp_path), Device("ascend310", 1), {})


def test_the_stand_in_has_what_the_recorded_interface_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record was made of MindSpore Lite 2.0.0 itself, by record_mindspore_lite.py."""
    record = json.loads(RECORD.read_text())
    monkeypatch.setenv("MSLITE_STAND_IN", "{}")
    monkeypatch.syspath_prepend(LITE.parent)
    stand_in = importlib.import_module("mindspore_lite")
    del sys.modules["mindspore_lite"]
    parts = {
        "Context": stand_in.Context(),
        "Context.cpu": stand_in.Context().cpu,
        "Context.ascend": stand_in.Context().ascend,
        "Model": stand_in.Model,
        "Tensor": stand_in.Tensor,
    }
    for name, part in parts.items():
        public = {a for a in dir(part) if not a.startswith("_")} - {"data", "behaviour", "inputs", "runs"}
        assert public <= set(record[name]), name
    assert {t.name: t.value for t in stand_in.DataType}.items() <= record["DataType"].items()
    assert {t.name: t.value for t in stand_in.ModelType}.items() <= record["ModelType"].items()
    assert set(record["ascend.precision_mode"]) == set(PRECISION_MODES)


# ---- ONNX Runtime with CANN


@pytest.fixture
def cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in of onnxruntime-cann in place of ONNX Runtime, and a card; gives the class of its sessions."""
    ascend_machine.cards(tmp_path / "root", monkeypatch, 2)
    return ascend_machine.onnxruntime_cann(monkeypatch, 2)


def saved(folder: Path) -> Path:
    return network().save(folder / "model.onnx")


def test_onnx_runtime_computes_on_ascend_and_says_how(cann: Any, tmp_path: Path) -> None:
    assert OnnxRuntimeCann().probe().available
    options = {"precision_mode": "must_keep_origin_dtype", "op_select_impl_mode": "high_precision"}
    session = OnnxRuntimeCann().open(saved(tmp_path), Device("ascend310", 1), options)
    assert "CANNExecutionProvider" in session.placement
    assert session.placement.endswith("device 1, must_keep_origin_dtype")
    asked = session._session.asked  # type: ignore[attr-defined]
    assert asked["device_id"] == "1"
    assert asked["enable_cann_graph"] == "1"
    feeds = pictures(network(), 2)
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(network().graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()


def test_a_silent_fall_back_to_the_cpu_is_an_error(cann: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cann, "works", False)
    for stubborn, words in (
        (False, "create CANN ExecutionProvider fail"),
        (True, "uses CPUExecutionProvider instead"),
    ):
        monkeypatch.setattr(cann, "stubborn", stubborn)
        with pytest.raises(DeviceError, match=words) as caught:
            OnnxRuntimeCann().open(saved(tmp_path), DEVICE, {})
        assert "set_env.sh" in str(caught.value)


def test_an_onnx_runtime_without_the_provider(tmp_path: Path) -> None:
    probe = OnnxRuntimeCann().probe()
    assert not probe.available
    assert "onnxruntime-cann" in probe.remedy
    with pytest.raises(DeviceError, match="without it"):
        OnnxRuntimeCann().open(saved(tmp_path), DEVICE, {})


@pytest.mark.parametrize(
    ("device", "options", "words"),
    [
        (Device("cpu"), {}, "cannot use the device 'cpu'"),
        (Device("ascend310", 2), {}, "There is no device 'ascend310:2': 2 /dev/davinci"),
        (Device("ascend310p"), {}, "There is no ascend310p here"),
        (DEVICE, {"precision_mode": "fp16"}, "'precision_mode' is 'fp16'"),
        (DEVICE, {"op_select_impl_mode": "fast"}, "'op_select_impl_mode' is 'fast'"),
        (DEVICE, {"threads": 1}, "no option threads"),
    ],
)
def test_devices_and_options_of_onnx_runtime(
    cann: Any, tmp_path: Path, device: Device, options: Any, words: str
) -> None:
    with pytest.raises(DeviceError, match=words):
        OnnxRuntimeCann().open(saved(tmp_path), device, options)


def test_a_file_that_is_no_graph(cann: Any, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(DeviceError, match="cannot load"):
        OnnxRuntimeCann().open(tmp_path / "model.onnx", DEVICE, {})
