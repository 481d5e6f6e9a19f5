"""TFLite as a runtime."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edgepose_converters.tflite_file import Operation, TfliteFile
from edgepose_runtimes.tflite import Tflite

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Tensor

CPU = Device("cpu")
executed = pytest.mark.skipif(not Tflite().probe().available, reason="no TFLite runtime: ai-edge-litert")


def doubling(path: Path, shape: Sequence[int] = (1, 4), kind: str = "float32") -> Path:
    """y = x + x."""
    file = TfliteFile("doubling")
    x, y = file.tensor("x", shape, kind), file.tensor("y", shape, kind)
    file.inputs, file.outputs = [x], [y]
    file.operations.append(Operation("ADD", [x, x], [y], {"activation": "NONE"}))
    path.write_bytes(file.to_bytes())
    return path


def quantised(path: Path, scale: Sequence[float], zero: Sequence[int], axis: int = 0, kind: str = "int8") -> Path:
    """y = x, int8, with quantisation parameters."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert brings the schema that writes the parameters")
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    file = TfliteFile("copy")
    x, y = file.tensor("x", (1, 2, 3), kind), file.tensor("y", (1, 2, 3), kind)
    shape = file.tensor("shape", (3,), "int32", np.array([1, 2, 3], np.int32))
    file.inputs, file.outputs = [x], [y]
    file.operations.append(Operation("RESHAPE", [x, shape], [y]))
    model = schema.ModelT.InitFromPackedBuf(file.to_bytes(), 0)
    for tensor in model.subgraphs[0].tensors[:2]:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = list(scale)
        tensor.quantization.zeroPoint = list(zero)
        tensor.quantization.quantizedDimension = axis
    build = flatbuffers.Builder(1024)
    build.Finish(model.Pack(build), file_identifier=b"TFL3")
    path.write_bytes(bytes(build.Output()))
    return path


@executed
def test_a_float_graph(tmp_path: Path) -> None:
    session = Tflite().open(doubling(tmp_path / "m.tflite"), CPU, {"threads": 1})
    x = np.array([[1, -2, 3.5, 1e30]], np.float32)
    first = session.run({"x": x})["y"]
    assert np.array_equal(first, 2 * x)
    session.run({"x": -x})
    assert np.array_equal(first, 2 * x)
    assert [(i.name, i.shape, i.dtype) for i in session.inputs] == [("x", (1, 4), "float32")]
    assert [(o.name, o.shape, o.dtype) for o in session.outputs] == [("y", (1, 4), "float32")]
    assert "1 thread(s)" in session.placement
    assert " cpu, " in session.placement


@executed
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_quantisation_parameters_are_applied(tmp_path: Path, kind: str) -> None:
    session = Tflite().open(quantised(tmp_path / "m.tflite", [0.5], [3], kind=kind), CPU, {})
    x = np.array([[[0, 0.5, 0.74], [-1, 1000, -1000]]], np.float32)
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    codes = np.clip(np.array([[[3, 4, 4], [1, 2003, -1997]]]), low, high)
    assert np.array_equal(session.run({"x": x})["y"], (codes - 3) * np.float32(0.5))
    # Codes are taken as they are.
    assert np.array_equal(session.run({"x": codes.astype(kind)})["y"], (codes - 3) * np.float32(0.5))
    assert session.inputs[0].dtype == kind
    assert session.outputs[0].dtype == "float32"


@executed
def test_parameters_of_each_channel_are_applied(tmp_path: Path) -> None:
    engine = quantised(tmp_path / "m.tflite", [0.5, 2, 0.25], [0, 0, 0], axis=2)
    session = Tflite().open(engine, CPU, {})
    codes = np.arange(6, dtype=np.int8).reshape(1, 2, 3)
    assert np.array_equal(session.run({"x": codes})["y"], codes * np.array([0.5, 2, 0.25], np.float32))


