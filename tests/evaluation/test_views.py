"""Views of a picture: where things lie in them, and back."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgepose
from edgepose.evaluation.coco import CocoAnnotations
from edgepose.evaluation.runner import evaluate
from edgepose.evaluation.views import BOX_SHIFT, SMALLEST, View, views
from edgepose.keypoints import COCO_17
from edgepose.media.pictures import read_picture

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"
any_view = st.builds(View, st.floats(SMALLEST, 1), st.floats(0, 1), st.floats(0, 1))


@given(any_view, st.integers(20, 140), st.integers(20, 80))
def test_what_is_seen_in_the_frame_lies_where_back_says(view: View, x: int, y: int) -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    cv2.circle(image, (x, y), 6, (255, 255, 255), -1)
    seen = view.picture(image)
    assert seen.shape == image.shape
    weights = seen[..., 0].astype(np.float64)
    rows, columns = np.mgrid[:100, :160]
    centre = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
    assert view.back(centre.astype(np.float32), (100, 160)) == pytest.approx([x, y], abs=0.1)


@given(any_view)
def test_the_whole_picture_is_in_the_frame(view: View) -> None:
    corners = view.back(np.array([[0, 0], [160, 100]], np.float32), (100, 160))
    assert (corners[0] <= 1e-3).all()
    assert (corners[1] >= np.array([160, 100]) - 1e-3).all()


@given(any_view)
def test_boxes_move_by_hundredths_of_their_sides(view: View) -> None:
    boxes = np.array([[10, 20, 110, 220, 0.5]], np.float32)
    moved = view.boxes(boxes)
    sides, was = moved[0, 2:4] - moved[0, :2], np.array([100, 200])
    assert sides[0] / was[0] == pytest.approx(sides[1] / was[1], rel=1e-4)
    assert 0.949 < sides[0] / was[0] < 1.051
    shift = (moved[0, :2] + moved[0, 2:4]) / 2 - [60, 120]
    assert (np.abs(shift) <= BOX_SHIFT * was + 1e-3).all()
    assert moved[0, 4] == 0.5


def test_the_first_view_is_the_picture_as_it_is_and_all_are_repeatable() -> None:
    assert views(1) == [None]
    assert views(5)[0] is None
    assert len(set(views(5))) == 5
    assert views(5) == views(8)[:5]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> CocoAnnotations:
    """The people that `fast` finds, as annotations."""
    people: list[dict[str, object]] = []
    with edgepose.load("fast", min_score=0.2) as pose:
        for joints in pose(read_picture(PARK)).keypoints:
            x0, y0, x1, y1 = (float(v) for v in (*joints[:, :2].min(axis=0), *joints[:, :2].max(axis=0)))
            plain = np.concatenate([joints[:, :2], np.full((17, 1), 2)], axis=1).reshape(-1).tolist()
            person = {"id": len(people) + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            people.append({**person, **box, "keypoints": plain})
    assert len(people) == 2
    image = {"id": 1, "file_name": PARK.name, "width": 1280, "height": 720}
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.names), "skeleton": []}
    path = tmp_path_factory.mktemp("labels") / "people.json"
    path.write_text(json.dumps({"images": [image], "annotations": people, "categories": [category]}))
    return CocoAnnotations(path)


@pytest.mark.parametrize("model", ["fast", "accurate"])
@pytest.mark.parametrize("view", views(4)[1:], ids=lambda v: f"{v.scale:.3f}")
def test_the_poses_of_a_view_are_in_pixels_of_the_picture(model: str, view: View, labelled: CocoAnnotations) -> None:
    with edgepose.load(model, min_score=0.1) as pose:
        plain = evaluate(pose, labelled, PARK.parent).results
        found = evaluate(pose, labelled, PARK.parent, view=view).results
    assert found != plain
    for one in plain[:2]:  # the two people, near where they were
        joints = np.reshape(one["keypoints"], (17, 3))[:, :2]
        distances = [
            np.median(np.linalg.norm(np.reshape(o["keypoints"], (17, 3))[:, :2] - joints, axis=1)) for o in found
        ]
        assert min(distances) < 6


def test_annotated_boxes_are_off_and_the_picture_is_not(labelled: CocoAnnotations) -> None:
    crops: list[np.ndarray] = []

    class Recorder:
        """A top-down estimator that looks at nothing."""

        def __call__(self, image: np.ndarray, boxes: np.ndarray) -> edgepose.Poses:
            assert (image == read_picture(PARK)).all()
            crops.append(boxes)
            return edgepose.Poses.empty(COCO_17, image.shape[:2])

    for view in (None, View(0.95, 1.0, 0.0)):
        evaluate(Recorder(), labelled, PARK.parent, boxes="gt", view=view)  # type: ignore[arg-type]
    centres = [(c[:, :2] + c[:, 2:4]) / 2 for c in crops]
    sides = crops[0][:, 2:4] - crops[0][:, :2]
    assert centres[1] - centres[0] == pytest.approx(sides * np.array([BOX_SHIFT, -BOX_SHIFT]), abs=1e-2)
