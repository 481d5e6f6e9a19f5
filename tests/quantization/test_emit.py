"""Q/DQ graphs: right numbers, and int8 kernels in ONNX Runtime."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from int8_networks import ONNX_RUNTIME, SCHEMES, Network, family, observed, picture, residual, run, sqnr

from edgepose.errors import InputError
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.emit import encoding, quantize_model
from edgepose.quantization.ranges import Ranges


def quantised(model: PoseModel, scheme=ONNX_RUNTIME, **more):
    return quantize_model(model, observed(model, [picture(model, s) for s in range(3)]), scheme, **more)


def arrays(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_residual_network_stays_close(scheme):
    model = residual()
    done = quantised(model, SCHEMES[scheme])
    feeds = picture(model, 9, batch=2)
    expected = Runner(model.graph).run(feeds)
    assert sqnr(expected, Runner(done.model.graph).run(feeds)) > 25
    assert done.model.spec == model.spec
    assert [o.name for o in done.model.graph.graph.output] == ["heatmaps"]
    assert [i.name for i in done.model.graph.graph.input] == ["image"]
    assert model.graph.SerializeToString() == residual().graph.SerializeToString()


def test_onnx_runtime_computes_all_of_a_residual_network_in_int8(tmp_path):
    model = residual()
    done = quantised(model)
    feeds = picture(model, 9)
    found, kernels = run(done.model.graph, feeds, tmp_path)
    assert kernels["QLinearConv"] == 4
    assert kernels["QLinearAdd"] == 1
    assert kernels["Conv"] == 1
    assert kernels["ConvTranspose"] == kernels["Relu"] == kernels["Add"] == 0
    assert kernels["QuantizeLinear"] == kernels["DequantizeLinear"] == 1
    assert done.kept == {"heatmaps": "its result is an output, or is decoded to coordinates"}
    assert sqnr(Runner(done.model.graph).run(feeds), found) > 30


def test_onnx_runtime_computes_all_of_simple_pose_resnet18_in_int8(tmp_path):
    model = family("simple_pose_resnet18_v1b", (128, 96))
    done = quantised(model)
    feeds = picture(model, 9)
    found, kernels = run(done.model.graph, feeds, tmp_path)
    # 20 convolutions and 3 deconvolutions; the last convolution gives the heatmaps.
    assert kernels["QLinearConv"] == 23
    assert kernels["QLinearAdd"] == 8
    assert kernels["Conv"] == 1
    assert kernels["ConvTranspose"] == kernels["Add"] == kernels["MaxPool"] == kernels["Relu"] == 0
    assert kernels["QuantizeLinear"] == kernels["DequantizeLinear"] == 1
    assert sqnr(Runner(model.graph).run(feeds), found) > 30
    assert done.model.graph.ByteSize() < 0.27 * model.graph.ByteSize()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_forms_that_are_slow_or_wrong_somewhere_are_never_emitted(scheme):
    model = residual()
    graph = quantised(model, SCHEMES[scheme]).model.graph
    values = arrays(graph)
    weights = [n for n in graph.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in values]
    kinds = Counter(values[n.input[0]].dtype.name for n in weights)
    assert set(kinds) == ({"int8", "int32"} if SCHEMES[scheme].bias == "int32" else {"int8"})
    assert all(not values[n.input[2]].any() for n in weights)
    for node in graph.graph.node:
        if node.op_type == "QuantizeLinear":
            zero = values[node.input[2]]
            assert zero.dtype == SCHEMES[scheme].activations
            assert zero == 0 or scheme != "signed"
            positive = node.input[0] not in ("image", "expand", "sum")
            assert zero == 0 or not positive


def test_a_layer_kept_in_float_is_left_as_it_was():
    model = residual()
    done = quantised(model, keep_float=["depthwise"])
    before = {n.output[0]: n for n in model.graph.graph.node}["depthwise"]
    after = {n.output[0]: n for n in done.model.graph.graph.node}["depthwise"]
    assert after.input[1] == before.input[1]
    assert after.input[0].endswith(".dequantized")
    assert done.kept["depthwise"] == "as asked"
    with pytest.raises(InputError, match="no layer 'nothing'"):
        quantised(model, keep_float=["nothing"])


def test_with_nothing_left_to_quantise_the_graph_stays_in_float():
    model = residual()
    done = quantised(model, keep_float=["stem", "depthwise", "expand", "up"])
    kinds = [n.op_type for n in done.model.graph.graph.node]
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(kinds)
    assert set(done.kept) >= {"stem", "depthwise", "expand", "up"}
    x = picture(model, 4)
    (name,) = (o.name for o in model.graph.graph.output)
    np.testing.assert_allclose(Runner(done.model.graph).run(x)[name], Runner(model.graph).run(x)[name], rtol=1e-4)


def test_ranges_of_values_that_are_only_passed_on_are_not_needed():
    model = residual()
    whole = observed(model, [picture(model, s) for s in range(3)])
    fewer = Ranges({k: v for k, v in whole.tensors.items() if k != "pool"}, "naive")
    a, b = (quantize_model(model, r, ONNX_RUNTIME).model.graph for r in (whole, fewer))
    assert a.SerializeToString() == b.SerializeToString()
    missing = Ranges({k: v for k, v in whole.tensors.items() if k != "sum" and not k.startswith("Relu")}, "naive")
    with pytest.raises(InputError, match="lack the value"):
        quantize_model(model, missing, ONNX_RUNTIME)


def test_ranges_of_another_network():
    other = Network()
    other = other.model(other.conv(other.x, 3, 17))
    with pytest.raises(InputError, match="another network"):
        quantize_model(residual(), observed(other, [picture(other)]), ONNX_RUNTIME)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize(("low", "high"), [(0, 5), (1, 3), (-4, -1), (-1e-30, 2e-30), (-3, 7), (0, 0), (-3e38, 3e38)])
def test_an_encoding_reaches_both_ends_and_zero(low, high, signed, symmetric):
    if symmetric and not signed and low < 0:
        pytest.skip("unsigned and symmetric is for values that are never negative")
    found = encoding(low, high, signed=signed, symmetric=symmetric)
    info = np.iinfo(found.dtype)
    assert info.min <= found.zero_point <= info.max
    assert np.isfinite(found.scale)
    assert found.scale >= 2.0**-62
    assert found.zero_point == 0 or not symmetric
    ends = [(info.min - found.zero_point) * found.scale, (info.max - found.zero_point) * found.scale]
    slack = 0.51 * found.scale if not symmetric else 1e-6 * found.scale * 127
    assert ends[0] <= min(low, 0) + slack
    assert ends[1] >= max(high, 0) - slack
