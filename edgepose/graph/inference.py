"""Shape inference and the ONNX checker, without copying the weights."""

from __future__ import annotations

import onnx

from ..errors import GraphError
from .draft import Draft

#: Bytes.  No value of a network for an edge device is larger; a graph that declares one wants to exhaust memory.
LARGEST_VALUE = 2 << 30


def infer_shapes(draft: Draft) -> int:
    """Infer the shape of every value anew.

    Returns
    -------
    int
        How many values have a known type now.

    Raises
    ------
    GraphError
        If shapes contradict each other.
    """
    del draft.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(
            draft.declared(), check_type=True, strict_mode=True, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise GraphError(
            f"The shapes of the graph '{draft.graph.name}' do not fit together: {_brief(error)}"
        ) from error
    draft.graph.value_info.extend(inferred.graph.value_info)
    del draft.graph.output[:]
    draft.graph.output.extend(inferred.graph.output)
    return len(draft.graph.value_info)


def check(draft: Draft) -> None:
    """Run the ONNX checker.

    Raises
    ------
    GraphError
        If the graph is not valid ONNX.
    """
    try:
        onnx.checker.check_model(draft.declared())
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise GraphError(f"The graph '{draft.graph.name}' is not valid ONNX: {_brief(error)}") from error


def check_and_infer(draft: Draft) -> None:
    """Run the checker and shape inference; outputs that do not say their shape get it.

    Raises
    ------
    GraphError
        If the graph is not valid ONNX.
    """
    if any(shape_of(output) is None for output in draft.graph.output):
        infer_shapes(draft)  # the checker refuses such outputs
    check(draft)
    infer_shapes(draft)


def shape_of(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...] | None:
    """Declared shape: a number, the name of a dynamic dimension, or None where nothing is known.

    None instead of a tuple if not even the rank is known.
    """
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else (d.dim_param or None) for d in value.type.tensor_type.shape.dim
    )


def known_values(draft: Draft) -> dict[str, onnx.ValueInfoProto]:
    """Every value of the main graph whose type is declared or was inferred, by name."""
    graph = draft.graph
    return {v.name: v for values in (graph.value_info, graph.input, graph.output) for v in values}


def _brief(error: Exception) -> str:
    """The part of a message from onnx that says something to a user."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:500]
