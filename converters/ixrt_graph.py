"""The form of graph that ixRT takes."""

from __future__ import annotations

import numpy as np
import onnx

from edgepose.errors import ConversionError, GraphError
from edgepose.graph.draft import Draft, opset_of
from edgepose.graph.passes import set_opset
from edgepose.model import PoseModel
from edgepose.quantization.lint import lint

from .quantised import check_quantised
from .tensorrt_base import SYMMETRIC, in_form

_QUANTISING = frozenset({"QuantizeLinear", "DequantizeLinear"})
#: The vendor's tool brings graphs to this opset; scales per channel came with the other one.
_OPSET, _QUANTISED_OPSET = 11, 13
#: What ixRT's documentation says it has not.
_MISSING = frozenset({"DynamicQuantizeLinear", "If", "Loop"})
#: Names that are told in full; the rest is counted.
_TOLD = 5


def ixrt_form(model: PoseModel, precision: str, *, strongly_typed: bool) -> tuple[PoseModel, tuple[str, ...]]:
    """The graph for ixRT, and what the user should know of it.

    Parameters
    ----------
    model
        The model; with Q/DQ nodes for ``int8``.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    strongly_typed
        Whether the graph says what is computed in half precision, instead of ixRT.

    Raises
    ------
    ConversionError
        If ixRT cannot take it.
    """
    graph = model.graph
    for node in graph.graph.node:
        if node.op_type in _MISSING:
            raise ConversionError(
                f"ixRT has no operator {node.op_type} ('{node.name or node.output[0]}').",
                hint="Convert the checkpoint with --simplify, or leave the operator out.",
            )
    if precision == "int8":
        check_quantised(graph)
        _check_form(graph)
        graph, wanted = _without_axes(graph), _QUANTISED_OPSET
    elif any(node.op_type in _QUANTISING for node in graph.graph.node):
        raise ConversionError(
            f"The graph is quantised and was to be built in {precision}.", hint="Use --precision int8."
        )
    else:
        wanted = _OPSET
    notes: tuple[str, ...] = ()
    if opset_of(graph) > wanted:
        try:
            graph = set_opset(graph, wanted)
        except GraphError as error:
            notes = (
                f"The graph stays in opset {opset_of(graph)}, because it cannot be written in opset {wanted}, which"
                f" ixRT's own tools prefer: {error.message}",
            )
    ready, kept = in_form(
        PoseModel(graph, model.spec, model.provenance),
        "fp32" if precision == "fp16" and not strongly_typed else precision,
    )
    return ready, (*notes, *kept)


def _check_form(graph: onnx.ModelProto) -> None:
    """Refuse Q/DQ nodes that are not symmetric int8, and quantised layers without their closing Q."""
    for finding in lint(graph, SYMMETRIC):
        raise ConversionError(
            f"ixRT does not compute this in int8: {_listed(finding.nodes)} ({finding.rule}). {finding.message}.",
            hint="Calibrate the float checkpoint: edgepose convert MODEL --to ixrt --precision int8 --calibration"
            " FOLDER; edgepose quantises in the form that ixRT takes.",
        )
    draft = Draft(graph)
    unsigned = [n.name or n.output[0] for n in draft.graph.node if n.op_type in _QUANTISING and not _signed(draft, n)]
    if unsigned:
        raise ConversionError(
            f"ixRT takes symmetric int8 only, and {_listed(unsigned)} is something else.",
            hint="Calibrate the float checkpoint: edgepose convert MODEL --to ixrt --precision int8.",
        )


def _signed(draft: Draft, node: onnx.NodeProto) -> bool:
    zero = draft.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if zero is not None:
        return bool(zero.dtype == np.int8 and not zero.any())
    # Without a zero point, the type is that of what is stored; a Q gives uint8.
    stored = draft.constant(node.input[0])
    return node.op_type == "DequantizeLinear" and stored is not None and bool(stored.dtype == np.int8)


def _without_axes(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Only the DQ of weights has an axis: ixRT takes an axis for scales per channel, which activations have not."""
    draft = Draft(graph)
    for node in draft.graph.node:
        if node.op_type not in _QUANTISING:
            continue
        scale = draft.constant(node.input[1])
        if scale is not None and scale.size == 1:
            kept = [a for a in node.attribute if a.name != "axis"]
            del node.attribute[:]
            node.attribute.extend(kept)
        elif node.op_type == "QuantizeLinear" or draft.constant(node.input[0]) is None:
            raise ConversionError(f"ixRT has one scale for activations, and '{node.name or node.output[0]}' has more.")
    return draft.finish()


def _listed(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return ", ".join(f"'{n}'" for n in names[:_TOLD]) + more
