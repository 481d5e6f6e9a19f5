"""Taking in an ONNX graph that something else wrote."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import onnx
from onnx import helper, inliner

from ..errors import GraphError, SpecError
from ..model import PoseModel
from ..spec import InputSpec, PoseSpec
from .draft import Draft, all_graphs, opset_of
from .feeds import real_inputs
from .inference import LARGEST_VALUE, check_and_infer, known_values, shape_of
from .passes.opset import OLDEST_READ, newest_opset
from .soundness import check_sound

#: Nodes.  The largest pose networks have some two thousand.
_MOST_NODES = 100_000


def adopt(model: onnx.ModelProto, spec: PoseSpec, provenance: Mapping[str, Any] | None = None) -> PoseModel:
    """Check a foreign graph against the contract that was given for it, and join the two.

    Parameters
    ----------
    model
        The graph, whole: weights in other files must have been read in.
    spec
        What the graph is fed and how its outputs are read.
    provenance
        Where the graph came from; plain JSON data.

    Returns
    -------
    PoseModel
        The checked graph with inferred shapes, functions of its own unfolded, and the spec.

    Raises
    ------
    GraphError
        If the graph is no valid ONNX, or uses what edgepose cannot carry to a target: operators of other domains, an
        opset too old or too new, sparse weights, enormous values.
    SpecError
        If its input or outputs are not those of the spec.
    """
    check_sound(model)
    draft = Draft(_without_functions(model))
    _check_opset(draft.model)
    _check_domains(draft.graph)
    if draft.graph.sparse_initializer:
        names = ", ".join(repr(t.values.name) for t in draft.graph.sparse_initializer[:3])
        raise GraphError(f"The graph keeps weights in sparse form: {names}.", hint="Export it with dense weights.")
    _check_sizes(draft)
    check_and_infer(draft)
    _check_sizes(draft)
    _check_input(draft.graph, spec.input)
    _check_outputs(draft.graph, spec)
    return PoseModel(draft.finish(), spec, dict(provenance or {}))


def described(graph: onnx.GraphProto) -> str:
    """Inputs and outputs of a graph in words, for errors."""
    inputs = ", ".join(_written(value) for value in real_inputs(graph)) or "none"
    outputs = ", ".join(_written(value) for value in graph.output) or "none"
    return f"inputs: {inputs}; outputs: {outputs}"


def _without_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    if not model.functions:
        return model
    _check_growth(model)
    try:
        inlined: onnx.ModelProto = inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise GraphError(
            f"The functions of the graph cannot be unfolded: {' '.join(str(error).split())[:300]}"
        ) from error
    return inlined


def _check_growth(model: onnx.ModelProto) -> None:
    """Functions that call each other in a circle never end, and a few that call each other twice make millions."""
    calls = {(f.domain, f.name): [(n.domain, n.op_type) for n in _all_nodes(f.node)] for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    while len(sizes) < len(calls):
        ready = [
            name
            for name, inner in calls.items()
            if name not in sizes and all(i in sizes or i not in calls for i in inner)
        ]
        if not ready:
            raise GraphError("The functions of the graph call each other in a circle.")
        sizes.update({name: sum(sizes.get(inner, 1) for inner in calls[name]) for name in ready})
    total = sum(sizes.get((node.domain, node.op_type), 1) for node in _all_nodes(model.graph.node))
    if total > _MOST_NODES:
        raise GraphError(f"The functions of the graph would unfold to {total} nodes.")


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes and those inside their control flow."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from (inner for part in all_graphs(graph) for inner in part.node)


def _check_opset(model: onnx.ModelProto) -> None:
    opset = opset_of(model)
    if not OLDEST_READ <= opset <= newest_opset():
        raise GraphError(
            f"The graph has opset {opset}; edgepose reads {OLDEST_READ} to {newest_opset()}.",
            hint="Export it with an opset in that range"
            + (", or: pip install --upgrade onnx onnxruntime" if opset > newest_opset() else "."),
        )


def _check_domains(graph: onnx.GraphProto) -> None:
    foreign: dict[str, set[str]] = {}
    for part in all_graphs(graph):
        for node in part.node:
            if node.domain:
                foreign.setdefault(node.domain, set()).add(node.op_type)
    if foreign:
        named = "; ".join(f"{domain}: {', '.join(sorted(ops)[:8])}" for domain, ops in sorted(foreign.items()))
        raise GraphError(
            f"The graph uses operators that are not ONNX's own ({named}), which targets other than the one that it was"
            " made for do not have.",
            hint="Export it without that tool's optimisations.",
        )


def _check_sizes(draft: Draft) -> None:
    for name, value in known_values(draft).items():
        lengths = [length for length in shape_of(value) or () if isinstance(length, int)]
        if any(length < 0 for length in lengths):
            raise GraphError(f"The value '{name}' has a negative length: {_written(value)}.")
        dtype = _dtype(value)
        if dtype is not None and math.prod(lengths) * dtype.itemsize > LARGEST_VALUE:
            raise GraphError(f"The value '{name}' is larger than 2 GiB: {_written(value)}.")


def _check_input(graph: onnx.GraphProto, spec: InputSpec) -> None:
    inputs = {value.name: value for value in real_inputs(graph)}
    value = inputs.pop(spec.name, None)
    if value is None:
        raise SpecError(
            f"The spec's input '{spec.name}' is not an input of the graph ({described(graph)}).",
            hint="Correct input.name in the spec.",
        )
    if inputs:
        others = ", ".join(map(repr, inputs))
        raise SpecError(f"The graph needs more than the picture: {others} ({described(graph)}).")
    dtype = _dtype(value)
    if dtype is None or dtype.name != spec.dtype:
        raise SpecError(
            f"The spec says that the input is {spec.dtype}, the graph takes {_written(value)}.",
            hint="Correct input.dtype in the spec.",
        )
    shape = shape_of(value)
    if shape is None or len(shape) != 4:
        raise SpecError(f"The input must have four axes; the graph takes {_written(value)}.")
    channel, *size_axes = (1, 2, 3) if spec.layout == "NCHW" else (3, 1, 2)
    if isinstance(shape[channel], int) and shape[channel] != 3:
        raise SpecError(
            f"With the layout {spec.layout} the input would have {shape[channel]} channels, not 3: the graph takes"
            f" {_written(value)}.",
            hint="Correct input.layout in the spec.",
        )
    for word, axis, wanted in zip(("height", "width"), size_axes, (spec.height, spec.width), strict=True):
        found = shape[axis]
        if isinstance(found, int) and found != wanted:
            said = "of any size" if wanted is None else str(wanted)
            raise SpecError(
                f"The spec's input {word} is {said}, the graph takes {_written(value)}.",
                hint=f"Correct input.{word} in the spec, or change the graph's with --input-size.",
            )


def _check_outputs(graph: onnx.GraphProto, spec: PoseSpec) -> None:
    outputs = {value.name for value in graph.output}
    missing = {role: name for role, name in spec.decoder.outputs.items() if name not in outputs}
    if missing:
        named = ", ".join(f"{role} = '{name}'" for role, name in missing.items())
        raise SpecError(
            f"The decoder '{spec.decoder.type}' reads what the graph does not give: {named} ({described(graph)}).",
            hint="Correct decoder.outputs in the spec.",
        )


def _dtype(value: onnx.ValueInfoProto) -> Any:
    kind = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    return helper.tensor_dtype_to_np_dtype(kind) if kind else None


def _written(value: onnx.ValueInfoProto) -> str:
    shape, dtype = shape_of(value), _dtype(value)
    lengths = "?" if shape is None else ", ".join("?" if length is None else str(length) for length in shape)
    return f"{value.name} {dtype.name if dtype is not None else 'unknown'} [{lengths}]"
