"""Fixing, or setting free, the batch and the size of the input."""

from __future__ import annotations

import numpy as np
import onnx

from ...errors import GraphError
from ..draft import Draft
from ..feeds import real_inputs
from ..inference import infer_shapes, known_values, shape_of
from .wiring import attributes_of

#: Names of the dynamic dimensions.
BATCH, HEIGHT, WIDTH = "batch", "height", "width"


def has_batch(graph: onnx.GraphProto, batch: int | None) -> bool:
    """Whether every input has this batch size already; None for a dynamic one."""
    return {_batch_of(value) for value in real_inputs(graph)} == {BATCH if batch is None else batch}


def has_input_size(graph: onnx.GraphProto, size: tuple[int, int] | None) -> bool:
    """Whether the picture input has this height and width already; None for dynamic ones.

    Raises
    ------
    GraphError
        If there is no such input, or more than one.
    """
    value, axes = picture_input(graph)
    shape = shape_of(value) or ()
    return tuple(shape[axis] for axis in axes) == ((HEIGHT, WIDTH) if size is None else size)


def change_batch(draft: Draft, batch: int | None) -> int:
    """Give every input, and what follows from it, this batch size.

    Parameters
    ----------
    draft
        The graph; the first dimension of its inputs is the batch.
    batch
        The size; None for a dynamic one.

    Returns
    -------
    int
        1 if anything changed.

    Raises
    ------
    GraphError
        If the graph was made for another batch size throughout.
    """
    if batch is not None and batch < 1:
        raise GraphError(f"A batch of {batch} is not possible.", hint="Give --batch a positive number, or 'dynamic'.")
    if has_batch(draft.graph, batch):
        return 0
    infer_shapes(draft)
    inputs = real_inputs(draft.graph)
    fixed = [size for size in map(_batch_of, inputs) if isinstance(size, int)]
    if fixed:
        _free_reshapes(draft, fixed[0])
    for value in inputs:
        _set_dimension(value, 0, batch if batch is not None else BATCH)
    _infer_anew(draft, f"a batch of {batch}" if batch else "a dynamic batch")
    return 1


def change_input_size(draft: Draft, size: tuple[int, int] | None) -> int:
    """Give the picture input another height and width.

    Parameters
    ----------
    draft
        The graph; it has one input of rank 4 with 1 or 3 channels, N x C x H x W or N x H x W x C.
    size
        Height and width in pixels; None for dynamic ones.

    Returns
    -------
    int
        1 if anything changed.

    Raises
    ------
    GraphError
        If there is no such input, or the graph works for its own size only.
    """
    if size is not None and min(size) < 1:
        raise GraphError(f"An input of {size[0]} x {size[1]} pixels is not possible.")
    if has_input_size(draft.graph, size):
        return 0
    value, axes = picture_input(draft.graph)
    lengths: tuple[int | str, int | str] = (HEIGHT, WIDTH) if size is None else size
    for axis, length in zip(axes, lengths, strict=True):
        _set_dimension(value, axis, length)
    _infer_anew(draft, "an input of dynamic size" if size is None else f"an input of {size[0]} x {size[1]} pixels")
    return 1


def picture_input(graph: onnx.GraphProto) -> tuple[onnx.ValueInfoProto, tuple[int, int]]:
    """The picture input of a graph and which of its axes are height and width.

    Raises
    ------
    GraphError
        If there is none, or more than one.
    """
    found: list[tuple[onnx.ValueInfoProto, tuple[int, int]]] = []
    for value in real_inputs(graph):
        shape = shape_of(value)
        if shape is None or len(shape) != 4:
            continue
        if shape[1] in (1, 3):
            found.append((value, (2, 3)))
        elif shape[3] in (1, 3):
            found.append((value, (1, 2)))
    if len(found) != 1:
        inputs = ", ".join(f"{v.name} {_written(v)}" for v in real_inputs(graph))
        raise GraphError(f"The graph has {len(found)} inputs that may be a picture, not one; inputs: {inputs}.")
    return found[0]


def _free_reshapes(draft: Draft, old: int) -> None:
    """Let a Reshape whose target names the old batch copy that length from its input instead.

    Exporters write the batch of their example into such targets.  Whether a leading length that equals it really is
    the batch is proven afterwards, by comparing the results sample by sample.
    """
    values = known_values(draft)
    for node in draft.graph.node:
        if node.op_type != "Reshape" or node.domain or attributes_of(node).get("allowzero", 0):
            continue
        target, info = draft.constant(node.input[1]), values.get(node.input[0])
        shape = None if info is None else shape_of(info)
        if target is None or not target.size or not shape or int(target[0]) != old or shape[0] != old:
            continue
        freed = np.asarray(target).copy()
        freed[0] = 0
        node.input[1] = draft.add_constant(freed, f"{node.output[0]}_shape")


def _infer_anew(draft: Draft, what: str) -> None:
    for output in draft.graph.output:
        if output.type.HasField("tensor_type"):
            for dimension in output.type.tensor_type.shape.dim:
                dimension.Clear()
    try:
        infer_shapes(draft)
    except GraphError as error:
        raise GraphError(
            f"The graph does not take {what}: {error.message}",
            hint="It was exported for its own batch and size; export it again with dynamic ones.",
        ) from error


def _batch_of(value: onnx.ValueInfoProto) -> int | str | None:
    shape = shape_of(value)
    if not shape:
        raise GraphError(f"The input '{value.name}' has no batch dimension: its shape is {_written(value)}.")
    return shape[0]


def _set_dimension(value: onnx.ValueInfoProto, axis: int, length: int | str) -> None:
    dimension = value.type.tensor_type.shape.dim[axis]
    dimension.Clear()
    if isinstance(length, int):
        dimension.dim_value = length
    else:
        dimension.dim_param = length


def _written(value: onnx.ValueInfoProto) -> str:
    shape = shape_of(value)
    return "of unknown rank" if shape is None else f"[{', '.join('?' if s is None else str(s) for s in shape)}]"
