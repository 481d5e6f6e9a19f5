"""Bringing graphs to other opsets."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from small_graphs import Network, counts, one_node

from edgepose.errors import GraphError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.check import compare
from edgepose.graph.passes import OLDEST_OPSET, newest_opset, optimise, set_opset

F, I = np.float32, np.int64  # noqa: E741
ALL = range(OLDEST_OPSET, newest_opset() + 1)


def pose_head() -> onnx.ModelProto:
    """What pose networks are made of, of what changed between opset 11 and today."""
    net = Network(2, batch="batch", channels=4)
    graph = net.graph
    net.conv(8, bias=True)
    net.batch_norm()
    net.op("HardSwish")
    skip = net.x
    net.op("ReduceMean", axes=[2, 3], keepdims=1)
    net.conv(8, 1, bias=True)
    net.op("HardSigmoid", alpha=1 / 6, beta=0.5)
    net.op("Mul", skip)
    net.op("Clip", graph.constant(F(0)), graph.constant(F(6)))
    left, right = graph.op("Split", net.x, graph.constant(np.array([4, 4], I)), axis=1, outputs=2)
    net.x = graph.op("Concat", left, graph.op("Sigmoid", right), axis=1)
    net.conv(8, bias=True)
    net.op("LayerNormalization", net.graph.constant(np.ones(16, F)), net.graph.constant(np.zeros(16, F)))
    net.op("Softmax", axis=1)
    net.op("ReduceSum", net.graph.constant(np.array([-1], I)), keepdims=1)
    net.op("DepthToSpace", blocksize=2, mode="CRD")
    return net.build()


@pytest.mark.parametrize("opset", ALL)
def test_network_agrees_in_every_opset(opset: int) -> None:
    model = pose_head()
    result = set_opset(model, opset)
    assert [o.version for o in result.opset_import] == [opset]
    assert result.ir_version == helper.find_min_ir_version_for(result.opset_import)
    onnx.checker.check_model(result, full_check=True)
    compare(model, result, seeds=(5, 6))
    # And back again.
    compare(model, set_opset(result, 17), seeds=(7, 8))


CASES: list[tuple[str, dict[str, Any], int, dict[str, Any]]] = [
    ("HardSwish", {}, 17, {}),
    ("Mish", {}, 18, {}),
    ("Gelu", {}, 20, {}),
    ("Gelu", {}, 20, {"approximate": "tanh"}),
    ("LayerNormalization", {"s": np.full(12, 2, F), "b": np.ones(12, F)}, 17, {"epsilon": 1e-3}),
    ("LayerNormalization", {"s": np.full((16, 12), 2, F)}, 17, {"axis": 2}),
    ("Softmax", {}, 17, {"axis": 1}),
    ("Softmax", {}, 17, {"axis": -1}),
    ("LogSoftmax", {}, 13, {"axis": 2}),
    ("Softmax", {}, 11, {"axis": 1}),
    ("LogSoftmax", {}, 11, {"axis": -1}),
    ("ReduceMean", {}, 17, {"axes": [2, 3], "keepdims": 1}),
    ("ReduceMean", {"a": np.array([-1, 1], I)}, 18, {"keepdims": 0}),
    ("ReduceMean", {}, 18, {"keepdims": 1}),
    ("ReduceSum", {"a": np.array([2, 3], I)}, 17, {}),
    ("ReduceSum", {"a": np.array([], I)}, 17, {"noop_with_empty_axes": 1}),
    ("ReduceL2", {"a": np.array([1], I)}, 18, {}),
    ("Unsqueeze", {"a": np.array([-1, 0], I)}, 17, {}),
    ("Squeeze", {"a": np.array([0], I)}, 17, {}),
    ("Squeeze", {}, 11, {"axes": [0]}),
    ("Pad", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1], I)}, 19, {"mode": "edge"}),
    ("Clip", {"lo": F(0), "hi": F(6)}, 17, {}),
    ("Clip", {}, 10, {"min": 0.0, "max": 6.0}),
    ("BatchNormalization", {n: np.full(8, v, F) for n, v in zip("sbmv", (2, 1, 0, 3), strict=True)}, 17, {}),
    ("BatchNormalization", {n: np.full(8, v, F) for n, v in zip("sbmv", (2, 1, 0, 3), strict=True)}, 7, {}),
    ("AveragePool", {}, 19, {"kernel_shape": [3, 3], "dilations": [1, 1], "pads": [1] * 4}),
    ("AveragePool", {}, 7, {"kernel_shape": [2, 2]}),
    ("MaxPool", {}, 17, {"kernel_shape": [3, 3], "ceil_mode": 1}),
    ("DepthToSpace", {}, 17, {"blocksize": 2, "mode": "CRD"}),
    ("Reshape", {"r": np.array([0, 4, -1], I)}, 17, {}),
    ("Shape", {}, 17, {"start": 1, "end": -1}),
    ("ArgMax", {}, 17, {"axis": 1}),
    ("GreaterOrEqual", {"o": F(0)}, 17, {}),
    ("LessOrEqual", {"o": F(0)}, 17, {}),
    ("PRelu", {"o": np.full((8, 1, 1), 0.3, F)}, 17, {}),
    ("Pow", {"o": F(2)}, 17, {}),
    ("Expand", {"e": np.array([2, 1, 1, 1], I)}, 17, {}),
    ("Slice", {"b": np.array([1], I), "e": np.array([-1], I), "a": np.array([2], I)}, 17, {}),
    ("Slice", {}, 9, {"starts": [0, 1], "ends": [1, 4]}),
    ("Upsample", {"s": np.array([1, 1, 2, 2], F)}, 9, {"mode": "nearest"}),
    ("Dropout", {}, 7, {"ratio": 0.3}),
    ("Identity", {}, 17, {}),
    ("Erf", {}, 17, {}),
    ("LpNormalization", {}, 17, {"axis": 1}),
]


@pytest.mark.parametrize(("op_type", "constants", "source", "attributes"), CASES)
def test_operator_agrees_in_every_opset(
    op_type: str, constants: dict[str, Any], source: int, attributes: dict[str, Any]
) -> None:
    model = one_node(op_type, constants, opset=source, inputs=("x", *constants), **attributes)
    for opset in (11, 12, 13, 14, 16, 17, 18, 20, newest_opset()):
        set_opset(model, opset)  # ends with a comparison


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("by", ["scales", "sizes"])
def test_resize_agrees_in_every_opset(mode: str, by: str) -> None:
    wanted = {"s": np.array([1, 1, 2, 2], F)} if by == "scales" else {"s": np.array([1, 8, 32, 24], I)}
    inputs = ("x", "", "s") if by == "scales" else ("x", "", "", "s")
    model = one_node("Resize", wanted, opset=19, inputs=inputs, mode=mode)
    for opset in ALL:
        set_opset(model, opset)


def test_split_into_a_number_of_parts() -> None:
    net = Network(channels=8, opset=18)
    parts = net.graph.op("Split", net.x, axis=1, num_outputs=3, outputs=3)
    net.x = net.graph.op("Concat", *reversed(parts), axis=1)
    model = net.build()
    for opset in (11, 13, 17):
        assert "num_outputs" not in {a.name for n in set_opset(model, opset).graph.node for a in n.attribute}


def test_what_an_opset_cannot_express_is_named() -> None:
    model = one_node("Einsum", equation="nchw->nhwc")
    with pytest.raises(GraphError, match=r"opset 11: 'node' \(Einsum\): opset 11 has no such operator") as caught:
        set_opset(model, 11)
    assert "--opset" in str(caught.value)
    set_opset(model, 12)


def test_an_attribute_that_matters_is_not_dropped() -> None:
    scales = {"s": np.array([1, 1, 0.5, 0.5], F)}
    model = one_node("Resize", scales, opset=18, inputs=("x", "", "s"), mode="linear", antialias=1)
    with pytest.raises(GraphError, match="'antialias' needs a newer opset"):
        set_opset(model, 17)


@pytest.mark.parametrize("opset", [0, 10, 99])
def test_out_of_range_says_the_range(opset: int) -> None:
    with pytest.raises(GraphError, match="out of range") as caught:
        set_opset(one_node("Relu"), opset)
    assert f"from 11 to {newest_opset()}" in str(caught.value)


@pytest.mark.parametrize("opset", [11, 13, newest_opset()])
def test_optimise_and_opset_together(opset: int) -> None:
    model = pose_head()
    result = optimise(model, opset=opset)
    assert "BatchNormalization" not in counts(result)
    compare(model, result, seeds=(9, 10))


def test_a_builder_of_an_unknown_opset_is_refused() -> None:
    with pytest.raises(GraphError, match="knows no opset 99"):
        GraphBuilder("g", 99)
