"""ixRT as a target, against a stand-in that has the documented calls and nothing else, and of its tool."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgepose_converters.ixrt import IxRtConverter
from edgepose_runtimes.ixrt import IxRt
from iluvatar_machine import head, iluvatar
from ixrt_requests import MR_V100, build, graph_of, int8, single
from nvidia_machine import checked
from target_networks import QUICK, SLOW, distance, family, moved, picture, small

from edgepose.errors import ConversionError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.draft import opset_of
from edgepose.graph.embed import embed
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with an MR-V100 and ixRT 1.0."""
    with checked(iluvatar(monkeypatch)) as found:
        yield found


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ixRT under any name, and no tool."""
    for name in ("ixrt", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def test_float32_goes_in_the_opset_of_its_own_tools(machine: Any, tmp_path: Path) -> None:
    engine, notes = build(small(), tmp_path)
    built = head(engine)
    assert built["flags"] == []
    assert not built["typed"]
    assert built["opset"] == 11
    assert [s[0] for s in built["profile"]["image"]] == [1, 1, 8]
    assert "Built by ixRT 1.0.0." in notes
    session = IxRt().open(engine, MR_V100, {})
    assert moved(small(), session, batch=5) < 1e-5
    session.close()


def test_float16_by_flag_is_the_float_graph(machine: Any, tmp_path: Path) -> None:
    engine, notes = build(small(), tmp_path, "fp16")
    assert head(engine)["flags"] == ["FP16"]
    assert "The builder was allowed FP16." in notes
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in graph_of(engine).graph.initializer)
    session = IxRt().open(engine, MR_V100, {})
    assert session.inputs[0].dtype == session.outputs[0].dtype == "float32"
    assert 1e-7 < moved(small(), session, batch=3) < 5e-3
    session.close()


def test_float16_by_type_keeps_sensitive_layers(machine: Any, tmp_path: Path) -> None:
    engine, notes = build(small(), tmp_path, "fp16", strongly_typed="on")
    assert head(engine)["flags"] == []
    assert head(engine)["typed"]
    assert any(n.startswith("Stays float32, last layer") for n in notes)
    assert sum(t.data_type == onnx.TensorProto.FLOAT16 for t in graph_of(engine).graph.initializer) >= 2
    session = IxRt().open(engine, MR_V100, {})
    assert 1e-7 < moved(small(), session, batch=3) < 5e-3
    session.close()


def test_int8_is_the_q_dq_graph_with_both_flags(machine: Any, tmp_path: Path) -> None:
    model = int8(small())
    engine, _ = build(model, tmp_path, "int8")
    built = head(engine)
    assert built["flags"] == ["FP16", "INT8"]
    assert built["opset"] == 13
    session = IxRt().open(engine, MR_V100, {})
    feeds = picture(model, batch=3)
    # The stand-in rounds what stays float; the last layer does.
    assert distance(Runner(model.graph).run(feeds), session.run(feeds)) < 2e-3
    session.close()


def test_the_form_of_int8(machine: Any, tmp_path: Path) -> None:
    engine, _ = build(int8(small()), tmp_path, "int8")
    graph = graph_of(engine).graph
    stored = {t.name: t for t in graph.initializer}
    makers = {o: n for n in graph.node for o in n.output}
    dequantizers = [n for n in graph.node if n.op_type == "DequantizeLinear"]
    for node in graph.node:
        if node.op_type == "QuantizeLinear" or (node.op_type == "DequantizeLinear" and node.input[0] not in stored):
            assert not node.attribute
    weights = [n for n in dequantizers if n.input[0] in stored]
    assert {stored[n.input[0]].data_type for n in weights} == {onnx.TensorProto.INT8}
    assert all(a.name == "axis" for n in weights for a in n.attribute)
    assert sum(bool(n.attribute) for n in weights) >= 2
    # The layer whose result is decoded is not quantised.
    last = makers[graph.output[0].name]
    assert last.op_type == "Conv"
    assert last.input[1] in stored


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_each_family_goes_in_whole(machine: Any, tmp_path: Path, name: str) -> None:
    """In the opsets that ixRT's own tools make, and in int8 with each layer closed."""
    for precision, model, opset in (("fp32", family(name), 11), ("int8", int8(family(name)), 13)):
        folder = tmp_path / precision
        folder.mkdir()
        engine, _ = build(model, folder, precision)
        assert head(engine)["opset"] == opset
        layers = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
        assert sum(n.op_type in layers for n in graph_of(engine).graph.node) == sum(
            n.op_type in layers for n in model.graph.graph.node
        )


