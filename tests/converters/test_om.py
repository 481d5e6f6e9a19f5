"""OM through ``atc``: the command line that is generated, and what is made of its failures.

The compiler is stood in for: it takes the documented arguments only, and what it writes is run by a stand-in of pyACL.
No Ascend device has run any of it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ascend_machine
import numpy as np
import onnx
import pytest
from ascend_machine import change, expected, network, pictures, told
from edgepose_converters.om import OmConverter, aipp, toolchain
from edgepose_converters.om.log import failure
from edgepose_converters.om.settings import checked
from edgepose_converters.om.toolchain import find, release, soc_here
from edgepose_runtimes.acl import PyAcl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from target_networks import QUICK, SLOW, family

from edgepose.devices import Device
from edgepose.errors import ConversionError, EdgePoseError
from edgepose.fitting import to_tensor
from edgepose.graph.embed import embed
from edgepose.model import PoseModel
from edgepose.spec import Crop, InputSpec

DEVICE = Device("ascend310")


@pytest.fixture
def cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CANN 8.0, its environment set, on a machine without a card."""
    root = ascend_machine.install(tmp_path / "cann")
    ascend_machine.source_environment(root, monkeypatch)
    return root


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with ascend_machine.checked(ascend_machine.pyacl(monkeypatch)) as made:
        yield made


def convert(model: PoseModel, folder: Path, precision: str = "fp16", **options: Any) -> Any:
    folder.mkdir(exist_ok=True)
    result = OmConverter().convert(model, folder, precision, options)
    assert sorted(result.files) == sorted(p.name for p in folder.iterdir())
    assert any("ot run on hardware" in note for note in result.notes)
    return result


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "must_keep_origin_dtype"), ("fp16", "force_fp16")])
def test_the_invocation_and_what_comes_of_it(cann: Path, world: Any, tmp_path: Path, precision: str, mode: str) -> None:
    model = network()
    result = convert(model, tmp_path / "out", precision)
    assert result.tools == {"cann": "8.0.RC3"}
    assert told(cann) == {
        "framework": "5",
        "model": "model.onnx",
        "output": "model",
        "soc_version": "Ascend310",
        "precision_mode": mode,
        "output_type": "FP32",
        "input_format": "NCHW",
        "input_shape": "image:1,3,64,48",
        "log": "error",
    }
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    feeds = pictures(model)
    found, true = session.run(feeds)["heatmaps"], expected(model.graph, feeds)["heatmaps"]
    limit = 1e-5 if precision == "fp32" else 5e-3
    assert np.abs(found - true).max() < limit * np.abs(true).max()
    # Half precision is half precision.
    assert (np.abs(found - true).max() < 1e-5 * np.abs(true).max()) == (precision == "fp32")
    session.close()


def test_the_graph_has_the_opset_that_every_release_reads(tmp_path: Path) -> None:
    convert(network(opset=17), tmp_path / "out", recipe="on")
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 11)]


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_every_family_goes_into_the_oldest_opset(tmp_path: Path, name: str) -> None:
    model = family(name)
    convert(model, tmp_path / "out", recipe="on")
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert [(o.domain, o.version) for o in graph.opset_import] == [("", 11)]
    assert {n.domain for n in graph.graph.node} == {""}
    assert [o.name for o in graph.graph.output] == [o.name for o in model.graph.graph.output]


def test_pixels_in_the_graph_are_no_planes(cann: Path, world: Any, tmp_path: Path) -> None:
    plain = network()
    model = embed(plain, pre=True)
    result = convert(model, tmp_path / "out", "fp32")
    assert told(cann)["input_format"] == "ND"
    assert told(cann)["input_shape"] == f"{model.spec.input.name}:1,64,48,3"
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    pixels = np.random.default_rng(2).integers(0, 256, (1, 64, 48, 3), np.uint8)
    found = session.run({model.spec.input.name: pixels})["heatmaps"]
    true = expected(plain.graph, {"image": to_tensor(pixels, plain.spec.input)})["heatmaps"]
    np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-5)
    session.close()
    for options, words in (({"aipp": "on"}, "'pre' out of --embed"), ({"dynamic_image_size": "64,48;96,64"}, "NHWC")):
        with pytest.raises(ConversionError) as caught:
            convert(model, tmp_path / words[:3], recipe="on", **options)
        assert words in str(caught.value)


