"""Which of the two runtimes opens a MindIR file: the format has dialects."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgepose_converters.mindir.file import mindir_pieces
from edgepose_converters.mindir.program import Call, Program, Value
from edgepose_runtimes.mindir_ports import read_ports
from edgepose_runtimes.mindspore import MindSpore

from edgepose.errors import DeviceError


def write(folder: Path, operator: str) -> Path:
    image, out = Value("image", (1, 3, 4, 5), "float32"), Value("maps", (1, 3, 4, 5), "float32")
    calls = [Call(operator, {}, (image, image), (out,), False, "maps")]
    file = folder / f"{operator}.mindir"
    file.write_bytes(b"".join(mindir_pieces(Program("doubling", (image,), {"maps": out}, calls))))
    return file


def test_mindspore_refuses_what_mindspore_lite_has_fused(tmp_path: Path) -> None:
    assert not read_ports(write(tmp_path, "Add")).fused
    assert MindSpore().refuses(write(tmp_path, "Add")) == ""
    assert read_ports(write(tmp_path, "Conv2DFusion")).fused
    assert "MindSpore Lite" in MindSpore().refuses(write(tmp_path, "Conv2DFusion"))


def test_a_damaged_file_is_an_error_and_no_choice(tmp_path: Path) -> None:
    file = tmp_path / "model.mindir"
    file.write_bytes(b"\x3a\xff\xff\x01")
    with pytest.raises(DeviceError, match="MindIR"):
        MindSpore().refuses(file)
