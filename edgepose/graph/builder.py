"""Building an ONNX graph op by op.

Names of initialisers are those of the checkpoint's arrays where there are such, so that a tensor can be followed from
the checkpoint to the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from .draft import Draft
from .inference import check_and_infer

DEFAULT_OPSET = 17

Dim = int | str


class GraphBuilder:
    """Collects nodes, initialisers, inputs and outputs of one graph.

    Parameters
    ----------
    name
        Name of the graph.
    opset
        Version of the default operator set.
    """

    def __init__(self, name: str, opset: int = DEFAULT_OPSET) -> None:
        self.name = name
        self.opset = opset
        # Arrays stay where they are, often in a memory-mapped file, until the graph is built.
        self._draft = Draft.empty(name, opset)
        self._graph = self._draft.graph
        self._arrays: set[str] = set()
        self._counts: dict[str, int] = {}
        self._taken: set[str] = set()

    def input(self, name: str, shape: Sequence[Dim], dtype: str = "float32") -> str:
        """Declare a graph input; a string in ``shape`` is a dynamic dimension."""
        self._taken.add(name)
        self._graph.input.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[Dim], dtype: str = "float32") -> str:
        """Declare ``value`` as graph output ``name``."""
        for node in self._graph.node:
            for i, out in enumerate(node.output):
                if out == value:
                    node.output[i] = name
            for i, inp in enumerate(node.input):
                if inp == value:
                    node.input[i] = name
        self._taken.add(name)
        self._graph.output.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initialiser and return its name."""
        array = np.asarray(array)
        name = self._fresh("constant") if name is None else name
        if name not in self._arrays:
            self._arrays.add(name)
            self._taken.add(name)
            self._draft.put_constant(name, array)
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        """Add a node.

        Parameters
        ----------
        op_type
            ONNX operator; attributes that are None are left out.
        inputs
            Names of values; an empty string is an omitted optional input.
        outputs
            How many outputs the node has.
        name
            Stem of the node's and outputs' names; the operator's name by default.

        Returns
        -------
        str or tuple of str
            The output's name, or the names if there are several.
        """
        stem = self._fresh(name or op_type)
        names = [stem] if outputs == 1 else [f"{stem}:{i}" for i in range(outputs)]
        given = {k: v for k, v in attributes.items() if v is not None}
        self._graph.node.append(helper.make_node(op_type, list(inputs), names, name=stem, **given))
        return names[0] if outputs == 1 else tuple(names)

    @property
    def last_node(self) -> onnx.NodeProto:
        """The node that was added last."""
        node: onnx.NodeProto = self._graph.node[-1]
        return node

    def build(self) -> onnx.ModelProto:
        """The checked model, with inferred shapes.

        Raises
        ------
        GraphError
            If the graph is not valid ONNX.
        """
        check_and_infer(self._draft)
        return self._draft.finish()

    def _fresh(self, stem: str) -> str:
        """A name that nothing else has; the stem itself where it is free."""
        name = stem
        while name in self._taken:
            self._counts[stem] = self._counts.get(stem, 0) + 1
            name = f"{stem}_{self._counts[stem]}"
        self._taken.add(name)
        return name


def _element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