def test_batches_to_choose_from(cann: Path, world: Any, tmp_path: Path) -> None:
    model = network()
    result = convert(model, tmp_path / "out", "fp32", dynamic_batch_size="8,1,2,4")
    assert told(cann)["dynamic_batch_size"] == "1,2,4,8"
    assert told(cann)["input_shape"] == "image:-1,3,64,48"
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    feeds = pictures(model, 11)
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()


def test_sizes_to_choose_from(cann: Path, world: Any, tmp_path: Path) -> None:
    model = network(1, ("height", "width"))
    result = convert(model, tmp_path / "out", "fp32", dynamic_image_size="96,128;64,48")
    assert told(cann)["dynamic_image_size"] == "64,48;96,128"
    assert told(cann)["input_shape"] == "image:1,3,-1,-1"
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    feeds = pictures(model, size=(96, 128))
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_the_image_unit_does_colour_and_normalisation(cann: Path, world: Any, tmp_path: Path, color: str) -> None:
    model = network()
    entry = model.spec.input
    model = PoseModel(model.graph, model.spec.replace(input=type(entry)(**{**entry.__dict__, "color": color})))
    result = convert(model, tmp_path / "out", "fp32", aipp="on")
    assert told(cann)["insert_op_conf"] == "aipp.cfg"
    assert result.spec is not None
    raw = result.spec.input
    assert (raw.name, raw.layout, raw.dtype, raw.color, raw.is_raw) == ("image", "NHWC", "uint8", "BGR", True)
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    assert (session.inputs[0].shape, session.inputs[0].dtype) == ((1, 64, 48, 3), "uint8")
    pixels = np.random.default_rng(2).integers(0, 256, (1, 64, 48, 3), np.uint8)
    found = session.run({"image": to_tensor(pixels, raw)})["heatmaps"]
    true = expected(model.graph, {"image": to_tensor(pixels, model.spec.input)})["heatmaps"]
    assert np.abs(found - true).max() < 2e-3 * np.abs(true).max()
    session.close()


