"""The input side inside the graph: uint8 pixels in, what the network wants out."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
from onnx import helper

from ..decoding.nodes import Nodes
from ..errors import GraphError
from ..spec import FixedHeight, InputSpec
from .builder import GraphBuilder
from .draft import Draft
from .embed_splice import dimensions, finish_part, splice

PIXELS = "pixels"
PREFIX = "edgepose.input"

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def check_input(spec: InputSpec) -> None:
    """Whether pixels for this input are whole grey levels, as uint8 has them.

    Raises
    ------
    GraphError
        If they are not.
    """
    if isinstance(spec.fit, FixedHeight) and spec.fit.resize_after_normalise:
        raise GraphError(
            "The input side cannot be put into the graph: this model's pictures are resized without rounding to grey"
            " levels, and uint8 pixels are whole grey levels.",
            hint="Leave 'pre' out of --embed, or set 'resize_after_normalise' to false in the spec.",
        )


def embed_input(draft: Draft, spec: InputSpec) -> InputSpec:
    """Let a graph take uint8 pixels, N x H x W x BGR.

    The network's own input keeps its name, as an inner value; the new input is called ``pixels``.

    Returns
    -------
    InputSpec
        What the graph takes now.

    Raises
    ------
    GraphError
        If the pixels are no whole grey levels, or the graph's input is not what the spec says.
    """
    check_input(spec)
    if (spec.layout, spec.color, spec.dtype) == ("NHWC", "BGR", "uint8"):
        return spec
    value, (batch, height, width) = _declared(draft, spec)
    name = draft.fresh(PIXELS)
    builder = GraphBuilder("input", draft.opset)
    nodes = Nodes(builder)
    tensor = _prepare(nodes, spec, nodes.input(name, (batch, height, width, 3), "uint8"))
    nhwc = spec.layout == "NHWC"
    builder.output(tensor, spec.name, (batch, height, width, 3) if nhwc else (batch, 3, height, width), spec.dtype)
    splice(draft, finish_part(builder), {name: name, spec.name: spec.name}, PREFIX, first=True)
    value.CopyFrom(helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, [batch, height, width, 3]))
    return dataclasses.replace(
        spec, name=name, layout="NHWC", dtype="uint8", color="BGR", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )


def _prepare(nodes: Nodes, spec: InputSpec, pixels: str) -> str:
    """Nodes that do what :func:`edgepose.fitting.to_tensor` does, with the same roundings.

    Whole planes are moved and scaled: channel by channel within the pixels, ONNX Runtime took 5 to 15 times as long.
    """
    x = pixels
    planes = spec.color == "RGB" or spec.layout == "NCHW" or not spec.is_raw
    if planes:
        x = nodes.op("Transpose", x, perm=_TO_NCHW)
    if spec.color == "RGB":
        x = nodes.pick(x, (2, 1, 0), 1)
    dtype = "uint8"
    if not spec.is_raw:
        mean = np.reshape(np.asarray(spec.mean, np.float32), (3, 1, 1))
        scale = np.reshape(np.asarray([1 / s for s in spec.std], np.float32), (3, 1, 1))
        dtype = "float32"
        x = nodes.op("Sub", nodes.cast(x, dtype), nodes.constant(mean))
        x = nodes.op("Mul", x, nodes.constant(scale))
    if planes and spec.layout == "NHWC":
        x = nodes.op("Transpose", x, perm=_TO_NHWC)
    return x if spec.dtype == dtype else nodes.cast(x, spec.dtype)


def _declared(draft: Draft, spec: InputSpec) -> tuple[onnx.ValueInfoProto, tuple[int | str, int | str, int | str]]:
    """The graph's input and its batch, height and width.

    Raises
    ------
    GraphError
        If it is not what the spec says.
    """
    value = next((i for i in draft.graph.input if i.name == spec.name), None)
    if value is None:
        raise GraphError(
            f"The graph has no input '{spec.name}'; it has {', '.join(i.name for i in draft.graph.input)}.",
            hint="The spec belongs to another graph.",
        )
    nhwc = spec.layout == "NHWC"
    shape = dimensions(value, (None, None, None, 3) if nhwc else (None, 3, None, None))
    kind = value.type.tensor_type.elem_type
    dtype = helper.tensor_dtype_to_np_dtype(kind).name if kind else "of unknown type"
    if dtype != spec.dtype:
        raise GraphError(
            f"The graph's input '{value.name}' is {dtype}; by the spec it is {spec.dtype}.",
            hint="The spec belongs to another graph.",
        )
    height, width = shape[1:3] if nhwc else shape[2:]
    return value, (shape[0], height, width)
