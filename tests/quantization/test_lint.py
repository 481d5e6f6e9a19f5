"""What the lint says of graphs, our own and others'."""

from __future__ import annotations

import numpy as np
import pytest
from int8_networks import OPENVINO, SCHEMES, observed, picture, residual
from onnx import TensorProto, helper, numpy_helper

from edgepose.quantization.emit import quantize_model
from edgepose.quantization.lint import lint
from edgepose.quantization.scheme import Scheme


def quantised(scheme: Scheme):
    model = residual()
    return quantize_model(model, observed(model, [picture(model)]), scheme).model.graph


def rules(graph, scheme=None):
    return {f.rule: f.nodes for f in lint(graph, scheme)}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_our_own_graphs_are_right_for_their_targets(scheme):
    assert rules(quantised(SCHEMES[scheme]), SCHEMES[scheme]) == {}


def test_a_float_graph_has_no_findings():
    assert lint(residual().graph) == []


def test_forms_for_one_target_are_named_to_another():
    assert rules(quantised(SCHEMES["onnxruntime"])) == {
        "integer-bias": tuple(rules(quantised(SCHEMES["onnxruntime"]))["integer-bias"])
    }
    assert rules(quantised(OPENVINO)) == {"open-result": ("head",), "deconvolution": ("up",)}
    signed = rules(quantised(SCHEMES["signed"]))
    assert set(signed) == {"signed-activations", "deconvolution"}
    assert signed["signed-activations"] == ("stem", "depthwise", "expand", "up")


def one_layer(
    *, weights=np.int8, weight_zero=0, kind=np.uint8, zero=0, bias=False, close=True, quantise_input=True, stored=True
):
    """One convolution with Relu, with what is asked for wrong."""
    nodes, arrays = [], {"scale": np.float32(0.1), "zero": kind(zero), "weight_zero": weights(weight_zero)}
    x = "x"
    if quantise_input:
        nodes.append(helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], name="xq"))
        nodes.append(helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], name="xd"))
        x = "xd"
    arrays["w"] = np.ones((4, 3, 1, 1), weights if stored else np.float32)
    if not stored:
        nodes.append(helper.make_node("QuantizeLinear", ["w", "scale", "weight_zero"], ["wq"], name="wq"))
    nodes.append(
        helper.make_node("DequantizeLinear", ["w" if stored else "wq", "scale", "weight_zero"], ["wd"], name="wd")
    )
    inputs = [x, "wd"]
    if bias:
        arrays |= {"b": np.ones(4, np.int32), "bias_zero": np.int32(0)}
        nodes.append(helper.make_node("DequantizeLinear", ["b", "scale", "bias_zero"], ["bd"], name="bd"))
        inputs.append("bd")
    nodes.append(helper.make_node("Conv", inputs, ["c"], name="conv"))
    nodes.append(helper.make_node("Relu", ["c"], ["r"], name="relu"))
    if close:
        nodes.append(helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["q"], name="q"))
        nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="y"))
    else:
        nodes.append(helper.make_node("Identity", ["r"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 4, 4])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_a_sound_layer_has_no_findings():
    assert lint(one_layer()) == []


@pytest.mark.parametrize(
    ("wrong", "rule", "nodes"),
    [
        ({"close": False}, "open-result", ("conv",)),
        ({"weight_zero": 3}, "weight-zero-point", ("conv",)),
        ({"weights": np.uint8}, "unsigned-weights", ("conv",)),
        ({"stored": False}, "float-weights", ("conv",)),
        ({"quantise_input": False}, "one-sided-input", ("conv",)),
        ({"bias": True}, "integer-bias", ("bd",)),
        ({"kind": np.int8}, "signed-activations", ("conv",)),
    ],
)
def test_each_rule(wrong, rule, nodes):
    assert rules(one_layer(**wrong)) == {rule: nodes}


def test_signed_values_with_a_zero_point():
    assert rules(one_layer(kind=np.int8, zero=-128)) == {
        "signed-zero-point": ("xq", "q"),
        "signed-activations": ("conv",),
    }


def test_unsigned_weights_with_a_zero_point_quantised_at_run_time():
    found = rules(one_layer(weights=np.uint8, weight_zero=128, stored=False))
    assert found == dict.fromkeys(("weight-zero-point", "unsigned-weights", "float-weights"), ("conv",))


def test_operators_of_integers():
    model = one_layer()
    model.graph.node[3].op_type = "ConvInteger"
    assert rules(model)["integer-operators"] == ("conv",)
