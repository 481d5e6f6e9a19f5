"""From FP32 graphs to calibrated Q/DQ graphs within a budget, and the record of what it cost and gained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import sha256_of
from ..model import PoseModel
from .budget import DEFAULT_AP, DEFAULT_OKS, Measurement
from .consistency import Reference
from .emit import Quantised
from .form_choice import FormChoice, Measured
from .forms import Form, exact_forms, repaired
from .judge import Build, Judge
from .options import COMPARED, Int8Options, Report, Steps, labelled_for, samples_for, unread
from .pareto import refuse_picture, save_picture, table
from .placement import Layer, quantisable
from .ranges import Ranges
from .record import accuracy, accuracy_line, doubt_line, reasons, speed
from .scheme import Scheme
from .search import Key, Outcome, search
from .sensitivity import Sensitivity, sensitivities

#: Where a bundle keeps the ranges of its networks, each behind its role where there are two; those of another form of
#: the network have "balanced." in front.
RANGES = "ranges.json"
#: Labelled pictures for a budget in AP, at least: with fewer, all of them could go one way by chance in more than one
#: case of twenty (1 / 2**4).
FEWEST = 5


@dataclass(frozen=True)
class Result:
    """Quantised networks.

    Attributes
    ----------
    models
        A Q/DQ graph for each network.
    record
        For the manifest: calibration set, method, scheme, layers in float and why, accuracy and speed before and after.
    """

    models: list[PoseModel]
    record: dict[str, Any]


def quantise(
    models: Sequence[PoseModel],
    roles: Sequence[str],
    build: Build,
    precisions: Sequence[str],
    scheme: Scheme,
    options: Int8Options,
    folder: Path,
    report: Report = lambda line: None,
) -> Result:
    """Calibrate, quantise within the budget, and measure.

    Parameters
    ----------
    models, roles
        The FP32 graph and the role of each network.
    build
        Makes the target's engines of graphs.
    precisions
        The target's; those that INT8 is compared with.
    scheme
        The target's form of INT8.
    options
        See :class:`Int8Options`.
    folder
        Where the ranges are written.
    report
        Told what is being done.

    Raises
    ------
    EdgePoseError
        If calibration fails or the budget cannot be met; the message has the table of what was tried.
    """
    layers = [quantisable(m, scheme) for m in models]
    always = _always(options.keep_float, layers, roles)
    if all((i, layer.name) in always for i, part in enumerate(layers) for layer in part):
        raise InputError("No layer is left to quantise.", hint="Use --precision fp16, or keep fewer layers in float.")
    if options.picture is not None:
        refuse_picture(options.picture)
    _refuse_without_sigmas(models)
    labelled = labelled_for(options, report)
    budget = options.budget or (DEFAULT_AP if labelled else DEFAULT_OKS)
    by_ap = budget.metric == "ap"
    report("the FP32 model's poses, to compare with")
    references = [Reference(m, samples_for(m, options, COMPARED), COMPARED) for m in models]
    judge = Judge(build, references, labelled)
    full, results_full = judge.measure(models, "fp32")
    if judge.unreadable:
        report(f"AP is measured without {unread(judge.unreadable)}")
    if by_ap and labelled is not None:
        _refuse_few(len(labelled.with_people(judge.ids)))

    def written(key: Key) -> str:
        return key[1] if len(models) == 1 else f"{roles[key[0]]}/{key[1]}"

    def made(form: Form, kept: frozenset[Key]) -> list[Quantised]:
        return [form.quantised(i, [name for stage, name in kept | always if stage == i]) for i in range(len(models))]

    def tried_as(form: Form, kept: frozenset[Key], *, with_ap: bool = True) -> Measured:
        names = sorted(map(written, kept | always))
        return judge.measure([q.model for q in made(form, kept)], "int8", names, with_ap=with_ap)

    def searched(form: Form, whole: Measured) -> tuple[Outcome, dict[frozenset[Key], Measured]]:
        measured = {} if by_ap else {frozenset[Key](): whole}

        def measure(kept: frozenset[Key]) -> Measurement:
            if kept not in measured:
                measured[kept] = tried_as(form, kept)
            return measured[kept][0]

        def alone(index: int, kept: Collection[str]) -> Quantised:
            return form.quantised(index, [*kept, *(name for stage, name in always if stage == index)])

        def rank() -> list[Sensitivity]:
            progress = Steps(report, "layer by layer: what each costs alone")
            left = [[layer for layer in part if (i, layer.name) not in always] for i, part in enumerate(layers)]
            return sensitivities(left, alone, references, progress)

        return search(measure, budget, full, _fragile(models, layers) - always, rank, report), measured

    choice = FormChoice(budget, full, lambda f: tried_as(f, frozenset(), with_ap=not by_ap), report)
    repair = (lambda f: repaired(f, options, report)) if options.repair else None
    best: tuple[Outcome, Form, dict[frozenset[Key], Measured]] | None = None
    for form, whole in choice.candidates(exact_forms(models, scheme, options, report), repair):
        outcome, measured = searched(form, whole)
        if best is None or outcome.met or outcome.chosen.distance(budget, full) < best[0].chosen.distance(budget, full):
            best = outcome, form, measured
        if outcome.met:
            break
    assert best is not None
    outcome, form, measured = best
    tried = table(outcome.tried, full, outcome.chosen)
    if options.picture is not None:
        save_picture(options.picture, outcome.tried, full, outcome.chosen)
    if not outcome.met:
        lost = outcome.chosen.loss(budget, full)
        raise InputError(
            f"INT8 cannot meet the budget ({budget}): the nearest loses {lost}.\n{tried}",
            hint="Calibrate with more typical pictures or another --method, or use --precision fp16."
            if (outcome.chosen.ap_loss_bound or 0.0) <= budget.limit or not by_ap
            else "Label more pictures, bound the OKS that is lost (--max-oks-loss), or use --precision fp16.",
        )
    report("\n" + tried)
    files = _save_ranges(form, roles, folder)
    final = made(form, outcome.kept)
    took = speed(judge, models, [q.model for q in final], precisions, folder)
    record: dict[str, Any] = {
        "data": _data(form.ranges),
        "method": form.ranges[0].method,
        "ranges": {path.name: sha256_of(path) for path in files},
        "scheme": {**scheme.__dict__, "operators": sorted(scheme.operators)},
        "form": form.name,
        "forms": choice.seen,
        "float": reasons(outcome, always, final, written),
        "budget": {"metric": budget.metric, "limit": budget.limit, "cost": outcome.chosen.cost(budget, full)},
        "accuracy": accuracy(judge, outcome, full, results_full, measured[outcome.kept][1]),
        "speed": took,
        "tried": [m.to_dict() for m in [*outcome.tried, full]],
    }
    doubt = doubt_line(outcome, budget, full, len(judge.ids))
    for line in (accuracy_line(record["accuracy"]), took["verdict"], doubt):
        if line is not None:
            report(line)
    return Result([q.model for q in final], record)


def _always(names: Collection[str], layers: Sequence[Sequence[Layer]], roles: Sequence[str]) -> frozenset[Key]:
    """The layers that the user wants in float, ``role/name`` or ``name``."""
    known = {(i, layer.name) for i, part in enumerate(layers) for layer in part}
    found = set()
    for name in names:
        keys = {(i, n) for i, n in known if name in (n, f"{roles[i]}/{n}")}
        if not keys:
            listed = ", ".join(sorted(n for _, n in known)[:8])
            raise InputError(f"There is no layer '{name}' to keep in float.", hint=f"Some of its layers: {listed}.")
        found |= keys
    return frozenset(found)


def _refuse_without_sigmas(models: Sequence[PoseModel]) -> None:
    for keypoints in (m.spec.keypoints for m in models):
        if keypoints is not None and not keypoints.sigmas:
            raise InputError(
                f"Keypoint set '{keypoints.name}' has no sigmas, so the OKS that INT8 loses cannot be measured.",
                hint="Give the set 'sigmas' in the spec, one for each keypoint.",
            )


def _refuse_few(pictures: int) -> None:
    if pictures < FEWEST:
        raise InputError(
            f"People are labelled in {pictures} pictures; a budget in AP is kept with 95 % confidence, which takes"
            f" {FEWEST} at least.",
            hint="Label some dozens of pictures, or use --max-oks-loss, which needs no labels.",
        )


def _fragile(models: Sequence[PoseModel], layers: Sequence[Sequence[Layer]]) -> frozenset[Key]:
    """The last layers on every way to an output: what the decoder reads."""
    found: set[Key] = set()
    for index, (model, part) in enumerate(zip(models, layers, strict=True)):
        names = {layer.name for layer in part}
        producers = {o: n for n in model.graph.graph.node for o in n.output}
        open_ends, seen = [o.name for o in model.graph.graph.output], set()
        while open_ends:
            name = open_ends.pop()
            if name in seen or name not in producers:
                continue
            seen.add(name)
            if name in names:
                found.add((index, name))
            else:
                open_ends += producers[name].input
    return frozenset(found)


def _data(ranges: Sequence[Ranges]) -> dict[str, Any]:
    return dict(ranges[0].data) if len(ranges) == 1 else {"networks": [dict(r.data) for r in ranges]}


def _save_ranges(form: Form, roles: Sequence[str], folder: Path) -> list[Path]:
    """Write the ranges of the networks as they were trained, which serve again, and those that were used if others."""
    written = []
    for prefix, ranges in (("", form.trained), ("balanced.", form.ranges)):
        if not prefix or ranges is not form.trained:
            for role, found in zip(roles, ranges, strict=True):
                behind = f"{role}." if len(roles) > 1 else ""
                written.append(found.save(folder / f"{prefix}{behind}{RANGES}"))
    return written
