"""A graph under the knife: its weights lie beside it, so that looking at it and changing it costs little memory.

Protocol buffers copy a message whenever it is passed to the checker, to shape inference or to a runtime, and never give
back the memory of a part that is replaced.  A draft therefore keeps large arrays outside of the message, which holds
headers (name, shape, type) in their place, and puts them in once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import GraphError
from .soundness import check_sound

Array = npt.NDArray[np.generic]

#: Arrays of at least this many elements are held beside the graph; smaller ones may be shapes, axes or bounds, which
#: shape inference and the version converter want to read.
HELD_FROM = 1024
#: Element types that NumPy has itself; arrays of other types stay in the message untouched.
_HOLDABLE = frozenset(
    (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
    )
)


class Draft:
    """A graph whose large weights are held beside it.

    Parameters
    ----------
    model
        The graph; it is not changed, and must not be while the draft lives.

    Attributes
    ----------
    model
        The graph as a message, with headers in place of its large weights.

    Raises
    ------
    GraphError
        If the message is damaged; see :func:`~edgepose.graph.soundness.check_sound`.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        check_sound(model)
        self._held: dict[str, Array | TensorProto] = {}
        self._headers: dict[str, TensorProto] = {}
        self.model = onnx.ModelProto()
        _copy_fields(model, self.model, without="graph")
        _copy_fields(model.graph, self.graph, without="initializer")
        for tensor in model.graph.initializer:
            if tensor.name in self._headers:
                raise GraphError(f"Two arrays of the graph are called '{tensor.name}'.")
            header = self._headers[tensor.name] = self.graph.initializer.add()
            if tensor.data_type in _HOLDABLE and math.prod(tensor.dims) >= HELD_FROM:
                self._hold(header, tensor.name, tensor, tensor.data_type, tuple(tensor.dims))
            else:
                header.CopyFrom(tensor)

        for part in all_graphs(self.graph):
            for node in part.node:
                if node.domain == "ai.onnx":
                    node.domain = ""

    @classmethod
    def empty(cls, name: str, opset: int) -> Draft:
        """A draft without nodes."""
        model = onnx.ModelProto(ir_version=ir_version_for(opset), producer_name="edgepose")
        model.opset_import.append(helper.make_opsetid("", opset))
        model.graph.name = name
        return cls(model)

    @property
    def graph(self) -> onnx.GraphProto:
        """The graph of :attr:`model`."""
        return self.model.graph

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return opset_of(self.model)

    # ---- weights ----

    def constant(self, name: str) -> Array | None:
        """The array of an initialiser; None if ``name`` is none, or one that the caller may override."""
        header = self._headers.get(name)
        if header is None or any(i.name == name for i in self.graph.input):
            return None
        source = self._held.get(name, header)
        if isinstance(source, TensorProto):
            array: Array = numpy_helper.to_array(source)
            return array
        return source

    def constants(self) -> dict[str, TensorProto]:
        """Headers (name, shape, type) of all initialisers that no caller can override, by name."""
        overridable = {i.name for i in self.graph.input}
        return {name: header for name, header in self._headers.items() if name not in overridable}

    def add_constant(self, array: Array, stem: str) -> str:
        """Add an initialiser; it is called ``stem`` where that name is free."""
        name = self.fresh(stem)
        self.put_constant(name, array)
        return name

    def put_constant(self, name: str, array: Array) -> None:
        """Set an initialiser, a new one or another array for a present one."""
        header = self._headers.get(name)
        if header is None:
            header = self._headers[name] = self.graph.initializer.add()
        self._held.pop(name, None)
        kind = int(helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("=")))
        if kind in _HOLDABLE and array.size >= HELD_FROM:
            self._hold(header, name, array, kind, array.shape)
        else:
            header.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))

    def drop_constants(self, names: set[str]) -> None:
        """Remove initialisers."""
        for i in reversed(range(len(self.graph.initializer))):
            name = self.graph.initializer[i].name
            if name in names:
                del self.graph.initializer[i]
                del self._headers[name]
                self._held.pop(name, None)

    def held(self) -> Iterator[tuple[str, Array]]:
        """Names and arrays of the weights that lie beside the graph."""
        for name, source in self._held.items():
            yield name, numpy_helper.to_array(source) if isinstance(source, TensorProto) else source

    # ---- names ----

    def fresh(self, stem: str) -> str:
        """A name that no value of the graph has; ``stem`` itself where it is free."""
        taken = {*self._headers, *(i.name for i in self.graph.input)}
        for graph in all_graphs(self.graph):
            for node in graph.node:
                taken.update(node.output)
        name, count = stem, 0
        while name in taken:
            count += 1
            name = f"{stem}_{count}"
        return name

    # ---- leaving ----

    def declared(self) -> onnx.ModelProto:
        """The graph with its large weights declared as inputs: valid ONNX that the checker and inference can read."""
        light = onnx.ModelProto()
        _copy_fields(self.model, light, without="graph")
        _copy_fields(self.graph, light.graph, without="initializer")
        inputs = {i.name for i in self.graph.input}
        for tensor in self.graph.initializer:
            if tensor.name not in self._held:
                light.graph.initializer.append(tensor)
            elif tensor.name not in inputs:
                light.graph.input.append(
                    helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                )
        return light

    def finish(self) -> onnx.ModelProto:
        """The whole model, weights inside."""
        model = onnx.ModelProto()
        _copy_fields(self.model, model, without="graph")
        _copy_fields(self.graph, model.graph, without="initializer")
        for tensor in self.graph.initializer:
            source = self._held.get(tensor.name)
            if source is None:
                model.graph.initializer.append(tensor)
            elif isinstance(source, TensorProto):
                model.graph.initializer.add().CopyFrom(source)
            else:
                whole = model.graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                whole.raw_data = _little_endian(source).tobytes()
        return model

    # ---- inside ----

    def _hold(
        self, header: TensorProto, name: str, source: Array | TensorProto, kind: int, shape: tuple[int, ...]
    ) -> None:
        self._held[name] = source
        header.Clear()
        header.name = name
        header.data_type = kind
        header.dims.extend(shape)
        header.data_location = TensorProto.EXTERNAL
        header.external_data.add(key="location", value="held-beside-the-graph")


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the default operator set of a model; 1 where it names none, as ONNX has it."""
    return next((int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def ir_version_for(opset: int) -> int:
    """The oldest file version that may hold an opset: older runtimes refuse newer files for no benefit.

    Raises
    ------
    GraphError
        If the installed onnx does not know the opset.
    """
    try:
        return int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))
    except ValueError as error:
        newest = onnx.defs.onnx_opset_version()
        raise GraphError(
            f"The installed onnx {onnx.__version__} knows no opset {opset}; its newest is {newest}.",
            hint="Choose a lower --opset, or: pip install --upgrade onnx",
        ) from error


def all_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and the graphs inside its control flow, at any depth."""
    pending = [graph]
    while pending:
        current = pending.pop()
        yield current
        for node in current.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
                elif attribute.type == onnx.AttributeProto.GRAPHS:
                    pending.extend(attribute.graphs)


def _copy_fields(source: Any, target: Any, without: str) -> None:
    """Copy all fields of a message but one."""
    for descriptor, value in source.ListFields():
        if descriptor.name == without:
            continue
        if isinstance(value, (int, float, str, bytes)):
            setattr(target, descriptor.name, value)
        elif hasattr(value, "MergeFrom"):
            getattr(target, descriptor.name).MergeFrom(value)


def _little_endian(array: Array) -> Array:
    contiguous = np.ascontiguousarray(array)
    return contiguous.astype(contiguous.dtype.newbyteorder("<"), copy=False)