@executed
def test_integers_without_parameters_stay_integers(tmp_path: Path) -> None:
    session = Tflite().open(doubling(tmp_path / "m.tflite", kind="int32"), CPU, {})
    x = np.array([[1, 2, 3, 4]], np.int32)
    found = session.run({"x": x})["y"]
    assert found.dtype == np.int32
    assert np.array_equal(found, 2 * x)
    with pytest.raises(DeviceError, match="is int32"):
        session.run({"x": x.astype(np.float32)})


@executed
def test_an_integer_network_finds_the_pose_it_should(reference: Path) -> None:
    folder = reference / "data/weights/movenet"
    import cv2

    session = Tflite().open(folder / "movenet_single_pose_lightning_ptq.tflite", CPU, {})
    picture = cv2.imread(str(folder / "squat.bmp"))
    crop = cv2.resize(picture, (192, 192))[None, :, :, ::-1]
    (info,) = session.inputs
    assert (info.shape, info.dtype) == ((1, 192, 192, 3), "uint8")
    found = session.run({info.name: np.ascontiguousarray(crop)})[session.outputs[0].name].reshape(17, 3)
    assert (found[:, 2] > 0.3).mean() > 0.7
    # A person in the middle of the picture, upright enough: nose above hips above ankles.
    assert found[0, 0] < found[11:13, 0].mean() < found[15:, 0].mean()


@executed
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"z": np.zeros((1, 4), np.float32)}, "inputs x and was fed z"),
        ({"x": np.zeros((1, 5), np.float32)}, r"\[1, 4\] and was fed float32 \[1, 5\]"),
        ({"x": np.zeros((1, 4))}, "fed float64"),
        ({}, "nothing"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path: Path, wrong: dict[str, Tensor], message: str) -> None:
    session = Tflite().open(doubling(tmp_path / "m.tflite"), CPU, {})
    with pytest.raises(DeviceError, match=message):
        session.run(wrong)


@executed
def test_a_closed_session_says_so(tmp_path: Path) -> None:
    session = Tflite().open(doubling(tmp_path / "m.tflite"), CPU, {})
    session.close()
    session.close()
    with pytest.raises(DeviceError, match="closed"):
        session.run({"x": np.zeros((1, 4), np.float32)})


@executed
def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = doubling(tmp_path / "m.tflite")
    data = path.read_bytes()
    for broken in (b"", b"PK\x03\x04" * 10, data[: len(data) // 2], data[:8]):
        path.write_bytes(broken)
        with pytest.raises(DeviceError, match=r"cannot load|is not a TFLite file"):
            Tflite().open(path, CPU, {})
    with pytest.raises(DeviceError, match="Cannot read"):
        Tflite().open(tmp_path / "absent.tflite", CPU, {})


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    path = doubling(tmp_path / "m.tflite")
    for options, message in (({"wings": 2}, "no option wings"), ({"threads": "all"}, "'threads' is 'all'")):
        with pytest.raises(DeviceError, match=message):
            Tflite().open(path, CPU, options)
    for device in (Device("cpu", 1), Device("jetson")):
        with pytest.raises(DeviceError, match="cannot use the device"):
            Tflite().open(path, device, {})


def test_probing_tells_what_is_missing_and_what_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = importlib.util.find_spec
    hidden = {"ai_edge_litert", "tflite_runtime"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in hidden else found(name, *a))
    probe = Tflite().probe("cpu")
    assert not probe.available
    assert "edgepose[tflite]" in probe.remedy
    with pytest.raises(DeviceError, match="not available") as caught:
        Tflite().open(doubling(tmp_path / "m.tflite"), CPU, {})
    assert "edgepose[tflite]" in str(caught.value)


def test_tflite_runtime_under_numpy_2_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    there = {"ai_edge_litert": None, "tflite_runtime": object()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: there[name] if name in there else found(name, *a))
    monkeypatch.setattr("edgepose_runtimes.tflite.version", lambda name: "2.14.0")
    monkeypatch.setattr(np, "__version__", "2.4.6")
    probe = Tflite().probe()
    assert not probe.available
    assert "NumPy 2.4.6" in probe.found
    assert "numpy<2" in probe.remedy
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert Tflite().probe().available
