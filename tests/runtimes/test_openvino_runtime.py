"""OpenVINO as a runtime."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Tensor

ov = pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "edgepose[openvino]"')

from edgepose_runtimes.openvino import OpenVino  # noqa: E402

CPU = Device("cpu")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = conv(x), with weights that bfloat16 and float16 cannot hold; float32 [?, 3, 8, 8]."""
    from openvino import opset13 as ops

    x = ops.parameter([-1, 3, 8, 8], np.float32, "x")
    x.output(0).get_tensor().set_names({"x"})
    weights = (1 + np.arange(4 * 3 * 9).reshape(4, 3, 3, 3) / 100_003).astype(np.float32)
    y = ops.convolution(x, ops.constant(weights), [1, 1], [1, 1], [1, 1], [1, 1])
    y.output(0).get_tensor().set_names({"y"})
    path = tmp_path_factory.mktemp("engine") / "model.xml"
    ov.save_model(ov.Model([y], [x], "conv"), path, compress_to_fp16=False)
    return path


def feeds(seed: int = 0, batch: int = 1) -> dict[str, Tensor]:
    return {"x": np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def exact(x: Tensor) -> Tensor:
    """The convolution in float64."""
    weights = (1 + np.arange(4 * 3 * 9).reshape(4, 3, 3, 3) / 100_003).astype(np.float64)
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    return np.einsum("bchwyx,ocyx->bohw", windows, weights)


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_float32_means_float32(engine: Path, mode: str) -> None:
    session = OpenVino().open(engine, CPU, {"mode": mode})
    found = session.run(feeds(batch=2))["y"]
    assert found.dtype == np.float32
    # bfloat16 is off by 4e-3, float16 by 5e-4.
    assert np.abs(found - exact(feeds(batch=2)["x"])).max() < 2e-5
    assert ", f32," in session.placement
    assert mode in session.placement


def test_results_do_not_change_with_the_next_run(engine: Path) -> None:
    session = OpenVino().open(engine, CPU, {})
    first = session.run(feeds(0))["y"]
    kept = first.copy()
    session.run(feeds(1))
    assert np.array_equal(first, kept)


def test_options_are_used_and_read_back(engine: Path) -> None:
    session = OpenVino().open(engine, CPU, {"threads": "1", "streams": 1})
    assert "1 stream(s), 1 thread(s)" in session.placement
    wide = OpenVino().open(engine, CPU, {"threads": 2, "streams": 2})
    assert "2 stream(s)" in wide.placement
    assert wide.parallel == 2


@pytest.mark.parametrize("options", [{"streams": 1}, {"mode": "throughput", "streams": 2, "threads": 2}])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_many_runs_come_back_in_order(engine: Path, options: dict[str, object], count: int) -> None:
    session = OpenVino().open(engine, CPU, options)
    found = list(session.run_many(feeds(i, batch=1 + i % 3) for i in range(count)))
    assert len(found) == count
    for i, result in enumerate(found):
        assert np.array_equal(result["y"], session.run(feeds(i, batch=1 + i % 3))["y"])


def test_inputs_are_read_no_faster_than_they_are_run(engine: Path) -> None:
    taken = 0

    def source() -> Iterator[dict[str, Tensor]]:
        nonlocal taken
        for i in range(100):
            taken += 1
            yield feeds(i)

    session = OpenVino().open(engine, CPU, {"streams": 2, "threads": 2})
    results = session.run_many(source())
    next(results)
    assert taken <= session.parallel + 1
    results.close()
    assert np.isfinite(session.run(feeds())["y"]).all()


def test_an_error_in_the_source_is_the_callers(engine: Path) -> None:
    def source() -> Iterator[dict[str, Tensor]]:
        yield feeds()
        raise RuntimeError("the camera is gone")

    with pytest.raises(RuntimeError, match="camera"):
        list(OpenVino().open(engine, CPU, {}).run_many(source()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"y": np.zeros((1, 3, 8, 8), np.float32)}, "inputs x and was fed y"),
        ({"x": np.zeros((1, 3, 8, 9), np.float32)}, r"float32 \[\?, 3, 8, 8\]"),
        ({"x": np.zeros((3, 8, 8), np.float32)}, r"fed float32 \[3, 8, 8\]"),
        ({"x": np.zeros((1, 3, 8, 8), np.uint8)}, "fed uint8"),
        ({}, "nothing"),
    ],
)
def test_wrong_inputs_are_refused(engine: Path, wrong: dict[str, Tensor], message: str) -> None:
    session = OpenVino().open(engine, CPU, {})
    with pytest.raises(DeviceError, match=message):
        session.run(wrong)
    with pytest.raises(DeviceError, match=message):
        list(session.run_many([wrong]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wings": 2}, "no option wings"),
        ({"threads": 0}, "'threads' is 0"),
        ({"threads": "many"}, "'threads' is 'many'"),
        ({"streams": 1.5}, "'streams' is 1.5"),
        ({"mode": "fast"}, "'latency', 'throughput'"),
    ],
)
def test_wrong_options_are_refused(engine: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        OpenVino().open(engine, CPU, options)


def test_other_devices_are_refused(engine: Path) -> None:
    for device in (Device("cpu", 1), Device("jetson")):
        with pytest.raises(DeviceError, match="cannot use the device"):
            OpenVino().open(engine, device, {})


def test_a_closed_session_says_so(engine: Path) -> None:
    session = OpenVino().open(engine, CPU, {})
    session.close()
    session.close()
    with pytest.raises(DeviceError, match="closed"):
        session.run(feeds())
    with pytest.raises(DeviceError, match="closed"):
        list(session.run_many([feeds()]))


def test_damaged_files_are_refused(engine: Path, tmp_path: Path) -> None:
    text, weights = engine.read_bytes(), engine.with_suffix(".bin").read_bytes()
    xml, binary = tmp_path / "model.xml", tmp_path / "model.bin"
    xml.write_bytes(text)
    with pytest.raises(DeviceError, match="lacks its weights"):
        OpenVino().open(xml, CPU, {})
    for broken_text, broken_weights in ((text, weights[:10]), (text[:-200], weights), (b"<net", weights)):
        xml.write_bytes(broken_text)
        binary.write_bytes(broken_weights)
        with pytest.raises(DeviceError, match="cannot load"):
            OpenVino().open(xml, CPU, {})


def test_probing_tells_the_version() -> None:
    probe = OpenVino().probe("cpu")
    assert probe.available
    assert "openvino 20" in probe.found
