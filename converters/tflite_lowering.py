"""The state of a translation from ONNX to TFLite: which tensor holds which value, in which layout.

ONNX puts channels before height and width, TFLite behind them.  A value of rank 4 can therefore have two tensors: one
as ONNX has it, and one with the channels last.  Either is made from the other when it is asked for, and kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft
from edgepose.graph.inference import known_values, shape_of

from .tflite_file import Array, Grid, Operation, TfliteFile

TO_LAST = (0, 2, 3, 1)
TO_FIRST = (0, 3, 1, 2)
#: Operators that can clamp their result themselves.
_CLAMPING = frozenset({"ADD", "SUB", "MUL", "DIV", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
_INT32 = np.iinfo(np.int32)
_INT8 = np.iinfo(np.int8)


@dataclass(frozen=True)
class Node:
    """An ONNX node with its attributes as plain values."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def refuse(self, why: str) -> ConversionError:
        """The error that says that this node cannot be translated."""
        return ConversionError(
            f"TFLite: the operator {self.op} ('{self.name}') cannot be translated: {why}.",
            hint="docs/support.md lists what each target takes; --to onnx and --to openvino take any operator.",
        )

    def text(self, name: str, default: str) -> str:
        """A text attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def has(self, place: int) -> bool:
        """Whether the optional input at ``place`` is given."""
        return len(self.inputs) > place and bool(self.inputs[place])


class Lowering:
    """The file being written, and where each ONNX value is in it.

    Parameters
    ----------
    draft
        The graph, with inferred shapes, all of them static.
    """

    def __init__(self, draft: Draft) -> None:
        self.file = TfliteFile(draft.graph.name)
        self._draft = draft
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._constants: dict[tuple[str, str], int] = {}
        self._makers: dict[int, Operation] = {}
        self.nonnegative: set[str] = set()
        self._known = known_values(draft)
        self.uses = Counter(name for node in draft.graph.node for name in node.input)
        self.uses.update(o.name for o in draft.graph.output)
        self._outputs = {o.name for o in draft.graph.output}
        self.grids: Mapping[str, Grid] = {}

    def quantise(self, grids: Mapping[str, Grid], nodes: Sequence[Node]) -> None:
        """Say which values are int8 tensors, and which nodes are going to be there."""
        self.grids = grids
        self.uses = Counter(name for node in nodes for name in node.inputs)
        self.uses.update(self._outputs)
        for name, grid in grids.items():
            if self.array(name) is None and grid.zeros[0] == _INT8.min:
                self.nonnegative.add(name)

    # ---- what the graph says ----

    def array(self, name: str) -> Array | None:
        """The value of a constant; None for what is computed."""
        return self._draft.constant(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a value, as ONNX has it."""
        array = self.array(name)
        if array is not None:
            return array.shape
        shape = shape_of(self._known[name]) if name in self._known else None
        if shape is None or not all(isinstance(d, int) for d in shape):
            raise ConversionError(
                f"TFLite needs fixed sizes; '{name}' is {list(shape) if shape else 'of unknown rank'}.",
                hint="Fix the size of the input with --input-size HxW.",
            )
        return tuple(int(d) for d in shape if isinstance(d, int))

    def kind(self, name: str) -> str:
        """Element type as TFLite gets it: int64, which ONNX has for indices, becomes int32."""
        array = self.array(name)
        if array is None and name in self.grids:
            return "int8"
        if array is None:
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(self._known[name].type.tensor_type.elem_type))
        else:
            dtype = array.dtype
        return "int32" if dtype == np.int64 else dtype.name

    # ---- tensors ----

    def constant(self, array: Array, name: str, grid: Grid | None = None) -> int:
        """A tensor that holds an array; ``grid`` says what its integers stand for."""
        if array.dtype == np.int64:
            array = np.clip(array, _INT32.min, _INT32.max).astype(np.int32)
        return self.file.tensor(name, array.shape, array.dtype.name, np.ascontiguousarray(array), grid)

    def input(self, name: str) -> None:
        """Declare a graph input."""
        index = self.file.tensor(name, self.shape(name), self.kind(name))
        self.file.inputs.append(index)
        self._first[name] = index

    def output(self, name: str) -> None:
        """Declare a graph output; it has the name and layout that it has in ONNX."""
        index = self.first(name)
        if self.file.tensors[index].data is not None or index in (*self.file.inputs, *self.file.outputs):
            raise ConversionError(f"TFLite: the output '{name}' is not computed by the graph.")
        self.file.tensors[index].name = name
        self.file.outputs.append(index)

    def first(self, name: str) -> int:
        """The tensor of a value as ONNX has it."""
        if name not in self._first:
            array = self.array(name)
            if array is not None:
                self._first[name] = self.constant(array, name)
            else:
                self._first[name] = self.transpose(self._last[name], TO_FIRST, name)
        return self._first[name]

    def last(self, name: str) -> int:
        """The tensor of a value of rank 4 with the channels last."""
        if name not in self._last:
            array = self.array(name)
            if array is not None:
                self._last[name] = self.constant(array.transpose(TO_LAST), f"{name}:nhwc")
            else:
                self._last[name] = self.transpose(self._first[name], TO_LAST, f"{name}:nhwc")
        return self._last[name]

    def has_last(self, name: str) -> bool:
        """Whether a value is there with the channels last."""
        return name in self._last and self.array(name) is None

    def put_first(self, name: str, index: int) -> None:
        """Say which tensor holds a value as ONNX has it."""
        self._first[name] = index
        self.put_on_grid(name, index)

    def put_last(self, name: str, index: int) -> None:
        """Say which tensor holds a value with the channels last."""
        self._last[name] = index
        self.put_on_grid(name, index)

    def put_on_grid(self, name: str, index: int) -> None:
        """Say that the integers of a tensor stand for what those of a value do."""
        if name in self.grids:
            self.file.tensors[index].grid = self.grids[name]

    # ---- operations ----

    def emit(self, code: str, inputs: Sequence[int], shape: Sequence[int], kind: str, name: str, **options: Any) -> int:
        """Add an operator with one result, and return its tensor; what moves int8 numbers leaves their scale."""
        grid = self.file.tensors[inputs[0]].grid if kind == "int8" else None
        result = self.file.tensor(name, shape, kind, grid=grid)
        self.emit_into(code, inputs, [result], **options)
        return result

    def emit_into(self, code: str, inputs: Sequence[int], outputs: Sequence[int], **options: Any) -> None:
        """Add an operator that computes tensors that are there."""
        operation = Operation(code, list(inputs), list(outputs), dict(options))
        self.file.operations.append(operation)
        for index in outputs:
            self._makers[index] = operation

    def transpose(self, source: int, order: Sequence[int], name: str) -> int:
        """Change the order of the axes."""
        tensor = self.file.tensors[source]
        shape = [tensor.shape[axis] for axis in order]
        return self.emit("TRANSPOSE", [source, self.numbers(order)], shape, tensor.kind, name)

    def reshape(self, source: int, shape: Sequence[int], name: str) -> int:
        """Change the shape."""
        return self.emit("RESHAPE", [source, self.numbers(shape)], shape, self.file.tensors[source].kind, name)

    def numbers(self, values: Sequence[int]) -> int:
        """A constant list of int32, each list once in the file."""
        key = (",".join(map(str, values)), "int32")
        if key not in self._constants:
            self._constants[key] = self.constant(np.array(values, np.int32), f"numbers:{key[0]}")
        return self._constants[key]

    def scalar(self, value: float, kind: str = "float32") -> int:
        """A constant of rank 0, each value once in the file."""
        key = (repr(value), kind)
        if key not in self._constants:
            self._constants[key] = self.constant(np.array(value, kind), f"scalar:{value}")
        return self._constants[key]

    def maker(self, name: str) -> Operation | None:
        """The operator that computes a value that nothing else uses; None if there is none of that kind."""
        if self.uses[name] != 1 or name in self._outputs or (name in self._first and name in self._last):
            return None
        index = self._last.get(name, self._first.get(name))
        return None if index is None else self._makers.get(index)

    def clamp(self, node: Node, activation: str) -> bool:
        """Let the operator before ``node`` do its RELU or RELU6, if it can; then ``node`` is done."""
        maker = self.maker(node.inputs[0])
        if maker is None or maker.code not in _CLAMPING or maker.options.get("activation", "NONE") != "NONE":
            return False
        maker.options["activation"] = activation
        for place in (self._first, self._last):
            if node.inputs[0] in place:
                place[node.outputs[0]] = place[node.inputs[0]]
        return True


Rule = Callable[[Lowering, Node], None]


def nodes_of(graph: onnx.GraphProto) -> list[Node]:
    """The nodes of a graph with their attributes as plain values."""
    return [
        Node(
            n.op_type,
            n.name or (n.output[0] if n.output else ""),
            tuple(n.input),
            tuple(n.output),
            {a.name: helper.get_attribute_value(a) for a in n.attribute},
        )
        for n in graph.node
    ]
