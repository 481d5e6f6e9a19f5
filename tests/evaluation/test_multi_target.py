"""One checkpoint to several targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import SIZE, arrays

from edgepose.bundle import read_bundle
from edgepose.conversion import TargetOptions
from edgepose.errors import EdgePoseError, InputError
from edgepose.importing import ImportOptions
from edgepose.multi_target import ALL_INSTALLED, convert_all, installed_targets, table
from edgepose.quantization.options import Int8Options

safetensors = pytest.importorskip("safetensors.numpy", reason="writes the checkpoint as safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "net.safetensors"
    safetensors.save_file({name: np.ascontiguousarray(a) for name, a in arrays().items()}, path)
    return path


def test_a_bundle_a_target_and_a_table(checkpoint: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = ImportOptions(input_size=SIZE)
    rows = convert_all(
        checkpoint, [ALL_INSTALLED, "onnx"], ["fp32", "fp16"], output=tmp_path / "o", options=options,
        report=lines.append,
    )  # fmt: skip
    assert sum("reading" in line for line in lines) == 1
    assert [(r.target, r.precision) for r in rows] == [(t, p) for t in installed_targets() for p in ("fp32", "fp16")]
    for row, limit in zip([r for r in rows if r.target == "onnx"], (0.05, 0.5), strict=True):
        assert row.folder == tmp_path / "o" / f"net-onnx-{row.precision}"
        assert row.size == (row.folder / "model.onnx").stat().st_size
        assert row.ms is not None
        assert row.pixels is not None
        assert row.pixels <= limit
        assert "onnxruntime" in row.device
        assert read_bundle(row.folder).manifest.stages[0].precision == row.precision
    head, *body = table(rows).splitlines()
    assert head.split() == ["target", "precision", "MB", "ms", "error", "px", "(p99)", "runs", "on"]
    assert len([line for line in body if line.startswith("onnx  ") and "onnxruntime" in line]) == 2


def test_a_target_that_fails_does_not_stop_the_others(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "net-onnx-fp16").mkdir()
    (tmp_path / "net-onnx-fp16" / "holiday.jpg").write_bytes(b"")
    rows = convert_all(checkpoint, ["onnx"], ["fp16", "fp32"], output=tmp_path, options=ImportOptions(input_size=SIZE))
    assert [r.folder is None for r in rows] == [True, False]
    assert "not a bundle" in rows[0].note
    assert rows[0].note in table(rows)
    assert (tmp_path / "net-onnx-fp16" / "holiday.jpg").exists()


def test_wrong_use(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgePoseError, match="Did you mean 'onnx'"):
        convert_all(checkpoint, ["onnxx"], output=tmp_path / "o")
    with pytest.raises(InputError, match="no target"):
        convert_all(checkpoint, [], output=tmp_path / "o")
    with pytest.raises(EdgePoseError):
        convert_all(tmp_path / "nope", ["onnx"], output=tmp_path / "o")
    drawn = TargetOptions(int8=Int8Options(tmp_path, picture=tmp_path / "tried.png"))
    with pytest.raises(InputError, match="of one target"):
        convert_all(checkpoint, ["onnx", "openvino"], ["int8"], output=tmp_path / "p", target=drawn)
    assert not (tmp_path / "p").exists()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Cannot write"):
        convert_all(checkpoint, ["onnx"], output=tmp_path / "file")
