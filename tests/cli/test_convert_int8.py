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
