"""Writing TFLite files: tensors and operators of one graph as a flatbuffer.

Numbers and places of fields are those of the TFLite schema, version 3 (file identifier ``TFL3``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_VERSION = 3
_IDENTIFIER = b"TFL3"
#: Buffers are aligned so that kernels can read weights where they lie in a mapped file.
_ALIGNMENT = 16
_LARGEST = 2**31 - 1
_KINDS = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int16": 7, "int8": 9}
#: Codes above this do not fit the field of the schema's first versions, which holds this in their place.
_LAST_OLD_CODE = 127

PADDINGS = {"SAME": 0, "VALID": 1}
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU6": 3}
_ENUMS: Mapping[str, Mapping[str, int]] = {
    "padding": PADDINGS,
    "activation": ACTIVATIONS,
    "kind": _KINDS,
    "mode": {"REFLECT": 0, "SYMMETRIC": 1},
}


@dataclass(frozen=True)
class _Operator:
    """A builtin operator: its code, version, and its options table with the fields in their places."""

    code: int
    version: int = 1
    table: int = 0
    fields: Sequence[str] = ()


def _op(code: int, table: int = 0, fields: str = "", version: int = 1) -> _Operator:
    return _Operator(code, version, table, tuple(fields.split()))


#: Fields are 'name:kind' in the order of their places; 'i' is int32, 'b' bool, 'f' float, 'e' an enumeration.
OPERATORS: Mapping[str, _Operator] = {
    "ADD": _op(0, 11, "activation:e"),
    "AVERAGE_POOL_2D": _op(1, 5, "padding:e stride_w:i stride_h:i filter_w:i filter_h:i activation:e"),
    "CONCATENATION": _op(2, 10, "axis:i activation:e"),
    "CONV_2D": _op(3, 1, "padding:e stride_w:i stride_h:i activation:e dilation_w:i dilation_h:i"),
    "DEPTHWISE_CONV_2D": _op(
        4, 2, "padding:e stride_w:i stride_h:i multiplier:i activation:e dilation_w:i dilation_h:i", 2
    ),
    "DEPTH_TO_SPACE": _op(5, 94, "block_size:i"),
    "DEQUANTIZE": _op(6, 38, version=3),
    "FLOOR": _op(8),
    "FULLY_CONNECTED": _op(9, 8, "activation:e weights_format:i keep_num_dims:b", 5),
    "LOGISTIC": _op(14),
    "MAX_POOL_2D": _op(17, 5, "padding:e stride_w:i stride_h:i filter_w:i filter_h:i activation:e"),
    "MUL": _op(18, 21, "activation:e"),
    "RELU": _op(19),
    "RELU6": _op(21),
    "RESHAPE": _op(22, 17),
    "RESIZE_BILINEAR": _op(23, 15, "- - align_corners:b half_pixel_centers:b", 3),
    "SOFTMAX": _op(25, 9, "beta:f"),
    "TANH": _op(28),
    "PAD": _op(34, 22),
    "GATHER": _op(36, 23, "axis:i batch_dims:i"),
    "TRANSPOSE": _op(39, 26),
    "MEAN": _op(40, 27, "keep_dims:b"),
    "SUB": _op(41, 28, "activation:e"),
    "DIV": _op(42, 29, "activation:e"),
    "STRIDED_SLICE": _op(45, 32, "begin_mask:i end_mask:i ellipsis_mask:i new_axis_mask:i shrink_axis_mask:i"),
    "EXP": _op(47, 33),
    "TOPK_V2": _op(48, 34),
    "CAST": _op(53, 37, "from:e to:e"),
    "PRELU": _op(54),
    "MAXIMUM": _op(55, 39),
    "ARG_MAX": _op(56, 40, "result:e"),
    "MINIMUM": _op(57, 39),
    "LESS": _op(58, 41),
    "NEG": _op(59, 42),
    "PADV2": _op(60, 43),
    "GREATER": _op(61, 44),
    "GREATER_EQUAL": _op(62, 45),
    "LESS_EQUAL": _op(63, 46),
    "TRANSPOSE_CONV": _op(67, 49, "padding:e stride_w:i stride_h:i", 3),
    "EQUAL": _op(71, 53),
    "LOG": _op(73),
    "SUM": _op(74, 27, "keep_dims:b"),
    "SQRT": _op(75),
    "POW": _op(78, 56),
    "REDUCE_MAX": _op(82, 27, "keep_dims:b"),
    "LOGICAL_OR": _op(84, 59),
    "LOGICAL_AND": _op(86, 61),
    "LOGICAL_NOT": _op(87, 62),
    "REDUCE_MIN": _op(89, 27, "keep_dims:b"),
    "RESIZE_NEAREST_NEIGHBOR": _op(97, 74, "align_corners:b half_pixel_centers:b", 3),
    "LEAKY_RELU": _op(98, 75, "alpha:f"),
    "MIRROR_PAD": _op(100, 77, "mode:e"),
    "ABS": _op(101, 78),
    "SPLIT_V": _op(102, 79, "num_splits:i"),
    "GATHER_ND": _op(107, 83),
    "ELU": _op(111),
    "HARD_SWISH": _op(117, 91),
    "SELECT_V2": _op(123, 98),
    "BATCH_MATMUL": _op(126, 101, "adj_x:b adj_y:b"),
    "QUANTIZE": _op(114, 88),
    "BROADCAST_TO": _op(130, 110, version=2),
}
#: Versions in which operators got int8; 2 for all others.
_INT8_VERSIONS = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "BROADCAST_TO"), 3),
    **dict.fromkeys(("QUANTIZE", "RESHAPE", "ELU", "HARD_SWISH"), 1),
}


@dataclass(frozen=True, eq=False)
class Grid:
    """What the integers of a tensor stand for: ``scale * (integer - zero)``.

    Attributes
    ----------
    scales
        float32: one, or one for each length along ``axis``.
    zeros
        int64: the integers that stand for 0, as many.
    axis
        Of the scales.
    """

    scales: Array
    zeros: Array
    axis: int = 0

    def is_same(self, other: Grid) -> bool:
        """Whether integers mean the same; one scale has no axis."""
        return (
            np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zeros, other.zeros)
            and (self.scales.size == 1 or self.axis == other.axis)
        )


@dataclass
class Tensor:
    """A tensor of the file; ``data`` is None for what is computed, ``grid`` for what is not quantised."""

    name: str
    shape: tuple[int, ...]
    kind: str
    data: Array | None = None
    grid: Grid | None = None


@dataclass
class Operation:
    """An operator with its tensors, by index; -1 for one that is left out."""

    code: str
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Any] = field(default_factory=dict)


class TfliteFile:
    """A graph being written.

    Attributes
    ----------
    tensors, operations
        What it holds, the operations in the order in which they run.
    inputs, outputs
        Indices of tensors.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.tensors: list[Tensor] = []
        self.operations: list[Operation] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def tensor(
        self, name: str, shape: Sequence[int], kind: str, data: Array | None = None, grid: Grid | None = None
    ) -> int:
        """Add a tensor and return its index."""
        self.tensors.append(Tensor(name, tuple(int(d) for d in shape), kind, data, grid))
        return len(self.tensors) - 1

    def to_bytes(self) -> bytes:
        """The file.

        Raises
        ------
        OverflowError
            If it would be larger than a flatbuffer can be, 2 GiB.
        """
        weights = sum(t.data.nbytes + 2 * _ALIGNMENT for t in self.tensors if t.data is not None)
        size = weights + 1024 * (len(self.tensors) + len(self.operations) + 8)
        if size > _LARGEST:
            raise OverflowError(f"A TFLite file holds 2 GiB at most; this one would hold {size / 2**30:.1f} GiB.")
        build = flatbuffers.Builder(size)
        buffers = [_table(build, {})]
        places = []
        for tensor in self.tensors:
            places.append(0 if tensor.data is None else len(buffers))
            if tensor.data is not None:
                buffers.append(_table(build, {0: ("offset", _bytes(build, tensor.data))}))
        codes = list(dict.fromkeys((o.code, self._version(o)) for o in self.operations))
        graph = self._graph(build, places, codes)
        model = _table(
            build,
            {
                0: ("uint32", _VERSION),
                1: ("offset", _vector(build, [_code(build, *c) for c in codes])),
                2: ("offset", _vector(build, [graph])),
                3: ("offset", build.CreateString("edgepose")),
                4: ("offset", _vector(build, buffers)),
                7: ("offset", _vector(build, [self._signature(build)])),
            },
        )
        build.Finish(model, file_identifier=_IDENTIFIER)
        return bytes(build.Output())

    def _version(self, operation: Operation) -> int:
        """The version of an operator from which on it has the element types of its tensors."""
        kinds = {self.tensors[i].kind for i in (*operation.inputs, *operation.outputs) if i >= 0}
        known = OPERATORS[operation.code].version
        return max(known, _INT8_VERSIONS.get(operation.code, 2)) if "int8" in kinds else known

    def _graph(self, build: Any, places: Sequence[int], codes: Sequence[tuple[str, int]]) -> int:
        tensors = []
        for tensor, place in zip(self.tensors, places, strict=True):
            name, shape = build.CreateString(tensor.name), _numbers(build, tensor.shape)
            fields: dict[int, tuple[str, Any]] = {
                0: ("offset", shape),
                1: ("int8", _KINDS[tensor.kind]),
                2: ("uint32", place),
                3: ("offset", name),
            }
            if tensor.grid is not None:
                fields[4] = ("offset", _grid(build, tensor.grid))
            tensors.append(_table(build, {**fields, 8: ("bool", True)}))
        operations = []
        for operation in self.operations:
            known = OPERATORS[operation.code]
            inputs, outputs = _numbers(build, operation.inputs), _numbers(build, operation.outputs)
            fields = {
                0: ("uint32", codes.index((operation.code, self._version(operation)))),
                1: ("offset", inputs),
                2: ("offset", outputs),
            }
            if known.table:
                fields |= {3: ("uint8", known.table), 4: ("offset", _options(build, known, operation.options))}
            operations.append(_table(build, fields))
        return _table(
            build,
            {
                0: ("offset", _vector(build, tensors)),
                1: ("offset", _numbers(build, self.inputs)),
                2: ("offset", _numbers(build, self.outputs)),
                3: ("offset", _vector(build, operations)),
                4: ("offset", build.CreateString(self.name)),
            },
        )

    def _signature(self, build: Any) -> int:
        maps = []
        for indices in (self.inputs, self.outputs):
            named = [(build.CreateString(self.tensors[i].name), i) for i in indices]
            maps.append(_vector(build, [_table(build, {0: ("offset", n), 1: ("uint32", i)}) for n, i in named]))
        key = build.CreateString("serving_default")
        return _table(build, {0: ("offset", maps[0]), 1: ("offset", maps[1]), 2: ("offset", key)})