def test_an_axis_of_activations_is_taken_away(machine: Any, tmp_path: Path) -> None:
    model = int8(small())
    for node in model.graph.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and not node.attribute:
            node.attribute.append(onnx.helper.make_attribute("axis", 1))
    build(model, tmp_path, "int8")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (Scheme(bias="float"), "symmetric int8 only"),
        (Scheme(activations="int8", symmetric=True, bias="int32"), "integer-bias"),
        (Scheme(activations="int8", symmetric=True, bias="float", open_end=True), "open-result"),
        (Scheme(activations="int8", bias="float"), "signed-zero-point"),
    ],
)
def test_other_forms_of_int8_are_refused_before_anything_is_built(
    nothing: None, tmp_path: Path, scheme: Scheme, message: str
) -> None:
    model = small()
    names = [o for n in model.graph.graph.node for o in n.output] + [model.spec.input.name]
    ranges = Ranges(dict.fromkeys(names, (-1.0, 4.0)), "naive")
    with pytest.raises(ConversionError, match=message) as caught:
        build(quantize_model(model, ranges, scheme).model, tmp_path, "int8")
    assert "--calibration" in str(caught.value.hint) or "--to ixrt" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_lost_its_closing_q_is_named(nothing: None, tmp_path: Path) -> None:
    model = int8(small())
    graph = model.graph.graph
    convolution = next(n for n in graph.node if n.op_type == "Conv")
    activation = next(n for n in graph.node if convolution.output[0] in n.input)
    closing = next(n for n in graph.node if n.op_type == "QuantizeLinear" and activation.output[0] in n.input)
    # Leave the Q and its DQ out.
    opening = next(n for n in graph.node if closing.output[0] in n.input)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == opening.output[0]:
                node.input[place] = activation.output[0]
    graph.node.remove(closing)
    graph.node.remove(opening)
    with pytest.raises(ConversionError, match="open-result") as caught:
        build(model, tmp_path, "int8")
    assert f"'{convolution.name or convolution.output[0]}'" in caught.value.message


