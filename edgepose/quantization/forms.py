"""Forms of the same float networks, from the cheapest to the most elaborate, in which INT8 may lose less."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass

from ..model import PoseModel
from .channel_balance import balance_channels
from .data import CalibrationSet
from .dead_channels import settle_dead_channels
from .emit import Quantised, quantize_model
from .equalisation import equalise
from .migration import migrate
from .options import Int8Options, Report, Steps, is_calibrated, ranges_for, samples_for
from .placement import quantisable
from .ranges import Ranges
from .repair import SAMPLES, Repair, learn_repair
from .scheme import Scheme

#: Methods of calibration to try where the user names none: none is the best for all networks.  Percentiles keep the
#: scores of heatmaps, least squared errors suit small networks.
METHODS = ("percentile", "sqnr", "mse")
#: Ways to move the sizes of channels between layers; neither is the best for all networks.
_WAYS: dict[str, Callable[[PoseModel, CalibrationSet], PoseModel]] = {
    "equalised": lambda model, samples: equalise(model),
    "balanced": balance_channels,
}


@dataclass(frozen=True, eq=False)
class Form:
    """Float networks with their ranges, ready to be quantised.

    Attributes
    ----------
    name
        What was done to them, for the record.
    models
        The float networks; they compute what the original ones do.
    ranges
        Of their activations.
    scheme
        The target's form of INT8.
    method
        How the ranges were found.
    trained
        Ranges of the networks as they were trained, by the same method; they serve again for other targets.
    repairs
        Learned rounding and corrected biases of each; None for neither.
    """

    name: str
    models: Sequence[PoseModel]
    ranges: Sequence[Ranges]
    scheme: Scheme
    method: str
    trained: Sequence[Ranges]
    repairs: Sequence[Repair] | None = None

    def quantised(self, index: int, keep_float: Collection[str]) -> Quantised:
        """One of the networks with these layers in float."""
        if self.repairs is not None:
            return self.repairs[index].quantised(self.ranges[index], keep_float)
        return quantize_model(self.models[index], self.ranges[index], self.scheme, keep_float)


def exact_forms(
    models: Sequence[PoseModel], scheme: Scheme, options: Int8Options, report: Report
) -> Generator[Form, Form, None]:
    """The forms that are exact in float, each made when it is asked for; the best so far is sent back each time.

    First the networks as they were trained, with the ranges of several methods.  Then, with the best of these, dead
    channels settled, channels equalised across layers by their weights or balanced by their activations, and outliers
    migrated into weights.
    """
    best: Form | None = None
    for method in METHODS if options.method is None and not is_calibrated(options) else (options.method or "",):
        ranges = [ranges_for(m, options, method, report) for m in models]
        name = f"as trained, {ranges[0].method} ranges"
        best = yield Form(name, models, ranges, scheme, method, ranges)
    assert best is not None
    for how, way in _WAYS.items() if options.repair and not is_calibrated(options) else ():
        report(f"{how} across layers")
        samples = [samples_for(m, options, SAMPLES) for m in models]
        changed = [migrate(way(settle_dead_channels(m), s), s) for m, s in zip(models, samples, strict=True)]
        ranges = [ranges_for(m, options, best.method, report) for m in changed]
        yield Form(f"{how}, {ranges[0].method} ranges", changed, ranges, scheme, best.method, best.trained)


def repaired(form: Form, options: Int8Options, report: Report) -> Form:
    """A form with learned rounding and corrected biases."""
    repairs = []
    for model in form.models:
        steps = Steps(report, "learning how to round, layer by layer", len(quantisable(model, form.scheme)))
        repairs.append(learn_repair(model, samples_for(model, options, SAMPLES), form.scheme, on_layer=steps))
    return dataclasses.replace(form, name=f"{form.name}, rounding learned, biases corrected", repairs=repairs)