@given(
    means=st.tuples(*[st.floats(0, 255, width=32)] * 3),
    deviations=st.tuples(*[st.floats(0.5, 300, width=32)] * 3),
    color=st.sampled_from(["RGB", "BGR"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_image_unit_does_what_numpy_does(world: Any, means: Any, deviations: Any, color: Any, seed: int) -> None:
    entry = InputSpec("x", 4, 6, Crop(), color=color, mean=means, std=deviations)
    parameters = dict(line.strip().split(": ") for line in aipp.configuration(entry).splitlines()[1:-1])
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 4, 6, 3), np.uint8)
    from acl import om

    found, true = om.preprocess(pixels, parameters), to_tensor(pixels, entry)
    # Once rounded to half precision; a pixel near the mean is a difference of two rounded numbers.
    assert np.all(np.abs(found - true) <= 2.0**-10 * np.abs(true) + 1e-4 / min(deviations))
    assert aipp.raw(entry).is_raw


def test_what_the_image_unit_cannot_do_is_refused(tmp_path: Path) -> None:
    model = network()
    with pytest.raises(ConversionError, match="one shape"):
        convert(model, tmp_path / "a", recipe="on", aipp="on", dynamic_batch_size="1,2")
    entry = model.spec.input
    for change_, words in (
        ({"mean": (-1.0, 0.0, 0.0)}, "means of 0 to 255"),
        ({"dtype": "uint8", "mean": (0.0,) * 3, "std": (1.0,) * 3}, "is uint8 NCHW"),
        ({"layout": "NHWC"}, "float32 NHWC"),
    ):
        with pytest.raises(ConversionError, match=words):
            aipp.configuration(type(entry)(**{**entry.__dict__, **change_}))


def test_air_is_compiled_as_it_is(cann: Path, world: Any, tmp_path: Path) -> None:
    model = network()
    air = ascend_machine.om_file(tmp_path / "network.air", model, soc="")
    (tmp_path / "out").mkdir()
    options = {"soc_version": "Ascend310"}
    result = OmConverter().convert_file(air, model.spec, tmp_path / "out", "fp16", options)
    arguments = told(cann)
    assert (arguments["framework"], arguments["model"]) == ("1", "model.air")
    assert "input_shape" not in arguments
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    feeds = pictures(model)
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()
    for precision, chosen in (("int8", {}), ("fp16", {"dynamic_batch_size": "1,2"})):
        with pytest.raises(ConversionError, match="AIR file"):
            OmConverter().convert_file(air, model.spec, tmp_path / "out", precision, chosen)
    with pytest.raises(ConversionError, match="Cannot read"):
        OmConverter().convert_file(tmp_path / "no.air", model.spec, tmp_path / "out", "fp16", {})


def quantised(model: PoseModel) -> PoseModel:
    """Every convolution's input and weights through Q and DQ, weights per channel; the deconvolution left alone."""
    from onnx import helper, numpy_helper

    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    weights = {t.name: numpy_helper.to_array(t) for t in graph.graph.initializer}
    nodes = []
    for node in graph.graph.node:
        if node.op_type == "Conv":
            array = weights[node.input[1]]
            scale = (np.abs(array).max(axis=(1, 2, 3)) / 127).astype(np.float32)
            name = node.input[1]
            steps = np.rint(array / scale[:, None, None, None]).astype(np.int8)
            for suffix, value in (("q", steps), ("s", scale), ("z", np.zeros(len(scale), np.int8))):
                graph.graph.initializer.append(numpy_helper.from_array(value, f"{name}_{suffix}"))
            data = node.input[0]
            for suffix, value in (("s", np.array(0.05, np.float32)), ("z", np.array(0, np.int8))):
                graph.graph.initializer.append(numpy_helper.from_array(value, f"{node.name}_x{suffix}"))
            given = [f"{node.name}_xs", f"{node.name}_xz"]
            weight, steps, back = f"{name}_dq", f"{node.name}_q", f"{node.name}_dq"
            nodes += [
                helper.make_node("DequantizeLinear", [f"{name}_{s}" for s in "qsz"], [weight], weight, axis=0),
                helper.make_node("QuantizeLinear", [data, *given], [steps], steps),
                helper.make_node("DequantizeLinear", [steps, *given], [back], back),
            ]
            node.input[0], node.input[1] = back, weight
        nodes.append(node)
    copied = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del graph.graph.node[:]
    graph.graph.node.extend(copied)
    return PoseModel(graph, model.spec)


def test_int8_hands_the_compiler_the_calibrated_graph(cann: Path, world: Any, tmp_path: Path) -> None:
    model = quantised(network())
    result = convert(model, tmp_path / "out", "int8")
    assert any("AMCT" in note for note in result.notes)
    assert told(cann)["precision_mode"] == "force_fp16"
    session = PyAcl().open(tmp_path / "out" / result.engine, DEVICE, {})
    feeds = pictures(model)
    found, true = session.run(feeds)["heatmaps"], expected(model.graph, feeds)["heatmaps"]
    assert np.abs(found - true).max() < 0.05 * np.abs(true).max()
    session.close()
    convert(model, tmp_path / "recipe", "int8", recipe="on", cann="7.0")
    graph = onnx.load(tmp_path / "recipe" / "model.onnx")
    assert graph.opset_import[0].version >= 13
    kinds = [n.op_type for n in graph.graph.node]
    # Nothing was folded away.
    assert (kinds.count("QuantizeLinear"), kinds.count("DequantizeLinear")) == (3, 6)


def test_int8_is_refused_where_it_cannot_be(cann: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="quantises nothing by itself"):
        convert(network(), tmp_path / "a", "int8")
    with pytest.raises(ConversionError, match="was to be compiled in fp16"):
        convert(quantised(network()), tmp_path / "b", "fp16")
    with pytest.raises(ConversionError, match=r"CANN 6\.0 reads opset 11 only") as caught:
        convert(quantised(network()), tmp_path / "c", "int8", cann="6.0", recipe="on")
    assert "mindir" in str(caught.value)
    with pytest.raises(ConversionError, match=r"CANN 8\.0\.RC3, not 6\.0"):
        convert(network(), tmp_path / "e", cann="6.0")
    with pytest.raises(ConversionError, match="No version of CANN was found"):
        convert(quantised(network()), tmp_path / "d", "int8", recipe="on")


def test_a_release_that_does_not_read_the_opset(cann: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="reads opset 11 to 15, not 17"):
        convert(network(), tmp_path / "a", opset=17)
    convert(network(), tmp_path / "b", opset=15)
    # The compiler says so by itself where its version was not known beforehand.
    change(cann, cann="6.0")
    with pytest.raises(ConversionError, match=r"knows no operator .*Conv.* of opset 15") as caught:
        convert(network(), tmp_path / "c", opset=15)
    assert "opset=N" in str(caught.value)


# ---- The compiler fails.


def test_an_operator_that_it_does_not_know(cann: Path, tmp_path: Path) -> None:
    change(cann, unsupported=["ConvTranspose"])
    with pytest.raises(ConversionError, match="knows no operator ConvTranspose of opset 11") as caught:
        convert(network(), tmp_path / "out")
    # The end of what it wrote is in the message, and nothing else is left.
    assert "| E19010: No parser is registered for Op" in str(caught.value)
    assert not (tmp_path / "out" / ".atc").exists()
    assert not (tmp_path / "out" / "model.om").exists()


def test_fp32_is_fp32_or_an_error(cann: Path, tmp_path: Path) -> None:
    change(cann, half_only=["Conv"])
    convert(network(), tmp_path / "a", "fp16")
    with pytest.raises(ConversionError, match="Conv2D in half precision only; fp32 is not possible") as caught:
        convert(network(), tmp_path / "b", "fp32")
    assert "--precision fp16" in str(caught.value)


def test_a_soc_that_it_does_not_know(cann: Path, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="refuses 'Ascend310P9' for --soc_version") as caught:
        convert(network(), tmp_path / "out", soc_version="Ascend310P9")
    assert "npu-smi" in str(caught.value)


def test_a_library_that_is_missing(cann: Path, tmp_path: Path) -> None:
    change(cann, library="libgraph.so")
    with pytest.raises(ConversionError, match=r"the library libgraph\.so is not found") as caught:
        convert(network(), tmp_path / "out")
    assert f"source {cann}/set_env.sh" in str(caught.value)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(toolchain, "_ROOTS", ())
    probe = OmConverter().probe()
    assert not probe.available
    assert "recipe=on" in probe.remedy
    with pytest.raises(ConversionError, match="is not here"):
        convert(network(), tmp_path / "out")


def test_the_environment_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ascend_machine.install(tmp_path / "cann")
    monkeypatch.setenv("PATH", f"{root / 'bin'}:/usr/bin:/bin")
    for variable in ("ASCEND_OPP_PATH", "ASCEND_HOME_PATH", "LD_LIBRARY_PATH"):
        monkeypatch.delenv(variable, raising=False)
    probe = OmConverter().probe()
    assert not probe.available
    assert probe.remedy == f"Set it: source {root}/set_env.sh"
    with pytest.raises(ConversionError, match="there is no ASCEND_OPP_PATH"):
        convert(network(), tmp_path / "out")


def test_the_toolchain_is_found_by_path_and_by_environment(cann: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find()
    assert found is not None
    assert (found.program, found.version, found.lacking) == (str(cann / "bin" / "atc"), "8.0.RC3", ())
    for file in cann.rglob("*.info"):
        file.unlink()
    # 'latest' is a folder of links into the folder of a version.
    versioned = cann.parent / "toolkit" / "7.0.1.alpha002"
    (versioned / "compiler").mkdir(parents=True)
    (cann / "compiler").symlink_to(versioned / "compiler")
    again = find()
    assert again is not None
    assert again.version == "7.0.1.alpha002"
    assert release("8.0.RC3") == (8, 0)
    assert release("") is None


def test_the_soc_of_the_card_here_is_taken(cann: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert soc_here() == ""
    ascend_machine.cards(tmp_path / "root", monkeypatch, 2, "310P3")
    assert soc_here() == "Ascend310P3"
    convert(network(), tmp_path / "a")
    assert told(cann)["soc_version"] == "Ascend310P3"
    convert(network(), tmp_path / "b", soc_version="Ascend310B4")
    assert told(cann)["soc_version"] == "Ascend310B4"


def test_a_recipe_is_all_that_a_machine_with_cann_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    result = convert(model, tmp_path / "out", "fp16", recipe="on", aipp="on", soc_version="Ascend310B4", cann="7.0")
    assert sorted(result.files) == ["aipp.cfg", "atc.json", "atc.sh", "model.onnx"]
    assert any("Not compiled yet" in note for note in result.notes)
    # Carry it there, and run what is written there.
    root = ascend_machine.install(tmp_path / "cann", "7.0")
    ascend_machine.source_environment(root, monkeypatch)
    monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
    subprocess.run(["sh", str(tmp_path / "out" / "atc.sh")], check=True, capture_output=True)
    world = ascend_machine.pyacl(monkeypatch, soc="Ascend310B4")
    session = PyAcl().open(tmp_path / "out" / result.engine, Device("ascend310b"), {})
    assert session.inputs[0].dtype == "uint8"
    session.close()
    assert world.violations == []
    line = (tmp_path / "out" / "atc.sh").read_text().replace("\\\n", " ").splitlines()[-1]
    assert shlex.split(line)[2:] == json.loads((tmp_path / "out" / "atc.json").read_text())["arguments"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wings": 2}, "no option wings"),
        ({"soc_version": "Ascend910B"}, "family of Ascend 310"),
        ({"soc_version": "310"}, "soc_version"),
        ({"soc_version": "Ascend310 --mode=1"}, "soc_version"),
        ({"opset": 9}, "opset"),
        ({"opset": "x"}, "opset"),
        ({"dynamic_batch_size": "1"}, "2 to 100 profiles"),
        ({"dynamic_batch_size": "0,1"}, "2 to 100 profiles"),
        ({"dynamic_batch_size": "1,4096"}, "up to 2048"),
        ({"dynamic_batch_size": ",".join(map(str, range(1, 103)))}, "2 to 100 profiles"),
        ({"dynamic_image_size": "64,48,32;1,2"}, "dynamic_image_size"),
        ({"dynamic_batch_size": "1,2", "dynamic_image_size": "64,48;96,64"}, "not of both"),
        ({"aipp": "yes"}, "'on' or 'off'"),
        ({"recipe": 1}, "'on' or 'off'"),
        ({"cann": "new"}, "no version of CANN"),
    ],
    ids=str,
)
def test_options_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        checked(options)


def test_options_in_the_forms_of_python() -> None:
    settings = checked({"dynamic_batch_size": [4, 1], "aipp": True, "opset": 13})
    assert (settings.batches, settings.aipp, settings.opset) == ((1, 4), True, 13)
    assert checked({"dynamic_image_size": [(64, 48), (96, 64)]}).sizes == ((64, 48), (96, 64))
    assert checked({}).soc == ""


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (("batch", ("height", "width")), {}, "no fixed height and width"),
        ((2, (64, 48)), {"dynamic_batch_size": "1,2"}, "fixed batch of 2"),
        ((1, (64, 48)), {"dynamic_image_size": "64,48;96,64"}, "has a fixed height and width"),
    ],
)
def test_shapes_that_do_not_fit_the_profiles(tmp_path: Path, model: Any, options: Any, words: str) -> None:
    with pytest.raises(ConversionError, match=words):
        convert(network(*model), tmp_path / "out", recipe="on", **options)


