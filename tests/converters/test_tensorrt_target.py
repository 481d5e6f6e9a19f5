"""TensorRT as a target, against stand-ins that keep to the recorded interface of each version."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgepose_converters.tensorrt import TensorRtConverter
from edgepose_converters.tensorrt_options import read_options
from edgepose_converters.tensorrt_rtx import TensorRtRtxConverter
from edgepose_converters.uint8_inputs import cast_first
from edgepose_runtimes.tensorrt import TensorRt
from nvidia_machine import OTHER, VERSIONS, WITH_FLAGS, checked, head, nvidia
from target_networks import distance, moved, picture, small

from edgepose.artifact import resolve
from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.embed import embed
from edgepose.graph.feeds import random_feeds, trials
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.lint import lint
from edgepose.quantization.ranges import Ranges
from edgepose.spec import Crop, DecoderSpec, FixedHeight, InputSpec, Letterbox, PoseSpec, Stretch

JETSON = Device("jetson")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Jetson with each version of TensorRT."""
    with checked(nvidia(monkeypatch, version=version)) as found:
        yield found


@pytest.fixture
def newest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A PC with the newest version that still has flags and DLA."""
    with checked(nvidia(monkeypatch, version="10.13", gpus=[OTHER], dla_cores=2)) as found:
        yield found


def build(model: PoseModel, folder: Path, precision: str = "fp32", **options: Any) -> tuple[Path, tuple[str, ...]]:
    result = TensorRtConverter().convert(model, folder, precision, options)
    assert sorted(result.files) == sorted(p.name for p in folder.iterdir())
    return folder / result.engine, tuple(result.notes)


def int8(model: PoseModel) -> PoseModel:
    """The model in the target's form of INT8, with ranges that are wide enough for its test pictures."""
    names = [o for n in model.graph.graph.node for o in n.output] + [model.spec.input.name]
    scheme = TensorRtConverter.scheme
    assert scheme is not None
    ranges = Ranges(dict.fromkeys(names, (-4.0, 4.0)), "naive")
    return quantize_model(model, ranges, scheme).model


def test_float32_is_float32(machine: Any, version: str, tmp_path: Path) -> None:
    engine, notes = build(small(), tmp_path)
    built = head(engine)
    # TF32, on by default, has ten bits for float32's twenty-three.
    assert built["flags"] == []
    assert built["typed"] == (version not in WITH_FLAGS)
    assert f"Built by TensorRT {version}" in notes[0]
    assert notes[-1].startswith("Not run on hardware")
    session = TensorRt().open(engine, JETSON, {})
    assert moved(small(), session, batch=5) < 1e-5
    session.close()


def test_float16_by_flag_or_by_type(machine: Any, version: str, tmp_path: Path) -> None:
    engine, notes = build(small(), tmp_path, "fp16")
    built = head(engine)
    if version in WITH_FLAGS:
        assert built["flags"] == ["FP16", "OBEY_PRECISION_CONSTRAINTS"]
        assert not built["typed"]
        # The first layer and the last one, as the half graph has them.
        assert built["pinned"] == ["Conv", "Conv_2"]
        assert "2 layers that the graph keeps in float32 were pinned to it." in notes
    else:
        assert built["flags"] == []
        assert built["typed"]
        assert built["pinned"] == []
    assert any(n.startswith("Stays float32, last layer") for n in notes)
    graph = onnx.load_model_from_string(engine.read_bytes().split(b"\n", 2)[2])
    assert sum(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.graph.initializer) >= 2
    session = TensorRt().open(engine, JETSON, {})
    assert session.inputs[0].dtype == session.outputs[0].dtype == "float32"
    assert 1e-7 < moved(small(), session, batch=3) < 5e-3
    session.close()


