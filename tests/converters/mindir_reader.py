"""Reads MindIR of version 1 back, without anything of edgepose, and writes it as ONNX again.

What a primitive computes is taken from MindSpore's documentation of it.  With the conformance tests, which run the
files in MindSpore itself, this makes the ordinary tests of the writer worth something without MindSpore.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {1: np.float32, 2: np.uint8, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16}
TYPE_IDS = {34: TensorProto.INT32, 35: TensorProto.INT64, 43: TensorProto.FLOAT}


def fields(data: bytes) -> dict[int, list[Any]]:
    """Field number -> values, in the order in which they stand."""
    found: dict[int, list[Any]] = {}
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            octet = data[place]
            place += 1
            value |= (octet & 127) << shift
            shift += 7
            if octet < 128:
                return value - (1 << 64) if value >> 63 else value

    while place < len(data):
        tag = varint()
        kind = tag & 7
        if kind == 0:
            value: Any = varint()
        elif kind == 2:
            size = varint()
            value, place = data[place : place + size], place + size
            assert len(value) == size
        else:
            assert kind == 5
            value, place = struct.unpack("<f", data[place : place + 4])[0], place + 4
        found.setdefault(tag >> 3, []).append(value)
    return found


def text(message: dict[int, list[Any]], number: int) -> str:
    return message[number][0].decode()


def shape_and_type(data: bytes) -> tuple[tuple[int, ...], Any]:
    tensor = fields(data)
    return tuple(tensor.get(1, [])), TYPES[tensor[2][0]]


def attribute(data: bytes) -> tuple[str | None, Any]:
    """Name and value; a tensor's description is (shape, type), a tuple's is a list of them."""
    message = fields(data)
    name = text(message, 1) if 1 in message else None
    kind = message[16][0]
    if kind in (7, 9):
        value: Any = message[3][0] if 3 in message else message[10][0]
    elif kind == 1:
        value = message[2][0]
    elif kind == 8:
        value = text(message, 5) if 5 in message else text(message, 11)
    elif kind == 19:
        value = shape_and_type(message[12][0])
    else:
        assert kind in (20, 21)
        value = [attribute(member)[1] for member in message.get(17, [])]
    return name, value


class MindIr:
    """A parsed file."""

    def __init__(self, data: bytes) -> None:
        model = fields(data)
        assert text(model, 1) == "0.1.1"
        assert model[10] == [1]
        assert model[13] == [1]
        graph = fields(model[7][0])
        self.user_info = {text(e, 1): text(e, 2) for e in map(fields, model.get(14, []))}
        self.primitives = {}
        for primitive in map(fields, model.get(12, [])):
            attributes = dict(attribute(a) for a in primitive.get(3, []))
            self.primitives[text(primitive, 1)] = text(primitive, 2), attributes
        self.parameters = {}
        for parameter in map(fields, graph.get(3, [])):
            shape, dtype = tuple(parameter.get(1, [])), TYPES[parameter[2][0]]
            self.parameters[text(parameter, 7)] = np.frombuffer(parameter[9][0], dtype).reshape(shape)
            assert text(parameter, 13) == text(parameter, 7)
        self.inputs = [(text(i, 1), *shape_and_type(i[2][0])) for i in map(fields, graph[5])]
        self.outputs = [text(o, 1) for o in map(fields, graph[6])]
        self.nodes = []
        for node in map(fields, graph[1]):
            attributes = dict(attribute(a) for a in node[5])
            inputs = [i.decode() for i in node.get(1, [])]
            assert text(node, 2) == text(node, 3)
            self.nodes.append((text(node, 4), inputs, text(node, 2), attributes))
        names = [n[2] for n in self.nodes] + list(self.parameters) + [i[0] for i in self.inputs]
        assert len(names) == len(set(names))

    def operators(self) -> list[str]:
        """Names of the primitives called, in order."""
        called = [self.primitives[kind.removeprefix("REF::")][0] for kind, *_ in self.nodes if kind != "Constant"]
        return [name for name in called if name not in ("MakeTuple", "TupleGetItem")]

    def as_onnx(self) -> onnx.ModelProto:
        """The network in ONNX; every declared shape is checked by shape inference."""
        return _Writer(self).model()


class _Writer:
    def __init__(self, file: MindIr) -> None:
        self.file = file
        self.nodes: list[onnx.NodeProto] = []
        self.arrays = dict(file.parameters)
        self.plain: dict[str, Any] = {}
        self.tuples: dict[str, list[str]] = {}
        self.described: dict[str, Any] = {}

    def model(self) -> onnx.ModelProto:
        for kind, inputs, output, attributes in self.file.nodes:
            if kind == "Constant":
                self.plain[output] = attributes["value"]
                continue
            primitive, settings = self.file.primitives[kind.removeprefix("REF::")]
            self.described[output] = attributes["shape"]
            self.write(primitive, settings, inputs, output)
        outputs = [n for o in self.file.outputs for n in self.tuples.get(o, [o])]
        values = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(d[1])), d[0])
            for name, d in self.described.items()
            if isinstance(d, tuple) and name not in self.tuples and name not in outputs
        ]
        graph = helper.make_graph(
            self.nodes,
            "again",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
                for name, shape, dtype in self.file.inputs
            ],
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(np.dtype(self.described[name][1])), self.described[name][0]
                )
                for name in outputs
            ],
            [numpy_helper.from_array(np.array(a), name) for name, a in self.arrays.items()],
            value_info=values,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    def op(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    def array(self, values: Any, dtype: Any = np.int64) -> str:
        name = f"array {len(self.arrays)}"
        self.arrays[name] = np.asarray(values, dtype)
        return name

    def write(self, primitive: str, s: dict[str, Any], x: list[str], y: str) -> None:
        if primitive == "MakeTuple":
            self.tuples[y] = x
        elif primitive == "TupleGetItem":
            self.op("Identity", [self.tuples[x[0]][self.plain[x[1]]]], [y])
        elif primitive in SAME:
            self.op(SAME[primitive], x, [y])
        elif primitive in ("Conv2D", "Conv2DTranspose"):
            top, bottom, left, right = s["pad"]
            assert s["pad"] == s["pad_list"]
            assert s["group"] == s["groups"]
            rest = {"strides": s["stride"][2:], "dilations": s["dilation"][2:], "pads": [top, left, bottom, right]}
            assert s["out_channel"] == self.weights(x[1]).shape[0]
            assert tuple(s["kernel_size"]) == self.weights(x[1]).shape[2:]
            if primitive == "Conv2D":
                self.op("Conv", x, [y], group=s["group"], **rest)
            else:
                assert tuple(self.plain[x[2]]) == self.described[y][0]
                self.op("ConvTranspose", x[:2], [y], group=s["group"], **rest)
        elif primitive == "BiasAdd":
            reshaped = f"{y} bias"
            self.op("Reshape", [x[1], self.array([1, -1, 1, 1])], [reshaped])
            self.op("Add", [x[0], reshaped], [y])
        elif primitive == "MaxPool":
            mode = {"SAME": "SAME_UPPER", "VALID": "VALID"}[s["pad_mode"]]
            self.op("MaxPool", x, [y], kernel_shape=s["kernel_size"][2:], strides=s["strides"][2:], auto_pad=mode)
        elif primitive == "Pad":
            pads = [p[0] for p in s["paddings"]] + [p[1] for p in s["paddings"]]
            self.op("Pad", [x[0], self.array(pads)], [y])
        elif primitive == "ReLU6":
            self.op("Clip", [x[0], self.array(0, np.float32), self.array(6, np.float32)], [y])
        elif primitive == "HSigmoid":
            self.op("HardSigmoid", x, [y], alpha=1 / 6, beta=0.5)
        elif primitive == "Elu":
            assert s["alpha"] == 1
            self.op("Elu", x, [y])
        elif primitive == "Softmax":
            self.op("Softmax", x, [y], axis=s["axis"][0])
        elif primitive == "ReduceSum":
            self.op("ReduceSum", [x[0], self.array(self.plain[x[1]])], [y], keepdims=s["keep_dims"])
        elif primitive in ("ReduceMean", "ReduceMax", "ReduceMin"):
            self.op(primitive, [x[0]], [y], axes=self.plain[x[1]], keepdims=s["keep_dims"])
        elif primitive == "ResizeNearestNeighbor":
            assert not s["align_corners"]
            batch_channels = list(self.described[y][0][:2])
            rules = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
            self.op("Resize", [x[0], "", "", self.array(batch_channels + s["size"])], [y], **rules)
        elif primitive == "Reshape":
            self.op("Reshape", [x[0], self.array(self.plain[x[1]])], [y])
        elif primitive == "Transpose":
            self.op("Transpose", [x[0]], [y], perm=self.plain[x[1]])
        elif primitive == "Slice":
            begin, size = np.array(self.plain[x[1]]), np.array(self.plain[x[2]])
            self.op("Slice", [x[0], self.array(begin), self.array(begin + size)], [y])
        elif primitive == "Concat":
            self.op("Concat", self.tuples[x[0]], [y], axis=s["axis"])
        elif primitive == "Gather":
            self.op("Gather", x[:2], [y], axis=self.plain[x[2]])
        elif primitive == "GatherD":
            self.op("GatherElements", [x[0], x[2]], [y], axis=self.plain[x[1]])
        elif primitive == "TopK":
            self.tuples[y] = [f"{y} values", f"{y} indices"]
            wide = f"{y} wide"
            self.op("TopK", [x[0], self.array([self.plain[x[1]]])], [f"{y} values", wide], axis=-1)
            self.op("Cast", [wide], [f"{y} indices"], to=TensorProto.INT32)
        elif primitive == "Cast":
            self.op("Cast", [x[0]], [y], to=TYPE_IDS[self.plain[x[1]]])
        elif primitive == "BroadcastTo":
            self.op("Expand", [x[0], self.array(s["shape"])], [y])
        elif primitive == "Tile":
            self.op("Tile", [x[0], self.array(self.plain[x[1]])], [y])
        else:
            raise AssertionError(primitive)

    def weights(self, name: str) -> Any:
        """The weights behind a cast, and a shift and a scale, if there are any."""
        while name not in self.arrays:
            name = next(n for n in self.nodes if n.output[0] == name).input[0]
        return self.arrays[name]


SAME = {
    "Add": "Add",
    "Sub": "Sub",
    "Mul": "Mul",
    "RealDiv": "Div",
    "FloorDiv": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
    "Pow": "Pow",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Equal": "Equal",
    "LogicalAnd": "And",
    "LogicalOr": "Or",
    "LogicalNot": "Not",
    "ReLU": "Relu",
    "Sigmoid": "Sigmoid",
    "Tanh": "Tanh",
    "Sqrt": "Sqrt",
    "Exp": "Exp",
    "Log": "Log",
    "Abs": "Abs",
    "Neg": "Neg",
    "Floor": "Floor",
    "Erf": "Erf",
    "Reciprocal": "Reciprocal",
    "Softplus": "Softplus",
    "MatMul": "MatMul",
    "BatchMatMul": "MatMul",
    "Select": "Where",
}
