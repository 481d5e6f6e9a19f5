"""Who makes and who uses each value of a graph."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ..draft import all_graphs


class Wiring:
    """Producers and users of the values of a graph, as they were when this was made.

    Parameters
    ----------
    graph
        The graph.

    Attributes
    ----------
    producers
        Value -> the node of the main graph that makes it.
    uses
        Value -> how often it is read: by nodes, inside control flow too, and as a graph output.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.producers: dict[str, onnx.NodeProto] = {}
        self.uses: dict[str, int] = {}
        for node in graph.node:
            for name in node.output:
                if name:
                    self.producers[name] = node
        for part in all_graphs(graph):
            for node in part.node:
                self._count(node.input)
            self._count(output.name for output in part.output)

    def _count(self, names: Iterable[str]) -> None:
        for name in names:
            if name:
                self.uses[name] = self.uses.get(name, 0) + 1


def rename_uses(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Let everything that reads a key of ``names`` read its value instead; graph outputs keep their names."""
    if not names:
        return
    for part in all_graphs(graph):
        for node in part.node:
            for i, name in enumerate(node.input):
                if name in names:
                    node.input[i] = names[name]
        if part is not graph:
            for output in part.output:
                output.name = names.get(output.name, output.name)


def remove_nodes(graph: onnx.GraphProto, outputs: set[str]) -> int:
    """Remove the nodes of the main graph whose first output is in ``outputs``; returns how many there were."""
    removed = 0
    for i in reversed(range(len(graph.node))):
        if graph.node[i].output and graph.node[i].output[0] in outputs:
            del graph.node[i]
            removed += 1
    return removed


def attributes_of(node: onnx.NodeProto) -> dict[str, object]:
    """Attribute -> value."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def set_attribute(node: onnx.NodeProto, name: str, value: object) -> None:
    """Set an attribute, a new one or a present one; None removes it."""
    for i, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[i]
            break
    if value is not None:
        node.attribute.append(onnx.helper.make_attribute(name, value))
