"""What an INT8 bundle says about itself: layers in float and why, accuracy and speed before and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..evaluation.bootstrap import ap_difference
from ..evaluation.timing import interleaved_ms
from ..model import PoseModel
from .budget import Budget, Measurement
from .emit import Quantised
from .judge import ByView, Judge
from .search import Key, Outcome


def reasons(
    outcome: Outcome, always: frozenset[Key], final: Sequence[Quantised], written: Callable[[Key], str]
) -> dict[str, str]:
    reasons = {written((i, name)): why for i, q in enumerate(final) for name, why in q.kept.items()}
    reasons.update({written(k): outcome.reasons.get(k, "") for k in outcome.kept})
    reasons.update({written(k): "asked for" for k in always})
    return dict(sorted(reasons.items()))


def accuracy(
    judge: Judge,
    outcome: Outcome,
    full: Measurement,
    before: ByView,
    after: ByView,
) -> dict[str, Any]:
    one, labelled = outcome.chosen, judge.labelled
    record: dict[str, Any] = {"oks_loss": one.oks_loss, "shift_p99": one.shift, "on": judge.placement}
    if labelled is not None:
        apart = ap_difference(labelled.truth, before, after, judge.ids)
        record |= {
            "AP": {"before": full.ap, "after": one.ap, "interval": [apart.low, apart.high]},
            "protocol": {
                "annotations": labelled.truth.path.name,
                "images": len(judge.ids),
                "views": labelled.views,
                "interval": "95 %, paired bootstrap over the pictures, of AP after less AP before, in points of 100",
            },
        }
    return record


def accuracy_line(accuracy: dict[str, Any]) -> str:
    if "AP" not in accuracy:
        moved = f"joints moved by {accuracy['shift_p99']:.2f} px (p99)"
        return f"INT8 loses {accuracy['oks_loss']:.4f} OKS against FP32; {moved}"
    ap = accuracy["AP"]
    low, high = ap["interval"]
    return f"AP {ap['before']:.2f} in FP32, {ap['after']:.2f} in INT8; difference 95 % within [{low:+.2f}, {high:+.2f}]"


def doubt_line(outcome: Outcome, budget: Budget, full: Measurement, images: int) -> str | None:
    """What to do where fewer layers in float seemed to be enough and the pictures are too few to say so."""
    if budget.metric != "ap":
        return None
    rest = [
        m
        for m in outcome.tried
        if m.cost(budget, full) <= budget.limit < (m.ap_loss_bound or 0.0) and len(m.kept) < len(outcome.chosen.kept)
    ]
    if not rest:
        return None
    one = min(rest, key=lambda m: len(m.kept))
    return (
        f"With {len(one.kept)} layers in float AP lost {one.cost(budget, full):.2f}; {images} pictures leave in doubt"
        f" whether that is within the budget ({one.ap_loss_bound:.2f} at most). To have more of the network in INT8,"
        " label more pictures, count each in several views (--views 8), or bound the OKS that is lost (--max-oks-loss)"
    )


def speed(
    judge: Judge, models: Sequence[PoseModel], quantised: Sequence[PoseModel], precisions: Sequence[str], folder: Path
) -> dict[str, Any]:
    """Median milliseconds of one input through all networks, in turns, and what follows from them.

    Nothing is measured where the target's engines do not run: the times of another runtime would mislead.
    """
    if not judge.on_target:
        verdict = f"Speed was not measured: nothing here runs such engines. Accuracy is that of {judge.placement}"
        return {"ms": {}, "runtime": "", "verdict": verdict}
    loaded, names = [], [p for p in ("fp32", "fp16", "int8") if p in precisions]
    with TemporaryDirectory(dir=folder, prefix=".speed-") as place:
        try:
            for name in names:
                inside = Path(place) / name
                inside.mkdir()
                loaded.append(judge.stages(quantised if name == "int8" else models, name, inside))
            ms = dict(zip(names, interleaved_ms(loaded, judge.inputs), strict=True))
        finally:
            for stages in loaded:
                for stage in stages:
                    stage.session.close()
    rest = {name: value for name, value in ms.items() if name != "int8"}
    best = min(rest, key=rest.__getitem__)
    ratio = rest["fp32"] / ms["int8"]
    verdict = f"INT8 takes {ms['int8']:.2f} ms, FP32 {rest['fp32']:.2f} ms: {ratio:.2f} times as fast on this machine"
    if rest[best] <= ms["int8"]:
        verdict = (
            f"INT8 is not faster here: {ms['int8']:.2f} ms, {best.upper()} {rest[best]:.2f} ms."
            f" Use --precision {best} on this device."
        )
    return {"ms": {k: round(v, 4) for k, v in ms.items()}, "runtime": judge.placement, "verdict": verdict}
