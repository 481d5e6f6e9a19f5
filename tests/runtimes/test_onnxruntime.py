"""ONNX Runtime as a runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from edgepose_runtimes.onnxruntime import OnnxRuntime

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.graph.builder import GraphBuilder

CPU = Device("cpu")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = sigmoid(conv(x)), float32 [batch, 3, 8, 8]."""
    build = GraphBuilder("case")
    x = build.input("x", ("batch", 3, 8, 8))
    kernel = build.constant(np.full((2, 3, 3, 3), 0.1, np.float32))
    x = build.op("Sigmoid", build.op("Conv", x, kernel, pads=[1] * 4))
    build.output(x, "y", ("batch", 2, 8, 8))
    path = tmp_path_factory.mktemp("engine") / "model.onnx"
    path.write_bytes(build.build().SerializeToString())
    return path


def feeds(batch: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


@pytest.mark.parametrize("options", [{}, {"threads": 1}, {"threads": "2", "spinning": "off"}])
def test_options_do_not_change_the_result(engine: Path, options: dict[str, object]) -> None:
    session = OnnxRuntime().open(engine, CPU, options)
    assert session.inputs[0].shape == (None, 3, 8, 8)
    found = session.run(feeds(3))["y"]
    assert np.allclose(found, OnnxRuntime().open(engine, CPU, {}).run(feeds(3))["y"], atol=1e-6)
    assert found.shape == (3, 2, 8, 8)


def test_what_really_runs_is_read_back(engine: Path) -> None:
    placement = OnnxRuntime().open(engine, CPU, {"threads": 1}).placement
    assert onnxruntime.__version__ in placement
    assert "CPUExecutionProvider" in placement
    assert "1 thread(s)" in placement
    if hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        assert "CPUExecutionProvider 2 operators" in placement


def test_a_provider_that_is_not_there_is_not_replaced(engine: Path) -> None:
    absent = {"DnnlExecutionProvider", "XnnpackExecutionProvider"} - set(onnxruntime.get_available_providers())
    for provider in absent:
        with pytest.raises(DeviceError, match=f"has no {provider}"):
            OnnxRuntime().open(engine, CPU, {"provider": provider})
    session = OnnxRuntime().open(engine, CPU, {"provider": "CPUExecutionProvider"})
    assert np.isfinite(session.run(feeds())["y"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wings": 2}, "no option wings"),
        ({"threads": 0}, "'threads' is 0"),
        ({"threads": "two"}, "'threads' is 'two'"),
        ({"spinning": "sometimes"}, "'on', 'off'"),
        ({"provider": "CUDAExecutionProvider"}, "must be one of 'CPUExecutionProvider'"),
    ],
)
def test_wrong_options_are_refused(engine: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        OnnxRuntime().open(engine, CPU, options)


def test_wrong_inputs_and_files_are_refused(engine: Path, tmp_path: Path) -> None:
    session = OnnxRuntime().open(engine, CPU, {})
    with pytest.raises(DeviceError, match="failed on"):
        session.run({"x": np.zeros((1, 3, 8, 9), np.float32)})
    session.close()
    with pytest.raises(DeviceError, match="closed"):
        session.run(feeds())
    broken = tmp_path / "model.onnx"
    broken.write_bytes(engine.read_bytes()[:100])
    with pytest.raises(DeviceError, match="cannot load"):
        OnnxRuntime().open(broken, CPU, {})
    with pytest.raises(DeviceError, match="cannot use the device"):
        OnnxRuntime().open(engine, Device("cpu", 1), {})
