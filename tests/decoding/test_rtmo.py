from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from one_stage_samples import People, apart, assert_found, spec

from edgepose.decoding import build_decoder
from edgepose.errors import DecodeError, SpecError

SIZE = (640, 640)


def decoder(**options: Any) -> Any:
    return build_decoder(spec("rtmo", ("dets", "keypoints"), options))


def outputs(people: People, rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """People in any order, then rows that only fill up."""
    dets, keypoints = np.zeros((1, rows, 5), np.float32), np.zeros((1, rows, 17, 3), np.float32)
    order = np.random.default_rng(seed).permutation(len(people))
    dets[0, : len(people)] = np.concatenate([people.boxes, people.scores[:, None]], 1)[order]
    keypoints[0, : len(people)] = people.keypoints[order]
    return {"dets": dets, "keypoints": keypoints}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 20), st.integers(0, 30), st.integers(0, 10_000))
def test_people_come_best_first(count: int, empty: int, seed: int) -> None:
    people = apart(count, SIZE, seed)
    (found,) = decoder().decode(outputs(people, count + empty, seed), SIZE)
    assert_found(found, people, pixels=1e-4)


def test_filling_rows_are_nobody_even_without_a_threshold() -> None:
    people = apart(2, SIZE)
    (found,) = decoder(score_threshold=0.0).decode(outputs(people, 50), SIZE)
    assert len(found.scores) == 2


def test_threshold_limit_and_suppression() -> None:
    people = apart(6, SIZE)
    given_outputs = outputs(people, 6)
    middle = float(people.scores[2])
    (found,) = decoder(score_threshold=middle - 1e-4).decode(given_outputs, SIZE)
    assert len(found.scores) == 3
    (found,) = decoder(max_people=2).decode(given_outputs, SIZE)
    np.testing.assert_allclose(found.scores, people.scores[:2], atol=1e-6)
    twice = {role: np.concatenate([array, array], axis=1) for role, array in given_outputs.items()}
    (found,) = decoder().decode(twice, SIZE)
    assert len(found.scores) == 12
    (found,) = decoder(iou_threshold=0.65).decode(twice, SIZE)
    assert_found(found, people)


def test_batch() -> None:
    crowds = [apart(n, SIZE, n) for n in (4, 0, 2)]
    parts = [outputs(p, 8) for p in crowds]
    batch = {role: np.concatenate([p[role] for p in parts]) for role in parts[0]}
    for found, people in zip(decoder().decode(batch, SIZE), crowds, strict=True):
        assert_found(found, people)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_left_out(bad: float) -> None:
    people = apart(4, SIZE)
    for role, place in (
        ("dets", (0, 0, 0)),
        ("dets", (0, 0, 4)),
        ("keypoints", (0, 0, 5, 1)),
        ("keypoints", (0, 0, 5, 2)),
    ):
        broken = outputs(people, 6)
        broken[role][place] = bad
        (found,) = decoder().decode(broken, SIZE)
        assert len(found.scores) == 3
        assert np.isfinite(found.keypoints).all()


@pytest.mark.parametrize(
    ("dets", "keypoints"),
    [
        ((1, 5, 4), (1, 5, 17, 3)),
        ((1, 5, 5), (1, 5, 16, 3)),
        ((1, 5, 5), (1, 5, 17, 2)),
        ((1, 5, 5), (1, 4, 17, 3)),
        ((2, 5, 5), (1, 5, 17, 3)),
        ((5, 5), (5, 17, 3)),
    ],
)
def test_wrong_shapes(dets: tuple[int, ...], keypoints: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError):
        decoder().decode({"dets": np.zeros(dets), "keypoints": np.zeros(keypoints)}, SIZE)


def test_no_rows_at_all() -> None:
    (found,) = decoder().decode({"dets": np.zeros((1, 0, 5)), "keypoints": np.zeros((1, 0, 17, 3))}, SIZE)
    assert found.keypoints.shape == (0, 17, 3)


def test_wrong_specs_and_no_flip_test() -> None:
    with pytest.raises(SpecError, match="keypoint set"):
        build_decoder(spec("rtmo", ("dets", "keypoints"), keypoints=None))
    with pytest.raises(SpecError, match="dets"):
        build_decoder(spec("rtmo", ("dets",)))
    with pytest.raises(SpecError, match="score"):
        decoder(score=0.3)
    with pytest.raises(DecodeError, match="flip"):
        decoder().merge_flip({}, {})
