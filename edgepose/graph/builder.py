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
from onnx import helper, numpy_helper

from ..errors import GraphError

# IR version 8 belongs to opset 17 (ONNX 1.12); older runtimes refuse newer ones for no benefit.
DEFAULT_OPSET = 17
IR_VERSION = 8

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
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._counts: dict[str, int] = {}

    def input(self, name: str, shape: Sequence[Dim], dtype: str = "float32") -> str:
        """Declare a graph input; a string in ``shape`` is a dynamic dimension."""
        self._inputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def output(self, value: str, name: str, shape: Sequence[Dim], dtype: str = "float32") -> str:
        """Declare ``value`` as graph output ``name``."""
        for node in self._nodes:
            for i, out in enumerate(node.output):
                if out == value:
                    node.output[i] = name
            for i, inp in enumerate(node.input):
                if inp == value:
                    node.input[i] = name
        self._outputs.append(helper.make_tensor_value_info(name, _element_type(dtype), list(shape)))
        return name

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initialiser and return its name."""
        array = np.asarray(array)
        name = self._fresh("constant") if name is None else name
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
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
        self._nodes.append(helper.make_node(op_type, list(inputs), names, name=stem, **given))
        return names[0] if outputs == 1 else tuple(names)

    def build(self) -> onnx.ModelProto:
        """The checked model, with inferred shapes.

        Raises
        ------
        GraphError
            If the graph is not valid ONNX.
        """
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._initializers.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION, producer_name="edgepose"
        )
        try:
            onnx.checker.check_model(model, full_check=True)
            return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise GraphError(f"The graph '{self.name}' is not valid ONNX: {error}") from error

    def _fresh(self, stem: str) -> str:
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return stem if count == 0 else f"{stem}_{count}"


def _element_type(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
