"""The first node at which two networks differ.

The nodes of both graphs are paired, by the names of their values where these are the same, else in the order in which
operators follow one another.  The values of the paired nodes are then compared on one input: a bisection over the order
of the graph finds a value that differs after one that does not, and from there the search goes back along inputs that
differ, because a fault in one branch leaves the values of the other branches as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from ..artifact import StageSource
from ..errors import GraphError
from ..graph.draft import Draft
from ..graph.passes import remove_dead
from ..graph.running import Runner
from ..model import PoseModel
from .parity import TensorError, tensor_error

Tensor = npt.NDArray[Any]
Feeds = Mapping[str, Tensor]

#: Nodes are paired by name if at least this part of the smaller graph's nodes has a partner of its name.
PAIRED_BY_NAME = 0.5
#: Nodes that move data and are put in by one converter or the other.
_PASSING = frozenset({"Cast", "Identity", "Constant", "Dropout"})


def blame_network(sources: tuple[StageSource, StageSource], feeds: tuple[Feeds, ...], tolerance: float) -> str:
    """Say which node makes two networks differ, and what is different about it.

    Parameters
    ----------
    sources
        The reference's network and the model's.
    feeds
        What each of them is fed: one element of a batch.
    tolerance
        Largest relative difference of a value that is none.
    """
    if any(s.target != "onnx" for s in sources):
        engine = next(s for s in sources if s.target != "onnx")
        return (
            f"the network; a {engine.target} engine cannot be looked into, so convert both to ONNX to find the node,"
            " or compare precisions and converters"
        )
    graphs = [_Graph(PoseModel.from_onnx(s.engine, s.spec).graph, feed) for s, feed in zip(sources, feeds, strict=True)]
    try:
        return _Search(graphs[0], graphs[1], tolerance).verdict()
    except GraphError as error:
        return f"the network; its inside could not be compared: {error.message}"


class _Graph:
    """One of the two graphs, in order, with the values that were asked for."""

    def __init__(self, model: onnx.ModelProto, feed: Feeds) -> None:
        self._model = model
        self._values: dict[str, Tensor] = {}
        self.nodes = [n for n in model.graph.node if n.output]
        self.producer = {name: i for i, node in enumerate(self.nodes) for name in node.output}
        self.constants = {t.name: t for t in model.graph.initializer}
        self._feed = self._batched(feed)

    def values(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Values by name, computed where they are not known yet."""
        wanted = [n for n in dict.fromkeys(names) if n not in self._values]
        if wanted:
            draft = Draft(self._model)
            del draft.graph.output[:]
            draft.graph.output.extend(onnx.ValueInfoProto(name=n) for n in wanted)
            remove_dead(draft)
            self._values.update(Runner(draft).run(self._feed))
        return {n: self._values[n] for n in names}

    def constant(self, name: str) -> Tensor | None:
        """An initialiser's array."""
        tensor = self.constants.get(name)
        if tensor is None:
            return None
        array: Tensor = numpy_helper.to_array(tensor)
        return array

    def _batched(self, feed: Feeds) -> dict[str, Tensor]:
        """The feed, repeated where the graph has a fixed batch."""
        lengths = {i.name: i.type.tensor_type.shape.dim for i in self._model.graph.input}
        full = {}
        for name, array in feed.items():
            count = lengths[name][0].dim_value if lengths.get(name) else 0
            full[name] = np.repeat(array[:1], count, axis=0) if count > 1 else array
        return full


