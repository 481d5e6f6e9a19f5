"""Small networks to try passes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgepose.graph.builder import GraphBuilder

Rng = np.random.Generator


def weights(rng: Rng, *shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))).astype(np.float32)


class Network:
    """A network built layer by layer; ``x`` is the value so far."""

    def __init__(self, seed: int = 0, size: int = 16, channels: int = 4, opset: int = 17, batch: int | str = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder("small", opset)
        self.batch = batch
        self.size = size
        self.channels = channels
        self.count = 0
        self.x = self.graph.input("data", (batch, channels, size, size))

    def layer(self, kind: str, x: str, *constants: np.ndarray, **attributes: Any) -> str:
        self.count += 1
        names = [self.graph.constant(c, f"{kind}{self.count}.{i}") for i, c in enumerate(constants)]
        return self.graph.op(kind, x, *names, **attributes)

    def conv(
        self, out: int | None = None, kernel: int = 3, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> str:
        out = self.channels if out is None else out
        constants = [weights(self.rng, out, self.channels // groups, kernel, kernel)]
        if bias:
            constants.append(weights(self.rng, out))
        pads = [kernel // 2] * 4
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "group": groups}
        self.x = self.layer("Conv", self.x, *constants, **attributes)
        self.channels = out
        self.size = -(-self.size // stride)
        return self.x

    def deconv(self, out: int | None = None, groups: int = 1, bias: bool = False) -> str:
        out = self.channels if out is None else out
        constants = [weights(self.rng, self.channels, out // groups, 4, 4)]
        if bias:
            constants.append(weights(self.rng, out))
        attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1] * 4, "group": groups}
        self.x = self.layer("ConvTranspose", self.x, *constants, **attributes)
        self.channels = out
        self.size *= 2
        return self.x

    def batch_norm(self, epsilon: float = 1e-5) -> str:
        n = self.channels
        scale, shift, mean = (weights(self.rng, n) + offset for offset in (1.0, 0.0, 0.0))
        variance = np.abs(weights(self.rng, n)) + np.float32(0.1)
        self.x = self.layer("BatchNormalization", self.x, scale, shift, mean, variance, epsilon=epsilon)
        return self.x

    def op(self, kind: str, *others: str, **attributes: Any) -> str:
        self.x = self.graph.op(kind, self.x, *others, **attributes)
        return self.x

    def build(self, *more: str) -> onnx.ModelProto:
        """The model; its outputs are the value so far and ``more``."""
        for i, value in enumerate((self.x, *more)):
            self.graph.output(value, f"out{i}", (self.batch, *(f"out{i}_{axis}" for axis in range(3))))
        return self.graph.build()


@st.composite
def networks(draw: st.DrawFn) -> onnx.ModelProto:
    """Networks of convolutions, normalisations, activations, skips and leftovers of exporters."""
    net = Network(draw(st.integers(0, 2**32 - 1)), channels=4, batch=draw(st.sampled_from([1, "batch"])))
    extra: list[str] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["conv", "depthwise", "deconv", "skip", "pool", "leftover"]))
        if kind == "conv":
            out = draw(st.sampled_from([4, 8]))
            net.conv(out, draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2])), bias=draw(st.booleans()))
        elif kind == "depthwise":
            net.conv(groups=net.channels, bias=draw(st.booleans()))
        elif kind == "deconv" and net.size <= 16:
            net.deconv(groups=draw(st.sampled_from([1, 2])), bias=draw(st.booleans()))
        elif kind == "skip":
            before = net.x
            net.conv(bias=draw(st.booleans()))
            net.batch_norm()
            net.op("Add", before)
        elif kind == "pool":
            net.op("MaxPool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        else:
            net.op(draw(st.sampled_from(["Identity", "Dropout", "Transpose"])))
            if net.graph.last_node.op_type == "Transpose":
                net.graph.last_node.attribute.append(helper.make_attribute("perm", [0, 1, 2, 3]))
        if draw(st.booleans()):
            extra += [net.x] if draw(st.integers(0, 4)) == 0 else []
            net.batch_norm(draw(st.sampled_from([1e-5, 1e-3])))
        activation = draw(st.sampled_from(["Relu", "HardSwish", "LeakyRelu", "Sigmoid", ""]))
        if activation:
            net.op(activation)
    net.op("Identity")
    kept = list(dict.fromkeys(v for v in extra if v not in (net.x, "data")))
    return net.build(*kept[:2])


def one_node(
    op_type: str,
    constants: dict[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    shape: tuple[int, ...] = (1, 8, 16, 12),
    inputs: tuple[str, ...] = ("x",),
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; ``inputs`` names its inputs, of which ``x`` is the graph's and the others are constants."""
    node = helper.make_node(op_type, list(inputs), ["y"], name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=max(4, helper.find_min_ir_version_for(imports)))
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


def counts(model: onnx.ModelProto) -> dict[str, int]:
    """Operator -> how many nodes."""
    found: dict[str, int] = {}
    for node in model.graph.node:
        found[node.op_type] = found.get(node.op_type, 0) + 1
    return found
