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
SIZES = {name: (128, 96) for name in NAMES if not name.startswith("rtmpose")}


@functools.lru_cache(maxsize=1)
def prepared(name: str):
    model = family(name, SIZES.get(name))
    feeds = picture(model, 9)
    return (
        model,
        observed(model, [picture(model, s) for s in range(2)] + [feeds]),
        feeds,
        Runner(model.graph).run(feeds),
    )


def check(name: str, scheme: str) -> Quantised:
    model, ranges, feeds, expected = prepared(name)
    done = quantize_model(model, ranges, SCHEMES[scheme])
    assert lint(done.model.graph, SCHEMES[scheme]) == []
    assert sqnr(expected, Runner(done.model.graph).run(feeds)) > LEAST_SQNR
    layers = quantisable(model, SCHEMES[scheme])
    assert not {layer.name for layer in layers} & set(done.kept)
    assert sum(layer.macs for layer in layers) > 0.5 * total_macs(model)
    assert done.model.graph.ByteSize() < 0.5 * model.graph.ByteSize()
    return done


def total_macs(model: PoseModel) -> int:
    """Of all that some scheme can quantise."""
    return sum(layer.macs for layer in quantisable(model, SCHEMES["openvino"]))


PARAMETERS = [
    pytest.param(name, scheme, marks=() if name in QUICK else pytest.mark.conformance)
    for name in NAMES
    for scheme in SCHEMES
]


@pytest.mark.parametrize(("name", "scheme"), PARAMETERS)
def test_architecture(name, scheme, tmp_path):
    done = check(name, scheme)
    _, _, feeds, expected = prepared(name)
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
