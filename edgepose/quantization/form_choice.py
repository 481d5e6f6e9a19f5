"""Which forms of the networks the search for layers in float goes through, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from .budget import Budget, Measurement
from .forms import Form
from .judge import ByView
from .options import Report

#: A measurement, and COCO results for each view (none without labels).
Measured = tuple[Measurement, ByView]
#: In how many forms the search is done at most: no form is the best for all networks, but each one takes as long as the
#: first.
SEARCHED = 2


class FormChoice:
    """Measures forms with everything quantised.

    Parameters
    ----------
    budget
        What may be lost.
    full
        The FP32 model.
    measure
        Measures a form with everything quantised.
    report
        Told what came of it.
    """

    def __init__(self, budget: Budget, full: Measurement, measure: Callable[[Form], Measured], report: Report) -> None:
        self._budget, self._full, self._measure, self._report = budget, full, measure, report
        #: What each form loses, for the record.
        self.seen: dict[str, dict[str, float]] = {}

    def candidates(
        self, exact: Generator[Form, Form, None], repaired: Callable[[Form], Form] | None
    ) -> Iterator[tuple[Form, Measured]]:
        """The form to search in, and others in case the search fails there.

        The first one that is within the budget with everything quantised; else the nearest ones in OKS, each with
        learned rounding and corrected biases if that is better still.  For a budget in AP only the nearest one in OKS:
        the best AP of several forms is luck, and a second search would have its own one case in twenty to be wrong.

        Parameters
        ----------
        exact
            Forms that are exact in float; gets the best so far back each time.
        repaired
            Repairs a form; None for no repair.
        """
        measured: list[tuple[Form, Measured]] = []
        form = next(exact)
        while True:
            measured.append((form, self._look_at(form)))
            if self._meets(measured[-1]):
                yield measured[-1]
                return
            measured.sort(key=_oks_lost)
            try:
                form = exact.send(measured[0][0])
            except StopIteration:
                break
        networks: list[object] = []
        most = 1 if self._budget.metric == "ap" else SEARCHED
        for one in measured:
            if any(one[0].models is other for other in networks) or len(networks) == most:
                continue
            networks.append(one[0].models)
            if repaired is None:
                yield one
            else:
                better = repaired(one[0])
                yield min(one, (better, self._look_at(better)), key=_oks_lost)

    def _look_at(self, form: Form) -> Measured:
        measured = self._measure(form)
        one = measured[0]
        self.seen[form.name] = {"oks_loss": round(one.oks_loss, 6)}
        if self._budget.metric == "ap":
            self._report(f"everything quantised, {form.name}: OKS lost: {one.oks_loss:.4f}")
        else:
            self.seen[form.name]["cost"] = round(one.cost(self._budget, self._full), 6)
            lost = one.loss(self._budget, self._full)
            self._report(f"everything quantised, {form.name}: {lost}; the budget is {self._budget}")
        return measured

    def _meets(self, one: tuple[Form, Measured]) -> bool:
        return self._budget.metric != "ap" and one[1][0].meets(self._budget, self._full)


def _oks_lost(one: tuple[Form, Measured]) -> float:
    return one[1][0].oks_loss
