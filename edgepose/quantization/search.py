"""The fewest, cheapest layers in float that keep a model within its budget."""

from __future__ import annotations

import itertools
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


@dataclass(frozen=True)
class Outcome:
    """What the search found.

    Attributes
    ----------
    chosen
        The measurement to go with; the nearest one to the FP32 model of all if the budget cannot be met.
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
    measured urgency, and the shortest beginning of that order that keeps the budget, without the layers that turn out
    to be dispensable, the most expensive ones first.

    Where AP decides, which moves by chance, many candidates would always have a lucky one among them.  Then one layer
    is quantised, the least urgent one, then two, four and so on, at last all, and the search stops where the budget is
    missed for the first time (Angelopoulos et al., Learn then Test, 2021: tests in a fixed order, from the safest one
    on, need no correction for their number).

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
            report(f"{len(kept)} layers in float ({why}): {tried[kept].loss(budget, full)}; the budget is {budget}")
        return tried[kept].meets(budget, full)

    def outcome(kept: frozenset[Key], reasons: dict[Key, str]) -> Outcome:
        return Outcome(tried[kept], kept, True, list(tried.values()), {k: reasons[k] for k in kept})

    by_ap = budget.metric == "ap"
    known = dict.fromkeys(fragile, "known to be fragile: its result is what the decoder reads")
    if not by_ap:
        if attempt(frozenset(), "everything quantised"):
            return outcome(frozenset(), {})
        if fragile and attempt(fragile, "the layers that the decoder reads"):
            kept = _pruned(fragile, [], attempt)
            return outcome(kept, known)
    order = list(rank())
    if by_ap:
        # What a detector answers moves every crop of the network behind it, whose layers are therefore the safer ones.
        order.sort(key=lambda s: s.stage)
    keys = [(s.stage, s.layer.name) for s in order]
    reasons = {
        key: f"quantised alone it loses {s.loss:.4f} OKS; it has {100 * s.share:.1f} % of the arithmetic"
        for key, s in zip(keys, order, strict=True)
    }

    def first(count: int) -> frozenset[Key]:
        return frozenset(keys[:count])

    least = (_down if by_ap else _bisected)(
        len(keys), lambda count: attempt(first(count), "the most urgent ones" if count else "everything quantised")
    )
    if least == len(keys):
        best = min(tried, key=lambda k: (tried[k].distance(budget, full), tried[k].oks_loss))
        return Outcome(tried[best], best, False, list(tried.values()), {k: {**known, **reasons}[k] for k in best})
    kept = first(least) if by_ap else _pruned(first(least), order, attempt)
    return outcome(kept, reasons)


def _bisected(count: int, fits: Callable[[int], bool]) -> int:
    """The least number that fits, by doubling and halving; zero does not, ``count`` is taken to."""
    low, high = 0, count
    while low + 1 < high:
        middle = (low + high) // 2 if high < count else min(max(1, 2 * low), count - 1)
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


def _down(count: int, fits: Callable[[int], bool]) -> int:
    """``count``, which is taken to fit, less the last of 1, 2, 4, ..., ``count`` that fits before one does not."""
    less = [2**i for i in range(count.bit_length()) if 2**i < count] + [count]
    fitting = list(itertools.takewhile(lambda one: fits(count - one), less))
    return count - max(fitting, default=0)


def _pruned(
    kept: frozenset[Key], order: Sequence[Sensitivity], attempt: Callable[[frozenset[Key], str], bool]
) -> frozenset[Key]:
    """Without the layers that turn out to be dispensable."""
    share = {(s.stage, s.layer.name): s.share for s in order}
    for key in sorted(kept, key=lambda k: (-share.get(k, 0.0), k))[:PRUNED]:
        if len(kept) > 1 and attempt(kept - {key}, "one fewer"):
            kept = kept - {key}
    return kept
