"""What is quantised, and what shares a scale."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from int8_networks import (
    ONNX_RUNTIME,
    OPENVINO,
    SCHEMES,
    SIGNED,
    Network,
    family,
    observed,
    picture,
    residual,
    run,
    sqnr,
)

from edgepose.graph.passes import set_opset
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.emit import Quantised, quantize_model
from edgepose.quantization.lint import lint
from edgepose.quantization.placement import quantisable
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme


def quantised(model: PoseModel, scheme: Scheme, **more) -> Quantised:
    done = quantize_model(model, observed(model, [picture(model, s) for s in range(3)]), scheme, **more)
    assert lint(done.model.graph, scheme) == []
    feeds = picture(model, 1)
    assert sqnr(Runner(model.graph).run(feeds), Runner(done.model.graph).run(feeds)) > 20
    return done


def ending(net: Network, x: str) -> str:
    """A layer that is quantised, and the last one."""
    return net.conv(net.build.op("Relu", net.conv(x, 8, 8, 1), name="end"), 8, 17, 1)


def scales(graph: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """Value -> the scale and zero point that it is quantised with."""
    return {n.input[0]: tuple(n.input[1:]) for n in graph.graph.node if n.op_type == "QuantizeLinear"}


def test_work_and_weights_of_layers():
    layers = {layer.name: layer for layer in quantisable(residual(), OPENVINO)}
    assert list(layers) == ["stem", "depthwise", "expand", "up", "heatmaps"]
    assert (layers["stem"].macs, layers["stem"].parameters) == (16 * 12 * 16 * 27, 16 * 27)
    assert (layers["depthwise"].macs, layers["depthwise"].parameters) == (8 * 6 * 16 * 9, 16 * 9)
    assert (layers["up"].macs, layers["up"].parameters) == (8 * 6 * 16 * 8 * 16, 16 * 8 * 16)
    assert layers["up"].op_type == "ConvTranspose"
    assert [x.name for x in quantisable(residual(), ONNX_RUNTIME)] == ["stem", "depthwise", "expand", "up"]
    assert [x.name for x in quantisable(residual(), Scheme(deconvolution="float"))] == ["stem", "depthwise", "expand"]


def test_work_at_a_nominal_size_where_any_is_taken():
    layers = quantisable(family("lightweight_openpose"), ONNX_RUNTIME)
    assert len(layers) == 55
    assert all(layer.macs > 0 for layer in layers)


def test_activations_are_quantised_once_where_they_are_fused():
    for activation, more in (("LeakyRelu", {"alpha": 0.1}), ("HardSwish", {}), ("Sigmoid", {})):
        net = Network()
        x = net.build.op(activation, net.conv(net.x, 3, 8, name="first"), name="active", **more)
        model = net.model(ending(net, x))
        assert set(scales(quantised(model, SIGNED).model.graph)) == {"image", "active", "end"}
        assert set(scales(quantised(model, ONNX_RUNTIME).model.graph)) == {"image", "first", "active", "end"}


def test_silu_is_one_activation():
    net = Network()
    x = net.conv(net.x, 3, 8, name="first")
    x = net.build.op("Mul", x, net.build.op("Sigmoid", x, name="gate"), name="silu")
    model = net.model(ending(net, x))
    assert set(scales(quantised(model, OPENVINO).model.graph)) == {"image", "silu", "end"}
    assert set(scales(quantised(model, ONNX_RUNTIME).model.graph)) == {"image", "first", "silu", "end"}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_moving_values_about_keeps_their_scale(scheme):
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, name="first"))
    shape, back = (net.build.constant(np.array(s, np.int64)) for s in ([0, 2, 4, 32, 24], [0, 8, 32, 24]))
    x = net.build.op("Transpose", net.build.op("Reshape", x, shape), perm=[0, 2, 1, 3, 4])
    x = net.build.op("Reshape", x, back)
    x = net.build.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.build.op("Resize", x, "", net.build.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest")
    model = net.model(net.conv(x, 8, 17, 1))
    found = scales(quantised(model, SCHEMES[scheme]).model.graph)
    assert len(found) == 7
    assert len({grid for name, grid in found.items() if name != "image"}) == 1


def joined(first: str, second: str) -> PoseModel:
    """Two branches that are concatenated."""
    net = Network()
    a = net.build.op(first, net.conv(net.x, 3, 8), name="a")
    b = net.build.op(second, net.conv(net.x, 3, 8), name="b")
    x = net.build.op("Concat", a, b, axis=1, name="both")
    return net.model(net.conv(x, 16, 17, 1))


def test_what_is_concatenated_shares_a_scale(tmp_path):
    for scheme in SCHEMES.values():
        found = scales(quantised(joined("Relu", "Relu"), scheme).model.graph)
        assert found["a"] == found["b"] == found["both"]
    found = scales(quantised(joined("Relu", "Identity"), SIGNED).model.graph)
    assert found["a"] == found["both"]
    # Beside values with another zero point, what is never negative keeps 0: ONNX Runtime fuses its bound no other way.
    model = joined("Relu", "Identity")
    done = quantised(model, ONNX_RUNTIME)
    found = scales(done.model.graph)
    assert found["a"] != found["both"]
    _, kernels = run(done.model.graph, picture(model), tmp_path)
    assert (kernels["QLinearConv"], kernels["QLinearConcat"], kernels["Relu"]) == (2, 1, 0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("large", ["a", "b"])
def test_the_largest_of_what_is_concatenated_is_expressed(scheme, large):
    model = joined("Relu", "Identity")
    ranges = observed(model, [picture(model)])
    wide = {**ranges.tensors, large: (0.0 if large == "a" else -30.0, 90.0), "both": (-30.0, 90.0)}
    graph = quantize_model(model, Ranges(wide, "naive"), SCHEMES[scheme]).model.graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    scale, zero = (values[name] for name in scales(graph)["both"])
    assert (np.iinfo(zero.dtype).max - float(zero)) * scale >= 89.5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_squeeze_and_excite(scheme, tmp_path):
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, name="first"))
    gate = net.relu(net.conv(net.build.op("GlobalAveragePool", x, name="mean"), 8, 4, 1, name="squeeze"))
    gate = net.build.op("HardSigmoid", net.conv(gate, 4, 8, 1, name="excite"), name="gate")
    x = net.build.op("Mul", x, gate, name="gated")
    model = net.model(ending(net, x))
    done = quantised(model, SCHEMES[scheme])
    assert {"image", "mean", "gate" if scheme != "onnxruntime" else "excite", "gated"} <= set(scales(done.model.graph))
    if scheme == "onnxruntime":
        _, kernels = run(done.model.graph, picture(model), tmp_path)
        assert (kernels["QLinearConv"], kernels["QLinearGlobalAveragePool"]) == (4, 1)


def test_matrix_products(tmp_path):
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, strides=[2, 2], name="first"))
    x = net.build.op("Reshape", x, net.build.constant(np.array([0, 8, 192], np.int64)))
    x = net.relu(net.build.op("MatMul", x, net.weights(192, 24), name="mix"))
    x = net.build.op("MatMul", net.build.op("Transpose", x, perm=[0, 2, 1]), x, name="product")
    x = net.build.op("Reshape", x, net.build.constant(np.array([0, 576], np.int64)))
    x = net.relu(net.build.op("Gemm", x, net.weights(32, 576), net.weights(32, gain=0.1), name="dense", transB=1))
    x = net.build.op("Gemm", x, net.weights(32, 68), name="last")
    model = net.model(net.build.op("Reshape", x, net.build.constant(np.array([0, 17, 2, 2], np.int64))), size=(2, 2))
    done = quantised(model, ONNX_RUNTIME)
    assert done.kept["product"] == "a product of two activations"
    assert set(done.kept) == {"product", "last"}
    _, kernels = run(done.model.graph, picture(model), tmp_path)
    # The product's inputs and result are quantised for others, so ONNX Runtime loses nothing by computing it in int8.
    assert (kernels["QLinearConv"], kernels["QLinearMatMul"], kernels["QGemm"]) == (1, 2, 1)


def test_decoding_behind_the_heads_stays_float():
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, name="first"))
    heat = net.build.op("Sigmoid", net.conv(x, 8, 17, 1, name="head"))
    best = net.build.op("MaxPool", net.build.op("Add", heat, heat), kernel_shape=[3, 3], pads=[1] * 4)
    model = net.model(best)
    for scheme in SCHEMES.values():
        assert set(scales(quantised(model, scheme).model.graph)) == {"image", *{"first", "Relu"} & {"Relu"}}


def test_an_output_that_is_used_inside_as_well_stays_exact():
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, name="first"))
    early = net.conv(x, 8, 17, 1, name="early")
    build = net.build
    x = net.conv(net.relu(net.conv(early, 17, 8, name="again")), 8, 17, 1, name="late")
    build.output(early, "early-maps", ("batch", 17, 32, 24))
    model = net.model(x)
    done = quantised(model, ONNX_RUNTIME)
    assert set(done.kept) == {"early-maps", "heatmaps"}
    users = [n for n in done.model.graph.graph.node if "early-maps" in n.input]
    assert [n.op_type for n in users] == ["QuantizeLinear"]


def test_an_old_opset_is_raised_to_what_knows_axes():
    model = residual()
    old = PoseModel(set_opset(model.graph, 11), model.spec)
    done = quantised(old, ONNX_RUNTIME)
    assert done.model.graph.opset_import[0].version == 13


def test_a_layer_in_float_between_others_keeps_the_rest_in_int8(tmp_path):
    model = residual()
    done = quantised(model, ONNX_RUNTIME, keep_float=["expand"])
    _, kernels = run(done.model.graph, picture(model), tmp_path)
    assert (kernels["QLinearConv"], kernels["QLinearAdd"], kernels["Conv"]) == (3, 1, 2)
    done = quantised(model, ONNX_RUNTIME, keep_float=["sum", "up"])
    _, kernels = run(done.model.graph, picture(model), tmp_path)
    assert (kernels["QLinearConv"], kernels["QLinearAdd"], kernels["ConvTranspose"]) == (3, 0, 1)


@pytest.mark.parametrize("bias", [True, False])
def test_onnx_runtime_leaves_float_layers_between_quantised_ones_in_float(bias, tmp_path):
    """By itself it gives them int8 weights, with one scale for all."""
    net = Network()
    x = net.relu(net.conv(net.x, 3, 8, name="first"))
    weights = [net.weights(8, 8, 3, 3), *([net.weights(8, gain=0.3)] if bias else [])]
    x = net.relu(net.build.op("Conv", x, *weights, name="kept", pads=[1] * 4))
    model = net.model(ending(net, x))
    done = quantised(model, ONNX_RUNTIME, keep_float=["kept"])
    feeds = picture(model, 5)
    found, kernels = run(done.model.graph, feeds, tmp_path)
    assert kernels["QLinearConv"] == 2
    assert kernels["Conv"] + kernels["FusedConv"] == 2
    assert kernels["Relu"] == 0
    assert sqnr(Runner(done.model.graph).run(feeds), found) > 35
