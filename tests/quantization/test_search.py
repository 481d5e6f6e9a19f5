"""The search for what stays in float: least sets, verdicts, order of the attempts."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.errors import InputError
from edgepose.quantization.budget import Budget, Measurement
from edgepose.quantization.placement import Layer
from edgepose.quantization.search import Key, Outcome, search
from edgepose.quantization.sensitivity import Sensitivity

FULL = Measurement((), 50.0, 0.0, 0.0, 10.0, 1000)


class World:
    """Layers whose losses add up, in OKS and in AP alike."""

    def __init__(self, losses: Sequence[float], fragile: Sequence[int] = (), macs: Sequence[int] = ()) -> None:
        self.losses = {(0, f"layer{i}"): loss for i, loss in enumerate(losses)}
        self.fragile = frozenset((0, f"layer{i}") for i in fragile)
        self.macs = list(macs) or [1] * len(losses)
        self.attempts: list[frozenset[Key]] = []
        self.ranked = 0

    def measure(self, kept: frozenset[Key]) -> Measurement:
        self.attempts.append(kept)
        lost = sum(loss for key, loss in self.losses.items() if key not in kept)
        return Measurement(tuple(name for _, name in sorted(kept)), 50 - 100 * lost, lost, 0.0, 1.0, 100)

    def rank(self) -> list[Sensitivity]:
        self.ranked += 1
        total = sum(self.macs)
        found = [
            Sensitivity(0, Layer(name, "Conv", macs, 1), loss, macs / total)
            for ((_, name), loss), macs in zip(self.losses.items(), self.macs, strict=True)
        ]
        return sorted(found, key=lambda s: -s.urgency)

    def search(self, limit: float, metric: str = "oks") -> Outcome:
        return search(self.measure, Budget(metric, limit), FULL, self.fragile, self.rank)  # type: ignore[arg-type]


def test_nothing_stays_in_float_if_nothing_must() -> None:
    world = World([0.001] * 5)
    outcome = world.search(0.01)
    assert outcome.met
    assert outcome.kept == frozenset()
    assert world.ranked == 0
    assert len(world.attempts) == 1


def test_the_layers_that_the_decoder_reads_are_tried_before_anything_is_ranked() -> None:
    world = World([0.001, 0.001, 0.5], fragile=[2])
    outcome = world.search(0.01)
    assert outcome.kept == world.fragile
    assert world.ranked == 0
    assert "decoder" in outcome.reasons[0, "layer2"]


def test_the_few_layers_that_cost_most_are_found() -> None:
    world = World([0.0001, 0.2, 0.0001, 0.3, 0.0001, 0.0001], fragile=[5])
    outcome = world.search(0.01)
    assert outcome.met
    assert outcome.kept == {(0, "layer1"), (0, "layer3")}
    assert outcome.reasons[0, "layer3"].startswith("quantised alone it loses 0.3000 OKS")


def test_a_cheap_layer_is_kept_rather_than_an_expensive_one() -> None:
    # Either alone would do; one of them has nearly all of the arithmetic.
    world = World([0.1, 0.1], macs=[990, 10])
    assert world.search(0.15).kept == {(0, "layer1")}


def test_a_budget_that_cannot_be_met_is_said_with_the_nearest() -> None:
    world = World([0.2, 0.2, 0.2])
    outcome = world.search(0.1)
    assert not outcome.met
    assert outcome.chosen.oks_loss == pytest.approx(0.2)
    assert len(outcome.kept) == 2


def test_the_budget_may_be_in_ap_points() -> None:
    world = World([0.001, 0.02, 0.001])
    outcome = world.search(0.4, "ap")
    assert outcome.kept == {(0, "layer1")}
    assert FULL.ap is not None
    assert outcome.chosen.ap is not None
    assert FULL.ap - outcome.chosen.ap <= 0.4


def test_luck_with_ap_neither_helps_nor_stops_the_search() -> None:
    # Ten layers of which five must be in float; AP says the opposite for some sets, by chance.
    class Lucky(World):
        def measure(self, kept: frozenset[Key]) -> Measurement:
            honest = super().measure(kept)
            assert honest.ap is not None
            luck = {1: +2.0, 5: -1.5, 8: -0.5}.get(len(kept), 0.0)
            return Measurement(honest.kept, honest.ap + luck, honest.oks_loss, 0.0, 1.0, 100)

    outcome = Lucky([0.02] * 5 + [0.0005] * 5).search(0.4, "ap")
    assert outcome.met
    assert len(outcome.kept) == 6  # five by OKS; with five AP is unlucky
    assert outcome.chosen.oks_loss <= 0.01


@given(
    losses=st.lists(st.floats(0, 0.2), min_size=2, max_size=12),
    limit=st.floats(0.001, 0.5),
    fragile=st.sets(st.integers(0, 11), max_size=3),
)
def test_what_is_found_is_within_the_budget_and_no_layer_can_be_spared(
    losses: list[float], limit: float, fragile: set[int]
) -> None:
    world = World(losses, [i for i in fragile if i < len(losses)])
    outcome = world.search(limit)
    assert outcome.met == (outcome.chosen.oks_loss <= limit)
    assert outcome.chosen in outcome.tried
    if outcome.met:
        for key in outcome.kept if len(outcome.kept) > 1 else ():
            assert world.measure(outcome.kept - {key}).oks_loss > limit
    else:
        assert min(losses) > limit  # not even with a single layer in INT8
    assert set(outcome.reasons) == outcome.kept


def test_the_pareto_front_has_only_what_nothing_else_beats() -> None:
    outcome = World([0.0001, 0.2, 0.0001, 0.3, 0.0001, 0.0001]).search(0.01)
    front = outcome.pareto
    assert [len(m.kept) for m in front] == sorted({len(m.kept) for m in front})
    assert [m.oks_loss for m in front] == sorted((m.oks_loss for m in front), reverse=True)


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf")])
def test_budgets_are_numbers_of_at_least_zero(limit: float) -> None:
    with pytest.raises(InputError, match="at least 0"):
        Budget("ap", limit)
