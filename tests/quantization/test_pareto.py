"""The table and the picture of what was tried."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgepose.quantization.budget import Measurement
from edgepose.quantization.pareto import draw, save_picture, table

FULL = Measurement((), 46.7, 0.0, 0.0, 20.0, 2_240_000, 0.0)
TRIED = [
    Measurement((), 44.8, 0.046, 100.0, 9.5, 900_000, 2.6),
    Measurement(("head",), 46.4, 0.02, 20.0, 10.5, 940_000, 0.7),
]


def test_the_table_names_all_and_marks_the_chosen() -> None:
    lines = table(TRIED, FULL, TRIED[1]).splitlines()
    assert lines[0].split() == ["in", "float", "AP", "AP", "lost", "at", "most", "OKS", "lost", "px", "ms", "MB"]
    assert lines[1].split() == ["0", "44.80", "+1.90", "+2.60", "0.0460", "100.00", "9.50", "0.90"]
    assert lines[2].split() == ["1", "46.40", "+0.30", "+0.70", "0.0200", "20.00", "10.50", "0.94", "chosen"]
    assert lines[3].split() == ["all", "46.70", "+0.00", "+0.00", "0.0000", "0.00", "20.00", "2.24", "FP32"]


def test_the_table_goes_without_labels() -> None:
    bare = [Measurement(m.kept, None, m.oks_loss, m.shift, m.ms, m.size) for m in (*TRIED, FULL)]
    lines = table(bare[:2], bare[2], bare[0]).splitlines()
    assert lines[1].split()[:5] == ["0", "-", "-", "-", "0.0460"]


def test_times_that_were_not_measured_are_not_shown() -> None:
    bare = [dataclasses.replace(m, ms=None) for m in (*TRIED, FULL)]
    rows = [line.split() for line in table(bare[:2], bare[2], bare[0]).splitlines()[1:]]
    assert [row[6:8] for row in rows] == [["-", "0.90"], ["-", "0.94"], ["-", "2.24"]]
    assert bare[0].to_dict()["ms"] is None
    # The sizes take their place in the picture, which is then another one.
    by_size = draw(bare[:2], bare[2], bare[0])
    assert (by_size != draw(TRIED, FULL, TRIED[0])).any()
    quicker = [dataclasses.replace(m, ms=m.size / 1e6) for m in bare]
    places = [
        np.argwhere((p == (180, 110, 30)).all(axis=2)) for p in (by_size, draw(quicker[:2], quicker[2], quicker[0]))
    ]
    np.testing.assert_array_equal(*places)


def test_the_picture_has_a_point_for_each_and_the_chosen_in_red(tmp_path: Path) -> None:
    save_picture(tmp_path / "p.png", TRIED, FULL, TRIED[1])
    picture = cv2.imread(str(tmp_path / "p.png"))
    assert picture.shape == (480, 720, 3)
    red = (picture == (40, 40, 210)).all(axis=2)
    blue = (picture == (180, 110, 30)).all(axis=2)
    assert cv2.connectedComponents(red.astype(np.uint8))[0] - 1 == 1
    assert cv2.connectedComponents(blue.astype(np.uint8))[0] - 1 == 2


@pytest.mark.parametrize("tried", [[], [FULL]])
def test_points_that_coincide_are_drawn(tried: list[Measurement]) -> None:
    assert draw(tried, FULL, FULL).shape == (480, 720, 3)
