"""Channels of activations that can be scaled: between the convolutions that make them and those that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import onnx

from ..graph.draft import Draft, all_graphs
from ..graph.passes.wiring import Wiring, attributes_of
from .chains import ChainLayer, chain_layer, weights_of

#: f(s x) = s f(x) for s > 0, channel by channel.
_THROUGH = frozenset({"Relu", "PRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize"})
_ACTIVATIONS = frozenset({"Relu", "PRelu"})


@dataclass(eq=False)
class ChannelGroup:
    """Channels that a factor may divide where they are made if it multiplies them where they are read.

    Attributes
    ----------
    width
        How many channels.
    makers
        Convolutions whose output channels they are.
    readers
        Convolutions that read them, and the input channel at which they begin there.
    values
        The values that hold them, and the channel at which they begin there; not those that an activation follows.
    """

    width: int
    makers: list[ChainLayer] = field(default_factory=list)
    readers: list[tuple[ChainLayer, int]] = field(default_factory=list)
    values: list[tuple[str, int]] = field(default_factory=list)


def channel_groups(draft: Draft) -> list[ChannelGroup]:
    """The groups of a graph, in its order; graph outputs and unknown operators tie their channels down."""
    return _Walk(draft).groups()


class _Walk:
    """One pass over the nodes; each value is a sequence of groups, one behind the other, or unknown."""

    def __init__(self, draft: Draft) -> None:
        self._draft, self._wiring = draft, Wiring(draft.graph)
        self._found: list[ChannelGroup] = []
        self._same: dict[int, int] = {}
        self._tied: set[int] = set()
        self._parts: dict[str, list[int]] = {}
        for node in draft.graph.node:
            self._visit(node)
        for part in all_graphs(draft.graph):
            for name in [o.name for o in part.output] if part is draft.graph else _read_in(part):
                self._tied.update(self._parts.get(name, ()))

    def groups(self) -> list[ChannelGroup]:
        """Those with makers and readers that nothing ties down."""
        tied = {self._root(i) for i in self._tied}
        users: dict[str, set[str]] = {}
        for node in self._draft.graph.node:
            for name in node.input:
                users.setdefault(name, set()).add(node.op_type)
        for name, parts in self._parts.items():
            if not users.get(name, {""}) <= _ACTIVATIONS:
                for i, first in self._placed(parts):
                    self._found[i].values.append((name, first))
        return [g for i, g in enumerate(self._found) if self._root(i) == i and i not in tied and g.makers and g.readers]

    def _visit(self, node: onnx.NodeProto) -> None:
        inputs = [self._parts.get(name) for name in node.input]
        layer = chain_layer(self._draft, node, self._wiring)
        if layer is not None:
            for i, first in self._placed(inputs[0] or ()):
                self._found[i].readers.append((layer, first))
            self._same[len(self._found)] = len(self._found)
            self._parts[node.output[0]] = [len(self._found)]
            self._found.append(ChannelGroup(weights_of(self._draft, layer.weight).shape[layer.out_axis], [layer]))
        elif inputs and inputs[0] is not None and self._goes_through(node):
            self._parts[node.output[0]] = inputs[0]
        elif node.op_type == "Add" and self._join(inputs):
            self._parts[node.output[0]] = inputs[0] or []
        elif _is_concat(node) and None not in inputs:
            self._parts[node.output[0]] = [i for parts in inputs for i in parts or ()]
        else:
            for parts in inputs:
                self._tied.update(parts or ())

    def _goes_through(self, node: onnx.NodeProto) -> bool:
        if node.domain:
            return False
        if node.op_type == "PRelu":
            return self._draft.constant(node.input[1]) is not None
        return node.op_type in _THROUGH and len(node.output) == 1

    def _join(self, values: Sequence[list[int] | None]) -> bool:
        """Make the channels of two values the same groups, if they are known."""
        first, second = values
        if first is None or second is None:
            return False
        if [self._found[i].width for i in first] != [self._found[i].width for i in second]:
            return False
        for a, b in zip(first, second, strict=True):
            one, other = self._root(a), self._root(b)
            if one != other:
                self._same[other] = one
                for name in ("makers", "readers"):
                    getattr(self._found[one], name).extend(getattr(self._found[other], name))
        return True

    def _root(self, i: int) -> int:
        while self._same[i] != i:
            i = self._same[i]
        return i

    def _placed(self, parts: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Each group of a value, and the channel at which it begins."""
        first = 0
        for i in parts:
            yield self._root(i), first
            first += self._found[i].width


def _is_concat(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat" and not node.domain and attributes_of(node).get("axis") == 1


def _read_in(graph: onnx.GraphProto) -> list[str]:
    return [name for node in graph.node for name in node.input] + [o.name for o in graph.output]
