"""Joining a small graph to a large one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import numpy_helper

from ..errors import GraphError
from .builder import GraphBuilder
from .draft import Draft
from .inference import shape_of
from .passes.constants import fold_constants
from .passes.dead_code import remove_dead
from .passes.wiring import rename_uses


def finish_part(builder: GraphBuilder) -> onnx.ModelProto:
    """The built graph, with what depends on known lengths computed."""
    draft = Draft(builder.build())
    while fold_constants(draft):
        pass
    remove_dead(draft)
    return draft.finish()


def splice(draft: Draft, part: onnx.ModelProto, bound: Mapping[str, str], prefix: str, *, first: bool = False) -> None:
    """Add the nodes and constants of a part to a graph.

    Parameters
    ----------
    draft
        The graph; its inputs and outputs stay as they are.
    part
        What is added, in the same opset.
    bound
        From the inputs and outputs of the part to names in the graph.
    prefix
        Stands, with a slash, before every other name of the part.
    first
        Put the nodes before those of the graph, not after.
    """
    names = dict(bound)
    for tensor in part.graph.initializer:
        names[tensor.name] = draft.add_constant(numpy_helper.to_array(tensor), f"{prefix}/{tensor.name}")
    nodes = []
    for source in part.graph.node:
        for name in source.output:
            names.setdefault(name, draft.fresh(f"{prefix}/{name}"))
        inputs, outputs = ([names[name] for name in side] for side in (source.input, source.output))
        node = onnx.helper.make_node(source.op_type, inputs, outputs, name=f"{prefix}/{source.name}")
        node.attribute.extend(source.attribute)
        nodes.append(node)
    if first:
        nodes += list(draft.graph.node)
        del draft.graph.node[:]
    draft.graph.node.extend(nodes)


def free_name(draft: Draft, name: str) -> str:
    """Make ``name`` available by giving the value that has it another one.

    Returns
    -------
    str
        The new name of that value; ``name`` itself if no value had it.

    Raises
    ------
    GraphError
        If an input, an output or a constant of the graph has the name.
    """
    if draft.fresh(name) == name:
        return name
    producer = next((node for node in draft.graph.node if name in node.output), None)
    if producer is None or any(o.name == name for o in draft.graph.output):
        raise GraphError(
            f"The graph has an input, constant or output called '{name}', the name of an output that is to be added.",
            hint="Rename it in the graph.",
        )
    other = draft.fresh(f"{name}_raw")
    producer.output[list(producer.output).index(name)] = other
    rename_uses(draft.graph, {name: other})
    return other


def dimensions(value: onnx.ValueInfoProto, expected: Sequence[int | None]) -> tuple[int | str, ...]:
    """Declared shape of an input or output; a length that is not known gets a name of its own.

    Parameters
    ----------
    value
        The input or output.
    expected
        What its shape must be; None for any length.

    Raises
    ------
    GraphError
        If it is another one, or not even the rank is known.
    """
    shape = shape_of(value)
    fits = shape is not None and len(shape) == len(expected)
    if (
        shape is None
        or not fits
        or any(
            want is not None and isinstance(have, int) and have != want
            for have, want in zip(shape, expected, strict=True)
        )
    ):
        written = "an unknown shape" if shape is None else f"the shape [{_written(shape)}]"
        raise GraphError(
            f"'{value.name}' has {written}; by the spec it is [{_written(expected)}].",
            hint="The spec belongs to another graph.",
        )
    return tuple(f"{value.name}:{axis}" if length is None else length for axis, length in enumerate(shape))


def _written(shape: Sequence[int | str | None]) -> str:
    return ", ".join("any" if length is None else str(length) for length in shape)
