"""What is written as MindIR, run by MindSpore and MindSpore Lite themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindir_samples as samples
import numpy as np
import onnx
import pytest
import target_networks
from edgepose_converters.mindir import fixed_graph
from edgepose_converters.mindir.file import mindir_pieces
from edgepose_converters.mindir.operators import lower

from edgepose.devices import Device
from edgepose.graph.embed import embed
from edgepose.graph.feeds import Trial, random_feeds
from edgepose.graph.half import store_half
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.plugins import converter, runtime

pytestmark = pytest.mark.conformance

#: Another order of sums, as a part of the largest output, through some fifty layers; it grows with the root of their
#: number.
ORDER_OF_SUMS = 2e-5
DEEP = {"alpha_pose_resnet101_v1b_coco": 2**0.5}


def available(name: str) -> Any:
    found = runtime(name)
    if not found.probe().available:
        pytest.skip(f"{found.probe().looked_for} needed: {found.probe().remedy}")
    return found


@pytest.fixture(params=["mindspore-lite", "mindspore"])
def engine(request: pytest.FixtureRequest) -> Any:
    return available(request.param)


def difference(engine: Any, file: Path, graph: onnx.ModelProto) -> float:
    """Largest difference from ONNX Runtime, as a share of the largest output."""
    feeds = random_feeds(graph, Trial(4, 1, (64, 64)))
    wanted = Runner(graph).run(feeds)
    session = engine.open(file, Device("cpu"), {})
    try:
        assert [o.name for o in session.outputs] == list(wanted)
        given = session.run(feeds)
        again = session.run(feeds)
    finally:
        session.close()
    worst = 0.0
    for name, expected in wanted.items():
        assert given[name].shape == expected.shape
        # MindSpore Lite has whole numbers of 32 bits only.
        narrow = engine.name == "mindspore-lite" and expected.dtype == np.int64
        assert given[name].dtype == (np.int32 if narrow else expected.dtype)
        np.testing.assert_array_equal(given[name], again[name])
        apart = np.abs(given[name].astype(np.float64) - expected)
        worst = max(worst, float(apart.max() / max(1.0, np.abs(expected).max())))
    return worst


def write(graph: onnx.ModelProto, folder: Path, half: bool = False) -> Path:
    file = folder / "model.mindir"
    file.write_bytes(b"".join(mindir_pieces(lower(graph, keep_stored=half))))
    return file


@pytest.mark.parametrize("name", samples.OPERATORS)
def test_operators(engine: Any, name: str, tmp_path: Path) -> None:
    graph = samples.OPERATORS[name]()
    assert difference(engine, write(graph, tmp_path), graph) < 1e-5


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", [*target_networks.QUICK, *target_networks.SLOW])
def test_families(engine: Any, name: str, precision: str, tmp_path: Path) -> None:
    graph = fixed_graph(target_networks.family(name).graph)
    half = precision == "fp16"
    graph = store_half(graph) if half else graph
    assert difference(engine, write(graph, tmp_path, half), graph) < ORDER_OF_SUMS * DEEP.get(name, 1)


@pytest.mark.parametrize("parts", [{"pre": True}, {"pre": True, "post": True}], ids=str)
def test_processing_inside_the_graph(engine: Any, parts: dict[str, bool], tmp_path: Path) -> None:
    model = embed(target_networks.family("mobile_pose_mobilenetv3_small"), **parts)
    graph = fixed_graph(model.graph)
    assert difference(engine, write(graph, tmp_path), graph) < 1e-5


def test_names_of_all_kinds(engine: Any, tmp_path: Path) -> None:
    nodes = [
        samples.node("Conv", "serving:0 layer/w:0", "mid:1"),
        samples.node("Relu", "mid:1", "out:0"),
        samples.node("Sigmoid", "mid:1", "scope/out:1"),
    ]
    arrays = {"layer/w:0": samples.random(4, 3, 1, 1)}
    graph = samples.model(nodes, {"serving:0": (1, 3, 8, 8)}, ["scope/out:1", "out:0"], arrays)
    assert difference(engine, write(graph, tmp_path), graph) < 1e-5


@pytest.mark.parametrize(
    ("name", "options"), [("mindspore", {"mindir_version": 3}), ("mindspore-lite", {"via": "mslite"})]
)
@pytest.mark.parametrize("network", ["simple_pose_resnet18_v1b", "mobile_pose_mobilenetv3_small", "rtmpose_t"])
def test_through_the_vendors_tools(network: str, name: str, options: dict[str, Any], tmp_path: Path) -> None:
    engine = available(name)
    model = target_networks.family(network)
    made = converter("mindir").convert(model, tmp_path, "fp32", options)
    assert [p.name for p in tmp_path.iterdir()] == list(made.files) == ["model.mindir"]
    assert any(note.startswith(f"Executed by {name}") for note in made.notes)
    assert difference(engine, tmp_path / made.engine, fixed_graph(model.graph)) < ORDER_OF_SUMS


def test_lite_reads_what_its_parser_does_not_know(tmp_path: Path) -> None:
    engine = available("mindspore-lite")
    nodes = [
        samples.node("Conv", "image w", "c"),
        samples.node("HardSwish", "c", "h"),
        samples.node("MaxPool", "h", "y", kernel_shape=[2, 2], strides=[2, 2], dilations=[1, 1]),
    ]
    graph = samples.model(nodes, {"image": (1, 3, 64, 48)}, ["y"], {"w": samples.random(4, 3, 1, 1)})
    model = PoseModel(graph, target_networks.family("rtmpose_t").spec)
    converter("mindir").convert(model, tmp_path, "fp32", {"via": "mslite"})
    assert difference(engine, tmp_path / "model.mindir", graph) < 1e-5


def test_the_same_bytes_twice_through_lite(tmp_path: Path) -> None:
    available("mindspore-lite")
    model = target_networks.family("mobile_pose_mobilenetv3_small")
    made = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        converter("mindir").convert(model, folder, "fp32", {"via": "mslite"})
        made.append((folder / "model.mindir").read_bytes())
    assert made[0] == made[1]
