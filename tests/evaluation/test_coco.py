"""edgepose.evaluation and edgepose eval: the numbers are pycocotools' own."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("pycocotools", reason="optional dependency: pip install edgepose[eval]")

from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edgepose.cli import main
from edgepose.errors import InputError
from edgepose.evaluation.coco import (
    STATISTICS,
    CocoAnnotations,
    coco_keypoints,
    ground_truth_boxes,
    read_detections,
)
from edgepose.keypoints import COCO_17, HALPE_26, OPENPOSE_18, KeypointSet

LIMIT = 6


def run(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out, captured.err


@pytest.fixture
def coco(reference: Path) -> Path:
    return reference / "data/coco_keypoints"


def direct(annotations: Path, results: list[dict[str, Any]], images: list[int]) -> list[float]:
    """The same metric without any code of ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.imgIds = images
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(v) for v in evaluation.stats]


def test_the_ten_numbers_are_those_of_pycocotools(
    coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    annotations = coco / "person_keypoints_val2017.json"
    code, out, err = run(
        *("eval", "fast", "--annotations", annotations, "--images", coco / "val2017", "--limit", LIMIT),
        *("--results", tmp_path / "results.json", "--json", "-"),
        capsys=capsys,
    )
    assert code == 0, err
    report = json.loads(out)
    images = sorted(i["id"] for i in json.loads(annotations.read_text())["images"])[:LIMIT]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {r["image_id"] for r in results} <= set(images)
    assert [report[name] for name in STATISTICS] == direct(annotations, results, images)
    assert report["AP"] > 0.2
    assert report["protocol"]["images"] == LIMIT
    assert report["protocol"]["boxes"] == "model"


def test_the_truth_as_result_is_perfect(coco: Path) -> None:
    truth = CocoAnnotations(coco / "person_keypoints_val2017.json")
    ids = [i["id"] for i in truth.images]
    results = [
        {"image_id": i, "category_id": 1, "keypoints": p["keypoints"], "score": 1.0}
        for i in ids
        for p in truth.people(i)
    ]
    assert truth.statistics(results, ids)["AP"] == pytest.approx(1.0)
    assert truth.statistics([], ids)["AP"] == 0


def test_unreadable_images_are_named_and_count(coco: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    annotations = coco / "person_keypoints_val2017.json"
    records = sorted(json.loads(annotations.read_text())["images"], key=lambda r: r["id"])[:3]
    for record in records[1:]:
        shutil.copy(coco / "val2017" / record["file_name"], tmp_path)
    (tmp_path / records[0]["file_name"]).write_bytes(b"broken")
    code, out, err = run(
        *("eval", "fast", "--annotations", annotations, "--images", tmp_path, "--limit", 3, "--json", "-"),
        capsys=capsys,
    )
    assert code == 1
    assert records[0]["file_name"] in err
    assert json.loads(out)["protocol"]["unreadable"] == 1


def test_ground_truth_boxes_are_clipped_as_simple_baseline_does() -> None:
    people = [{"bbox": [-5, 10, 20, 30]}, {"bbox": [90, 40, 30, 30]}, {"bbox": [3, 4, 0, 0]}]
    boxes = ground_truth_boxes(people, (60, 100))
    # x1 = max(0, x), x2 = min(W - 1, x1 + max(0, w - 1)), likewise y.
    np.testing.assert_array_equal(boxes[:, :4], [[0, 10, 19, 39], [90, 40, 99, 59], [3, 4, 3, 4]])
    assert (boxes[:, 4] == 1).all()


def test_detections_file(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    person = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    path.write_text(json.dumps([person, {**person, "category_id": 3}, {**person, "image_id": 8, "score": 0.25}]))
    found = read_detections(path)
    np.testing.assert_array_equal(found[7], np.float32([[1, 2, 4, 6, 0.5]]))
    np.testing.assert_array_equal(found[8], np.float32([[1, 2, 4, 6, 0.25]]))


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"image_id": 1}]', '[{"image_id": 1, "bbox": "x", "score": 1}]'])
def test_files_of_another_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        read_detections(path)
    with pytest.raises(InputError, match=r"x\.json"):
        CocoAnnotations(path)


def test_pictures_outside_the_folder_are_not_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "images").mkdir()
    annotations = tmp_path / "a.json"
    annotations.write_text(
        json.dumps({"images": [{"id": 1, "file_name": "../secret.jpg", "width": 1, "height": 1}], "annotations": []})
    )
    code, _, err = run("eval", "fast", "--annotations", annotations, "--images", tmp_path / "images", capsys=capsys)
    assert code == 2
    assert "not inside the folder" in err


@pytest.mark.parametrize("keypoints", [COCO_17, HALPE_26, OPENPOSE_18])
def test_other_keypoint_sets_are_brought_to_coco_by_name(keypoints: KeypointSet) -> None:
    points = np.zeros((2, len(keypoints), 3), np.float32)
    points[..., 0] = np.arange(len(keypoints))
    mapped = coco_keypoints(points, keypoints)
    assert [keypoints.names[int(i)] for i in mapped[0, :, 0]] == list(COCO_17.names)


def test_a_set_without_cocos_keypoints_is_refused() -> None:
    with pytest.raises(InputError, match="left_eye"):
        coco_keypoints(np.zeros((1, 1, 3), np.float32), KeypointSet("nose", ("nose",)))


def test_help_shows_the_protocol() -> None:
    from edgepose.cli import edgepose

    text = CliRunner().invoke(edgepose, ["eval", "--help"]).output
    assert "--boxes gt|FILE" in text
    assert "--flip" in text
