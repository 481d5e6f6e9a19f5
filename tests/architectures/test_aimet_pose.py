"""AIMET's PoseModel: names, sizes, numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic_weights import Array, fill, multiplications, parameters, run

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.errors import ArchitectureError
from edgepose.keypoints import OPENPOSE_18
from edgepose.spec import FixedHeight


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    return fill(examine({}, "aimet_pose").expected)


def test_the_published_names_fit_completely(reference: Path) -> None:
    schema = json.loads((reference / "fixtures/gluoncv_aimet/aimet_pose_schema.json").read_text())
    fit = examine(fill(schema))
    assert fit.architecture == "aimet_pose"
    assert fit.mismatch.count == 0
    assert {n: list(s) for n, s in fit.expected.items()} == schema


def test_parameters_are_as_many_as_published(arrays: dict[str, Array]) -> None:
    assert len(arrays) == 98
    assert parameters(a.shape for a in arrays.values()) == 3_341_874


@pytest.mark.parametrize(("size", "work"), [((128, 128), 1.26), ((384, 496), 14.6), ((368, 656), 18.5)])
def test_multiplications_are_as_many_as_published(arrays: dict[str, Array], size: tuple[int, int], work: float) -> None:
    graph = build_network(arrays, options=BuildOptions(input_size=size, batch=1)).graph
    assert multiplications(graph) / 1e9 == pytest.approx(work, rel=0.005)


def test_outputs_are_those_recorded_from_torch(arrays: dict[str, Array]) -> None:
    """Recorded from the rebuild that the conformance test below compares with (torch 2.13.0)."""
    image = np.random.RandomState(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    got = run(build_network(arrays).graph, image)
    recorded = {
        "pafs": [160.869, 992.798, -224.403, 1807.901, 1197.123, 1145.698, 99.196, 1638.612],
        "heatmaps": [297.68, 1005.438, 244.815, 721.025, 944.666, 39.487, -350.961, -1183.003],
    }
    assert {n: v.shape for n, v in got.items()} == {"heatmaps": (1, 19, 8, 12), "pafs": (1, 38, 8, 12)}
    for name, wanted in recorded.items():
        maps = got[name]
        found = [maps.mean(), maps.std(), *maps.ravel()[:: maps.size // 6][:6]]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(maps).max())


def test_contract_of_dynamic_size(arrays: dict[str, Array]) -> None:
    spec = examine(arrays).spec
    assert (spec.input.height, spec.input.width, spec.input.color) == (None, None, "RGB")
    # pixel / 256 - 0.5
    assert (spec.input.mean, spec.input.std) == ((128,) * 3, (256,) * 3)
    assert spec.input.fit == FixedHeight(368, stride=8, anchor="top-left", pad_value=128, interpolation="cubic")
    assert spec.keypoints == OPENPOSE_18
    assert spec.decoder.type == "openpose"
    assert spec.decoder.options == {"variant": "aimet"}


def test_fixed_size(arrays: dict[str, Array]) -> None:
    network = build_network(arrays, options=BuildOptions(input_size=(384, 496), batch=1, opset=11))
    assert network.spec.input.fit == FixedHeight(384, 8, anchor="top-left", pad_value=128, interpolation="cubic")
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in network.graph.graph.output}
    assert shapes == {"heatmaps": [1, 19, 48, 62], "pafs": [1, 38, 48, 62]}
    with pytest.raises(ArchitectureError, match="multiples of 8"):
        build_network(arrays, options=BuildOptions(input_size=(368, 490)))


def test_arrays_that_do_not_fit_are_all_named(arrays: dict[str, Array]) -> None:
    damaged = {f"module.{n}": a for n, a in arrays.items() if n != "stage2_2.8.bias"}
    damaged["module.basemodel.2.0.weight"] = np.zeros((16, 32, 1, 3), np.float32)
    fit = examine(damaged)
    assert fit.architecture == "aimet_pose"
    assert fit.mismatch.missing == {"module.stage2_2.8.bias": (19,)}
    assert fit.mismatch.misshaped == {"module.basemodel.2.0.weight": ((16, 32, 3, 1), (16, 32, 1, 3))}


@pytest.mark.conformance
def test_outputs_are_those_of_torch() -> None:
    pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    import torch_rebuild

    model = torch_rebuild.aimet_pose()
    arrays = fill(torch_rebuild.shapes(model))
    image = np.random.RandomState(1).standard_normal((1, 3, 128, 192)).astype(np.float32)
    *_, pafs, heatmaps = torch_rebuild.outputs(model, arrays, image)
    got = run(build_network(arrays).graph, image)
    for name, wanted in (("pafs", pafs), ("heatmaps", heatmaps)):
        assert np.abs(got[name] - wanted).max() <= 1e-5 * np.abs(wanted).max()
