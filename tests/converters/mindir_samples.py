"""Small graphs: one for each form of each operator that the writer of MindIR knows."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shapes = Mapping[str, Sequence[int]]


def weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Arrays that neither let activations die nor explode."""
    made = {}
    for name, shape in shapes.items():
        noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(tuple(shape))
        leaf = name.lower()
        if leaf.endswith("num_batches_tracked"):
            made[name] = np.zeros(shape, np.int64)
        elif leaf.endswith(("mean", "bias", "beta")):
            made[name] = (0.1 * noise).astype(np.float32)
        elif leaf.endswith(("var", "variance")):
            made[name] = (1 + 0.2 * np.abs(noise)).astype(np.float32)
        elif len(shape) < 2:
            made[name] = np.maximum(0.2, 0.6 + 0.1 * noise).astype(np.float32)
        else:
            made[name] = (noise * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    return made


def model(
    nodes: list[onnx.NodeProto],
    inputs: Shapes,
    outputs: list[str],
    arrays: Mapping[str, Any] | None = None,
    dtype: int = TensorProto.FLOAT,
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "sample",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in (arrays or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def one(op_type: str, shape: Sequence[int] = (1, 4, 8, 6), *arrays: Any, opset: int = 17, **attributes: Any) -> Any:
    """A graph of one node; its first input is fed, the others are constants (None: left out)."""

    def make() -> onnx.ModelProto:
        names = ["x"] + ["" if a is None else f"c{i}" for i, a in enumerate(arrays)]
        held = {f"c{i}": a for i, a in enumerate(arrays) if a is not None}
        return model(
            [helper.make_node(op_type, names, ["y"], name="node", **attributes)], {"x": shape}, ["y"], held, opset=opset
        )

    return make


def behind(before: str, make: Callable[[], onnx.ModelProto], *more: str) -> Callable[[], onnx.ModelProto]:
    """The graph of one node, behind another one."""

    def made() -> onnx.ModelProto:
        graph = make()
        node = graph.graph.node[0]
        node.input[0] = "before"
        first = helper.make_node(before, ["x", *more], ["before"], name="before")
        nodes = [first, node]
        arrays = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
        shape = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
        return model(nodes, {"x": shape}, list(node.output), arrays)

    return made


def chain(
    *nodes: onnx.NodeProto, shape: Sequence[int] = (1, 4, 8, 6), outputs: Sequence[str] = ("y",), **arrays: Any
) -> Any:
    def make() -> onnx.ModelProto:
        return model(list(nodes), {"x": shape}, list(outputs), arrays)

    return make


def node(op_type: str, inputs: str, outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), name=f"{op_type} {outputs}", **attributes)


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def pool(kind: str, size: int, stride: int, pads: Sequence[int] = (0, 0, 0, 0), **attributes: Any) -> Any:
    shape = attributes.pop("shape", (1, 4, 8, 6))
    return one(kind, shape, kernel_shape=[size] * 2, strides=[stride] * 2, pads=list(pads), **attributes)


def resize(scales: Sequence[float] | None, sizes: Sequence[int] | None = None, **attributes: Any) -> Any:
    amounts = (None, float32(1, 1, *scales)) if scales else (None, None, int64(1, 4, *(sizes or ())))
    return one("Resize", (1, 4, 8, 6), *amounts, **attributes)


PICTURE = (1, 4, 8, 6)
FLOOR = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}

OPERATORS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: one(name) for name in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Floor", "Erf", "Softplus", "Exp")},
    "Sign": one("Sign"),
    **{name: behind("Exp", one(name)) for name in ("Log", "Sqrt", "Reciprocal")},
    **{f"{name} by channel": one(name, PICTURE, random(4, 1, 1)) for name in ("Add", "Sub", "Mul", "Div", "Max")},
    **{f"{name} by a number": one(name, PICTURE, np.float32(0.3)) for name in ("Add", "Mul", "Min", "Max", "Sum")},
    **{
        f"{name} of two values": chain(node("Sigmoid", "x", "a"), node(name, "x a"))
        for name in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Sum")
    },
    "Max of three": chain(node("Tanh", "x", "a"), node("Max", "x a c"), c=float32(0.1)),
    "Pow 2": one("Pow", PICTURE, float32(2)),
    "Pow 0.5": behind("Exp", one("Pow", PICTURE, float32(0.5))),
    "Pow 3": behind("Exp", one("Pow", PICTURE, float32(3))),
    "Clip 0 6": one("Clip", PICTURE, np.float32(0), np.float32(6)),
    "Clip 0 1": one("Clip", PICTURE, np.float32(0), np.float32(1)),
    "Clip below": one("Clip", PICTURE, np.float32(-0.5)),
    "Clip above": one("Clip", PICTURE, None, np.float32(0.5)),
    "HardSigmoid": one("HardSigmoid"),
    "HardSigmoid of MobileNet v3": one("HardSigmoid", alpha=1 / 6, beta=0.5),
    "HardSwish": one("HardSwish"),
    "Elu": one("Elu"),
    "Elu 0.5": one("Elu", alpha=0.5),
    "LeakyRelu": one("LeakyRelu", alpha=0.1),
    "PRelu": one("PRelu", PICTURE, random(4, 1, 1)),
    "Softmax last": one("Softmax", PICTURE, axis=-1),
    "Softmax channels": one("Softmax", PICTURE, axis=1),
    **{
        f"{name} {axes} {keep}": one(name, axes=axes, keepdims=keep)
        for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
        for axes, keep in (([2, 3], 1), ([-1], 0))
    },
    "ReduceMax of negative numbers": chain(
        node("Exp", "x", "e"), node("Neg", "e", "n"), node("ReduceMax", "n", axes=[1], keepdims=0)
    ),
    "ReduceSum": one("ReduceSum", PICTURE, int64(1), keepdims=0),
    "ReduceSum of all": one("ReduceSum", PICTURE, keepdims=1),
    "Conv": one("Conv", PICTURE, random(6, 4, 3, 3), random(6), pads=[1, 1, 1, 1]),
    "Conv without bias": one("Conv", PICTURE, random(6, 4, 1, 1)),
    "Conv stride 2, other pads": one("Conv", PICTURE, random(6, 4, 3, 3), pads=[0, 1, 2, 0], strides=[2, 2]),
    "Conv dilated": one("Conv", PICTURE, random(6, 4, 3, 3), pads=[2, 2, 2, 2], dilations=[2, 2]),
    "Conv by channel": one("Conv", PICTURE, random(4, 1, 3, 3), pads=[1, 1, 1, 1], group=4),
    "Conv grouped": one("Conv", PICTURE, random(6, 2, 3, 3), pads=[1, 1, 1, 1], group=2),
    "Conv 7x1": one("Conv", PICTURE, random(6, 4, 7, 1), pads=[3, 0, 3, 0]),
    "Conv SAME_UPPER": one("Conv", PICTURE, random(6, 4, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    "Conv SAME_LOWER": one("Conv", PICTURE, random(6, 4, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    "ConvTranspose": one("ConvTranspose", PICTURE, random(4, 6, 4, 4), random(6), strides=[2, 2], pads=[1, 1, 1, 1]),
    "ConvTranspose of each channel": one(
        "ConvTranspose", PICTURE, random(4, 1, 4, 4), random(4), strides=[2, 2], pads=[1, 1, 1, 1], group=4
    ),
    "ConvTranspose in groups": one("ConvTranspose", PICTURE, random(4, 3, 3, 5), strides=[1, 3], group=2),
    "ConvTranspose, output padding": one(
        "ConvTranspose", PICTURE, random(4, 6, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    "ConvTranspose k2": one("ConvTranspose", PICTURE, random(4, 6, 2, 2), strides=[2, 2]),
    "BatchNormalization": one("BatchNormalization", PICTURE, random(4), random(4), random(4), np.abs(random(4)) + 1),
    "MatMul of rank 3": one("MatMul", (1, 5, 8), random(8, 3)),
    "MatMul of rank 2": one("MatMul", (5, 8), random(8, 3)),
    "MatMul of two values": chain(node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t"), shape=(1, 5, 8)),
    "MatMul repeated": chain(node("MatMul", "x w"), shape=(1, 4, 5, 8), w=random(1, 1, 8, 3)),
    "Gemm": one("Gemm", (2, 8), random(3, 8), random(3), transB=1),
    "Gemm, square": one("Gemm", (2, 8), random(8, 8), transB=1),
    "Gemm scaled": one("Gemm", (8, 2), random(8, 3), random(3), transA=1, alpha=0.5, beta=2.0),
    "MaxPool 2": pool("MaxPool", 2, 2),
    "MaxPool 3, pads of MindSpore": pool("MaxPool", 3, 2, (0, 0, 1, 1)),
    "MaxPool 3, pads of PyTorch": pool("MaxPool", 3, 2, (1, 1, 1, 1)),
    "MaxPool 3, pads of PyTorch, behind Relu": behind("Relu", pool("MaxPool", 3, 2, (1, 1, 1, 1))),
    "MaxPool 5, stride 1": pool("MaxPool", 5, 1, (2, 2, 2, 2)),
    "MaxPool, odd size": pool("MaxPool", 3, 2, (1, 1, 1, 1), shape=(1, 4, 7, 5)),
    "MaxPool, rounded up": pool("MaxPool", 2, 2, shape=(1, 4, 7, 5), ceil_mode=1),
    "MaxPool of negative numbers": chain(
        node("Exp", "x", "e"), node("Neg", "e", "n"),
        node("MaxPool", "n", kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1]),
    ),
    "AveragePool 2": pool("AveragePool", 2, 2),
    "AveragePool 3, padded": pool("AveragePool", 3, 2, (1, 1, 1, 1)),
    "AveragePool 3, padding counts": pool("AveragePool", 3, 2, (1, 1, 1, 1), count_include_pad=1),
    "AveragePool, rounded up": pool("AveragePool", 2, 2, shape=(1, 4, 7, 5), ceil_mode=1),
    "GlobalAveragePool": one("GlobalAveragePool"),
    "GlobalMaxPool": one("GlobalMaxPool"),
    "Resize nearest 2": resize((2, 2), mode="nearest", **FLOOR),
    "Resize nearest 2 4": resize((2, 4), mode="nearest", **FLOOR),
    "Resize nearest, half pixels": resize((2, 2), mode="nearest"),
    "Resize nearest 1.5": resize((1.5, 1.5), mode="nearest", nearest_mode="floor"),
    "Resize linear, half pixels": resize((2, 2), mode="linear"),
    "Resize linear, corners": resize((2, 3), mode="linear", coordinate_transformation_mode="align_corners"),
    "Resize linear to a size": resize(None, (5, 11), mode="linear", coordinate_transformation_mode="half_pixel"),
    "Resize cubic": resize((2, 2), mode="cubic", cubic_coeff_a=-0.75),
    "Reshape": one("Reshape", PICTURE, int64(0, 2, -1)),
    "Flatten": one("Flatten"),
    "Squeeze": one("Squeeze", (1, 4, 1, 6), int64(2)),
    "Unsqueeze": one("Unsqueeze", (1, 4, 6), int64(1, -1)),
    "Transpose": one("Transpose", perm=[0, 2, 3, 1]),
    "Expand": one("Expand", (1, 4, 1, 6), int64(2, 4, 3, 6)),
    "Expand to a higher rank": one("Expand", (4, 1), int64(2, 4, 3)),
    "Tile": one("Tile", (1, 4, 2, 3), int64(1, 2, 1, 3)),
    "Concat": chain(node("Relu", "x", "a"), node("Concat", "x a c", axis=-3), c=random(1, 2, 8, 6)),
    "Split": chain(node("Split", "x s", "a b", axis=1), node("Mul", "a a", "c"), outputs=("b", "c"), s=int64(1, 3)),
    "Split evenly": chain(node("Split", "x", "a b", axis=-1), node("Sub", "a b"), outputs=("y",)),
    "Slice": one("Slice", PICTURE, int64(1, -3), int64(3, 9999), int64(1, 3)),
    "Slice with steps": one("Slice", PICTURE, int64(0), int64(9999), int64(2), int64(2)),
    "Slice backwards": one("Slice", PICTURE, int64(-1), int64(-9999), int64(1), int64(-1)),
    "Gather one": one("Gather", PICTURE, np.int64(-1), axis=1),
    "Gather some": one("Gather", PICTURE, int64(2, 0, -1), axis=1),
    "DepthToSpace CRD": one("DepthToSpace", (1, 8, 3, 2), blocksize=2, mode="CRD"),
    "DepthToSpace DCR": one("DepthToSpace", (1, 8, 3, 2), blocksize=2),
    "SpaceToDepth": one("SpaceToDepth", (1, 2, 6, 4), blocksize=2),
    "Pad": one("Pad", PICTURE, int64(0, 0, 1, 2, 0, 0, 0, 3)),
    "Pad with a number": one("Pad", PICTURE, int64(0, 0, 1, 2, 0, 0, 0, 3), np.float32(0.5)),
    "Identity": chain(node("Identity", "x", "a"), node("Relu", "a", "b"), node("Identity", "b"), outputs=("y", "a")),
    "Dropout": one("Dropout"),
    "Cast to whole numbers and back": chain(node("Cast", "x", "i", to=6), node("Cast", "i", "y", to=1)),
    "Cast to bool": chain(node("Relu", "x", "r"), node("Cast", "r", "b", to=9), node("Cast", "b", "y", to=1)),
    "Not": chain(node("Greater", "x c", "b"), node("Not", "b", "n"), node("Cast", "n", "y", to=1), c=float32(0)),
    **{
        f"{name} of conditions": chain(
            node("Less", "x high", "a"), node("Greater", "x low", "b"), node(name, "a b", "c"),
            node("Cast", "c", "y", to=1), high=float32(1), low=float32(0),
        )
        for name in ("And", "Or")
    },
    **{
        name: chain(node("Relu", "x", "r"), node(name, "r x", "b"), node("Cast", "b", "y", to=1))
        for name in ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal")
    },
    "Where": chain(node("Greater", "x c", "b"), node("Where", "b x d"), c=float32(0), d=random(4, 1, 1)),
    "Where of numbers": chain(node("Greater", "x c", "b"), node("Where", "b c d"), c=float32(0), d=float32(2)),
    "Where by channel": chain(
        node("GlobalAveragePool", "x", "m"), node("Greater", "m c", "b"), node("Where", "b x c"), c=float32(0)
    ),
    "ArgMax": chain(node("ArgMax", "x", "i", axis=2), node("Cast", "i", "y", to=1)),
    "ArgMax of equal elements": chain(
        node("Floor", "x", "f"), node("ArgMax", "f", "i", axis=-1, keepdims=0), node("Cast", "i", "y", to=1)
    ),
    "ArgMax as an output": chain(node("ArgMax", "x", "y", axis=1)),
    "whole numbers divided": chain(
        node("ArgMax", "x", "i", axis=2), node("Div", "i two", "d"), node("Mul", "d two", "m"), node("Sub", "i m", "r"),
        node("Cast", "r", "y", to=1), two=int64(2),
    ),
    "TopK": chain(
        node("TopK", "x k", "v i"), node("Cast", "i", "y", to=1), outputs=("v", "y"), shape=(1, 3, 40), k=int64(5)
    ),
    "GatherElements": chain(
        node("ArgMax", "x", "i", axis=2), node("GatherElements", "x i", axis=2), shape=PICTURE
    ),
    "GatherElements from the end": chain(
        node("Clip", "x low high", "c"), node("Cast", "c", "i", to=6), node("GatherElements", "x i", axis=2),
        shape=PICTURE, low=np.float32(-4), high=np.float32(3),
    ),
    "GatherElements of a part": chain(
        node("ArgMax", "x", "i", axis=2), node("Slice", "i zero two three", "p"), node("GatherElements", "x p", axis=2),
        zero=int64(0), two=int64(2), three=int64(3),
    ),
}  # fmt: skip


def refused(make: Callable[[], onnx.ModelProto], reason: str) -> Callable[[], tuple[onnx.ModelProto, str]]:
    return lambda: (make(), reason)


REFUSED = {
    "spread beyond its padding": refused(
        one("ConvTranspose", PICTURE, random(4, 1, 2, 2), strides=[2, 2], pads=[0, 0, 2, 2], group=4), "the padding"
    ),
    "dilated pooling": refused(one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "dilations"),
    "resized channels": refused(one("Resize", PICTURE, None, float32(1, 2, 1, 1)), "height and width"),
    "reflected": refused(one("Pad", PICTURE, int64(0, 0, 1, 1, 0, 0, 1, 1), mode="reflect"), "constants"),
    "one-dimensional": refused(one("Conv", (1, 4, 8), random(6, 4, 3)), "rank 3"),
    "negative whole numbers": refused(
        chain(
            node("Cast", "x", "i", to=6), node("Div", "i c", "d"), node("Cast", "d", "y", to=1),
            c=np.array([2], np.int32),
        ),
        "may be negative",
    ),
    "a constant that is computed": refused(
        chain(node("Relu", "x", "r"), node("ReduceMax", "r", "m", keepdims=0), node("Clip", "x m")),
        "would have to be a constant"
    ),
    "large whole numbers": refused(
        chain(node("ArgMax", "x", "i", axis=2), node("Add", "i c"), c=int64(1 << 40)),
        "does not fit",
    ),
}  # fmt: skip
