"""The fewest, cheapest layers in float that keep a model within its budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .budget import Budget, Measurement
from .sensitivity import Sensitivity

#: A layer: place of its network, name.
Key = tuple[int, str]
#: Measures the model with these layers in float.
Try = Callable[[frozenset[Key]], Measurement]
#: How many layers are tried again in INT8 at the end.
PRUNED = 12
#: In how many steps at most the way from what is near enough to all layers in float is gone.
STEPS = 20


@dataclass(frozen=True)
class Outcome:
    """What the search found.

    Attributes
    ----------
    chosen
        The measurement to go with; the least loss of all if the budget cannot be met.
    kept
        The layers that it has in float.
    met
        Whether it is within the budget.
    tried
        Everything that was measured, in order.
    reasons
        Layer -> why it is in float.
    """

    chosen: Measurement
    kept: frozenset[Key]
    met: bool
    tried: Sequence[Measurement]
    reasons: dict[Key, str] = field(default_factory=dict)

    @property
    def pareto(self) -> list[Measurement]:
        """Those that no other beats in both the layers in float and the loss in OKS."""
        best: list[Measurement] = []
        for one in sorted(self.tried, key=lambda m: (len(m.kept), m.oks_loss)):
            if not best or one.oks_loss < best[-1].oks_loss:
                best.append(one)
        return best


def search(
    measure: Try,
    budget: Budget,
    full: Measurement,
    fragile: frozenset[Key],
    rank: Callable[[], Sequence[Sensitivity]],
    report: Callable[[str], Any] = lambda line: None,
) -> Outcome:
    """Find what must stay in float.

    First nothing, then the layers that are known to be fragile.  If neither is enough, all layers in the order of their
    measured urgency: the shortest beginning of that order that is near enough
    (:meth:`~.budget.Measurement.is_near`), found by doubling and halving, some more layers if the budget is still
    missed, then without the layers that turn out to be dispensable, the most expensive ones first.

    Parameters
    ----------
    measure
        Measures the model with given layers in float.
    budget
        What may be lost.
    full
        The FP32 model.
    fragile
        Layers that are known to be fragile.
    rank
        Measures the sensitivity of all layers; called only if it is needed.
    report
        Told what is being done.
    """
    tried: dict[frozenset[Key], Measurement] = {}

    def attempt(kept: frozenset[Key], why: str) -> bool:
        if kept not in tried:
            tried[kept] = measure(kept)
            cost = tried[kept].cost(budget, full)
            lost = f"{cost:.3g} (OKS lost: {tried[kept].oks_loss:.4f})"
            report(f"{len(kept)} layers in float ({why}): {lost}; the budget is {budget}")
        return tried[kept].meets(budget, full)

    def outcome(kept: frozenset[Key], reasons: dict[Key, str]) -> Outcome:
        return Outcome(tried[kept], kept, True, list(tried.values()), {k: reasons[k] for k in kept})

    if attempt(frozenset(), "everything quantised"):
        return outcome(frozenset(), {})
    known = dict.fromkeys(fragile, "known to be fragile: its result is what the decoder reads")
    if fragile and attempt(fragile, "the layers that the decoder reads"):
        kept = _pruned(fragile, [], attempt)
        return outcome(kept, known)
    order = list(rank())
    keys = [(s.stage, s.layer.name) for s in order]
    reasons = {
        key: f"quantised alone it loses {s.loss:.4f} OKS; it has {100 * s.share:.1f} % of the arithmetic"
        for key, s in zip(keys, order, strict=True)
    }

    def first(count: int) -> frozenset[Key]:
        return frozenset(keys[:count])

    low, high = 0, len(keys)
    while low + 1 < high:
        middle = (low + high) // 2 if high < len(keys) else min(max(1, 2 * low), len(keys) - 1)
        attempt(first(middle), "the most urgent ones")
        if tried[first(middle)].is_near(budget, full):
            high = middle
        else:
            low = middle
    while high < len(keys) and not attempt(first(high), "some more"):
        high += max(1, len(keys) // STEPS)
    if high >= len(keys):
        best = min(tried, key=lambda k: (tried[k].oks_loss, tried[k].cost(budget, full)))
        return Outcome(tried[best], best, False, list(tried.values()), {k: {**known, **reasons}[k] for k in best})
    kept = _pruned(first(high), order, attempt)
    return outcome(kept, reasons)


def _pruned(
    kept: frozenset[Key], order: Sequence[Sensitivity], attempt: Callable[[frozenset[Key], str], bool]
) -> frozenset[Key]:
    """Without the layers that turn out to be dispensable."""
    share = {(s.stage, s.layer.name): s.share for s in order}
    for key in sorted(kept, key=lambda k: (-share.get(k, 0.0), k))[:PRUNED]:
        if len(kept) > 1 and attempt(kept - {key}, "one fewer"):
            kept = kept - {key}
    return kept