def test_int8_by_flag_or_by_type(machine: Any, version: str, tmp_path: Path) -> None:
    model = int8(small())
    engine, _ = build(model, tmp_path, "int8")
    built = head(engine)
    assert ("INT8" in built["flags"]) == (version in WITH_FLAGS)
    assert built["typed"] == (version not in WITH_FLAGS)
    session = TensorRt().open(engine, JETSON, {})
    feeds = picture(model, batch=3)
    # What runs is the Q/DQ graph, no node of it lost.
    assert distance(Runner(model.graph).run(feeds), session.run(feeds)) < 1e-5
    session.close()


def test_the_form_of_int8_is_what_the_parser_takes(tmp_path: Path) -> None:
    assert lint(int8(small()).graph, TensorRtConverter.scheme) == []


def test_embedded_preprocessing_goes_along(machine: Any, tmp_path: Path) -> None:
    model = embed(small(), pre=True, post=True)
    engine, _ = build(model, tmp_path)
    session = TensorRt().open(engine, JETSON, {})
    assert session.inputs[0].dtype == "uint8"
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 48, 3), np.uint8)
    wanted, found = Runner(model.graph).run({"pixels": pixels}), session.run({"pixels": pixels})
    for name, array in wanted.items():
        assert np.allclose(found[name], array, atol=1e-4)
    session.close()


@pytest.mark.parametrize("stage", [0, 1])
def test_uint8_is_cast_first_and_nothing_else_changes(stage: int) -> None:
    source = resolve("accurate").stages[stage]
    graph = PoseModel.from_onnx(source.engine, source.spec).graph
    changed = cast_first(graph)
    users = [n.op_type for n in changed.graph.node if "image" in n.input]
    assert users == ["Cast"]
    feeds = random_feeds(graph, next(trials((3,))))
    wanted, found = Runner(graph).run(feeds), Runner(changed).run(feeds)
    for name, array in wanted.items():
        assert np.array_equal(array, found[name])
    assert cast_first(small().graph) is not None


