from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from one_stage_samples import People, apart, assert_found, logit, spec

from edgepose.decoding import build_decoder
from edgepose.errors import DecodeError, SpecError
from edgepose.keypoints import HALPE_26

SIZE = (384, 640)
ANCHORS = (
    19,
    27,
    44,
    40,
    38,
    94,
    96,
    68,
    86,
    152,
    180,
    137,
    140,
    301,
    303,
    264,
    238,
    542,
    436,
    615,
    739,
    380,
    925,
    792,
)


def decoder(version: str, outputs: tuple[str, ...] = ("predictions",), **options: Any) -> Any:
    return build_decoder(spec("yolo-pose", outputs, {"version": version, **options}))


def rows_v8(people: People, classes: int = 1, person: int = 0) -> np.ndarray:
    """[P, 4 + C + 3 K]."""
    center, extent = (people.boxes[:, :2] + people.boxes[:, 2:]) / 2, people.boxes[:, 2:] - people.boxes[:, :2]
    scores = np.zeros((len(people), classes))
    scores[:, person] = people.scores
    return np.concatenate(
        [center, extent, scores, people.keypoints.reshape(len(people), 3 * people.keypoints.shape[1])], 1
    )


def output_v8(rows: np.ndarray, cells: int = 5040, seed: int = 1) -> np.ndarray:
    """Rows scattered over the cells, all others below the threshold, channels first."""
    rng = np.random.default_rng(seed)
    everything = rng.uniform(0, 0.2, (cells, rows.shape[1]))
    everything[rng.permutation(cells)[: len(rows)]] = rows
    return everything.T[None].astype(np.float32)


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_v8(count: int) -> None:
    people = apart(count, SIZE)
    (found,) = decoder("v8").decode({"predictions": output_v8(rows_v8(people))}, SIZE)
    assert_found(found, people)


def test_v8_suppresses_what_overlaps() -> None:
    people = apart(3, SIZE)
    rows = rows_v8(people)
    twins = rows.copy()
    twins[:, :2] += 2
    twins[:, 4] -= 0.01
    output = output_v8(np.concatenate([twins, rows]))
    (found,) = decoder("v8").decode({"predictions": output}, SIZE)
    assert_found(found, people)
    (all_of_them,) = decoder("v8", iou_threshold=1.0).decode({"predictions": output}, SIZE)
    assert len(all_of_them.scores) == 6


def test_v8_keeps_neighbours_up_to_the_threshold() -> None:
    rows = np.zeros((2, 56))
    rows[:, :5] = [[100, 100, 40, 100, 0.9], [110, 100, 40, 100, 0.8]]  # intersection over union 30 / 50
    for threshold, kept in ((0.59, 1), (0.61, 2)):
        (found,) = decoder("v8", iou_threshold=threshold).decode({"predictions": output_v8(rows)}, SIZE)
        assert len(found.scores) == kept


def test_v8_with_several_classes_takes_the_persons() -> None:
    people = apart(4, SIZE)
    others = rows_v8(apart(4, SIZE, seed=5), classes=3, person=0)
    output = output_v8(np.concatenate([others, rows_v8(people, classes=3, person=2)]))
    (found,) = decoder("v8", person_class=2).decode({"predictions": output}, SIZE)
    assert_found(found, people)


def test_people_are_limited_and_best_first() -> None:
    people = apart(30, SIZE)
    (found,) = decoder("v8", max_people=5).decode({"predictions": output_v8(rows_v8(people))}, SIZE)
    np.testing.assert_allclose(found.scores, people.scores[:5], atol=1e-6)


def test_suppression_goes_on_until_enough_people_remain() -> None:
    """The first few thousand candidates are all the same person; the second comes after them."""
    first, second = rows_v8(apart(2, SIZE))
    rows = np.concatenate([np.repeat(first[None], 3000, 0), second[None]])
    rows[:, 4] = np.linspace(0.9, 0.5, len(rows))
    (found,) = decoder("v8").decode({"predictions": output_v8(rows)}, SIZE)
    np.testing.assert_allclose(found.scores, [0.9, 0.5], atol=1e-6)


def test_another_keypoint_set() -> None:
    people = apart(3, SIZE, keypoints=26)
    built = build_decoder(spec("yolo-pose", ("predictions",), keypoints=HALPE_26))
    (found,) = built.decode({"predictions": output_v8(rows_v8(people))}, SIZE)
    assert_found(found, people)


