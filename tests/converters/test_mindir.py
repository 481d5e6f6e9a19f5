"""The writer of MindIR, read back by an independent reader and run as ONNX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mindir_samples as samples
import numpy as np
import onnx
import pytest
from edgepose_converters.mindir import fixed_graph
from edgepose_converters.mindir.file import mindir_pieces
from edgepose_converters.mindir.operators import OPERATORS, lower
from mindir_reader import MindIr
from onnx import helper

from edgepose.architectures import BuildOptions, build_network, families
from edgepose.errors import ConversionError
from edgepose.graph.feeds import Trial, random_feeds
from edgepose.graph.half import store_half
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.plugins import converter


def written(graph: onnx.ModelProto, half: bool = False) -> bytes:
    return b"".join(mindir_pieces(lower(graph, keep_stored=half)))


def outputs(graph: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    return Runner(graph).run(feeds)


def compare(graph: onnx.ModelProto, file: MindIr, tolerance: float = 1e-5) -> None:
    feeds = random_feeds(graph, Trial(3, 1, (64, 64)))
    wanted, given = outputs(graph, feeds), outputs(file.as_onnx(), feeds)
    assert list(given) == list(wanted) == json.loads(file.user_info["edgepose.outputs"])
    for name, expected in wanted.items():
        assert given[name].dtype == expected.dtype
        np.testing.assert_allclose(given[name], expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", samples.OPERATORS)
def test_operators_keep_what_they_compute(name: str) -> None:
    graph = samples.OPERATORS[name]()
    compare(graph, MindIr(written(graph)))


def test_every_operator_of_the_table_is_tested() -> None:
    tested = {node.op_type for make in samples.OPERATORS.values() for node in make().graph.node}
    assert set(OPERATORS) <= tested


#: One architecture of each kind, at a size that keeps the test quick.
NETWORKS = {
    "simple_pose_resnet18_v1b": (64, 64),
    "mobile_pose_mobilenetv2_1.0": (64, 64),
    "mobile_pose_mobilenetv3_small": (64, 64),
    "mindspore_simple_pose_resnet50": (64, 64),
    "pose_resnet18": (96, 64),
    "rtmpose_t": (256, 192),
    "lightweight_openpose": (64, 96),
    "aimet_pose": (64, 64),
}


def network(name: str, size: tuple[int, int]) -> onnx.ModelProto:
    family = next(f for f in families() if name in f.architectures)
    shapes = family.build(name, {}, BuildOptions(books_only=True)).weights.expected
    arrays = samples.weights(shapes)
    return build_network(arrays, name, BuildOptions(input_size=size)).graph


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_what_they_compute(name: str) -> None:
    graph = fixed_graph(network(name, NETWORKS[name]))
    file = MindIr(written(graph))
    compare(graph, file)
    # Primitives that one of MindSpore's runtimes refuses or computes otherwise.
    assert not {"AvgPool", "ResizeBilinear", "ResizeBilinearV2", "Split", "Argmax"} & set(file.operators())


def test_half_precision_keeps_float16_weights_behind_casts() -> None:
    graph = store_half(fixed_graph(network("simple_pose_resnet18_v1b", (64, 64))))
    file = MindIr(data := written(graph, half=True))
    compare(graph, file)
    heavy = [a for a in file.parameters.values() if a.ndim == 4]
    assert heavy
    assert {a.dtype for a in heavy} == {np.dtype(np.float16)}
    assert file.operators().count("Cast") == len(heavy)
    assert len(data) < 0.51 * len(written(graph))


def test_weights_that_are_stored_as_float16_are_widened_for_float32() -> None:
    graph = store_half(fixed_graph(network("simple_pose_resnet18_v1b", (64, 64))))
    file = MindIr(written(graph))
    assert {a.dtype for a in file.parameters.values()} == {np.dtype(np.float32)}
    assert "Cast" not in file.operators()
    compare(graph, file)


def test_bytes_are_the_same_every_time() -> None:
    graph = fixed_graph(network("mobile_pose_mobilenetv3_small", (64, 64)))
    again = onnx.ModelProto.FromString(graph.SerializeToString())
    assert written(graph) == written(again)


def test_batch_and_input_are_what_the_graph_has() -> None:
    graph = network("mobile_pose_mobilenetv3_small", (64, 96))
    assert MindIr(written(fixed_graph(graph))).inputs == [("input", (1, 3, 64, 96), np.float32)]
    graph = fixed_graph(optimise(graph, batch=3))
    file = MindIr(written(graph))
    assert file.inputs == [("input", (3, 3, 64, 96), np.float32)]
    compare(graph, file)


def test_a_dynamic_size_is_refused_with_the_option_that_mends_it() -> None:
    with pytest.raises(ConversionError, match="no fixed height and width") as caught:
        fixed_graph(network("lightweight_openpose", None))  # type: ignore[arg-type]
    assert "--input-size" in str(caught.value)


def test_unsupported_operators_are_all_named_with_their_nodes() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["x"], ["r"], name="fine"),
        helper.make_node("CumSum", ["r", "axis"], ["b"], name="second"),
        helper.make_node("Tanh", ["b"], ["c"], name="behind"),
    ]
    graph = samples.model(nodes, {"x": (1, 2, 4, 4)}, ["a", "c"], {"axis": np.array(1)})
    with pytest.raises(ConversionError) as caught:
        lower(graph)
    message = str(caught.value)
    assert "'first' (Det)" in message
    assert "'second' (CumSum)" in message
    assert "behind" not in message
    assert "fine" not in message


@pytest.mark.parametrize("name", samples.REFUSED)
def test_forms_that_would_be_wrong_are_refused(name: str) -> None:
    graph, reason = samples.REFUSED[name]()
    with pytest.raises(ConversionError, match=reason):
        lower(graph)


@pytest.fixture
def no_mindspore(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EDGEPOSE_MINDSPORE_PYTHON", "EDGEPOSE_MSLITE_PYTHON"):
        monkeypatch.setenv(variable, "/nonexistent/python")
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.fixture
def pose_model() -> PoseModel:
    name = "mobile_pose_mobilenetv3_small"
    family = next(f for f in families() if name in f.architectures)
    shapes = family.build(name, {}, BuildOptions(books_only=True)).weights.expected
    made = build_network(samples.weights(shapes), name, BuildOptions(input_size=(64, 64)))
    return PoseModel(made.graph, made.spec)


def test_without_mindspore_a_file_is_written_and_said_not_to_be_executed(
    no_mindspore: None, pose_model: PoseModel, tmp_path: Path
) -> None:
    made = converter("mindir").convert(pose_model, tmp_path, "fp32", {})
    assert made.files == ("model.mindir",)
    assert [p.name for p in tmp_path.iterdir()] == ["model.mindir"]
    assert made.notes[0] == "Written for a batch of 1."
    assert made.notes[-1].startswith("Not executed")
    assert MindIr((tmp_path / "model.mindir").read_bytes()).inputs[0][1] == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("precision", "options", "message"),
    [
        ("bf16", {}, "fp32, fp16"),
        ("fp32", {"viaa": "mslite"}, "no option viaa"),
        ("fp32", {"via": "atc"}, "mslite"),
        ("fp32", {"mindir_version": 2}, "1 and 3"),
        ("fp32", {"via": "mslite", "mindir_version": 3}, "choose one"),
        ("fp16", {"via": "mslite"}, "ignores half precision"),
        ("fp32", {"via": "mslite"}, "converter is not here"),
        ("fp32", {"mindir_version": 3}, "written by MindSpore, which is not here"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_left(
    no_mindspore: None, pose_model: PoseModel, tmp_path: Path, precision: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConversionError, match=message):
        converter("mindir").convert(pose_model, tmp_path, precision, options)
    assert not list(tmp_path.iterdir())
