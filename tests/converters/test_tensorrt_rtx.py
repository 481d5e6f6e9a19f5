"""Whether NVIDIA's own parser and builder take the graphs: TensorRT-RTX needs no GPU for that.

What it cannot tell: how TensorRT on a Jetson builds them, and what a GPU computes.  Every architecture, in every
precision: ``benchmarks/nvidia_parser.py``; here one of each family.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tensorrt_rtx", reason='TensorRT-RTX is not installed: pip install "edgepose[tensorrt-rtx]"')

from edgepose_converters.tensorrt_rtx import TensorRtRtxConverter
from edgepose_runtimes.tensorrt_rtx import TensorRtRtx
from target_networks import QUICK, SLOW, family, small

from edgepose.architectures import architectures
from edgepose.artifact import resolve
from edgepose.devices import Device
from edgepose.errors import ConversionError, DeviceError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.embed import embed, embeddable
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.lint import lint
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

EMBEDDED = ("accurate:0", "accurate:1")
#: With ResNet-18 for the ResNets: depth brings nothing new to a parser.
FAMILIES = (*QUICK, *(n for n in SLOW if n not in ("simple_pose_resnet50_v1d", "rtmpose_s")), *EMBEDDED)
PICTURE = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


def network(name: str) -> PoseModel:
    model, _, stage = name.partition(":")
    if not stage:
        return family(name)
    source = resolve(model).stages[int(stage)]
    return PoseModel.from_onnx(source.engine, source.spec)


def int8(model: PoseModel) -> PoseModel:
    """A network in TensorRT's form of INT8, calibrated on one picture."""
    scheme = TensorRtRtxConverter.scheme
    assert scheme is not None
    ranges = calibrate(model, calibration_set(PICTURE, model.spec, limit=1), "naive")
    return quantize_model(model, ranges, scheme).model


def build(model: PoseModel, folder: Path, precision: str, **options: object) -> Path:
    result = TensorRtRtxConverter().convert(model, folder, precision, options)
    assert result.tools["tensorrt-rtx"]
    assert any("element types from the graph" in n for n in result.notes)
    return folder / result.engine


@pytest.mark.conformance
@pytest.mark.parametrize(("name", "precision"), [(n, p) for n in FAMILIES for p in TensorRtRtxConverter.precisions])
def test_each_family_is_parsed_and_built(tmp_path: Path, name: str, precision: str) -> None:
    model = network(name)
    if precision == "int8":
        model = int8(model)
        assert lint(model.graph, TensorRtRtxConverter.scheme) == []
    assert build(model, tmp_path, precision).stat().st_size > 1 << 20


@pytest.mark.conformance
@pytest.mark.parametrize("name", [n for n in architectures() if n not in FAMILIES])
def test_every_other_architecture_is_parsed_and_built(tmp_path: Path, name: str) -> None:
    """In INT8: ``tests/quantization/test_every_architecture.py``."""
    model = network(name)
    for precision in ("fp32", "fp16"):
        folder = tmp_path / precision
        folder.mkdir()
        build(model, folder, precision)


@pytest.mark.conformance
@pytest.mark.parametrize("name", ["rtmpose_t", *EMBEDDED])
def test_each_decoder_is_parsed_and_built(tmp_path: Path, name: str) -> None:
    model = network(name)
    assert embeddable(model.spec) == (True, True)
    for precision in ("fp32", "fp16"):
        build(embed(model, pre=True, post=True), tmp_path, precision)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_small_network_is_built(tmp_path: Path, precision: str) -> None:
    engine = build(small(), tmp_path, precision, max_batch=2)
    # It is NVIDIA's file and nothing else: no header of ours before it.
    assert engine.read_bytes()[:4] == b"vtrt"
    assert (tmp_path / "model.rtx.json").is_file()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_embedded_input_and_decoder_are_taken(tmp_path: Path, precision: str) -> None:
    model = small()
    pre, post = embeddable(model.spec)
    assert pre
    assert post
    build(embed(model, pre=True, post=True), tmp_path, precision)


def test_an_operator_that_the_parser_lacks_is_named(tmp_path: Path) -> None:
    builder = GraphBuilder("determinants")
    x = builder.input("image", ("batch", 3, 8, 8))
    builder.output(builder.op("Det", builder.op("Relu", x), name="the_culprit"), "y", ("batch", 3))
    spec = PoseSpec(InputSpec("image", 8, 8, Crop()), DecoderSpec("regression", {"keypoints": "y"}), COCO_17)
    with pytest.raises(ConversionError, match=r"does not take the graph: Det 'the_culprit'"):
        build(PoseModel(builder.build(), spec), tmp_path, "fp32")
    assert list(tmp_path.iterdir()) == []


def test_what_the_builder_says_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"(?i)workspace|implementation|tactic"):
        build(small(), tmp_path, "fp32", workspace=1, max_batch=4096)


def test_without_a_gpu_the_runtime_says_so_and_does_not_crash(tmp_path: Path) -> None:
    runtime = TensorRtRtx()
    if runtime.probe("cuda").available:
        pytest.skip("there is a GPU")
    engine = build(small(), tmp_path, "fp32")
    with pytest.raises(DeviceError, match="CUDA"):
        runtime.open(engine, Device("cuda"), {})
