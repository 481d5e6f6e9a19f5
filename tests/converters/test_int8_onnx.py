"""INT8 as the target onnx writes it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from edgepose_converters.onnx import OnnxConverter
from edgepose_runtimes.onnxruntime import OnnxRuntime

sys.path.insert(0, str(Path(__file__).parent.parent / "quantization"))
from int8_networks import observed, picture, residual, sqnr

from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model


def test_a_calibrated_graph_is_written_and_runs(tmp_path: Path) -> None:
    model = residual()
    ranges = observed(model, [picture(model, s) for s in range(3)])
    done = quantize_model(model, ranges, OnnxConverter.scheme).model
    result = OnnxConverter().convert(done, tmp_path, "int8", {})
    session = OnnxRuntime().open(tmp_path / result.engine, Device("cpu"), {})
    feeds = picture(model, 9, batch=2)
    assert sqnr(Runner(model.graph).run(feeds), session.run(feeds)) > 25
    assert [(i.name, i.dtype) for i in session.inputs] == [("image", "float32")]
    assert [(o.name, o.dtype) for o in session.outputs] == [("heatmaps", "float32")]
    assert PoseModel.from_onnx(tmp_path / result.engine).spec == model.spec


def test_a_float_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised") as error:
        OnnxConverter().convert(residual(), tmp_path, "int8", {})
    assert "--calibration" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []
