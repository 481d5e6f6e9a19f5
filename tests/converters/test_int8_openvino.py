"""INT8 in OpenVINO: right numbers, and the kernels that it really runs."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "edgepose[openvino]"')

import openvino as ov
from edgepose_converters.openvino import OpenVinoConverter

sys.path.insert(0, str(Path(__file__).parent.parent / "quantization"))
from int8_networks import Network, family, observed, picture, residual, sqnr

from edgepose.errors import ConversionError
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model


def run(model: PoseModel, folder: Path) -> tuple[float, Counter[tuple[str, str]]]:
    """SQNR in dB of the INT8 form, and how many layers of each type run in each precision."""
    ranges = observed(model, [picture(model, s) for s in range(3)])
    done = quantize_model(model, ranges, OpenVinoConverter.scheme).model
    result = OpenVinoConverter().convert(done, folder, "int8", {})
    compiled = ov.Core().compile_model(folder / result.engine, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = picture(model, 9)
    found = compiled(feeds)
    values = {o.get_any_name(): found[o] for o in compiled.outputs}
    kernels: Counter[tuple[str, str]] = Counter()
    for layer in compiled.get_runtime_model().get_ordered_ops():
        info = layer.get_rt_info()
        kernels[info["layerType"].astype(str), info["runtimePrecision"].astype(str)] += 1
    return sqnr(Runner(model.graph).run(feeds), values), kernels


def in_float(kernels: Counter[tuple[str, str]], *kinds: str) -> int:
    return sum(count for (kind, precision), count in kernels.items() if kind in kinds and precision not in ("u8", "i8"))


def test_all_of_a_residual_network(tmp_path: Path) -> None:
    quality, kernels = run(residual(), tmp_path)
    assert quality > 25
    assert kernels["Convolution", "u8"] == 4
    assert kernels["Deconvolution", "u8"] == 1
    assert in_float(kernels, "Convolution", "Deconvolution", "Eltwise", "Pooling") == 0


def test_all_of_simple_pose_resnet18_deconvolutions_included(tmp_path: Path) -> None:
    quality, kernels = run(family("simple_pose_resnet18_v1b", (128, 96)), tmp_path)
    assert quality > 30
    assert kernels["Convolution", "u8"] == 21
    assert kernels["Deconvolution", "u8"] == 3
    assert in_float(kernels, "Convolution", "Deconvolution", "Eltwise", "Pooling") == 0


def test_hard_swish_runs_with_its_convolution(tmp_path: Path) -> None:
    quality, kernels = run(family("mobile_pose_mobilenetv3_small", (128, 96)), tmp_path)
    assert quality > 25
    assert kernels["Convolution", "u8"] == 57
    assert in_float(kernels, "Convolution", "Eltwise") == 0


def test_a_deconvolution_of_values_with_negatives(tmp_path: Path) -> None:
    net = Network()
    x = net.conv(net.x, 3, 16, strides=[2, 2], name="stem")
    x = net.build.op("ConvTranspose", x, net.weights(16, 8, 4, 4), name="up", strides=[2, 2], pads=[1] * 4)
    model = net.model(net.conv(net.relu(x), 8, 17, 1, name="head"))
    quality, kernels = run(model, tmp_path)
    assert quality > 25
    assert kernels["Deconvolution", "i8"] == 1


def test_a_float_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised"):
        OpenVinoConverter().convert(residual(), tmp_path, "int8", {})
