from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage_samples import People, apart, assert_found, logit, spec

from edgepose.decoding import build_decoder
from edgepose.errors import DecodeError, SpecError
from edgepose.fitting import fit, to_tensor
from edgepose.fitting.base import apply
from edgepose.media.pictures import read_picture
from edgepose.spec import DecoderSpec, InputSpec, Letterbox, PoseSpec

SIZE = (416, 416)
STRIDES = (8, 16, 32)


def output(people: People, *, classes: int = 80, keypoints: bool = False, logits: bool = False) -> np.ndarray:
    """[1, n, 5 + C (+ 3 K)]: person by person on the next level, in the cell that holds the box's centre."""
    rng = np.random.default_rng(3)
    width = 5 + classes + (51 if keypoints else 0)
    levels = []
    for stride in STRIDES:
        level = rng.uniform(0, 0.3, (SIZE[0] // stride, SIZE[1] // stride, width))
        levels.append(level - 8 if logits else level)
    for i, (box, score, points) in enumerate(zip(people.boxes, people.scores, people.keypoints, strict=True)):
        stride = STRIDES[i % 3]
        center, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        column, row = (center // stride).astype(int)
        cell = levels[i % 3][row, column]
        cell[:2] = center / stride - [column, row]
        cell[2:4] = np.log(extent / stride)
        cell[4:6] = logit(np.sqrt(score)) if logits else np.sqrt(score)
        if keypoints:
            visible = logit(points[:, 2:]) if logits else points[:, 2:]
            places = (points[:, :2] - np.array([column, row]) * stride) / stride
            cell[5 + classes :] = np.concatenate([places, visible], 1).ravel()
    return np.concatenate([level.reshape(-1, width) for level in levels])[None].astype(np.float32)


def detector(**options: Any) -> Any:
    return build_decoder(spec("yolox", ("predictions",), options, keypoints=None))


def without_keypoints(people: People) -> People:
    return People(people.boxes, people.scores, np.zeros((len(people), 0, 3)))


@pytest.mark.parametrize("count", [0, 1, 8])
def test_person_detector(count: int) -> None:
    people = apart(count, SIZE)
    raw = output(people)
    assert raw.shape == (1, 3549, 85)
    (found,) = detector().decode({"predictions": raw}, SIZE)
    assert_found(found, without_keypoints(people))


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
def test_yolox_pose(logits: bool, classes: int) -> None:
    people = apart(7, SIZE)
    raw = output(people, classes=classes, keypoints=True, logits=logits)
    built = build_decoder(spec("yolox", ("predictions",), {"logits": logits}))
    (found,) = built.decode({"predictions": raw}, SIZE)
    assert_found(found, people)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10), st.integers(0, 10_000))
def test_yolox_pose_of_any_people(count: int, seed: int) -> None:
    people = apart(count, SIZE, seed)
    built = build_decoder(spec("yolox", ("predictions",)))
    (found,) = built.decode({"predictions": output(people, classes=1, keypoints=True)}, SIZE)
    assert_found(found, people)


def test_other_classes_are_no_people() -> None:
    people = apart(3, SIZE)
    raw = output(people)
    swapped = raw.copy()
    swapped[..., [5, 60]] = raw[..., [60, 5]]
    assert len(detector().decode({"predictions": swapped}, SIZE)[0].scores) == 0
    (found,) = detector(person_class=55).decode({"predictions": swapped}, SIZE)
    assert_found(found, without_keypoints(people))


def test_neighbouring_cells_of_one_person_are_one_person() -> None:
    people = apart(1, SIZE)
    raw = output(people)
    cell = int(np.argmax(raw[0, :, 4] * raw[0, :, 5]))
    raw[0, cell + 1] = raw[0, cell]
    raw[0, cell + 1, 0] -= 1  # the same centre, seen from the next column
    raw[0, cell + 1, 4] *= 0.9
    assert len(detector().decode({"predictions": raw}, SIZE)[0].scores) == 1
    assert len(detector(iou_threshold=1.0).decode({"predictions": raw}, SIZE)[0].scores) == 2


def test_other_strides_and_sizes() -> None:
    raw = np.zeros((2, 20 * 12 + 10 * 6, 6), np.float32)
    raw[1, 20 * 12 + 6 * 3 + 2] = [0.5, 0.25, 1, 0, 0.8, 1]  # row 3, column 2 of the level of 64
    nobody, (one,) = (
        detector(strides=[32, 64]).decode({"predictions": raw}, (640, 384))[0],
        [detector(strides=[32, 64]).decode({"predictions": raw}, (640, 384))[1]],
    )
    assert len(nobody.scores) == 0
    center, extent = np.array([2.5, 3.25]) * 64, np.array([np.e, 1]) * 64
    np.testing.assert_allclose(one.boxes[0], np.concatenate([center - extent / 2, center + extent / 2]), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("column", [0, 2, 90])
def test_rows_that_are_not_finite_are_left_out(bad: float, column: int) -> None:
    people = apart(4, SIZE)
    raw = output(people, keypoints=True)
    cell = int(np.argmax(raw[0, :, 4] * raw[0, :, 5]))
    raw[0, cell, column] = bad
    built = build_decoder(spec("yolox", ("predictions",)))
    (found,) = built.decode({"predictions": raw}, SIZE)
    if bad == 1e30 and column != 2:
        assert len(found.scores) == 4  # absurd, but a number
    else:
        keep = slice(1, None)
        assert_found(found, People(people.boxes[keep], people.scores[keep], people.keypoints[keep]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_constant_outputs_give_nobody(value: float) -> None:
    for logits in (False, True):
        raw = np.full((2, 3549, 85), value, np.float32)
        found = detector(logits=logits, score_threshold=0.3).decode({"predictions": raw}, SIZE)
        assert [d.boxes.shape for d in found] == [(0, 4)] * 2
        assert found[0].keypoints.shape == (0, 0, 3)


@pytest.mark.parametrize("shape", [(1, 3548, 85), (1, 3549, 5), (3549, 85), (1, 85, 3549), (1, 0, 85)])
def test_wrong_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        detector().decode({"predictions": np.zeros(shape, np.float32)}, SIZE)


def test_too_few_values_for_the_keypoints() -> None:
    with pytest.raises(DecodeError, match="17 keypoints"):
        build_decoder(spec("yolox", ("predictions",))).decode({"predictions": np.zeros((1, 3549, 56))}, SIZE)


@pytest.mark.parametrize("options", [{"strides": []}, {"strides": [0]}, {"strides": 8}, {"person_class": -1}, {"a": 1}])
def test_wrong_specs(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        detector(**options)


def test_no_flip_test() -> None:
    with pytest.raises(DecodeError, match="flip"):
        detector().merge_flip({}, {})


def _overlaps(boxes: np.ndarray, box: list[float]) -> np.ndarray:
    x, y, w, h = box
    low, high = np.maximum(boxes[:, :2], [x, y]), np.minimum(boxes[:, 2:], [x + w, y + h])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    return shared / (w * h + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared)


def test_yolox_nano_finds_the_people_of_coco(reference: Path) -> None:
    """Recall at IoU .5 of the people who have keypoints; the copy of the network is known for about 80 %."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        reference / "data/weights/person_detector/yolox_nano.onnx", providers=["CPUExecutionProvider"]
    )
    fed = InputSpec("images", 416, 416, Letterbox(anchor="top-left"), color="BGR")
    decoder = build_decoder(PoseSpec(fed, DecoderSpec("yolox", {"predictions": "output"}), None))
    data = json.loads((reference / "data/coco_keypoints/person_keypoints_val2017.json").read_text())
    people = [a for a in data["annotations"] if not a.get("iscrowd") and a["num_keypoints"]]
    hits = 0
    for entry in data["images"]:
        fitted = fit(read_picture(reference / "data/coco_keypoints/val2017" / entry["file_name"]), fed)
        (raw,) = session.run(None, {"images": to_tensor(fitted.pixels, fed)})
        (found,) = decoder.decode({"predictions": raw}, fitted.size)
        boxes = apply(fitted.to_image[0], found.boxes.reshape(-1, 2, 2)).reshape(-1, 4)
        mine = [p["bbox"] for p in people if p["image_id"] == entry["id"]]
        hits += sum(_overlaps(boxes, box).max(initial=0) >= 0.5 for box in mine)
    assert hits / len(people) > 0.8
