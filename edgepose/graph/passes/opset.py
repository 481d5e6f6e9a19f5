"""Choosing the version of the operator set."""

from __future__ import annotations

import functools

import onnx
from onnx import TensorProto, helper, version_converter

from ...errors import GraphError
from ..draft import Draft, ir_version_for
from ..inference import check_and_infer, infer_shapes
from .lowering import lower

#: The oldest opset that is written: vendor toolchains of 2020 want it, and Resize, Clip and Pad have their present form
#: since then.
OLDEST_OPSET = 11
#: The oldest opset that is read; broadcasting is as it is today since then.
OLDEST_READ = 7


@functools.cache
def newest_opset() -> int:
    """The newest opset that both the installed onnx and the installed ONNX Runtime know."""
    import onnxruntime as ort

    for opset in range(onnx.defs.onnx_opset_version(), OLDEST_OPSET, -1):
        value = (
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]),
        )
        graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [value[0]], [value[1]])
        imports = [helper.make_opsetid("", opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version_for(opset))
        options = ort.SessionOptions()
        options.log_severity_level = 4
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:  # its error classes share no base but this  # noqa: S112
            continue
        return opset
    return OLDEST_OPSET


def change_opset(draft: Draft, opset: int) -> int:
    """Bring a graph to another version of the operator set.

    Parameters
    ----------
    draft
        The graph.
    opset
        The version, from :data:`OLDEST_OPSET` to :func:`newest_opset`.

    Returns
    -------
    int
        1 if anything was to be done.

    Raises
    ------
    GraphError
        If the version is out of range, or the graph has an operator that it cannot express.
    """
    if not OLDEST_OPSET <= opset <= newest_opset():
        raise GraphError(
            f"Opset {opset} is out of range.",
            hint=f"With the installed onnx and ONNX Runtime, choose from {OLDEST_OPSET} to {newest_opset()}.",
        )
    if draft.opset == opset:
        return 0
    if draft.opset < opset:
        _raise(draft, opset)
    else:
        infer_shapes(draft)
        lower(draft, opset)
    draft.model.ir_version = ir_version_for(opset)
    check_and_infer(draft)
    return 1


def _raise(draft: Draft, opset: int) -> None:
    weights = draft.constants()
    try:
        converted = version_converter.convert_version(draft.declared(), opset)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split()).rpartition("failed:")[2].strip()[:200]
        raise GraphError(
            f"The graph cannot be brought from opset {draft.opset} to {opset}: {reason}.",
            hint="Keep its opset, or choose another one with --opset.",
        ) from error
    graph = draft.graph
    for tensor in converted.graph.initializer:
        if tensor.name not in weights:
            draft.put_constant(tensor.name, onnx.numpy_helper.to_array(tensor))
    del graph.node[:]
    graph.node.extend(converted.graph.node)
    for entry in draft.model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
