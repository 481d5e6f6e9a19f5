"""ONNX as a target, in both precisions."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from edgepose_converters.onnx import OnnxConverter
from edgepose_runtimes.onnxruntime import OnnxRuntime
from target_networks import family, moved, small

from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.model import PoseModel

#: Precisions of a graph that nobody has calibrated.
FLOATS = ("fp32", "fp16")


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 5e-3)])
def test_what_is_written_runs_and_stays_close(tmp_path: Path, precision: str, limit: float) -> None:
    model = family("rtmpose_t")
    result = OnnxConverter().convert(model, tmp_path, precision, {})
    session = OnnxRuntime().open(tmp_path / result.engine, Device("cpu"), {})
    assert moved(model, session, batch=2) < limit
    assert PoseModel.from_onnx(tmp_path / result.engine).spec == model.spec


@pytest.mark.parametrize("precision", FLOATS)
def test_converting_twice_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    files = []
    for _ in range(2):
        OnnxConverter().convert(small(), tmp_path, precision, {})
        files.append((tmp_path / "model.onnx").read_bytes())
    assert files[0] == files[1]


def test_half_is_half_the_size_and_computes_in_float32(tmp_path: Path) -> None:
    model = family("rtmpose_t")
    result = OnnxConverter().convert(model, tmp_path, "fp16", {})
    engine = tmp_path / result.engine
    assert engine.stat().st_size < 0.6 * model.graph.ByteSize()
    half = {v.name for v in onnx.shape_inference.infer_shapes(onnx.load(engine)).graph.value_info
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}  # fmt: skip
    assert not half
    assert result.notes == ("Weights are stored as float16 and computed with as float32.",)


def test_half_keeps_a_dynamic_batch_and_size(tmp_path: Path) -> None:
    model = small(size=("height", "width"))
    OnnxConverter().convert(model, tmp_path, "fp16", {})
    shape = onnx.load(tmp_path / "model.onnx").graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in shape] == ["batch", 3, "height", "width"]
    session = OnnxRuntime().open(tmp_path / "model.onnx", Device("cpu"), {})
    assert moved(model, session, batch=3) < 5e-3


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised"):
        OnnxConverter().convert(small(), tmp_path, "int8", {})
    with pytest.raises(ConversionError, match="no option wings"):
        OnnxConverter().convert(small(), tmp_path, "fp32", {"wings": 2})
    assert not list(tmp_path.iterdir())
