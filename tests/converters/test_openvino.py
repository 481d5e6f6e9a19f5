"""OpenVINO IR."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from target_networks import QUICK, SLOW, distance, family, moved, picture, reference, small

from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.half import round_weights
from edgepose.model import PoseModel

pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install "edgepose[openvino]"')

from edgepose_converters.openvino import OpenVinoConverter
from edgepose_runtimes.openvino import OpenVino

CPU = Device("cpu")
#: Precisions of a graph that nobody has calibrated.
FLOATS = ("fp32", "fp16")


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_families(tmp_path: Path, name: str, precision: str) -> None:
    model = family(name)
    result = OpenVinoConverter().convert(model, tmp_path, precision, {})
    session = OpenVino().open(tmp_path / result.engine, CPU, {})
    assert {i.name for i in session.inputs} == {model.spec.input.name}
    assert {o.name for o in session.outputs} == {o.name for o in model.graph.graph.output}
    feeds = picture(model, batch=2)
    graph = model.graph if precision == "fp32" else round_weights(model.graph)
    # Rounding of the weights aside, both precisions compute in float32.
    assert distance(reference(graph, feeds), session.run(feeds)) < 2e-5
    assert moved(model, session) < (2e-5 if precision == "fp32" else 5e-3)


def test_half_is_half_the_size(tmp_path: Path) -> None:
    sizes = {}
    for precision in FLOATS:
        result = OpenVinoConverter().convert(family(QUICK[0]), tmp_path, precision, {})
        assert sorted(result.files) == sorted(p.name for p in tmp_path.iterdir())
        sizes[precision] = (tmp_path / "model.bin").stat().st_size
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


def test_a_slice_in_front_of_a_gathering_is_not_lost(tmp_path: Path) -> None:
    build = GraphBuilder("sliced")
    x = build.input("image", ("batch", 3, 8, 9))
    indices = np.tile(np.array([7, 0, 2, 2, 5], np.int64), (1, 3, 4, 1))
    bounds = [build.constant(np.array([v], np.int64)) for v in (0, 4, 2)]
    cut = build.op("Slice", build.op("Relu", x), *bounds)
    batch = build.op("Slice", build.op("Shape", x), *[build.constant(np.array([v], np.int64)) for v in (0, 1, 0)])
    wide = build.op("Concat", batch, build.constant(np.array([3, 4, 5], np.int64)), axis=0)
    gathered = build.op("GatherElements", cut, build.op("Expand", build.constant(indices), wide), axis=3)
    build.output(gathered, "y", ("batch", 3, 4, 5))
    model = PoseModel(build.build(), small().spec)
    OpenVinoConverter().convert(model, tmp_path, "fp32", {})
    session = OpenVino().open(tmp_path / "model.xml", CPU, {})
    feeds = {"image": np.random.default_rng(0).standard_normal((2, 3, 8, 9)).astype(np.float32)}
    assert distance(reference(model.graph, feeds), session.run(feeds)) == 0


@pytest.mark.parametrize(
    ("batch", "size", "expected"),
    [
        ("batch", (64, 48), (None, 3, 64, 48)),
        (4, (64, 48), (4, 3, 64, 48)),
        ("batch", ("height", "width"), (None, 3, None, None)),
        (1, ("height", 64), (1, 3, None, 64)),
    ],
)
def test_dynamic_lengths_stay_dynamic(
    tmp_path: Path, batch: int | str, size: tuple[int | str, int | str], expected: tuple[int | None, ...]
) -> None:
    model = small(batch, size)
    for precision in FLOATS:
        OpenVinoConverter().convert(model, tmp_path, precision, {})
        session = OpenVino().open(tmp_path / "model.xml", CPU, {})
        assert session.inputs[0].shape == expected
        assert session.inputs[0].dtype == "float32"
        assert moved(model, session, batch=batch if isinstance(batch, int) else 3) < 5e-3


@pytest.mark.parametrize("precision", FLOATS)
def test_converting_twice_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    model = family("rtmpose_t")
    source = model.save(tmp_path / "model.onnx")
    # The first in a process of its own: what was converted before must not show.
    code = (
        "import sys, pathlib; from edgepose.model import PoseModel;"
        " from edgepose_converters.openvino import OpenVinoConverter as C;"
        " C().convert(PoseModel.from_onnx(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], {})"
    )
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    subprocess.run([sys.executable, "-c", code, str(source), str(folders[0]), precision], check=True)
    for folder in folders[1:]:
        OpenVinoConverter().convert(model, folder, precision, {})
    for name in ("model.xml", "model.bin"):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1, name


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised"):
        OpenVinoConverter().convert(small(), tmp_path, "int8", {})
    with pytest.raises(ConversionError, match="no option wings"):
        OpenVinoConverter().convert(small(), tmp_path, "fp32", {"wings": 2})


def test_an_operator_that_openvino_lacks_is_named(tmp_path: Path) -> None:
    model = small()
    model.graph.graph.node[-1].op_type = "Frobnicate"
    with pytest.raises(ConversionError, match="Frobnicate"):
        OpenVinoConverter().convert(model, tmp_path, "fp32", {})
