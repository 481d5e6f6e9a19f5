"""Ranges that a checkpoint brought along: GluonCV's quantised symbol files keep them."""

from __future__ import annotations

import math
from collections import Counter

import onnx

from ..errors import InputError
from ..model import PoseModel
from .ranges import Ranges, fingerprint

#: Method of such ranges: the file does not say how they were found.
IMPORTED = "imported"

#: Operators whose values are some of their input's, or zero.
_PASSING = frozenset(("Relu", "MaxPool", "Reshape", "Flatten", "Transpose"))

_Table = dict[str, tuple[float, float]]


def ranges_of(model: PoseModel) -> Ranges:
    """The ranges in the spec of a model, as ranges of its graph.

    Names that the graph does not have (values that simplification removed) are left out.  MXNet computes some operators
    in one step with the next and never quantises what lies between.  Such values get ranges that lose nothing: what a
    ReLU or a pooling makes of a value with a range; and a term of a sum, from what the sum can express.

    Raises
    ------
    InputError
        If the spec has no ranges, or none of a value of the graph.
    """
    graph = model.graph.graph
    names = {i.name for i in graph.input} | {o for n in graph.node for o in n.output}
    found = {name: r for name, r in model.spec.calibration.items() if name in names}
    if not found:
        reason = "brought none" if not model.spec.calibration else "brought ranges of other values than it has now"
        raise InputError(
            f"There are no ranges to import: the model {reason}.", hint="Calibrate it: --calibration FOLDER."
        )
    source = {"source": str(model.provenance.get("checkpoint", ""))}
    return Ranges(_completed(graph, found), IMPORTED, fingerprint(model.graph), source)


def _completed(graph: onnx.GraphProto, found: _Table) -> _Table:
    ranges = dict(found)
    uses = Counter(i for n in graph.node for i in n.input)
    activated = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "Relu" and uses[n.input[0]] == 1}
    for node in graph.node:
        if node.op_type in _PASSING and node.input[0] in ranges:
            low, high = ranges[node.input[0]]
            least = 0.0 if node.op_type == "Relu" else -math.inf
            ranges.setdefault(node.output[0], (max(low, least), max(high, least)))
    for node in graph.node:
        total = ranges.get(node.output[0]) or ranges.get(activated.get(node.output[0], ""))
        missing = [i for i in node.input if i not in ranges]
        if node.op_type != "Add" or total is None or len(missing) != 1 or len(set(node.input)) != 2:
            continue
        (other,) = set(node.input) - set(missing)
        low, high = ranges[other]
        # Beyond these the sum leaves its own range, whatever the other term is.
        ranges[missing[0]] = (total[0] - high, total[1] - low)
    return ranges