def test_graphs_that_it_cannot_be_told(tmp_path: Path) -> None:
    model = network()
    model.graph.graph.node[1].domain = "com.example"
    with pytest.raises(ConversionError, match=r"operators of com\.example"):
        convert(model, tmp_path / "a", recipe="on")
    named = network()
    named.graph.graph.input[0].name = named.graph.graph.node[0].input[0] = "image:0"
    with pytest.raises(ConversionError, match="'image:0'"):
        convert(named, tmp_path / "b", recipe="on")
    with pytest.raises(ConversionError, match="not in int4"):
        convert(network(), tmp_path / "c", "int4", recipe="on")


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (None, "", "took too long"),
        (-9, "", "was killed"),
        (-11, "", "signal 11"),
        (255, "", "exit code 255"),
        (255, "ModuleNotFoundError: No module named 'decorator'", "lacks the module decorator"),
        (255, "E40021: Failed to compile Op [Conv_0]. (oppath: [Compile ...])", "E40021: Failed to compile Op"),
        (255, "EZ3003: No supported Ops kernel and engine are found for [x], optype [Foo].", "no kernel for Foo"),
        (0, "", "exit code 0"),
    ],
)
def test_logs_become_a_cause(code: int | None, said: str, words: str) -> None:
    error = failure(code, said, "fp16", "atc (CANN 8.0)", "source x")
    assert words in str(error)
    assert str(error).startswith("atc (CANN 8.0) does not compile the graph: ")


