"""Every architecture takes Q/DQ nodes of every form, right in ONNX Runtime and OpenVINO, and without findings."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import onnx
import pytest
from int8_networks import SCHEMES, family, observed, picture, run, sqnr

from edgepose.architectures import families
from edgepose.artifact import EMBEDDED, resolve
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.emit import Quantised, quantize_model
from edgepose.quantization.lint import lint
from edgepose.quantization.placement import quantisable

#: Small and unlike each other: depthwise, squeeze-and-excite, attention, two heads.
QUICK = ("mobile_pose_mobilenet1.0", "mobile_pose_mobilenetv3_small", "rtmpose_t", "aimet_pose")
NAMES = [name for found in families() for name in found.architectures]
#: Deep networks of random weights drown what rounding leaves of their signal; these bounds tell wrong from noisy.
LEAST_SQNR = 10.0
#: Height and width; RTMPose's attention is made for its own.
SIZES = {name: (64, 64) for name in NAMES if not name.startswith("rtmpose")}


class Prepared:
    """A network, its ranges, an input, what it gives in float, and its work in multiplications."""

    def __init__(self, name: str) -> None:
        self.model = family(name, SIZES.get(name))
        self.feeds = picture(self.model, 9)
        self.ranges = observed(self.model, [picture(self.model), self.feeds])
        self.expected = Runner(self.model.graph).run(self.feeds)
        self.macs = sum(layer.macs for layer in quantisable(self.model, SCHEMES["openvino"]))


prepared = functools.lru_cache(maxsize=1)(Prepared)


def check(name: str, scheme: str) -> Quantised:
    given = prepared(name)
    done = quantize_model(given.model, given.ranges, SCHEMES[scheme])
    assert lint(done.model.graph, SCHEMES[scheme]) == []
    assert sqnr(given.expected, Runner(done.model.graph).run(given.feeds)) > LEAST_SQNR
    layers = quantisable(given.model, SCHEMES[scheme])
    assert not {layer.name for layer in layers} & set(done.kept)
    assert sum(layer.macs for layer in layers) > 0.9 * given.macs
    assert done.model.graph.ByteSize() < 0.5 * given.model.graph.ByteSize()
    return done


PARAMETERS = [
    pytest.param(name, scheme, marks=() if name in QUICK else pytest.mark.conformance)
    for name in NAMES
    for scheme in SCHEMES
]


@pytest.mark.parametrize(("name", "scheme"), PARAMETERS)
def test_architecture(name, scheme, tmp_path):
    done = check(name, scheme)
    feeds, expected = prepared(name).feeds, prepared(name).expected
    if scheme == "onnxruntime":
        found, kernels = run(done.model.graph, feeds, tmp_path)
        assert sqnr(expected, found) > LEAST_SQNR
        # All but the last layers, the products of two activations and what is asked for stay in float.
        floats = kernels["Conv"] + kernels["FusedConv"] + kernels["ConvTranspose"]
        assert floats <= len(done.kept)
    elif scheme == "openvino" and importlib.util.find_spec("openvino") is not None:
        from edgepose_converters.openvino import OpenVinoConverter
        from edgepose_runtimes.openvino import OpenVino

        from edgepose.devices import Device

        result = OpenVinoConverter().convert(done.model, tmp_path, "int8", {})
        session = OpenVino().open(tmp_path / result.engine, Device("cpu"), {})
        assert sqnr(expected, session.run(feeds)) > LEAST_SQNR


@pytest.mark.conformance
@pytest.mark.parametrize("name", NAMES)
def test_tensorrt_rtx_builds_the_signed_form(name):
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed: pip install tensorrt-rtx")
    done = quantize_model(prepared(name).model, prepared(name).ranges, SCHEMES["signed"])
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(done.model.graph.SerializeToString()), parser.get_error(0).desc()
    config = builder.create_builder_config()
    # Builds without a GPU for one that is named.
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    image = network.get_input(0)
    shape = prepared(name).feeds[image.name].shape
    profile.set_shape(image.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("embedded", EMBEDDED)
def test_embedded_models_keep_their_decoders_in_float(embedded, scheme):
    for stage in resolve(embedded).stages:
        model = PoseModel(onnx.load(Path(stage.engine)), stage.spec)
        done = quantize_model(model, observed(model, [picture(model)]), SCHEMES[scheme])
        assert lint(done.model.graph, SCHEMES[scheme]) == []
        convolutions = [n for n in done.model.graph.graph.node if n.op_type == "Conv"]
        layers = quantisable(model, SCHEMES[scheme])
        assert len(layers) == len(convolutions) - len(done.kept)
        makers = {o: n for n in done.model.graph.graph.node for o in n.output}
        for node in done.model.graph.graph.node:
            if node.op_type in ("TopK", "ArgMax", "GatherElements", "Div", "Cast"):
                assert not any(makers[i].op_type == "DequantizeLinear" for i in node.input if i in makers)
