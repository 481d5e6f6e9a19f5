"""Running a graph layer by layer on several batches at once, each value computed once.

Repair methods look at a layer with all batches before they go on to the next one, which sees the repaired values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from ..graph.draft import Draft
from ..graph.running import Runner

Array = npt.NDArray[Any]


class Stepper:
    """A graph on its way from the inputs to the outputs.

    In memory are the values that nodes still to come will read, for all batches.

    Parameters
    ----------
    draft
        The graph; weights may be changed in it as long as their layer is still to come.
    feeds
        The graph's inputs, for each batch.
    """

    def __init__(self, draft: Draft, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._draft = draft
        self._values: list[dict[str, Array]] = [dict(feed) for feed in feeds]
        self._pending = list(draft.graph.node)
        self._constants = set(draft.constants())

    def values(self, name: str) -> list[Array]:
        """A value that was computed and is still in memory, for each batch."""
        return [values[name] for values in self._values]

    def advance(self, *names: str) -> list[list[Array]]:
        """Compute values; for each of ``names`` the value for each batch.

        Raises
        ------
        GraphError
            If the graph does not run.
        """
        missing = {n for n in names if n not in self._values[0]}
        segment = self._needed(missing)
        if segment:
            chosen = {node.output[0] for node in segment}
            self._pending = [node for node in self._pending if node.output[0] not in chosen]
            self._run(segment, missing)
        found = [self.values(name) for name in names]
        self._forget()
        return found

    def change(self, name: str, function: Callable[[Array], Array]) -> None:
        """Replace a value that nodes still to come read."""
        for values in self._values:
            if name in values:
                values[name] = function(values[name])

    def _needed(self, names: set[str]) -> list[onnx.NodeProto]:
        wanted = set(names)
        found = []
        for node in reversed(self._pending):
            if wanted.intersection(node.output):
                found.append(node)
                wanted.update(node.input)
        return found[::-1]

    def _run(self, segment: Sequence[onnx.NodeProto], names: set[str]) -> None:
        made = {name for node in segment for name in node.output if name}
        read = dict.fromkeys(name for node in segment for name in node.input if name and name not in made)
        later = {name for node in self._pending for name in node.input}
        part = Draft.empty("segment", self._draft.opset)
        del part.model.opset_import[:]
        part.model.opset_import.extend(self._draft.model.opset_import)
        part.graph.node.extend(segment)
        fed = []
        for name in read:
            if name in self._constants:
                array = self._draft.constant(name)
                assert array is not None
                part.put_constant(name, array)
            else:
                value = self._values[0][name]
                kind = helper.np_dtype_to_tensor_dtype(value.dtype)
                part.graph.input.append(helper.make_tensor_value_info(name, kind, [None] * value.ndim))
                fed.append(name)
        for name in dict.fromkeys([*names, *(n for n in made if n in later)]):
            part.graph.output.add(name=name)
        runner = Runner(part, "graph to repair")
        for values in self._values:
            values.update(runner.run({name: values[name] for name in fed}))

    def _forget(self) -> None:
        later = {name for node in self._pending for name in node.input}
        for values in self._values:
            for name in [n for n in values if n not in later]:
                del values[name]


def by_channel(values: Sequence[Array], axis: int = 1) -> tuple[int, npt.NDArray[np.float64]]:
    """How many numbers of each channel there are in several arrays, and their sums [C]."""
    count, total = 0, np.zeros(values[0].shape[axis], np.float64)
    for value in values:
        count += value.size // value.shape[axis]
        total += np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1).sum(axis=1, dtype=np.float64)
    return count, total
