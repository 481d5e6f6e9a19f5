"""edgepose convert --precision int8."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


def test_calibrating_and_quantising_in_one_command(edgepose: Call, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    shutil.copy(PARK, pictures)
    cv2.imwrite(str(pictures / "mirrored.jpg"), np.asarray(cv2.imread(str(PARK)))[:, ::-1])
    done = edgepose(
        "convert", "fast", "--to", "onnx", "--precision", "int8", "--calibration", pictures,
        "--max-oks-loss", "0.25", "--input-size", "192x256", "--pareto", tmp_path / "tried.png", "-o", tmp_path / "b",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "calibrating (percentile): 2 of 2" in done.err
    assert "INT8 loses" in done.err
    assert (tmp_path / "tried.png").is_file()
    run = edgepose("run", PARK, "--model", tmp_path / "b", "--json", "-")
    assert run.code == 0
    assert run.out.count('"keypoints"') == 2
    told = edgepose("info", tmp_path / "b")
    assert told.code == 0
    assert "ranges.json" in told.out
    assert "INT8" in told.out
    assert "int32 biases" in told.out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--precision", "int8"], "needs calibration"),
        (["--precision", "fp16", "--calibration", "p"], "Calibration is for INT8"),
        (["--max-shift", "3"], "need --calibration"),
        (["--views", "8"], "need --calibration"),
        (["--precision", "int8", "--calibration", "p", "--max-shift", "3", "--max-oks-loss", "0.1"], "one budget"),
        (["--precision", "int8", "--calibration", "p", "--max-oks-loss", "2"], "2.0 is not in the range"),
        (["--precision", "int8", "--calibration", "nowhere"], "nowhere"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_wrong_use_is_exit_2_and_says_what_to_do(
    edgepose: Call, options: list[str], problem: str, tmp_path: Path
) -> None:
    done = edgepose("convert", "fast", "--to", "onnx", "-o", tmp_path / "b", *options)
    assert done.code == 2
    assert problem in done.err
    assert not (tmp_path / "b").exists()


def test_a_bare_graph_takes_no_calibration(edgepose: Call, tmp_path: Path) -> None:
    done = edgepose("convert", "fast", "--to", "onnx", "-o", tmp_path / "b.onnx", "--calibration", tmp_path)
    assert done.code == 2
    assert "Calibration is for INT8" in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_a_budget_promises_none(edgepose: Call, tmp_path: Path) -> None:
    done = edgepose(
        "convert", "fast", "--to", "mindir", "--precision", "int8", "--calibration", PARK.parent,
        "--max-oks-loss", "0.01", "--keep-float", "conv", "-o", tmp_path / "b",
    )  # fmt: skip
    assert done.code == 2
    assert "a budget, layers in float cannot be had" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "problem"), [("nowhere/tried.png", "nowhere' does not exist"), ("tried.jpg", "ends in .png")]
)
def test_a_picture_that_cannot_be_written_is_refused_before_the_work(
    edgepose: Call, tmp_path: Path, name: str, problem: str
) -> None:
    done = edgepose(
        "convert", "fast", "--to", "onnx", "--precision", "int8", "--calibration", PARK.parent, "-o", tmp_path / "b",
        "--pareto", tmp_path / name,
    )  # fmt: skip
    assert done.code == 2
    assert name in done.err
    assert problem in done.err
    assert "calibrating" not in done.err
    assert list(tmp_path.iterdir()) == []
