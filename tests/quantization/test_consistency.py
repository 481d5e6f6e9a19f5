"""How much OKS a quantised network loses, over people that it believes in more or less."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.evaluation.parity import Comparison
from edgepose.quantization.consistency import compare_results, oks_loss, shift_p99


def comparison(oks: list[float], scores: list[float], alone: list[float]) -> Comparison:
    return Comparison("a picture", "pose", oks=np.array(oks), oks_scores=np.array(scores), alone_scores=np.array(alone))


def test_the_same_people_lose_nothing() -> None:
    assert oks_loss([comparison([1.0, 1.0], [0.9, 0.1], [])]) == pytest.approx(0)


def test_people_count_by_their_scores() -> None:
    assert oks_loss([comparison([1.0, 0.5], [0.9, 0.1], [])]) == pytest.approx(0.05)
    assert oks_loss([comparison([0.5, 1.0], [0.9, 0.1], [])]) == pytest.approx(0.45)


def test_people_of_one_of_the_two_count_as_nothing() -> None:
    assert oks_loss([comparison([1.0], [0.6], [0.2]), comparison([], [], [0.2])]) == pytest.approx(0.4)


@pytest.mark.parametrize("comparisons", [[], [comparison([], [], [])], [comparison([1.0], [0.0], [])]])
def test_nobody_is_an_error(comparisons: list[Comparison]) -> None:
    with pytest.raises(InputError, match="finds nobody"):
        oks_loss(comparisons)


def test_a_joint_that_one_network_does_not_find_is_as_far_away_as_can_be() -> None:
    still = Comparison("a picture", "pose", shifts=np.zeros(500))
    assert shift_p99([], 100) == 0
    assert shift_p99([still], 100) == 0
    assert shift_p99([still, dataclasses.replace(still, shifts=np.zeros(0), lost=4)], 100) == 0
    assert shift_p99([still, dataclasses.replace(still, shifts=np.zeros(0), lost=10)], 100) == 100


def result(image: int, x: float, score: float, *, size: float = 100.0, moved: float = 0.0) -> dict[str, Any]:
    """A person around ``x`` as a COCO result; every second joint lies ``moved`` pixels to the right."""
    grid = np.linspace(0, size, 17)
    joints = np.stack([x + grid, 50 + grid[::-1], np.full(17, 0.9)], axis=1)
    joints[::2, 0] += moved
    return {"image_id": image, "category_id": 1, "keypoints": list(joints.ravel()), "score": score}


def test_results_are_compared_by_who_is_who_in_each_picture() -> None:
    before = [result(1, 0, 0.9), result(1, 500, 0.5), result(2, 0, 0.8)]
    assert oks_loss(compare_results(before, before[::-1])) == pytest.approx(0, abs=1e-9)
    found = compare_results(before, [result(1, 500, 0.4), result(2, 0, 0.8)])
    assert [(c.people, c.missing, c.extra) for c in found] == [(1, 1, 0), (1, 0, 0)]
    assert oks_loss(found) == pytest.approx(0.9 / 2.2)
    spare = compare_results(before, [*before, result(3, 0, 0.2)])
    assert oks_loss(spare) == pytest.approx(0.2 / 2.4)


def test_joints_of_results_cost_what_they_move() -> None:
    before = [result(1, 0, 0.9)]
    near, far = (oks_loss(compare_results(before, [result(1, 0, 0.9, moved=m)])) for m in (2.0, 20.0))
    assert 0.001 < near < 0.1
    assert 0.3 < far < 0.6


def test_joints_that_the_reference_hardly_believes_in_do_not_count() -> None:
    before, after = result(1, 0, 0.9), result(1, 0, 0.9, moved=80)
    before["keypoints"][2::6] = [0.01] * 9
    assert oks_loss(compare_results([before], [after])) == pytest.approx(0, abs=0.01)
