"""What INT8 may cost, and what was measured of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InputError

Metric = Literal["ap", "oks", "shift"]
_UNITS = {"ap": "AP points lost", "oks": "OKS lost", "shift": "px (p99)"}


@dataclass(frozen=True)
class Budget:
    """The most that INT8 may cost.

    Attributes
    ----------
    metric
        ``ap``: COCO AP lost, in points of 100, on labelled pictures.  ``oks``: one minus the mean OKS of the people
        with those that the FP32 model finds, weighted by their scores, no labels needed; people lost or too many count
        as 0.  ``shift``: pixels of the calibration inputs that one joint in a hundred may exceed.
    limit
        In the metric's unit.
    """

    metric: Metric
    limit: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise InputError(f"The budget is {self.limit}; it must be a number of at least 0.")

    def __str__(self) -> str:
        most = f"at most {self.limit:g} {_UNITS[self.metric]}"
        return f"{most} with 95 % confidence, and {OKS_OF_A_POINT * self.limit:g} OKS" if self.metric == "ap" else most


#: Where the user sets none: Intel's largest published loss of an INT8 pose network; without labels, a loss of OKS of
#: about the size of the smallest that was seen in networks quantised whole.
DEFAULT_AP, DEFAULT_OKS = Budget("ap", 0.4), Budget("oks", 0.01)


#: Loss of OKS that a budget of an AP point allows.  Joints that two places compete for cost OKS and, over many
#: pictures, hardly any AP.  What loses more than this has not kept its AP, but found other poses that happen to fit.
OKS_OF_A_POINT = 0.1


@dataclass(frozen=True)
class Measurement:
    """A candidate, measured.

    Attributes
    ----------
    kept
        Layers in float, ``stage/layer`` where there are two networks.
    ap
        AP in points of 100; None without labels.
    oks_loss
        One minus the mean OKS with the FP32 model.
    shift
        99th percentile of the joints' distance from the FP32 model's, in pixels of the inputs.
    ms
        Median milliseconds of one input through all networks; None where the target's engines do not run here.
    size
        Bytes of the engines.
    ap_loss_bound
        AP points that it loses at most with 95 % confidence, by bootstrap over the pictures; None without labels.
    """

    kept: tuple[str, ...]
    ap: float | None
    oks_loss: float
    shift: float
    ms: float | None
    size: int
    ap_loss_bound: float | None = None

    def cost(self, budget: Budget, full: Measurement) -> float:
        """What it loses against the FP32 model ``full``, in the unit of the budget."""
        if budget.metric == "oks":
            return self.oks_loss
        if budget.metric == "shift":
            return self.shift
        assert self.ap is not None
        assert full.ap is not None
        return full.ap - self.ap

    def distance(self, budget: Budget, full: Measurement) -> float:
        """How far it lies from the FP32 model, to choose the nearest one: the cost, but OKS where AP decides."""
        return self.oks_loss if budget.metric == "ap" else self.cost(budget, full)

    def meets(self, budget: Budget, full: Measurement) -> bool:
        """Whether it stays within the budget.

        AP of some dozen pictures moves by half a point with nothing changed but chance.  A budget in AP is therefore
        kept only by what loses no more with 95 % confidence, so that it is kept on other pictures as well: the more
        pictures are labelled, the more layers may be int8.  As a safeguard where they are few, the budget stands for
        one in OKS as well, by :data:`OKS_OF_A_POINT`.
        """
        if budget.metric != "ap":
            return self.cost(budget, full) <= budget.limit
        assert self.ap_loss_bound is not None
        return self.ap_loss_bound <= budget.limit and self.oks_loss <= OKS_OF_A_POINT * budget.limit

    def loss(self, budget: Budget, full: Measurement) -> str:
        """The cost in words, for progress and verdicts."""
        sure = f"at most {self.ap_loss_bound:.3g} with 95 % confidence; " if budget.metric == "ap" else ""
        return f"{self.cost(budget, full):.3g} ({sure}OKS lost: {self.oks_loss:.4f})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the manifest."""
        return {
            "float": list(self.kept),
            "AP": None if self.ap is None else round(self.ap, 3),
            "AP_loss_bound": None if self.ap_loss_bound is None else round(self.ap_loss_bound, 3),
            "oks_loss": round(self.oks_loss, 6),
            "shift_p99": round(self.shift, 4),
            "ms": None if self.ms is None else round(self.ms, 3),
            "bytes": self.size,
        }
