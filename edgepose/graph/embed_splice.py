"""Joining a small graph to a large one."""

from __future__ import annotations

from collections.abc import Mapping

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
        Stands before every other name of the part.
    first
        Put the nodes before those of the graph, not after.
    """
    prefix = f"{draft.fresh(prefix)}/"
    names = dict(bound)
    for tensor in part.graph.initializer:
        names[tensor.name] = draft.add_constant(numpy_helper.to_array(tensor), prefix + tensor.name)
    nodes = []
    for source in part.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(source)
        node.name = prefix + source.name
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                side[i] = name and names.get(name, prefix + name)
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
        If an input or a constant of the graph has the name.
    """
    if draft.fresh(name) == name:
        return name
    for node in draft.graph.node:
        if name in node.output:
            other = draft.fresh(f"{name}_raw")
            node.output[list(node.output).index(name)] = other
            rename_uses(draft.graph, {name: other})
            return other
    raise GraphError(f"The graph has an input or constant called '{name}', the name of an output that is to be added.")


def dimensions(value: onnx.ValueInfoProto, rank: int) -> tuple[int | str, ...]:
    """Declared shape of an input or output; a length that is not known gets a name of its own.

    Raises
    ------
    GraphError
        If the rank is another one, or not known.
    """
    shape = shape_of(value)
    if shape is None or len(shape) != rank:
        written = "an unknown shape" if shape is None else f"the shape {list(shape)}"
        raise GraphError(f"'{value.name}' has {written}; {rank} dimensions were expected.")
    return tuple(f"{value.name}:{axis}" if length is None else length for axis, length in enumerate(shape))