class _Search:
    def __init__(self, reference: _Graph, model: _Graph, tolerance: float) -> None:
        self._true, self._ours, self._tolerance = reference, model, tolerance
        self._partner = dict(_pairs(reference.nodes, model.nodes))
        self._order = sorted(self._partner)
        self._errors: dict[int, TensorError | None] = {}

    def verdict(self) -> str:
        """Name the node and what is different about it."""
        if not self._order:
            return "the networks have no nodes in common: these are two architectures"
        last = next((i for i in reversed(self._order) if self._differs(i)), None)
        if last is None:
            return "the networks; the nodes that they have in common give the same values"
        node = self._walk_back(self._bisect(self._order.index(last)))
        return self._describe(node)

    def _bisect(self, high: int) -> int:
        """A place in the order that differs, and the place before it does not."""
        low = -1
        while high - low > 1:
            middle = (low + high) // 2
            if self._differs(self._order[middle]):
                high = middle
            else:
                low = middle
        return self._order[high]

    def _walk_back(self, node: int) -> int:
        """From a node that differs to one whose inputs do not."""
        while True:
            before = [i for i in self._inputs(node) if self._differs(i)]
            if not before:
                return node
            node = min(before)

    def _inputs(self, node: int) -> set[int]:
        """The nearest paired nodes whose values a node reads."""
        found: set[int] = set()
        pending, seen = [node], {node}
        while pending:
            for name in self._true.nodes[pending.pop()].input:
                source = self._true.producer.get(name)
                if source is None or source in seen:
                    continue
                seen.add(source)
                if source in self._partner:
                    found.add(source)
                else:
                    pending.append(source)
        return found

    def _differs(self, node: int) -> bool:
        error = self._error(node)
        return error is None or error.relative > self._tolerance

    def _error(self, node: int) -> TensorError | None:
        """Error of the node's first value; None if even the shapes differ."""
        if node not in self._errors:
            names = self._true.nodes[node].output[0], self._ours.nodes[self._partner[node]].output[0]
            true, mine = self._true.values(names[:1])[names[0]], self._ours.values(names[1:])[names[1]]
            self._errors[node] = tensor_error(true, mine) if true.shape == mine.shape else None
        return self._errors[node]

    def _describe(self, node: int) -> str:
        true, mine = self._true.nodes[node], self._ours.nodes[self._partner[node]]
        error = self._error(node)
        place = self._order.index(node) + 1
        size = "its shape differs" if error is None else f"{error.largest:.3g} where values go up to {error.scale:.3g}"
        where = f"the first node that differs is {true.op_type} '{true.name or true.output[0]}'"
        where += f", number {place} of {len(self._order)} ({size})"
        reason = self._difference(true, mine)
        if reason:
            return f"{where}: {reason}"
        kinds = self._true.values(true.output[:1]), self._ours.values(mine.output[:1])
        before, after = (next(iter(values.values())).dtype for values in kinds)
        if before != after:
            return f"{where}: it is computed in {after} in the model, in {before} in the reference"
        for earlier in self._order[: place - 1]:
            reason = self._difference(self._true.nodes[earlier], self._ours.nodes[self._partner[earlier]])
            if reason:
                name = self._true.nodes[earlier].name or self._true.nodes[earlier].output[0]
                return f"{where}; before it, in '{name}', {reason}"
        return f"{where}: the same operator with the same attributes and weights, so errors of rounding add up to this"

    def _difference(self, true: onnx.NodeProto, mine: onnx.NodeProto) -> str:
        """What is different about two nodes; empty if nothing is."""
        causes = []
        if true.op_type != mine.op_type:
            causes.append(f"the operator is {mine.op_type} in the model")
        attributes = [{a.name: helper.get_attribute_value(a) for a in n.attribute} for n in (true, mine)]
        for name in sorted(set(attributes[0]) | set(attributes[1])):
            before, after = (a.get(name, "the default") for a in attributes)
            if _plain(before) != _plain(after):
                remark = " (it pads at the other side: MindSpore pads below and right, PyTorch all around)"
                is_pool = name == "pads" and "Pool" in true.op_type
                what = "the pool's pads are" if is_pool else f"its {name} is"
                causes.append(f"{what} {_plain(after)} in the model, {_plain(before)} in the reference")
                causes[-1] += remark if is_pool else ""
        for before, after in zip(true.input, mine.input, strict=False):
            weights = self._weights(before, after)
            if weights:
                causes.append(weights)
        return "; ".join(causes)

    def _weights(self, before: str, after: str) -> str:
        true, mine = self._true.constant(before), self._ours.constant(after)
        if true is None or mine is None or not true.size:
            return ""
        if true.shape != mine.shape:
            return f"the array '{before}' is {list(mine.shape)} in the model, {list(true.shape)} in the reference"
        if true.dtype == np.bool_ or not np.issubdtype(true.dtype, np.number):
            return ""
        apart = np.abs(mine.astype(np.float64) - true.astype(np.float64))
        scale = float(np.abs(true.astype(np.float64)).max())
        # Rounding to a lower precision is no fault; a folded normalisation rounds once more than its arrays.
        off = apart > max(self._tolerance / 100, 1e-6) * max(scale, 1e-12)
        if not off.any():
            return ""
        if true.ndim == 4 and true.shape[1] == 3 and np.allclose(true[:, ::-1], mine, rtol=1e-3, atol=1e-3 * scale):
            return f"the input channels of '{before}' are in reverse order: it is for the other colour order"
        count = f"in {int(off.sum())} of {off.size} values, by up to {apart.max():.3g} where they go up to {scale:.3g}"
        return f"the weights '{before}' differ {count}"


def _pairs(first: Sequence[onnx.NodeProto], second: Sequence[onnx.NodeProto]) -> Iterator[tuple[int, int]]:
    """Indices of nodes that do the same in both graphs."""
    by_name = {node.output[0]: i for i, node in enumerate(second)}
    named = [(i, by_name[n.output[0]]) for i, n in enumerate(first) if n.output[0] in by_name]
    named = [(i, j) for i, j in named if first[i].op_type not in _PASSING and second[j].op_type not in _PASSING]
    counted = [sum(n.op_type not in _PASSING for n in nodes) for nodes in (first, second)]
    if len(named) >= PAIRED_BY_NAME * min(counted):
        yield from named
        return
    kept = [[i for i, n in enumerate(nodes) if n.op_type not in _PASSING] for nodes in (first, second)]
    kinds = [[nodes[i].op_type for i in places] for nodes, places in zip((first, second), kept, strict=True)]
    for block in SequenceMatcher(None, kinds[0], kinds[1], autojunk=False).get_matching_blocks():
        for step in range(block.size):
            yield kept[0][block.a + step], kept[1][block.b + step]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value).tolist()
    if isinstance(value, onnx.GraphProto):
        return "a graph"
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