@given(
    code=st.one_of(st.none(), st.integers(-64, 255)),
    said=st.lists(
        st.one_of(
            st.text(max_size=80),
            st.sampled_from(
                [
                    "E19010: No parser is registered for Op [", "optype [ai.onnx::11::", "]].", "Optype [Conv2D] of",
                    " is unsupported", "Value [", "] for parameter [--soc_version] is invalid.", "\n", "E10001: ",
                    "libgraph.so: cannot open shared object file", "No module named 'x'", "DT_FLOAT",
                ]
            ),
        ),
        max_size=30,
    ).map("".join),
    precision=st.sampled_from(["fp32", "fp16", "int8"]),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_any_log_becomes_a_message(code: int | None, said: str, precision: str) -> None:
    error = failure(code, said, precision, "atc (CANN 8.0)", "source x")
    assert str(error).startswith("atc (CANN 8.0) does not compile the graph: ")
    assert len(str(error)) < 4000


def test_a_log_of_any_length_stays_brief() -> None:
    error = failure(255, "E19999: " + "x" * 100_000 + "\n" + "line\n" * 10_000, "fp16", "atc", "")
    assert len(str(error)) < 2000


def test_an_interrupt_ends_the_compiler_and_what_it_has_started(cann: Path, tmp_path: Path) -> None:
    change(cann, hang=60)
    source = network().save(tmp_path / "network.onnx")
    code = (
        "import sys; from pathlib import Path; from edgepose.model import PoseModel;"
        " from edgepose_converters.om import OmConverter;"
        " OmConverter().convert(PoseModel.from_onnx(sys.argv[1]), Path(sys.argv[2]), 'fp16', {})"
    )
    (tmp_path / "out").mkdir()
    parent = subprocess.Popen([sys.executable, "-c", code, str(source), str(tmp_path / "out")], stderr=subprocess.PIPE)
    marks = cann / "processes"
    end = time.monotonic() + 30
    while not marks.exists() and time.monotonic() < end and parent.poll() is None:
        time.sleep(0.05)
    time.sleep(0.1)
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=20)
    for pid in map(int, marks.read_text().split()):
        assert gone(pid)


def gone(pid: int, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_errors_are_edgeposes_own(cann: Path, tmp_path: Path) -> None:
    (cann / "bin" / "atc").write_text("#!/nonexistent/interpreter\n")
    with pytest.raises(EdgePoseError):
        convert(network(), tmp_path / "out")