def test_a_float_graph_is_no_int8_and_the_other_way_round(nothing: None, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised"):
        build(small(), tmp_path, "int8")
    with pytest.raises(ConversionError, match="is quantised and was to be built in fp16"):
        build(int8(small()), tmp_path, "fp16")


def test_embedded_preprocessing_goes_along(machine: Any, tmp_path: Path) -> None:
    model = embed(small(), pre=True, post=True)
    engine, _ = build(model, tmp_path)
    session = IxRt().open(engine, MR_V100, {})
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    wanted, found = Runner(model.graph).run({"pixels": pixels}), session.run({"pixels": pixels})
    for name, array in wanted.items():
        assert np.allclose(found[name], array, atol=1e-4)
    session.close()


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unsupported_operator_is_told_with_its_node(machine: Any, tmp_path: Path, domain: str) -> None:
    with pytest.raises(ConversionError, match="does not take the graph: the_culprit: unsupported operator: Det"):
        build(single("Det", domain), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_operator_that_is_known_to_be_missing_is_told_without_ixrt(nothing: None, tmp_path: Path) -> None:
    """A recipe would fail on the device only."""
    model = single("Det")
    model.graph.graph.node[1].op_type = "Loop"
    with pytest.raises(ConversionError, match=r"ixRT has no operator Loop \('the_culprit'\)"):
        build(model, tmp_path)


@pytest.mark.parametrize(
    ("options", "precision", "message"),
    [
        # What TensorRT has and ixRT has not.
        ({"dla_core": 0}, "fp16", "ixRT has no option dla_core"),
        ({"version_compatible": "on"}, "fp32", "ixRT has no option version_compatible"),
        ({"hardware_compatible": "ampere+"}, "fp32", "ixRT has no option hardware_compatible"),
        ({"workspace": 64}, "fp32", "ixRT has no option workspace"),
        ({"strongly_typed": "maybe"}, "fp16", "'strongly_typed' is 'maybe'"),
        ({"via": "magic"}, "fp16", "api, ixrtexec"),
        ({"min_batch": 9}, "fp32", "9, 8, 8 are not in ascending order"),
        ({"timing_cache": "/nowhere/at/all"}, "fp32", "does not exist"),
        ({"via": "ixrtexec", "build": "on-device"}, "fp32", "builds here"),
        ({}, "fp8", "not in fp8"),
    ],
)
def test_wrong_requests_are_refused(
    machine: Any, tmp_path: Path, options: dict[str, Any], precision: str, message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        build(small(), tmp_path, precision, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "call"), [("Builder", "create_builder_config"), ("OnnxParser", "parse"), ("IBuilderConfig", "set_flag")]
)
def test_another_interface_than_is_documented_is_told(
    machine: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: str, call: str
) -> None:
    import ixrt

    monkeypatch.delattr(getattr(ixrt, owner), call)
    with pytest.raises(ConversionError, match=f"ixRT 1.0.0 has another interface .*{call}"):
        build(small(), tmp_path, "fp16")
    assert list(tmp_path.iterdir()) == []


def test_a_strongly_typed_int8_is_refused(machine: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="Leave the option strongly_typed out"):
        build(int8(small()), tmp_path, "int8", strongly_typed="on")


def test_the_timing_cache_is_read_and_written(machine: Any, tmp_path: Path) -> None:
    cache, folder = tmp_path / "timing.cache", tmp_path / "engine"
    folder.mkdir()
    build(small(), folder, timing_cache=str(cache))
    written = cache.read_bytes()
    build(small(), folder, timing_cache=str(cache))
    assert cache.read_bytes() == written
    cache.write_bytes(b"of another version")
    with pytest.raises(ConversionError, match="refuses the timing cache"):
        build(small(), folder, timing_cache=str(cache))


def test_where_nothing_is_a_recipe_is_written(nothing: None, tmp_path: Path) -> None:
    probe = IxRtConverter().probe()
    assert probe.available
    assert "built on the device" in probe.found
    assert "ixrtexec" not in probe.found
    written = []
    for name in "ab":
        (tmp_path / name).mkdir()
        engine, notes = build(small(), tmp_path / name, "fp16", strongly_typed="on")
        assert engine.name == "model.recipe.json"
        assert json.loads(engine.read_text())["options"] == {"strongly_typed": True}
        assert notes[0].startswith("Not built here")
        written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    with pytest.raises(ConversionError, match="cannot be built here: ixRT is not here"):
        build(small(), tmp_path, build="here")


def test_the_stand_in_has_nothing_that_ixrt_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """What its documentation says is missing, and what its CUDA does not list."""
    machine = iluvatar(monkeypatch)
    import ixrt
    from cuda import cudart

    for flag in ("TF32", "GPU_FALLBACK", "VERSION_COMPATIBLE", "REFIT", "WEIGHT_STREAMING"):
        assert not hasattr(ixrt.BuilderFlag, flag)
    for name in ("IInt8Calibrator", "IInt8EntropyCalibrator2", "DeviceType", "HardwareCompatibilityLevel"):
        assert not hasattr(ixrt, name)
    for call in ("cudaMemGetInfo", "cudaDeviceGetAttribute", "cudaGetErrorString", "cudaRuntimeGetVersion"):
        assert not hasattr(cudart, call)
    logger = ixrt.Logger(ixrt.Logger.ERROR)
    builder = ixrt.Builder(logger)
    config = builder.create_builder_config()
    for name in ("int8_calibrator", "DLA_core", "default_device_type", "set_tactic_sources", "clear_flag"):
        assert not hasattr(config, name)
    for _ in range(2):
        config.add_optimization_profile(builder.create_optimization_profile())
    assert machine.violations == ["ixRT crashes with more than one optimisation profile"]
    with pytest.raises(TypeError):
        type("Derived", (ixrt.ILogger,), {})()
    with pytest.raises(TypeError):
        builder.create_optimization_profile().set_shape("image", 1, 2, 3)


def test_what_cannot_go_back_to_the_opset_stays_and_is_told(machine: Any, tmp_path: Path) -> None:
    made = GraphBuilder("new", opset=15)
    x = made.input("image", ("batch", 3, 8, 8))
    made.output(made.op("Trilu", x), "y", ("batch", 3, 8, 8))
    spec = PoseSpec(InputSpec("image", 8, 8, Crop()), DecoderSpec("regression", {"keypoints": "y"}), COCO_17)
    engine, notes = build(PoseModel(made.build(), spec), tmp_path)
    assert head(engine)["opset"] == opset_of(graph_of(engine)) == 15
    assert any(n.startswith("The graph stays in opset 15, because it cannot be written in opset 11") for n in notes)
