"""The activations of a float network on a given input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ..graph.draft import Draft
from ..graph.feeds import real_inputs
from ..graph.inference import infer_shapes, known_values, shape_of
from ..graph.running import Runner

#: Bytes of activations that are fetched from one run of the network.
BUDGET = 512 << 20
#: Bytes of a value by its element type.
_FLOATS: dict[int, int] = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.DOUBLE: 8}


def names_of(draft: Draft) -> list[str]:
    """Float values that depend on the input, the input first, in the order of the nodes.

    Types must have been inferred.  Values inside control flow are left out.
    """
    known = known_values(draft)
    dynamic = {i.name for i in real_inputs(draft.graph)}
    names = list(dynamic)
    for node in draft.graph.node:
        inside = any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
        if inside or dynamic & set(node.input):
            outputs = [o for o in node.output if o]
            dynamic.update(outputs)
            names.extend(outputs)
    return [n for n in names if n in known and known[n].type.tensor_type.elem_type in _FLOATS]


class Activations:
    """Runs a network and gives its activations.

    Parameters
    ----------
    graph
        The float network.

    Raises
    ------
    GraphError
        If the graph is not sound.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._graph = graph
        self._runners: list[Runner] = []
        self._batch = 1

    def of(self, name: str, tensor: npt.NDArray[Any]) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Every float activation that depends on the input.

        Parameters
        ----------
        name
            The input.
        tensor
            [1, ...]; repeated for a network of fixed batch.

        Raises
        ------
        GraphError
            If ONNX Runtime refuses the network or the input.
        """
        if not self._runners:
            self._batch, self._runners = _runners(self._graph, name, tensor.shape)
        fed = np.repeat(tensor, self._batch, axis=0) if self._batch > 1 else tensor
        if fed.dtype.kind == "f":
            yield name, fed
        for runner in self._runners:
            outputs = runner.run({name: fed})
            for value in list(outputs):
                yield value, outputs.pop(value)


def _runners(graph: onnx.ModelProto, name: str, shape: tuple[int, ...]) -> tuple[int, list[Runner]]:
    """The fixed batch, or 1, and one runner for each part of the activations that fits the budget."""
    draft = Draft(graph)
    batch = 1
    for value in real_inputs(draft.graph):
        if value.name == name:
            declared = shape_of(value)
            batch = declared[0] if declared and isinstance(declared[0], int) and declared[0] > 0 else 1
            for dimension, length in zip(value.type.tensor_type.shape.dim, (batch, *shape[1:]), strict=False):
                if not dimension.HasField("dim_value"):
                    dimension.dim_value = length
    infer_shapes(draft)
    known = known_values(draft)
    parts: list[list[str]] = []
    held = BUDGET + 1
    for value_name in names_of(draft):
        if value_name == name:
            continue
        size = _bytes(known[value_name])
        if held + size > BUDGET:
            parts.append([])
            held = 0
        parts[-1].append(value_name)
        held += size
    types = {n: known[n].type.tensor_type.elem_type for part in parts for n in part}
    return batch, [_runner(graph, {n: types[n] for n in part}) for part in parts]


def _bytes(value: onnx.ValueInfoProto) -> int:
    """Size of an activation; dimensions that depend on the data count as one."""
    shape = shape_of(value) or ()
    return math.prod(d for d in shape if isinstance(d, int)) * _FLOATS[value.type.tensor_type.elem_type]


def _runner(graph: onnx.ModelProto, outputs: dict[str, int]) -> Runner:
    draft = Draft(graph)
    del draft.graph.output[:]
    draft.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items())
    return Runner(draft, "network to calibrate")