def test_a_graph_that_computes_with_uint8_is_refused() -> None:
    build_ = GraphBuilder("grey")
    x = build_.input("image", (1, 4), "uint8")
    build_.output(
        build_.op("BitShift", x, build_.constant(np.ones(4, np.uint8)), direction="LEFT"), "y", (1, 4), "uint8"
    )
    with pytest.raises(ConversionError, match="float32"):
        cast_first(build_.build())


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_an_unsupported_operator_is_named_with_its_node(machine: Any, tmp_path: Path, domain: str) -> None:
    build_ = GraphBuilder("determinants")
    x = build_.input("image", ("batch", 3, 8, 8))
    build_.output(build_.op("Det", build_.op("Relu", x), name="the_culprit"), "y", ("batch", 3))
    spec = PoseSpec(InputSpec("image", 8, 8, Crop()), DecoderSpec("regression", {"keypoints": "y"}), COCO_17)
    model = PoseModel(build_.build(), spec)
    if domain:
        model.graph.graph.node[1].domain = domain
        model.graph.opset_import.add(domain=domain, version=1)
    with pytest.raises(ConversionError, match=r"Det 'the_culprit': No importer registered.*UNSUPPORTED_NODE"):
        build(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_options_are_told_to_the_builder(newest: Any, tmp_path: Path) -> None:
    engine, notes = build(
        small(), tmp_path, "fp16", workspace="64", dla_core="1", version_compatible="on", hardware_compatible="ampere+",
        min_batch=2, opt_batch=4, max_batch=6,
    )  # fmt: skip
    built = head(engine)
    assert built["pools"] == {"WORKSPACE": 64 << 20}
    assert built["dla"] == 1
    assert {"GPU_FALLBACK", "VERSION_COMPATIBLE", "FP16"} <= set(built["flags"])
    assert built["level"] == "AMPERE_PLUS"
    assert [s[0] for s in built["profile"]["image"]] == [2, 4, 6]
    # A DLA has no float32 to pin a layer to.
    assert built["pinned"] == []
    for word in ("64 MiB", "DLA core 1", "Newer versions", "ampere+"):
        assert any(word in n for n in notes), word


@pytest.mark.parametrize(
    ("version", "options", "missing"),
    [
        ("8.6", {"hardware_compatible": "same-compute-capability"}, "hardware_compatible=same-compute-capability"),
        ("10.3", {"hardware_compatible": "same-compute-capability"}, "hardware_compatible=same-compute-capability"),
    ],
)
def test_options_that_a_version_has_not_are_refused(
    machine: Any, tmp_path: Path, options: dict[str, str], missing: str
) -> None:
    with pytest.raises(ConversionError, match=f"has no option {missing}"):
        build(small(), tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "precision", "message"),
    [
        ({"wings": 2}, "fp32", "no option wings"),
        ({"workspace": 0}, "fp32", "'workspace' is 0"),
        ({"workspace": "much"}, "fp32", "'workspace' is 'much'"),
        ({"workspace": 1}, "fp32", "not enough workspace"),
        ({"max_batch": 0}, "fp32", "'max_batch' is 0"),
        ({"min_batch": 9}, "fp32", "9, 8, 8 are not in ascending order"),
        ({"opt_batch": 9}, "fp32", "1, 9, 8 are not in ascending order"),
        ({"max_batch": 1 << 20}, "fp32", "no batch is so large"),
        ({"max_size": "12"}, "fp32", "HEIGHTxWIDTH"),
        ({"max_size": "64x48"}, "fp32", "for a dynamic size"),
        ({"dla_core": 2}, "fp16", "There is no DLA core 2 here; TensorRT finds 2"),
        ({"dla_core": 0}, "fp32", "FP16 and INT8 only"),
        ({"timing_cache": "/nowhere/at/all"}, "fp32", "does not exist"),
        ({"hardware_compatible": "any"}, "fp32", "ampere"),
        ({"version_compatible": "perhaps"}, "fp32", "true, on"),
        ({"build": "there"}, "fp32", "auto, here"),
        ({}, "fp8", "not in fp8"),
    ],
)
def test_wrong_requests_are_refused(
    newest: Any, tmp_path: Path, options: dict[str, Any], precision: str, message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        build(small(), tmp_path, precision, **options)
    assert list(tmp_path.iterdir()) == []


def test_batches_of_a_fixed_graph_are_refused(newest: Any, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="dynamic batch") as caught:
        build(small(batch=2), tmp_path, max_batch=4)
    assert "--batch dynamic" in str(caught.value.hint)
    engine, notes = build(small(batch=2), tmp_path)
    assert head(engine)["profile"] == {}
    assert not any("best" in n for n in notes)


@pytest.mark.parametrize(
    ("fit", "least", "most"),
    [
        (Letterbox(long_side=384, stride=32), (128, 128), (384, 384)),
        (Letterbox(long_side=100, stride=64), (64, 64), (128, 128)),
        (FixedHeight(height=368, stride=8, min_width=368), (368, 368), (368, 1104)),
        (FixedHeight(height=256, stride=8), (256, 88), (256, 768)),
        (Stretch(long_side=320, short_side=192), (192, 192), (320, 320)),
    ],
)
def test_sizes_of_a_dynamic_network_follow_from_its_fit(
    newest: Any, tmp_path: Path, fit: Any, least: tuple[int, int], most: tuple[int, int]
) -> None:
    build_ = GraphBuilder("sizes")
    x = build_.input("image", (1, 3, "height", "width"))
    build_.output(build_.op("Relu", x), "poses", (1, 3, "height", "width"))
    spec = PoseSpec(InputSpec("image", None, None, fit), DecoderSpec("movenet-multi", {"poses": "poses"}), COCO_17)
    model = PoseModel(build_.build(), spec)
    engine, notes = build(model, tmp_path)
    low, usual, high = (tuple(s) for s in head(engine)["profile"]["image"])
    assert (low, high) == ((1, 3, *least), (1, 3, *most))
    assert low <= usual <= high
    assert any(str(list(usual)) in n for n in notes)
    engine, _ = build(model, tmp_path, min_size="32x64", opt_size=(64, 64), max_size="96x128")
    assert head(engine)["profile"]["image"] == [[1, 3, 32, 64], [1, 3, 64, 64], [1, 3, 96, 128]]
    with pytest.raises(ConversionError, match="not in order"):
        build(model, tmp_path, min_size="9999x64")


def test_the_timing_cache_is_read_and_written(newest: Any, tmp_path: Path) -> None:
    cache, folder = tmp_path / "timing.cache", tmp_path / "engine"
    folder.mkdir()
    build(small(), folder, timing_cache=str(cache))
    written = cache.read_bytes()
    assert b"10.13" in written
    build(small(), folder, timing_cache=str(cache))
    assert cache.read_bytes() == written
    cache.write_bytes(b"of another version")
    with pytest.raises(ConversionError, match="refuses the timing cache"):
        build(small(), folder, timing_cache=str(cache))
    assert cache.read_bytes() == b"of another version"


class TestElsewhere:
    """Where TensorRT or its GPU is not."""

    def test_the_converter_says_that_the_device_builds(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        probe = TensorRtConverter().probe()
        assert probe.available
        assert "built on the device" in probe.found
        assert "no module tensorrt" in probe.found
        engine, notes = build(small(), tmp_path, workspace=64, dla_core=0)
        assert engine.name == "model.recipe.json"
        assert notes[0].startswith("Not built here")

    def test_asking_for_an_engine_here_fails(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(ConversionError, match="cannot be built here: TensorRT is not here"):
            build(small(), tmp_path, build="here")

    def test_without_a_driver(self, machine: Any, tmp_path: Path) -> None:
        machine.driver = False
        assert "CUDA finds no GPU" in TensorRtConverter().probe().found
        engine, _ = build(small(), tmp_path)
        assert engine.name == "model.recipe.json"

    def test_building_can_be_left_to_the_device(self, newest: Any, tmp_path: Path) -> None:
        engine, _ = build(small(), tmp_path, build="on-device")
        assert engine.name == "model.recipe.json"

    def test_a_timing_cache_of_this_machine_is_of_no_use_there(self, newest: Any, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match="built on the device"):
            build(small(), tmp_path, build="on-device", timing_cache=str(tmp_path / "t"))

    def test_the_same_model_gives_the_same_bytes(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        written = []
        for name in "ab":
            (tmp_path / name).mkdir()
            build(small(), tmp_path / name, "fp16")
            written.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
        assert written[0] == written[1]

    def test_tensorrt_rtx_cannot_be_left_to_the_device(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
        probe = TensorRtRtxConverter().probe()
        assert not probe.available
        assert "edgepose[tensorrt-rtx]" in probe.remedy
        with pytest.raises(ConversionError, match="TensorRT-RTX is not here"):
            TensorRtRtxConverter().convert(small(), tmp_path, "fp32", {})


def test_tensorrt_rtx_has_no_options_that_it_would_ignore(tmp_path: Path) -> None:
    for option in ("timing_cache", "dla_core", "version_compatible", "hardware_compatible", "build"):
        with pytest.raises(ConversionError, match=f"no option {option}"):
            TensorRtRtxConverter().convert(small(), tmp_path, "fp32", {option: "on"})


def test_tensorrt_rtx_builds_without_a_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(nvidia(monkeypatch, rtx=True, driver=False)):
        for precision, model in (("fp32", small()), ("fp16", small()), ("int8", int8(small()))):
            result = TensorRtRtxConverter().convert(model, tmp_path, precision, {})
            assert head(tmp_path / result.engine)["typed"]


def test_usual_batch_follows_its_limits() -> None:
    known = ("min_batch", "opt_batch", "max_batch")
    assert read_options("T", {"min_batch": 4}, known).opt_batch == 4
    assert read_options("T", {}, known).opt_batch == 1
