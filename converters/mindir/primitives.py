"""The attributes that MindIR of version 1 stores for a primitive, from the arguments of its constructor.

Facts read from files that MindSpore 2.0.0 exports, the newest release that writes this version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .program import Setting

#: bool before int; a tuple is a TUPLE of INT64 or of tuples; a list is a LIST of strings.
Attribute = bool | int | float | str | tuple[Any, ...] | list[str]
Attributes = dict[str, Attribute]

_XY = (["x", "y"], ["output"])
_X = (["x"], ["output"])
#: Primitive -> names of its inputs and outputs.  Attributes are found by these names when a file is loaded.
_NAMES: dict[str, tuple[list[str], list[str]]] = {
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal"),
        _XY,
    ),
    **dict.fromkeys(("FloorDiv", "LogicalAnd", "LogicalOr"), _XY),
    **dict.fromkeys(
        ("ReLU", "ReLU6", "Sigmoid", "Tanh", "Sqrt", "Neg", "Abs", "Softmax", "Softplus", "LogicalNot"), _X
    ),
    "Elu": (["x"], ["output", "mask"]),
    "HSigmoid": (["input_x"], ["output"]),
    "BiasAdd": (["x", "b"], ["output"]),
    "Conv2D": (["x", "w"], ["output"]),
    "Conv2DTranspose": (["out_backprop", "filter", "input_sizes"], ["output"]),
    "MaxPool": _X,
    **dict.fromkeys(("Exp", "Log", "Erf", "Floor", "Reciprocal"), (["x"], ["y"])),
    "Pow": (["x1", "x2"], ["y"]),
    "Select": (["condition", "x", "y"], ["output"]),
    "TopK": (["input", "k"], ["values", "indices"]),
    "GatherD": (["x", "dim", "index"], ["output"]),
    "Gather": (["params", "indices", "axis"], ["output"]),
    "Tile": (["x", "multiples"], ["output"]),
    "BroadcastTo": _X,
    "ResizeNearestNeighbor": (["image_in"], ["image_out"]),
    "Pad": (["x"], ["y"]),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"), (["input_x", "axis"], ["y"])),
    "MatMul": (["x1", "x2"], ["output"]),
    "BatchMatMul": (["x1", "x2"], ["output"]),
    "Reshape": (["tensor", "shape"], ["output"]),
    "Transpose": (["x", "perm"], ["output"]),
    "Slice": (["x", "begin", "size"], ["output"]),
    "Cast": (["x", "dst_type"], ["output"]),
}


def attributes_of(primitive: str, settings: Mapping[str, Setting]) -> Attributes:
    """Attributes by name, in the order in which they are written."""
    made = _MAKERS[primitive](settings) if primitive in _MAKERS else dict(settings)
    if primitive in _NAMES:
        inputs, outputs = _NAMES[primitive]
        made = {**made, "input_names": inputs, "output_names": outputs}
    return dict(sorted(made.items()))


def _convolution(settings: Mapping[str, Any]) -> Attributes:
    return {
        "kernel_size": settings["kernel_size"],
        "mode": 1,
        "out_channel": settings["out_channel"],
        "pad": settings["pad"],
        "pad_list": settings["pad"],
        "pad_mode": "pad",
        "format": "NCHW",
        "group": settings["group"],
        "groups": settings["group"],
        "stride": (1, 1, *settings["stride"]),
        "dilation": (1, 1, *settings["dilation"]),
    }


def _transposed_convolution(settings: Mapping[str, Any]) -> Attributes:
    return {**_convolution(settings), "pad_mode": "PAD"}


def _pooling(settings: Mapping[str, Any]) -> Attributes:
    return {
        "kernel_size": (1, 1, *settings["kernel_size"]),
        "strides": (1, 1, *settings["strides"]),
        "pad_mode": settings["pad_mode"].upper(),
        "format": "NCHW",
    }


def _matrix_product(settings: Mapping[str, Any]) -> Attributes:
    return {"transpose_a": False, "transpose_b": False, "transpose_x1": False, "transpose_x2": False}


def _batched_product(settings: Mapping[str, Any]) -> Attributes:
    return {**_matrix_product(settings), "adj_x1": False, "adj_x2": False}


def _softmax(settings: Mapping[str, Any]) -> Attributes:
    return {"axis": (settings["axis"],)}


def _sum(settings: Mapping[str, Any]) -> Attributes:
    return {"keep_dims": settings["keep_dims"], "skip_mode": False}


def _bias(settings: Mapping[str, Any]) -> Attributes:
    return {"format": "NCHW", "data_format": "NCHW"}


def _exponential(settings: Mapping[str, Any]) -> Attributes:
    return {"base": -1.0, "scale": 1.0, "shift": 0.0}


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Attributes]] = {
    "Conv2D": _convolution,
    "Conv2DTranspose": _transposed_convolution,
    "MaxPool": _pooling,
    "MatMul": _matrix_product,
    "BatchMatMul": _batched_product,
    "Softmax": _softmax,
    "ReduceSum": _sum,
    "BiasAdd": _bias,
    "Exp": _exponential,
    "Log": _exponential,
}
