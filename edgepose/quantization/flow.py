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
from .emit import Quantised, quantize_model
from .equalisation import equalise
from .judge import Build, Judge
from .options import COMPARED, Int8Options, Report, Steps, labelled_for, ranges_for, samples_for
from .pareto import save_picture, table
from .placement import Layer, quantisable
from .ranges import Ranges
from .record import accuracy, accuracy_line, reasons, speed
from .scheme import Scheme
from .search import Key, search
from .sensitivity import Sensitivity, sensitivities

#: Where a bundle keeps the ranges of its networks, each behind its role where there are two.
RANGES = "ranges.json"


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
    if options.equalise:
        report("equalising weights across layers")
    floats = [equalise(m) for m in models] if options.equalise else list(models)
    ranges = [ranges_for(m, options, report) for m in floats]
    for model, role, found in zip(floats, roles, ranges, strict=True):
        found.check(model.graph)
        found.save(folder / (RANGES if len(models) == 1 else f"{role}.{RANGES}"))
    layers = [quantisable(m, scheme) for m in floats]
    always = _always(options.keep_float, layers, roles)
    labelled = labelled_for(options)
    budget = options.budget or (DEFAULT_AP if labelled else DEFAULT_OKS)
    if budget.metric == "ap" and labelled is None:
        raise InputError(
            "A budget in AP needs labelled pictures.",
            hint="Calibrate with a COCO JSON and --images, give --annotations, or use --max-oks-loss.",
        )
    report("the FP32 model's poses, to compare with")
    references = [Reference(m, samples_for(m, options), COMPARED) for m in floats]
    judge = Judge(build, references, labelled)
    full, results_full = judge.measure(models, "fp32")

    def made(kept: frozenset[Key]) -> list[Quantised]:
        return [
            quantize_model(m, r, scheme, [name for stage, name in kept | always if stage == i])
            for i, (m, r) in enumerate(zip(floats, ranges, strict=True))
        ]

    def written(key: Key) -> str:
        return key[1] if len(models) == 1 else f"{roles[key[0]]}/{key[1]}"

    results: dict[frozenset[Key], list[dict[str, Any]]] = {}

    def measure(kept: frozenset[Key]) -> Measurement:
        names = sorted(map(written, kept | always))
        one, results[kept] = judge.measure([q.model for q in made(kept)], "int8", names)
        return one

    def rank() -> list[Sensitivity]:
        progress = Steps(report, "layer by layer: what each costs alone")
        return sensitivities(floats, layers, ranges, scheme, references, progress)

    outcome = search(measure, budget, full, _fragile(floats, layers) - always, rank, report)
    tried = table(outcome.tried, full, outcome.chosen)
    if options.picture is not None:
        save_picture(options.picture, outcome.tried, full, outcome.chosen)
    if not outcome.met:
        lost = outcome.chosen.cost(budget, full)
        raise InputError(
            f"INT8 cannot meet the budget ({budget}): the nearest loses {lost:.3g}.\n{tried}",
            hint="Calibrate with more typical pictures or another --method, try --equalise, or use --precision fp16.",
        )
    report("\n" + tried)
    final = made(outcome.kept)
    took = speed(judge, models, [q.model for q in final], precisions, folder)
    record: dict[str, Any] = {
        "data": _data(ranges),
        "method": ranges[0].method,
        "ranges": {r: sha256_of(p) for r, p in _range_files(folder, roles)},
        "scheme": {**scheme.__dict__, "operators": sorted(scheme.operators)},
        "equalised": options.equalise,
        "float": reasons(outcome, always, final, written),
        "budget": {"metric": budget.metric, "limit": budget.limit, "cost": outcome.chosen.cost(budget, full)},
        "accuracy": accuracy(labelled, outcome, full, results_full, results[outcome.kept], judge.placement),
        "speed": took,
        "tried": [m.to_dict() for m in [*outcome.tried, full]],
    }
    for line in (accuracy_line(record["accuracy"]), took["verdict"]):
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


def _range_files(folder: Path, roles: Sequence[str]) -> list[tuple[str, Path]]:
    names = [RANGES] if len(roles) == 1 else [f"{role}.{RANGES}" for role in roles]
    return [(name, folder / name) for name in names]