@pytest.mark.parametrize("count", [0, 1, 9])
def test_v26(count: int) -> None:
    people = apart(count, SIZE)
    rows = np.zeros((300, 57), np.float32)
    order = np.random.default_rng(2).permutation(count)
    filled = np.concatenate(
        [people.boxes, people.scores[:, None], np.zeros((count, 1)), people.keypoints.reshape(count, 51)], 1
    )
    rows[:count] = filled[order]
    rows[count] = rows[0]
    rows[count, 5] = 7  # not a person
    rows[count, 4] = 0.99
    (found,) = decoder("v26").decode({"predictions": rows[None]}, SIZE)
    assert_found(found, people)


def test_v26_leaves_suppression_to_the_network() -> None:
    rows = np.zeros((300, 57), np.float32)
    rows[:2, :5] = [[10, 10, 50, 90, 0.8], [11, 10, 51, 90, 0.7]]
    (found,) = decoder("v26").decode({"predictions": rows[None]}, SIZE)
    assert len(found.scores) == 2


def test_v7_decoded() -> None:
    people = apart(6, SIZE)
    rows = rows_v8(people)
    certain = np.linspace(0.8, 1, 6)[:, None]
    rows = np.concatenate([rows[:, :4], certain, rows[:, 4:5] / certain, rows[:, 5:]], 1)
    rest = np.random.default_rng(0).uniform(0, 0.4, (500, 57))
    output = np.concatenate([rest, rows])[None].astype(np.float32)
    (found,) = decoder("v7").decode({"predictions": output}, SIZE)
    assert_found(found, people)


def heads_v7(people: People, levels: int, per_level: int = 3) -> dict[str, np.ndarray]:
    """Raw heads [1, A, h, w, 57]: person by person on the next level, in the cell that holds the box's centre."""
    anchors = np.array(ANCHORS[: 6 * levels], float).reshape(levels, 3, 2)[:, :per_level]
    rng = np.random.default_rng(4)
    heads = {}
    for level in range(levels):
        shape = (1, per_level, SIZE[0] // (8 << level), SIZE[1] // (8 << level), 57)
        heads[f"p{level + 3}"] = rng.normal(0, 1, shape) - np.array([0] * 4 + [12, 12] + [0] * 51)
    for i, (box, score, points) in enumerate(zip(people.boxes, people.scores, people.keypoints, strict=True)):
        center, extent = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        # The size must be less than four times the anchor's: take the level and anchor that fit.
        level, anchor = next(
            (lv % levels, a)
            for lv in range(i, i + levels)
            for a in range(per_level)
            if (extent < 3.9 * anchors[lv % levels, a]).all()
        )
        stride = 8 << level
        column, row = (center // stride).astype(int)
        raw = heads[f"p{level + 3}"][0, anchor, row, column]
        raw[:2] = logit((center / stride - [column, row] + 0.5) / 2)
        raw[2:4] = logit(np.sqrt(extent / anchors[level, anchor]) / 2)
        raw[4], raw[5] = logit(np.sqrt(score)), logit(np.sqrt(score))
        raw[6:] = np.concatenate(
            [(points[:, :2] / stride - [column, row] + 0.5) / 2, logit(points[:, 2:])], axis=1
        ).ravel()  # fmt: skip
    return {role: head.astype(np.float32) for role, head in heads.items()}


@pytest.mark.parametrize("levels", [3, 4])
@pytest.mark.parametrize("flat", [False, True])
def test_v7_raw_heads(levels: int, flat: bool) -> None:
    people = apart(5, SIZE)
    heads = heads_v7(people, levels)
    assert list(heads) == ["p3", "p4", "p5", "p6"][:levels]
    if flat:
        heads = {r: h.transpose(0, 1, 4, 2, 3).reshape(1, -1, *h.shape[2:4]) for r, h in heads.items()}
    built = decoder("v7", tuple(heads), anchors=list(ANCHORS[: 6 * levels]))
    (found,) = built.decode(heads, SIZE)
    assert_found(found, people)


def test_batch_elements_do_not_mix() -> None:
    crowds = [apart(n, SIZE, seed=n) for n in (3, 0, 5)]
    output = np.concatenate([output_v8(rows_v8(p), seed=i) for i, p in enumerate(crowds)])
    found = decoder("v8").decode({"predictions": output}, SIZE)
    assert len(found) == 3
    for one, people in zip(found, crowds, strict=True):
        assert_found(one, people)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 3, 4, 5, 55])
