"""Half precision: weights stored as float16, or most of the network computed in float16.

What is stored in float16 is rounded with the error carried along: within the weights of one output channel, the error
of each rounding is added to the next weight.  Activations behind a ReLU are positive, so errors that cancel within a
kernel leave its result nearly where it was; on trained networks the outputs move by a third less than with plain
rounding.  In storage, biases stay float32: they are few, and an error of theirs shifts a whole map.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto

from ..errors import GraphError
from .draft import Draft
from .feeds import Trial, random_feeds
from .half_plan import HEAVY, Plan, data_inputs, plan, too_large
from .inference import check_and_infer
from .passes.dead_code import remove_dead
from .running import Runner, Tensor

#: Largest finite float16.
HALF_MAX = 65504.0
#: Axis of a heavy operator's weights along which its output channels lie.
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}

_TRIAL = Trial(11, 1, (128, 160))
#: How many of the first layers may stay float32, tried in this order.
_FIRST_LAYERS = (1, 2, 4, 8, 16)
#: Computing in float16 may make the error that rounding the weights makes anyway this much larger.
_ADDED = 4.0
#: Half a unit of the last place of float16, as a part of the value.
_ONE_ROUNDING = 2.0**-11


@dataclass(frozen=True)
class HalfGraph:
    """A graph in half precision.

    Attributes
    ----------
    graph
        The graph; its inputs and outputs have the types that they had.
    kept
        What stayed float32, and why: ``"ReduceL2: ..."``, a line each.
    """

    graph: onnx.ModelProto
    kept: tuple[str, ...]


def round_to_half(weights: npt.NDArray[Any], channel_axis: int) -> npt.NDArray[np.float16]:
    """Round to float16, the errors cancelling within each output channel.

    Parameters
    ----------
    weights
        Of a convolution or matrix product, any rank.
    channel_axis
        Axis of the output channels.

    Returns
    -------
    ndarray of float16
        Of the same shape; each weight is one of its two neighbours in float16.
    """
    rows = np.moveaxis(weights, channel_axis, 0)
    exact = np.ascontiguousarray(rows.reshape(len(rows), -1).T, np.float64)
    nearest = exact.astype(np.float16)
    towards = np.where(nearest < exact, np.inf, -np.inf).astype(np.float16)
    other = np.where(nearest == exact, nearest, np.nextafter(nearest, towards))
    low, high = np.minimum(nearest, other).astype(np.float64), np.maximum(nearest, other).astype(np.float64)
    carried = np.zeros(len(rows))
    for place in range(len(exact)):
        wanted = exact[place] + carried
        chosen = np.where(2 * wanted > low[place] + high[place], high[place], low[place])
        carried = wanted - chosen
        low[place] = chosen
    rounded = low.astype(np.float16).T.reshape(rows.shape)
    return np.ascontiguousarray(np.moveaxis(rounded, 0, channel_axis))


def store_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the weights of convolutions and matrix products as float16; everything is computed as before.

    Each such weight becomes a float16 initialiser and a ``Cast`` to float32.  Weights beyond the range of float16
    stay as they are.
    """
    draft = Draft(model)
    casts: dict[str, onnx.NodeProto] = {}
    for node in draft.graph.node:
        found = _weights_of(draft, node)
        if found is None:
            continue
        place, name, weights = found
        if name not in casts:
            half = draft.add_constant(round_to_half(weights, _CHANNEL_AXIS[node.op_type]), f"{name}.half")
            casts[name] = _cast(half, draft.fresh(f"{name}.float"), TensorProto.FLOAT)
        node.input[place] = casts[name].output[0]
    _put_first(draft, list(casts.values()))
    remove_dead(draft)
    check_and_infer(draft)
    return draft.finish()


def round_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Round the weights that :func:`store_half` would store, and keep them as float32.

    For targets with a float16 storage of their own, and to tell the error of rounding from other errors.
    """
    draft = Draft(model)
    _widen_stored(draft)
    done: set[str] = set()
    for node in draft.graph.node:
        found = _weights_of(draft, node)
        if found is not None and found[1] not in done:
            _, name, weights = found
            draft.put_constant(name, round_to_half(weights, _CHANNEL_AXIS[node.op_type]).astype(np.float32))
            done.add(name)
    check_and_infer(draft)
    return draft.finish()


def widen_stored(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn weights that are stored as float16, with a ``Cast`` behind them, into float32 weights."""
    draft = Draft(model)
    _widen_stored(draft)
    remove_dead(draft)
    check_and_infer(draft)
    return draft.finish()


