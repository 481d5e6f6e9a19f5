"""How much OKS a quantised network loses, over people that it believes in more or less."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.errors import InputError
from edgepose.evaluation.parity import Comparison
from edgepose.quantization.consistency import oks_loss


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