def test_rows_that_are_not_finite_are_left_out(bad: float, column: int) -> None:
    people = apart(4, SIZE)
    rows = rows_v8(people)
    rows[1, column] = bad
    (found,) = decoder("v8").decode({"predictions": output_v8(rows)}, SIZE)
    keep = [0, 2, 3]
    assert_found(found, People(people.boxes[keep], people.scores[keep], people.keypoints[keep]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_constant_outputs_give_nobody(value: float) -> None:
    heads = {
        r: np.full((2, 3, 384 >> i, 640 >> i, 57), value, np.float32) for r, i in (("p3", 3), ("p4", 4), ("p5", 5))
    }
    built = decoder("v7", ("p3", "p4", "p5"), anchors=list(ANCHORS[:18]), score_threshold=0.3)
    assert [len(d.scores) for d in built.decode(heads, SIZE)] == [0, 0]
    for version, shape in (("v8", (2, 56, 5040)), ("v26", (2, 300, 57)), ("v7", (2, 5040, 57))):
        found = decoder(version, score_threshold=0.3).decode({"predictions": np.full(shape, value, np.float32)}, SIZE)
        assert [d.keypoints.shape for d in found] == [(0, 17, 3)] * 2


@pytest.mark.parametrize(
    ("version", "shape"),
    [
        ("v8", (1, 55, 8400)),
        ("v8", (1, 4, 8400)),
        ("v8", (56, 8400)),
        ("v8", (1, 1, 56, 8400)),
        ("v26", (1, 300, 56)),
        ("v26", (1, 300, 58)),
        ("v7", (1, 300, 56)),
        ("v7", (1, 300)),
    ],
)
def test_wrong_shapes(version: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        decoder(version).decode({"predictions": np.zeros(shape, np.float32)}, SIZE)


def test_wrong_heads() -> None:
    built = decoder("v7", ("p3", "p4", "p5"), anchors=list(ANCHORS[:18]))
    good = heads_v7(apart(1, SIZE), 3)
    for role, shape in [("p3", (1, 3, 48, 79, 57)), ("p4", (1, 170, 24, 40)), ("p5", (1, 3, 12, 20, 50)), ("p5", (1,))]:
        with pytest.raises(DecodeError):
            built.decode({**good, role: np.zeros(shape, np.float32)}, SIZE)
    with pytest.raises(DecodeError, match="no output 'p4'"):
        built.decode({"p3": good["p3"], "p5": good["p5"]}, SIZE)


@pytest.mark.parametrize(
    ("outputs", "options", "word"),
    [
        (("predictions",), {"version": "v9"}, "v9"),
        (("boxes",), {}, "predictions"),
        (("p3", "p4"), {"version": "v7"}, "p3"),
        (("p3", "p4", "p5"), {"version": "v7"}, "anchors"),
        (("p3", "p4", "p5"), {"version": "v7", "anchors": [1, 2, 3]}, "anchors"),
        (("p3", "p4", "p5"), {"version": "v7", "anchors": [-1] * 18}, "anchors"),
        (("p3", "p4", "p5"), {"version": "v8"}, "predictions"),
        (("predictions",), {"person_class": -1}, "person_class"),
        (("predictions",), {"iou": 0.5}, "iou"),
    ],
)
def test_wrong_specs(outputs: tuple[str, ...], options: dict[str, Any], word: str) -> None:
    with pytest.raises(SpecError, match=word):
        build_decoder(spec("yolo-pose", outputs, options))


def test_no_keypoints_and_no_flip_test() -> None:
    with pytest.raises(SpecError, match="keypoint set"):
        build_decoder(spec("yolo-pose", ("predictions",), keypoints=None))
    with pytest.raises(DecodeError, match="flip"):
        decoder("v8").merge_flip({}, {})


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.just(1), st.just(56), st.integers(0, 12)), elements=st.floats(width=32, allow_nan=True)
    ),
    st.floats(0, 1),
)
def test_any_numbers_give_people_of_the_right_form(output: np.ndarray, threshold: float) -> None:
    (found,) = decoder("v8", score_threshold=threshold).decode({"predictions": output}, SIZE)
    assert found.boxes is not None
    assert np.isfinite(found.keypoints).all()
    assert np.isfinite(found.boxes).all()
    assert (found.scores >= np.float32(threshold)).all()
    assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 12), st.integers(0, 10_000), st.sampled_from([3, 4]))
def test_v7_raw_heads_of_any_people(count: int, seed: int, levels: int) -> None:
    people = apart(count, SIZE, seed)
    heads = heads_v7(people, levels)
    (found,) = decoder("v7", tuple(heads), anchors=list(ANCHORS[: 6 * levels])).decode(heads, SIZE)
    assert_found(found, people)
