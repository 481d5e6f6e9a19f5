"""Ranges that a checkpoint brought along: GluonCV's quantised symbol files keep them."""

from __future__ import annotations

from ..errors import InputError
from ..model import PoseModel
from .ranges import Ranges, fingerprint

#: Method of such ranges: the file does not say how they were found.
IMPORTED = "imported"


def ranges_of(model: PoseModel) -> Ranges:
    """The ranges in the spec of a model, as ranges of its graph.

    Names that the graph does not have (values that simplification removed) are left out.

    Raises
    ------
    InputError
        If the spec has no ranges, or none of a value of the graph.
    """
    known = {i.name for i in model.graph.graph.input} | {o for n in model.graph.graph.node for o in n.output}
    found = {name: r for name, r in model.spec.calibration.items() if name in known}
    if not found:
        reason = "brought none" if not model.spec.calibration else "brought ranges of other values than it has now"
        raise InputError(
            f"There are no ranges to import: the model {reason}.", hint="Calibrate it: --calibration FOLDER."
        )
    return Ranges(found, IMPORTED, fingerprint(model.graph), {"source": str(model.provenance.get("checkpoint", ""))})
