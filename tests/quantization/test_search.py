"""The search for what stays in float: least sets, verdicts, order of the attempts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.errors import InputError
from edgepose.quantization.budget import Budget, Measurement
from edgepose.quantization.placement import Layer
from edgepose.quantization.record import doubt_line
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
        ap = 50 - 100 * lost
        return Measurement(tuple(name for _, name in sorted(kept)), ap, lost, 0.0, 1.0, 100, self.bound(100 * lost))

    def bound(self, lost: float) -> float:
        """AP points lost at most, where the pictures leave no doubt."""
        return lost

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


class Doubtful(World):
    """AP lost is known to a number of points only."""

    def __init__(self, losses: Sequence[float], doubt: float) -> None:
        super().__init__(losses)
        self.doubt = doubt

    def bound(self, lost: float) -> float:
        return lost + self.doubt


def test_a_budget_in_ap_holds_with_what_the_pictures_leave_in_doubt() -> None:
    losses = [0.002] * 10  # 0.2 points each
    few, many = Doubtful(losses, 0.9).search(2.0, "ap"), Doubtful(losses, 0.1).search(2.0, "ap")
    assert [len(few.kept), len(many.kept)] == [6, 2]  # 4 and 8 in INT8


def test_what_would_remove_the_doubt_is_said() -> None:
    budget = Budget("ap", 2.0)
    outcome = Doubtful([0.0021] * 10, 0.9).search(budget.limit, "ap")
    line = doubt_line(outcome, budget, FULL, 81)
    assert line is not None
    assert "With 2 layers in float AP lost 1.68; 81 pictures leave in doubt" in line
    assert "(2.58 at most)" in line
    assert "--max-oks-loss" in line
    certain = World([0.0021] * 10).search(budget.limit, "ap")
    assert doubt_line(certain, budget, FULL, 81) is None
    by_oks = Budget("oks", 0.01)
    assert doubt_line(World([0.002] * 10).search(by_oks.limit), by_oks, FULL, 81) is None


def test_doubt_that_is_larger_than_the_budget_meets_it_with_nothing() -> None:
    outcome = Doubtful([0.0001] * 4, 0.5).search(0.4, "ap")
    assert not outcome.met


class Lucky(World):
    """AP says the opposite for some numbers of layers in float, by chance."""

    def __init__(self, losses: Sequence[float], luck: dict[int, float]) -> None:
        super().__init__(losses)
        self.luck = luck

    def measure(self, kept: frozenset[Key]) -> Measurement:
        honest = super().measure(kept)
        assert honest.ap is not None
        assert honest.ap_loss_bound is not None
        luck = self.luck.get(len(kept), 0.0)
        return dataclasses.replace(honest, ap=honest.ap + luck, ap_loss_bound=honest.ap_loss_bound - luck)


def test_a_lucky_ap_below_a_missed_budget_is_not_looked_for() -> None:
    # Ten layers of which two must be in float; four in INT8 are unlucky, eight would do.
    losses = [0.01] * 2 + [0.0001] * 8
    assert len(World(losses).search(0.4, "ap").kept) == 2
    outcome = Lucky(losses, {6: -5.0}).search(0.4, "ap")
    assert outcome.met
    assert len(outcome.kept) == 8


def test_a_detector_is_quantised_after_the_network_behind_it_where_ap_decides() -> None:
    class Pair(World):
        def __init__(self) -> None:
            super().__init__([])
            self.losses = {(0, "box"): 0.001, (1, "head"): 0.002, (1, "body"): 0.003}
            self.macs = [1, 1, 1]

        def rank(self) -> list[Sensitivity]:
            found = [Sensitivity(i, Layer(name, "Conv", 1, 1), v, 1 / 3) for (i, name), v in self.losses.items()]
            return sorted(found, key=lambda s: -s.urgency)

    pair = Pair()
    assert pair.search(0.55, "ap").kept == {(0, "box")}
    assert [sorted(kept) for kept in pair.attempts] == [[(0, "box"), (1, "body")], [(0, "box")], []]


def test_luck_with_everything_quantised_does_not_help() -> None:
    lucky = Lucky([0.003] * 10, {0: +9.0})
    outcome = lucky.search(0.4, "ap")
    assert len(outcome.kept) == 9
    assert [len(kept) for kept in lucky.attempts] == [9, 8]


def test_ap_gained_with_much_oks_lost_does_not_count() -> None:
    outcome = Lucky([0.06] * 2, {0: +9.0, 1: +9.0}).search(0.4, "ap")
    assert not outcome.met


@given(losses=st.lists(st.floats(0, 0.02), min_size=2, max_size=60), limit=st.floats(0.1, 2))
def test_a_budget_in_ap_is_kept_and_twice_as_many_layers_in_int8_would_miss_it(
    losses: list[float], limit: float
) -> None:
    world = World(losses)
    outcome = world.search(limit, "ap")
    order = [(s.stage, s.layer.name) for s in world.rank()]
    quantised = len(losses) - len(outcome.kept)
    if outcome.met:
        assert outcome.chosen.meets(Budget("ap", limit), FULL)
        if outcome.kept:
            fewer = frozenset(order[: max(0, len(losses) - 2 * quantised)])
            assert not world.measure(fewer).meets(Budget("ap", limit), FULL)
    else:
        assert not world.measure(frozenset(order[:-1])).meets(Budget("ap", limit), FULL)


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