def _grid(build: Any, grid: Grid) -> int:
    scales = build.CreateNumpyVector(np.asarray(grid.scales, np.float32))
    zeros = build.CreateNumpyVector(np.asarray(grid.zeros, np.int64))
    return _table(build, {2: ("offset", scales), 3: ("offset", zeros), 6: ("int32", grid.axis)})


def _code(build: Any, name: str, version: int) -> int:
    known = OPERATORS[name]
    return _table(
        build, {0: ("int8", min(known.code, _LAST_OLD_CODE)), 2: ("int32", version), 3: ("int32", known.code)}
    )


def _options(build: Any, known: _Operator, given: Mapping[str, Any]) -> int:
    fields: dict[int, tuple[str, Any]] = {}
    names = [f.partition(":")[0] for f in known.fields]
    assert set(given) <= set(names), (given, names)
    for place, text in enumerate(known.fields):
        name, _, kind = text.partition(":")
        if name not in given:
            continue
        value = given[name]
        if kind == "e":
            choices = _ENUMS["kind" if name in ("from", "to", "result") else name]
            fields[place] = ("int8", choices[value])
        else:
            fields[place] = ({"i": "int32", "b": "bool", "f": "float32"}[kind], value)
    return _table(build, fields)


_PREPEND = {
    "int8": "PrependInt8",
    "uint8": "PrependUint8",
    "int32": "PrependInt32",
    "uint32": "PrependUint32",
    "bool": "PrependBool",
    "float32": "PrependFloat32",
    "offset": "PrependUOffsetTRelative",
}


def _table(build: Any, fields: Mapping[int, tuple[str, Any]]) -> int:
    """A table with fields by their place."""
    build.StartObject(max(fields, default=-1) + 1)
    for place, (kind, value) in fields.items():
        getattr(build, _PREPEND[kind])(value)
        build.Slot(place)
    return int(build.EndObject())


def _vector(build: Any, offsets: Sequence[int]) -> int:
    build.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        build.PrependUOffsetTRelative(offset)
    return int(build.EndVector())


def _numbers(build: Any, values: Sequence[int]) -> int:
    return int(build.CreateNumpyVector(np.asarray(values, np.int32)))


def _bytes(build: Any, array: Array) -> int:
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    data = little.reshape(-1).view(np.uint8)
    build.StartVector(1, len(data), _ALIGNMENT)
    build.head = build.Head() - len(data)
    build.Bytes[build.Head() : build.Head() + len(data)] = data.tobytes()
    return int(build.EndVector())
