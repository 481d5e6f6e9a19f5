"""What the translation of an MXNet operator works with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...checkpoints.mxnet_symbol import SymbolGraph, SymbolNode
from ...errors import GraphError
from ..builder import GraphBuilder
from ..inference import LARGEST_VALUE, shape_of

Array = npt.NDArray[np.generic]
#: Lengths of a value; None where only the running network knows, which is the batch.
Shape = tuple[int | None, ...]

_BATCH = "batch"


@dataclass(frozen=True)
class Call:
    """One operator of the MXNet graph with its inputs.

    Attributes
    ----------
    node
        Operator and attributes.
    inputs
        ONNX values; empty for one that has no meaning in the float network, such as the range of a quantised value.
    name
        Name for the result.
    """

    node: SymbolNode
    inputs: tuple[str, ...]
    name: str

    def refuse(self, why: str) -> GraphError:
        """The error that this operator cannot be translated."""
        return GraphError(f"The MXNet operator {self.node.op} of node '{self.node.name}' cannot be translated: {why}.")

    def has(self, key: str) -> bool:
        """Whether an attribute is given and not ``None``, MXNet's text for an optional one that is left out."""
        return self.node.attrs.get(key, "None") not in ("None", "")

    def integers(self, key: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A tuple of whole numbers, ``default`` if it is left out or empty."""
        return (self.node.integers(key) or default) if self.has(key) else default

    def optional_integers(self, key: str) -> tuple[int | None, ...]:
        """A tuple of whole numbers of which some may be ``None``."""
        text = self.node.attrs.get(key, "()").strip("()[] ")
        parts = [part.strip().rstrip("L") for part in text.split(",") if part.strip()]
        try:
            return tuple(None if part == "None" else int(part) for part in parts)
        except ValueError:
            raise self.refuse(f"its attribute '{key}' is {text!r:.80}") from None

    def integer(self, key: str, default: int) -> int:
        """A whole number."""
        return self.node.integer(key) if self.has(key) else default

    def number(self, key: str, default: float) -> float:
        """A number."""
        return self.node.number(key) if self.has(key) else default

    def flag(self, key: str, default: bool = False) -> bool:
        """A truth value."""
        return self.node.flag(key) if self.has(key) else default

    def text(self, key: str, default: str) -> str:
        """A word."""
        return self.node.attrs[key] if self.has(key) else default


#: Graph, translation, values of variables by position -> values of the heads.
Walk = Callable[[SymbolGraph, "Translation", Mapping[int, str]], "tuple[str, ...]"]


class Translation:
    """The ONNX graph under construction, with the shape of every value so far.

    Parameters
    ----------
    name
        Name of the graph.
    opset
        Version of the operator set.
    arrays
        Name -> array of the checkpoint; an array enters the graph when an operator uses it.
    walk
        Translates a whole MXNet graph, given the values of its variables by position; for operators that hold one.

    Attributes
    ----------
    ranges
        Value -> range that a quantised graph was calibrated to.
    """

    def __init__(self, name: str, opset: int, arrays: Mapping[str, Array], walk: Walk) -> None:
        self.builder = GraphBuilder(name, opset)
        self.opset = opset
        self.ranges: dict[str, tuple[float, float]] = {}
        self._arrays = arrays
        self._walk = walk
        self._types: dict[str, onnx.TypeProto] = {}
        self._small: dict[str, TensorProto] = {}

    # ---- values ----

    def input(self, name: str, shape: Shape) -> None:
        """Declare the graph input."""
        lengths = [_BATCH if length is None else length for length in shape]
        self.builder.input(name, lengths)
        self._types[name] = helper.make_tensor_type_proto(TensorProto.FLOAT, lengths)

    def output(self, value: str) -> None:
        """Declare a graph output, under the name that the value has."""
        kind = self._types[value].tensor_type.elem_type
        dtype = str(np.dtype(helper.tensor_dtype_to_np_dtype(kind)).name)
        lengths = shape_of(onnx.ValueInfoProto(type=self._types[value])) or ()
        self.builder.output(value, value, [length or f"{value}_{i}" for i, length in enumerate(lengths)], dtype)

    def subgraph(self, call: Call) -> tuple[str, ...]:
        """Translate the graph that a fused operator holds; its variables are the operator's first inputs, in order."""
        if len(call.node.subgraphs) != 1:
            raise call.refuse("it holds no graph of its parts")
        graph = call.node.subgraphs[0]
        if len(graph.arguments) > len(call.inputs):
            raise call.refuse("it has fewer inputs than its parts need")
        return self._walk(graph, self, dict(zip(graph.arguments, call.inputs, strict=False)))

    def note_range(self, value: str, low: float, high: float) -> None:
        """Keep the calibrated range of a value; of several, what covers them all."""
        if value in self.ranges:
            low, high = min(low, self.ranges[value][0]), max(high, self.ranges[value][1])
        self.ranges[value] = (low, high)

    def array(self, name: str) -> Array | None:
        """The array of the checkpoint that a value is, if it is one."""
        return self._arrays.get(name)

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        """Add an initialiser; 32-bit floats unless it holds whole numbers or truth values."""
        array = np.asarray(array)
        if np.issubdtype(array.dtype, np.floating):
            array = array.astype(np.float32, copy=False)
        name = self.builder.constant(array, name)
        kind = int(helper.np_dtype_to_tensor_dtype(array.dtype))
        self._types[name] = helper.make_tensor_type_proto(kind, array.shape)
        if array.size <= 64:
            self._small[name] = numpy_helper.from_array(array, name)
        return name

    def shape(self, value: str) -> Shape | None:
        """Shape of a value; None if not even its rank is known."""
        self._enter(value)
        info = self._types.get(value)
        shape = None if info is None else shape_of(onnx.ValueInfoProto(type=info))
        return None if shape is None else tuple(length if isinstance(length, int) else None for length in shape)

    def known_shape(self, call: Call, position: int = 0) -> Shape:
        """Shape of an input of an operator, whose rank must be known."""
        shape = self.shape(call.inputs[position])
        if shape is None:
            raise call.refuse("the rank of its input is not known")
        return shape

    def is_float(self, value: str) -> bool:
        """Whether a value holds floats; unknown ones do."""
        self._enter(value)
        info = self._types.get(value)
        return info is None or info.tensor_type.elem_type == TensorProto.FLOAT

    # ---- nodes ----

    def op(self, op_type: str, *inputs: str, name: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node, as :meth:`~edgepose.graph.builder.GraphBuilder.op`."""
        for value in inputs:
            if value:
                self._enter(value)
        result = self.builder.op(op_type, *inputs, outputs=outputs, name=name, **attributes)
        self._infer(self.builder.last_node, call_name=name)
        return result

    def reduce(self, kind: str, x: str, axes: Sequence[int], *, keepdims: bool, name: str) -> str:
        """Reduction over axes; ``kind`` is Sum, Mean, Max and so on."""
        as_input = self.opset >= (13 if kind == "Sum" else 18)
        if as_input:
            bounds = (self.constant(np.asarray(axes, np.int64)),)
            return str(self.op(f"Reduce{kind}", x, *bounds, keepdims=int(keepdims), name=name))
        return str(self.op(f"Reduce{kind}", x, axes=list(axes), keepdims=int(keepdims), name=name))

    def axes_op(self, op_type: str, x: str, axes: Sequence[int], name: str) -> str:
        """Squeeze or Unsqueeze."""
        if self.opset >= 13:
            return str(self.op(op_type, x, self.constant(np.asarray(axes, np.int64)), name=name))
        return str(self.op(op_type, x, axes=list(axes), name=name))

    def split(self, x: str, sizes: Sequence[int], axis: int, name: str) -> tuple[str, ...]:
        """Split along an axis into parts of these lengths."""
        if len(sizes) == 1:
            return (str(self.op("Identity", x, name=name)),)
        if self.opset >= 13:
            parts = self.op(
                "Split", x, self.constant(np.asarray(sizes, np.int64)), outputs=len(sizes), axis=axis, name=name
            )
        else:
            parts = self.op("Split", x, outputs=len(sizes), axis=axis, split=list(sizes), name=name)
        return tuple(parts)

    def slice(
        self, x: str, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int], name: str
    ) -> str:
        """Slice, half open."""
        bounds = [self.constant(np.asarray(v, np.int64)) for v in (starts, ends, axes, steps)]
        return str(self.op("Slice", x, *bounds, name=name))

    def reshape(self, x: str, lengths: Sequence[int], name: str) -> str:
        """Reshape; 0 copies a length, -1 is what remains."""
        return str(self.op("Reshape", x, self.constant(np.asarray(lengths, np.int64)), name=name))

    def scalar(self, value: float) -> str:
        """A float constant without dimensions."""
        with np.errstate(over="ignore"):
            number = np.float32(value)
        if not np.isfinite(number):
            raise GraphError(f"The number {value} does not fit into float32.")
        return self.constant(number)

    # ---- inside ----

    def _enter(self, value: str) -> None:
        """Bring an array of the checkpoint into the graph when it is used first."""
        if value in self._types or value not in self._arrays:
            return
        array = self._arrays[value]
        if array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
        self.constant(array, value)

    def _infer(self, node: onnx.NodeProto, call_name: str) -> None:
        schema = onnx.defs.get_schema(node.op_type, self.opset)
        types = {name: self._types[name] for name in node.input if name in self._types}
        if len(types) < len({name for name in node.input if name}):
            return
        if "" in node.input:
            types[""] = onnx.TypeProto()  # onnx before 1.17 looks omitted inputs up as well
        data = {name: self._small[name] for name in node.input if name in self._small}
        try:
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=[helper.make_opsetid("", self.opset)]
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            RuntimeError,
            ValueError,
        ) as error:
            reason = " ".join(str(error).split())[:300]
            raise GraphError(f"The MXNet node '{call_name}' does not fit its inputs: {reason}") from error
        for name, info in inferred.items():
            lengths = shape_of(onnx.ValueInfoProto(type=info)) or ()
            if math.prod(length for length in lengths if isinstance(length, int)) > LARGEST_VALUE // 4:
                raise GraphError(f"The MXNet node '{call_name}' makes a value larger than 2 GiB: {list(lengths)}.")
            self._types[name] = info


Translator = Callable[[Call, Translation], "str | tuple[str, ...]"]
