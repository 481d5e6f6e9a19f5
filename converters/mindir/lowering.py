"""From an ONNX graph to calls of MindSpore's primitives.

Only primitives, and forms of them, are used that MindSpore 2.0 and 2.10 and MindSpore Lite 2.0 all read from MindIR of
version 1 and compute alike.  That leaves out, for instance, ``AvgPool`` (refused by all three), ``ResizeBilinearV2``
(unknown to Lite) and ``ResizeBilinear`` (Lite ignores ``half_pixel_centers``): they are written as convolutions and
matrix products.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft
from edgepose.graph.inference import known_values, shape_of
from edgepose.graph.passes.wiring import attributes_of

from .program import Array, Call, Plain, Program, Setting, Shape, Value, value_of

#: Element types that primitives compute with.  Whole numbers are indices into tensors, which 32 bits hold; MindSpore
#: Lite has hardly any kernels for 64.
_NARROWED = {"int64": "int32", "float64": "float32"}
_INPUT_TYPES = ("float32", "uint8")


class Unsupported(ConversionError):
    """A node cannot be written as MindSpore's primitives."""

    def __init__(self, node: onnx.NodeProto, reason: str) -> None:
        super().__init__(f"'{node.name or node.output[0]}' ({node.op_type}): {reason}")


class Lowering:
    """A program being made.

    Parameters
    ----------
    draft
        The graph, with inferred static shapes.
    keep_stored
        Whether weights that are stored as float16 or bytes stay so, with a cast behind them.
    """

    def __init__(self, draft: Draft, keep_stored: bool) -> None:
        self.program = Program(draft.graph.name or "network")
        #: Values that are never negative.
        self.nonnegative: set[str] = set()
        self._keep_stored = keep_stored
        self._draft = draft
        self._values: dict[str, Value] = {}
        self._arrays: dict[str, Array] = {}
        self._shapes: dict[str, Shape] = {}
        self._node = onnx.NodeProto()
        self._taken = {v.name for v in draft.graph.input} | set(draft.constants())
        self._taken |= {name for node in draft.graph.node for name in node.output}
        for name, info in known_values(draft).items():
            shape = shape_of(info)
            if shape is not None and all(isinstance(d, int) for d in shape):
                self._shapes[name] = tuple(d for d in shape if isinstance(d, int))

    # ---- what a node has ----

    def array(self, name: str) -> Array | None:
        """The constant of that name; None if it is computed."""
        if name not in self._arrays:
            found = self._draft.constant(name)
            if found is None:
                return None
            self._arrays[name] = found
        return self._arrays[name]

    def constant_input(self, node: onnx.NodeProto, place: int) -> Array | None:
        """A constant input; None if it is left out.

        Raises
        ------
        Unsupported
            If it is computed.
        """
        if len(node.input) <= place or not node.input[place]:
            return None
        array = self.array(node.input[place])
        if array is None:
            raise Unsupported(node, f"its input '{node.input[place]}' is computed, and would have to be a constant")
        return array

    def integers(self, node: onnx.NodeProto, place: int, attribute: str | None = None) -> list[int] | None:
        """Whole numbers from a constant input or, in older opsets, from an attribute; None if left out."""
        listed = attributes_of(node).get(attribute) if attribute else None
        if isinstance(listed, list):
            return [int(v) for v in listed]
        array = self.constant_input(node, place)
        return None if array is None else [int(v) for v in array.reshape(-1)]

    def value(self, name: str) -> Value:
        """The tensor of that name; a constant becomes a parameter."""
        if name in self._values:
            return self._values[name]
        array = self.array(name)
        if array is None:
            raise Unsupported(self._node, f"its input '{name}' is not known")
        made = self._values[name] = self._parameter(name, array)
        return made

    def values(self, node: onnx.NodeProto) -> list[Value]:
        """The tensors of all inputs."""
        return [self.value(name) for name in node.input]

    def shape(self, name: str) -> Shape:
        """Shape of an output, as ONNX infers it."""
        if name not in self._shapes:
            raise Unsupported(self._node, f"the shape of '{name}' depends on what the network is fed")
        return self._shapes[name]

    # ---- what it becomes ----

    def call(
        self,
        primitive: str,
        *operands: Value | tuple[Value, ...] | Plain,
        gives: Sequence[int],
        dtype: str | None = None,
        name: str | None = None,
        **settings: Setting,
    ) -> Value:
        """Call a primitive that gives one tensor.

        Parameters
        ----------
        primitive, operands, settings
            See :class:`~.program.Call`.
        gives
            Shape of the result.
        dtype
            Of the result; that of the first operand by default.
        name
            Of the result; a new one by default.
        """
        first = operands[0][0] if isinstance(operands[0], tuple) else operands[0]
        dtype = dtype or (first.dtype if isinstance(first, Value) else "float32")
        result = Value(name or self._fresh(f"{self._stem()}/{primitive}"), tuple(int(d) for d in gives), dtype)
        self.program.calls.append(Call(primitive, settings, operands, (result,), False, self._stem()))
        return result

    def call_tuple(self, primitive: str, *operands: Value | Plain, made: Sequence[Value], **settings: Setting) -> None:
        """Call a primitive that gives a tuple of tensors, which are ``made`` with :meth:`blank`."""
        self.program.calls.append(Call(primitive, settings, operands, tuple(made), True, self._stem()))

    def blank(self, shape: Shape, dtype: str) -> Value:
        """A tensor that a call is going to give."""
        return Value(self._fresh(f"{self._stem()}/part"), shape, dtype)

    def constant(self, array: Array | float, dtype: str = "float32") -> Value:
        """A new parameter; a single number has the shape [1]."""
        made = np.asarray(array, dtype)
        return self._parameter(self._fresh(f"{self._stem()}/constant"), made.reshape(made.shape or (1,)))

    def cast(self, x: Value, dtype: str) -> Value:
        """Another element type."""
        return x if x.dtype == dtype else self.call("Cast", x, dtype, gives=x.shape, dtype=dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        """Another shape of as many elements."""
        if x.shape == tuple(shape):
            return x
        if x.name in self.program.parameters:
            return self._changed(x, self.program.parameters[x.name].reshape(shape))
        return self.call("Reshape", x, tuple(shape), gives=shape)

    def transpose(self, x: Value, order: Sequence[int]) -> Value:
        """Another order of the axes."""
        if list(order) == list(range(len(order))):
            return x
        if x.name in self.program.parameters:
            return self._changed(x, self.program.parameters[x.name].transpose(order))
        return self.call("Transpose", x, tuple(order), gives=[x.shape[a] for a in order])

    def broadcast(self, x: Value, shape: Sequence[int]) -> Value:
        """Repeat along axes of length 1 and along new axes in front."""
        if x.shape != tuple(shape) and x.name in self.program.parameters:
            return self._changed(x, np.broadcast_to(self.program.parameters[x.name], tuple(shape)))
        x = self.reshape(x, (1,) * (len(shape) - len(x.shape)) + x.shape)
        return x if x.shape == tuple(shape) else self.call("BroadcastTo", x, gives=shape, shape=tuple(shape))

    def finish(self, node: onnx.NodeProto, result: Value, nonnegative: bool = False) -> None:
        """Let ``result`` be the node's output.

        Parameters
        ----------
        node, result
            The node and what it has become.
        nonnegative
            Whether no element of it is ever negative.
        """
        if nonnegative:
            self.nonnegative.add(result.name)
        self.set(node.output[0], result)

    def set(self, name: str, value: Value) -> None:
        """Let ``value`` be the output of that name; if this node has just made it, it is called so."""
        last = self.program.calls[-1] if self.program.calls else None
        if last is not None and last.node == self._stem() and last.results == (value,) and not last.is_tuple:
            named = Value(name, value.shape, value.dtype)
            self.program.calls[-1] = dataclasses.replace(last, results=(named,))
            if value.name in self.nonnegative:
                self.nonnegative.add(name)
            value = named
        self._values[name] = value

    def set_constant(self, name: str, array: Array) -> None:
        """Let the output of that name be a constant."""
        self._arrays[name] = array

    # ---- the whole ----

    def run(self, operators: Mapping[str, Operator]) -> Program:
        """Lower all nodes.

        Parameters
        ----------
        operators
            ONNX operator -> what writes a node of it.

        Raises
        ------
        ConversionError
            If operators cannot be lowered; all of them are named.
        """
        self._take_inputs()
        problems: dict[str, str] = {}
        for node in self._draft.graph.node:
            self._node = node
            if any(name in problems for name in node.input):
                problems |= dict.fromkeys(node.output, "")
                continue
            try:
                if node.domain not in ("", "ai.onnx") or node.op_type not in operators:
                    raise Unsupported(node, "MindIR has no such operator here")
                operators[node.op_type](node, self)
            except ConversionError as problem:
                problems |= dict.fromkeys(node.output, problem.message)
        said = list(dict.fromkeys(line for line in problems.values() if line))
        if said:
            more = f"; and {len(said) - 8} more" if len(said) > 8 else ""
            raise ConversionError(f"The graph cannot be written as MindIR: {'; '.join(said[:8])}{more}.")
        self._name_outputs()
        self._drop_unused()
        return self.program

    def _take_inputs(self) -> None:
        constants = {t.name for t in self._draft.graph.initializer}
        inputs = []
        for info in self._draft.graph.input:
            if info.name in constants:
                continue
            dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).name
            shape = self._shapes.get(info.name)
            if shape is None:
                raise ConversionError(
                    f"The input '{info.name}' has no fixed size, and MindIR is written for one size.",
                    hint="Give it with --input-size HxW.",
                )
            if dtype not in _INPUT_TYPES:
                raise ConversionError(f"The input '{info.name}' is {dtype}; MindIR takes {' or '.join(_INPUT_TYPES)}.")
            value = self._values[info.name] = Value(info.name, shape, dtype)
            inputs.append(value)
            if dtype == "uint8":
                self.nonnegative.add(info.name)
        self.program.inputs = tuple(inputs)

    def _name_outputs(self) -> None:
        """Let each output be the result of a call of its own that has its name and element type."""
        made = {result.name: i for i, call in enumerate(self.program.calls) for result in call.results}
        for info in self._draft.graph.output:
            value = self.value(info.name)
            wanted = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).name
            if wanted != value.dtype:
                if value.name == info.name:
                    value = self._rename(value, self._fresh(f"{info.name}/narrow"))
                value = self.call("Cast", value, wanted, gives=value.shape, dtype=wanted, name=info.name)
            elif value.name != info.name or value.name not in made:
                name = info.name if value.name != info.name else self._fresh(info.name)
                value = self.call("Reshape", value, value.shape, gives=value.shape, name=name)
            self.program.outputs[info.name] = value

    def _changed(self, x: Value, array: Array) -> Value:
        """A parameter in another form; MindSpore Lite fails on some operators that have nothing but parameters."""
        return self._parameter(self._fresh(x.name), array)

    def _drop_unused(self) -> None:
        used = {value.name for value in self.program.outputs.values()}
        for call in self.program.calls:
            for operand in call.operands:
                members = operand if isinstance(operand, tuple) else (operand,)
                used |= {member.name for member in members if isinstance(member, Value)}
        for name in [name for name in self.program.parameters if name not in used]:
            del self.program.parameters[name]

    def _rename(self, old: Value, name: str) -> Value:
        """Another name for what a call gives."""
        new = Value(name, old.shape, old.dtype)

        def renamed(operand: Any) -> Any:
            if isinstance(operand, tuple):
                return tuple(renamed(member) for member in operand)
            return new if operand == old else operand

        self.program.calls[:] = [
            dataclasses.replace(call, operands=renamed(tuple(call.operands)), results=renamed(call.results))
            for call in self.program.calls
        ]
        return new

    def stored_weights(self, name: str, array: Array, result: str) -> bool:
        """Keep weights as they are stored, with a cast; whether it did."""
        if not self._keep_stored:
            return False
        stored = self.value(name)
        self.set(result, self.call("Cast", stored, "float32", gives=array.shape, dtype="float32", name=result))
        return True

    def _parameter(self, name: str, array: Array) -> Value:
        dtype = _NARROWED.get(array.dtype.name, array.dtype.name)
        narrowed = array.astype(dtype)
        if dtype != array.dtype.name and array.size and not np.allclose(narrowed, array, rtol=1e-6, atol=0):
            raise Unsupported(self._node, f"the constant '{name}' does not fit {dtype}")
        self.program.parameters[name] = narrowed
        if array.dtype.kind != "b" and (not array.size or array.min() >= 0):
            self.nonnegative.add(name)
        return value_of(name, narrowed)

    def _stem(self) -> str:
        return str(self._node.output[0]) if self._node.output else "network"

    def _fresh(self, stem: str) -> str:
        name, count = stem, 0
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name


Operator = Callable[[onnx.NodeProto, Lowering], None]
