"""Folding batch normalisation, constants, identities and duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper, numpy_helper
from small_graphs import Network, counts, networks, one_node, weights

from edgepose.graph.check import compare
from edgepose.graph.passes import (
    apply,
    fold_batch_norm,
    fold_constants,
    merge_duplicates,
    optimise,
    remove_dead,
    remove_identities,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(networks())
def test_any_small_network_stays_equal_through_the_passes(model: onnx.ModelProto) -> None:
    given_bytes = model.SerializeToString(deterministic=True)
    result = optimise(model)
    compare(model, result, seeds=(3, 4))
    assert model.SerializeToString(deterministic=True) == given_bytes
    assert [o.name for o in result.graph.output] == [o.name for o in model.graph.output]
    assert not {"Dropout", "Transpose"} & counts(result).keys()
    # Running them again finds nothing left to do.
    again = optimise(result)
    assert counts(again) == counts(result)
    assert len(again.graph.initializer) == len(result.graph.initializer)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        lambda net, bias: net.conv(6, 3, 2, bias=bias),
        lambda net, bias: net.conv(8, 1, groups=2, bias=bias),
        lambda net, bias: net.deconv(6, bias=bias),
        lambda net, bias: net.deconv(8, groups=2, bias=bias),
    ],
    ids=["Conv", "Conv-groups", "ConvTranspose", "ConvTranspose-groups"],
)
def test_batch_norm_folds_into_convolutions(layer: Any, bias: bool) -> None:
    net = Network(1)
    layer(net, bias)
    net.batch_norm(1e-3)
    net.op("Relu")
    model = net.build()
    result = apply(model, fold_batch_norm)
    assert counts(result).keys() == counts(model).keys() - {"BatchNormalization"}
    differences = compare(model, result)
    assert 0 < differences[0].relative < 1e-6


@pytest.mark.parametrize("attributes", [{"transB": 1}, {"transB": 0}, {"transB": 1, "alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (1,), ()])
def test_batch_norm_folds_into_gemm(attributes: dict[str, Any], bias: tuple[int, ...] | None) -> None:
    net = Network(2, size=4)
    features = net.channels * net.size * net.size
    net.op("Flatten")
    weight = weights(net.rng, 5, features)
    constants = [weight if attributes["transB"] else weight.T]
    if bias is not None:
        constants.append(np.asarray(net.rng.standard_normal(bias), np.float32))
    net.x = net.layer("Gemm", net.x, *constants, **attributes)
    net.channels = 5
    net.batch_norm()
    net.graph.output(net.x, "out", (1, 5))
    model = net.graph.build()
    result = apply(model, fold_batch_norm)
    assert "BatchNormalization" not in counts(result)
    compare(model, result)


def test_batch_norm_stays_where_the_convolution_is_used_elsewhere() -> None:
    net = Network()
    inner = net.conv()
    net.batch_norm()
    net.op("Add", inner)
    assert counts(optimise(net.build()))["BatchNormalization"] == 1


def test_batch_norm_stays_where_the_convolution_is_an_output() -> None:
    net = Network()
    inner = net.conv()
    net.batch_norm()
    assert counts(optimise(net.build(inner)))["BatchNormalization"] == 1


def test_batch_norm_without_a_layer_before_it_stays() -> None:
    net = Network()
    net.batch_norm()
    net.conv()
    assert counts(optimise(net.build()))["BatchNormalization"] == 1


def test_batch_norm_whose_result_is_not_finite_is_left_alone() -> None:
    net = Network()
    net.conv()
    zeros = np.zeros(4, np.float32)
    net.x = net.layer("BatchNormalization", net.x, zeros + 1, zeros, zeros, zeros - 1)  # a negative variance
    assert counts(apply(net.build(), fold_batch_norm))["BatchNormalization"] == 1


def test_shared_weights_are_folded_for_each_layer() -> None:
    net = Network(3)
    shared = net.graph.constant(weights(net.rng, 4, 4, 3, 3), "shared")
    for _ in range(2):
        net.x = net.graph.op("Conv", net.x, shared, pads=[1] * 4)
        net.batch_norm()
    model = net.build()
    result = optimise(model)
    assert "BatchNormalization" not in counts(result)
    compare(model, result)


def test_names_of_results_survive_folding() -> None:
    net = Network()
    net.conv()
    norm = net.batch_norm()
    net.op("Relu")
    result = apply(net.build(), fold_batch_norm)
    assert [n.output[0] for n in result.graph.node if n.op_type == "Conv"] == [norm]


def test_identity_between_input_and_output_stays() -> None:
    model = one_node("Identity")
    assert counts(apply(model, remove_identities)) == {"Identity": 1}


def test_identities_before_two_outputs() -> None:
    net = Network()
    inner = net.conv()
    net.op("Identity")
    model = net.build(inner)
    result = apply(model, remove_identities)
    assert counts(result) == {"Conv": 1, "Identity": 1}


@pytest.mark.parametrize(
    ("model", "gone"),
    [
        (one_node("Dropout"), True),
        (one_node("Cast", to=TensorProto.FLOAT), True),
        (one_node("Transpose", perm=[0, 1, 2, 3]), True),
        (one_node("Transpose", perm=[0, 1, 3, 2]), False),
        (one_node("Pad", {"p": np.zeros(8, np.int64)}, inputs=("x", "p")), True),
        (one_node("Pad", {"p": np.array([0, 0, 1, 0, 0, 0, 0, 0])}, inputs=("x", "p")), False),
        (one_node("AveragePool", kernel_shape=[1, 1]), True),
        (one_node("AveragePool", kernel_shape=[1, 1], strides=[2, 2]), False),
        (one_node("MaxPool", kernel_shape=[1, 1], strides=[1, 1]), True),
        (one_node("MaxPool", kernel_shape=[2, 2]), False),
        (one_node("Concat", axis=1), True),
        (one_node("Concat", axis=1, inputs=("x", "x")), False),
        (one_node("Sum"), True),
    ],
    ids=lambda v: v.graph.node[0].op_type if isinstance(v, onnx.ModelProto) else str(v),
)
def test_what_counts_as_an_identity(model: onnx.ModelProto, gone: bool) -> None:
    model.graph.node.insert(0, helper.make_node("Relu", ["data"], ["x"]))
    model.graph.input[0].name = "data"
    assert len(apply(model, remove_identities).graph.node) == (1 if gone else 2)


def test_what_depends_on_constants_only_is_computed() -> None:
    net = Network(batch="batch")
    scale = net.graph.op("Mul", net.graph.constant(np.float32(2)), net.graph.constant(np.float32(3)))
    net.op("Mul", net.graph.op("Sqrt", scale))
    lengths = net.graph.op("Shape", net.x)
    height = net.graph.op("Gather", lengths, net.graph.constant(np.array([2])), axis=0)
    batch = net.graph.op("Gather", lengths, net.graph.constant(np.array([0])), axis=0)
    target = net.graph.op("Concat", batch, net.graph.constant(np.array([-1])), height, axis=0)
    net.op("Reshape", target)
    net.graph.output(net.x, "out", ("batch", 64, 16))
    model = net.graph.build()
    result = apply(model, fold_constants, remove_dead)
    # The batch is known only when the network runs; everything else is.
    assert counts(result) == {"Mul": 1, "Shape": 1, "Gather": 1, "Concat": 1, "Reshape": 1}
    compare(model, result)


def test_a_file_does_not_blow_up() -> None:
    """A node that makes a huge array out of a tiny one stays a node."""
    net = Network()
    zeros = net.graph.op("ConstantOfShape", net.graph.constant(np.array([4096, 1024])))
    net.op("Add", net.graph.op("ReduceMax", zeros, keepdims=0))
    model = net.build()
    result = optimise(model)
    assert counts(result)["ConstantOfShape"] == 1
    assert result.ByteSize() < 10_000


def test_random_numbers_and_quantised_weights_stay() -> None:
    net = Network()
    scale, zero = net.graph.constant(np.float32(0.1)), net.graph.constant(np.int8(0))
    weight = net.graph.constant(net.rng.integers(-99, 99, (4, 4, 1, 1)).astype(np.int8))
    net.x = net.graph.op("Conv", net.x, net.graph.op("DequantizeLinear", weight, scale, zero))
    assert counts(optimise(net.build())) == {"Conv": 1, "DequantizeLinear": 1}


def test_dead_nodes_and_weights_go() -> None:
    net = Network()
    net.conv()
    kept = net.x
    net.conv()
    net.x = kept
    net.graph.constant(np.ones(3, np.float32), "unused")
    result = apply(net.build(), remove_dead)
    assert counts(result) == {"Conv": 1}
    assert len(result.graph.initializer) == 1


def test_equal_weights_become_one() -> None:
    net = Network()
    array = weights(net.rng, 4, 4, 3, 3)
    for i in range(3):
        net.x = net.graph.op("Conv", net.x, net.graph.constant(array, f"w{i}"), pads=[1] * 4)
    negative = net.graph.constant(np.float32(-0.0), "minus")
    net.op("Add", net.graph.constant(np.float32(0.0), "plus"))
    net.op("Add", negative)
    model = net.build()
    result = apply(model, merge_duplicates)
    assert sorted(t.name for t in result.graph.initializer) == ["minus", "plus", "w0"]


def control_flow() -> onnx.ModelProto:
    """y = x + w if the mean of x is positive, else x - w; the branches read w from outside."""

    def branch(op_type: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op_type}_out", TensorProto.FLOAT, [1, 4])
        node = helper.make_node(op_type, ["same", "w2"], [f"{op_type}_out"])
        return helper.make_graph([node], op_type, [], [out])

    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=0),
        helper.make_node("Greater", ["mean", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub")),
    ]
    w = np.arange(4, dtype=np.float32)
    constants = [numpy_helper.from_array(a, n) for n, a in (("w1", w), ("w2", w), ("zero", np.float32(0)))]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    nodes.append(helper.make_node("Add", ["y", "w1"], ["z"]))
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph(nodes, "control", value[:1], [out], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_values_read_inside_control_flow_are_counted_and_renamed() -> None:
    model = control_flow()
    result = optimise(model)
    assert "Identity" not in counts(result)
    assert len(result.graph.initializer) == 2
    for sign in (-1, 1):
        feeds = [{"x": np.full((1, 4), sign, np.float32)}]
        compare(model, result, feeds=feeds)
