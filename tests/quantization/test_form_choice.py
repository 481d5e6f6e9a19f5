"""Which forms the search goes through: the first that will do, else the nearest ones, repaired."""

from __future__ import annotations

from collections.abc import Generator, Mapping

import pytest

from edgepose.plugins import converter
from edgepose.quantization.budget import Budget, Measurement, Metric
from edgepose.quantization.form_choice import FormChoice
from edgepose.quantization.forms import Form

FULL = Measurement((), 50.0, 0.0, 0.0, 10.0, 1000)


class Forms:
    """Forms that lose a given OKS; "a1" and "a2" are two methods for the same networks "a"."""

    def __init__(self, losses: Mapping[str, float]) -> None:
        self.losses = losses
        self.networks: dict[str, list[object]] = {}
        self.sent: list[str] = []

    def form(self, name: str) -> Form:
        scheme = converter("onnx").scheme
        assert scheme is not None
        models = self.networks.setdefault(name[0], [])
        return Form(name, models, [], scheme, "mse", [])  # type: ignore[arg-type]

    def exact(self) -> Generator[Form, Form, None]:
        for name in [n for n in self.losses if not n.endswith("+")]:
            best = yield self.form(name)
            self.sent.append(best.name)

    def repaired(self, form: Form) -> Form:
        return self.form(f"{form.name}+")

    def choose(
        self, limit: float, *, repair: bool = True, metric: Metric = "oks"
    ) -> tuple[list[str], dict[str, dict[str, float]]]:
        def measure(form: Form) -> tuple[Measurement, list[object]]:
            return Measurement((), 50.0, self.losses[form.name], 0.0, 1.0, 100), []

        choice = FormChoice(Budget(metric, limit), FULL, measure, lambda line: None)  # type: ignore[arg-type]
        found = choice.candidates(self.exact(), self.repaired if repair else None)
        return [form.name for form, _ in found], choice.seen


LOSSES = {"a1": 0.06, "a2": 0.05, "b": 0.02, "c": 0.03, "a2+": 0.01, "b+": 0.015, "c+": 0.04}


def test_the_first_form_within_the_budget_is_the_only_one() -> None:
    names, seen = Forms(LOSSES).choose(0.055)
    assert names == ["a2"]
    assert list(seen) == ["a1", "a2"]


def test_the_nearest_forms_follow_one_another_each_as_it_is_or_repaired() -> None:
    forms = Forms(LOSSES)
    names, seen = forms.choose(0.001)
    assert names == ["b+", "c"]
    assert seen["c+"] == {"cost": 0.04, "oks_loss": 0.04}
    # What is best so far is known to who makes the forms: it decides the method for those that come.
    assert forms.sent == ["a1", "a2", "b", "b"]


def test_two_methods_for_one_network_are_not_two_forms_to_search_in() -> None:
    names, _ = Forms({"a1": 0.02, "a2": 0.01, "b": 0.03}).choose(0.001, repair=False)
    assert names == ["a2", "b"]


def test_where_ap_decides_there_is_one_form_the_nearest_in_oks() -> None:
    names, seen = Forms(LOSSES).choose(50, metric="ap")
    assert names == ["b+"]
    assert seen["b+"] == {"oks_loss": 0.015}


@pytest.mark.parametrize("taken", [1, 2])
def test_no_form_is_repaired_before_it_is_asked_for(taken: int) -> None:
    forms = Forms(LOSSES)
    repaired: list[str] = []

    def repair(form: Form) -> Form:
        repaired.append(form.name)
        return forms.repaired(form)

    choice = FormChoice(
        Budget("oks", 0.001),
        FULL,
        lambda form: (Measurement((), 50.0, LOSSES[form.name], 0.0, 1.0, 100), []),
        lambda line: None,
    )
    found = choice.candidates(forms.exact(), repair)
    for _ in range(taken):
        next(found)
    assert repaired == ["b", "c"][:taken]
