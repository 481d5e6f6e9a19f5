"""How certain a difference in AP is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edgepose.evaluation.bootstrap import ap_difference
from edgepose.evaluation.coco import CocoAnnotations

pytest.importorskip("pycocotools", reason="COCO's metric needs the extra 'eval'")
IMAGES = 12


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> CocoAnnotations:
    draw = np.random.default_rng(0)
    people = []
    for image in range(1, IMAGES + 1):
        joints = np.concatenate([draw.uniform(10, 190, (17, 2)), np.full((17, 1), 2)], axis=1)
        people.append(
            {
                "id": image,
                "image_id": image,
                "category_id": 1,
                "iscrowd": 0,
                "area": 20000.0,
                "bbox": [10, 10, 180, 180],
                "num_keypoints": 17,
                "keypoints": joints.reshape(-1).tolist(),
            }
        )
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 200} for i in range(1, IMAGES + 1)]
    categories = [{"id": 1, "name": "person", "keypoints": [str(i) for i in range(17)], "skeleton": []}]
    path = tmp_path_factory.mktemp("truth") / "t.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": categories}))
    return CocoAnnotations(path)


def results(truth: CocoAnnotations, error: float, wrong: int = 0) -> list[dict[str, Any]]:
    """Detections with joints that are off by ``error`` pixels; in the first ``wrong`` pictures by 150."""
    found = []
    for image in range(1, IMAGES + 1):
        (person,) = truth.people(image)
        joints = np.array(person["keypoints"], float).reshape(17, 3)
        joints[:, 0] += 150 if image <= wrong else error
        found.append(
            {"image_id": image, "category_id": 1, "keypoints": joints.reshape(-1).tolist(), "score": 1 - image / 100}
        )
    return found


def ids() -> list[int]:
    return list(range(1, IMAGES + 1))


def test_the_value_is_the_difference_of_pycocotools(truth: CocoAnnotations) -> None:
    before, after = results(truth, 3), results(truth, 9, wrong=2)
    expected = truth.statistics(after, ids())["AP"] - truth.statistics(before, ids())["AP"]
    found = ap_difference(truth, [before], [after], ids(), resamplings=50)
    assert found.value == pytest.approx(100 * expected, abs=1e-9)
    assert found.low <= found.value <= found.high


def test_equal_results_differ_by_nothing(truth: CocoAnnotations) -> None:
    same = results(truth, 5, wrong=3)
    found = ap_difference(truth, [same], [same], ids(), resamplings=50)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_the_interval_says_how_much_hangs_on_single_pictures(truth: CocoAnnotations) -> None:
    good = results(truth, 0)
    one = ap_difference(truth, [good], [results(truth, 0, wrong=1)], ids(), resamplings=200)
    six = ap_difference(truth, [good], [results(truth, 0, wrong=6)], ids(), resamplings=200)
    assert one.high == 0  # a resample may miss the only wrong picture
    assert six.high < 0
    assert six.low < one.low < 0
    assert six.low < six.at_least < six.value  # one in forty, one in twenty


def test_the_draw_is_repeatable(truth: CocoAnnotations) -> None:
    pair = [results(truth, 0)], [results(truth, 9, wrong=4)]
    assert ap_difference(truth, *pair, ids(), resamplings=60) == ap_difference(truth, *pair, ids(), resamplings=60)