def compute_half(model: onnx.ModelProto, feeds: Mapping[str, Tensor] | None = None) -> HalfGraph:
    """Compute in float16 wherever that does no harm; inputs and outputs keep their types.

    What stays float32: the first convolution and what comes before it (pictures, their normalisation), the last one and
    what follows (its result is an output, or is decoded to coordinates), and operators that sum, square or divide.
    Where that costs much more than rounding the weights alone, more of the first layers stay float32, since errors grow
    on their way through a network.

    Parameters
    ----------
    model
        The graph.
    feeds
        A typical input, on which ranges and errors are looked at; random by default.

    Raises
    ------
    GraphError
        If nothing of the graph can be computed in float16, or it has control flow.
    """
    draft = Draft(model)
    _widen_stored(draft)
    remove_dead(draft)
    model = draft.finish()
    feeds = random_feeds(model, _TRIAL) if feeds is None else feeds
    large = too_large(Draft(model), feeds)
    expected = Runner(model).run(feeds)
    rounded = Runner(round_weights(model), "graph with rounded weights").run(feeds)
    limit = max(_ADDED * _error(expected, rounded), _ONE_ROUNDING)
    best: tuple[float, HalfGraph] | None = None
    for first in _FIRST_LAYERS:
        draft = Draft(model)
        decided = plan(draft, large, first)
        if not decided.half:
            break
        found = _halved(draft, decided)
        error = _error(expected, Runner(found.graph, "graph in half precision").run(feeds))
        if best is None or error < best[0]:
            best = error, found
        if error <= limit:
            break
    if best is None or not np.isfinite(best[0]):
        raise GraphError("Nothing of this graph can be computed in float16.", hint="Use --precision fp32.")
    return best[1]


def _error(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> float:
    """Largest root mean square error of an output, as a part of the output's own root mean square."""
    worst = 0.0
    for name, exact in expected.items():
        if not np.issubdtype(exact.dtype, np.floating):
            continue
        size, off = exact.astype(np.float64), found[name].astype(np.float64) - exact
        error = float(np.sqrt(np.mean(off**2) / max(np.mean(size**2), np.finfo(np.float32).tiny)))
        worst = max(worst, error if np.isfinite(error) else np.inf)
    return worst


def _halved(draft: Draft, decided: Plan) -> HalfGraph:
    """Carry out a plan."""
    reasons = Counter(decided.reasons.values())
    kept = [f"{reason}: {count} nodes" for reason, count in sorted(reasons.items())]
    halved = set(decided.half)
    graph = draft.graph
    floats = decided.floats
    is_half: set[str] = set()
    made: dict[tuple[str, bool], str] = {}
    nodes: list[onnx.NodeProto] = []
    outputs = {o.name for o in graph.output}
    for index, node in enumerate(list(graph.node)):
        wants_half = index in halved
        weights = _weights_of(draft, node) if wants_half else None
        for place in data_inputs(node):
            name = node.input[place]
            if name not in floats or (name in is_half) == wants_half:
                continue
            if (name, wants_half) not in made:
                array = draft.constant(name)
                if array is not None and wants_half:
                    own = weights is not None and weights[1] == name
                    half = round_to_half(array, _CHANNEL_AXIS[node.op_type]) if own else array.astype(np.float16)
                    made[name, True] = draft.add_constant(half, f"{name}.half")
                else:
                    kind = TensorProto.FLOAT16 if wants_half else TensorProto.FLOAT
                    cast = _cast(name, draft.fresh(f"{name}.{'half' if wants_half else 'float'}"), kind)
                    made[name, wants_half] = cast.output[0]
                    nodes.append(cast)
                    # Nodes are put back at the end; until then names are free only if the graph knows them.
                    graph.node.append(cast)
            node.input[place] = made[name, wants_half]
        nodes.append(node)
        if wants_half:
            is_half.update(o for o in node.output if o in floats)
    if outputs & is_half:
        raise GraphError("An output of the graph would have become float16.")
    kept_nodes = [_copy(n) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept_nodes)
    remove_dead(draft)
    check_and_infer(draft)
    return HalfGraph(draft.finish(), tuple(kept))


def _widen_stored(draft: Draft) -> None:
    graph = draft.graph
    for i in reversed(range(len(graph.node))):
        node = graph.node[i]
        stored = draft.constant(node.input[0]) if node.op_type == "Cast" else None
        if stored is not None and stored.dtype == np.float16 and node.attribute[0].i == TensorProto.FLOAT:
            name = node.output[0]
            del graph.node[i]
            draft.put_constant(name, stored.astype(np.float32))


def _weights_of(draft: Draft, node: onnx.NodeProto) -> tuple[int, str, npt.NDArray[Any]] | None:
    """Place, name and array of a heavy operator's constant float32 weights, if float16 can hold them."""
    if node.op_type not in HEAVY:
        return None
    for place in (1, 0) if node.op_type == "MatMul" else (1,):
        array = draft.constant(node.input[place])
        if array is None:
            continue
        grouped = node.op_type == "ConvTranspose" and any(a.name == "group" and a.i > 1 for a in node.attribute)
        if array.dtype != np.float32 or array.ndim < 2 or not np.all(np.abs(array) <= HALF_MAX) or grouped:
            return None
        return place, node.input[place], array
    return None


def _cast(source: str, result: str, kind: int) -> onnx.NodeProto:
    return onnx.helper.make_node("Cast", [source], [result], name=result, to=kind)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _put_first(draft: Draft, nodes: list[onnx.NodeProto]) -> None:
    rest = [_copy(n) for n in draft.graph.node]
    del draft.graph.node[:]
    draft.graph.node.extend([*nodes, *rest])
