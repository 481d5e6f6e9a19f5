"""HRNet: names, sizes and numbers of the three projects that train it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from synthetic_weights import Array, fill, multiplications, parameters, run, synthetic

from edgepose.architectures import BuildOptions, build_network, examine, identify
from edgepose.errors import ArchitectureError
from edgepose.keypoints import COCO_17, COCO_WHOLEBODY_133

SMALL = BuildOptions(input_size=(64, 96), batch=1)


def expected_shapes(architecture: str) -> dict[str, tuple[int, ...]]:
    """What the architecture asks for when it is given nothing."""
    return dict(examine({}, architecture).expected)


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    return fill(expected_shapes("pose_hrnet_w32"))


@pytest.fixture(scope="module")
def image() -> Array:
    return np.random.RandomState(0).standard_normal((1, 3, 64, 96)).astype(np.float32)


@pytest.fixture(scope="module")
def heatmaps(arrays: dict[str, Array], image: Array) -> Array:
    return run(build_network(arrays, options=SMALL).graph, image)["heatmaps"]


def in_mindspore(name: str) -> str:
    """The name mindpose gives to an array of the authors' HRNet."""
    name = name.replace("final_layer.", "head.head.").replace(".downsample.", ".down_sample.")
    if not name.startswith("head."):
        name = f"backbone.{name}"
    is_norm = re.search(
        r"(?:bn\d|transition\d\.\d(?:\.0)?\.1|fuse_layers\.\d\.\d(?:\.\d)?\.1|down_sample\.1)\.\w+$", name
    )
    if is_norm:
        stem, _, leaf = name.rpartition(".")
        leaves = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        name = f"{stem}.{leaves[leaf]}"
    return name


def in_mmpose(name: str, head: str) -> str:
    return f"{head}.{name}" if name.startswith("final_layer.") else f"backbone.{name}"


def test_the_names_of_the_original_repository_fit_completely(reference: Path) -> None:
    listed = json.loads((reference / "fixtures/simplepose_lwop/pose_hrnet_w32_pytorch_state_dict.json").read_text())
    fit = examine(fill(listed))
    assert fit.architecture == "pose_hrnet_w32"
    assert fit.mismatch.count == 0
    # Each of the 292 batch normalisations also has a count of training steps, which no network computes with.
    assert len(fit.expected) == len(listed) - 292


@pytest.mark.parametrize(("architecture", "count"), [("pose_hrnet_w32", 28_536_113), ("pose_hrnet_w48", 63_595_745)])
def test_parameters_are_as_many_as_published(architecture: str, count: int) -> None:
    shapes = expected_shapes(architecture)
    assert parameters(s for n, s in shapes.items() if "running" not in n) == count


def test_multiplications_are_as_many_as_published(arrays: dict[str, Array]) -> None:
    graph = build_network(arrays, options=BuildOptions(batch=1)).graph
    assert multiplications(graph) / 1e9 == pytest.approx(7.65, abs=0.005)


def test_outputs_are_those_recorded_from_torch(heatmaps: Array) -> None:
    """Recorded from the rebuild that the conformance test below compares with (torch 2.13.0)."""
    assert heatmaps.shape == (1, 17, 16, 24)
    recorded = [-4.8115, 27.5958, 7.6794, 15.921, 13.1044, 23.2692, -29.051, 40.0047]
    found = [heatmaps.mean(), heatmaps.std(), *heatmaps.ravel()[:: heatmaps.size // 6][:6]]
    np.testing.assert_allclose(found, recorded, rtol=0, atol=1e-4 * np.abs(heatmaps).max())


@pytest.mark.parametrize(
    ("rename", "architecture"),
    [
        (lambda n: f"module.{n}", "pose_hrnet_w32"),
        (lambda n: in_mmpose(n, "head"), "mmpose_hrnet_w32"),
        (lambda n: in_mmpose(n, "keypoint_head"), "mmpose_hrnet_w32"),
        (in_mindspore, "mindpose_hrnet_w32"),
        (lambda n: f"network.{in_mindspore(n)}", "mindpose_hrnet_w32"),
    ],
)
def test_every_naming_gives_the_same_network(rename, architecture: str, arrays, heatmaps: Array, image: Array) -> None:
    renamed = {rename(name): array for name, array in arrays.items()}
    found = identify(renamed)
    assert found is not None
    assert found[1] == architecture
    assert np.array_equal(run(build_network(renamed, options=SMALL).graph, image)["heatmaps"], heatmaps)


def test_contracts() -> None:
    specs = {name: examine({}, f"{name}_hrnet_w32").spec for name in ("pose", "mmpose", "mindpose")}
    for spec in specs.values():
        assert (spec.input.height, spec.input.width, spec.input.color) == (256, 192, "RGB")
        assert spec.is_top_down
        assert spec.keypoints == COCO_17
        assert spec.decoder.type == "heatmap"
    assert specs["pose"].input.std == (58.395, 57.12, 57.375)
    assert specs["mindpose"].input.std[2] == pytest.approx(0.255 * 255)
    assert specs["pose"].decoder.options == {}
    assert specs["mmpose"].decoder.options == {"quarter_rule": "mmpose"}


def with_joints(arrays: Mapping[str, Array], joints: int) -> dict[str, Array]:
    head = {n: synthetic(n, (joints, *arrays[n].shape[1:])) for n in ("final_layer.weight", "final_layer.bias")}
    return {**arrays, **head}


def test_keypoints_are_counted_in_the_head(arrays: dict[str, Array]) -> None:
    whole_body = build_network(with_joints(arrays, 133), options=SMALL)
    assert whole_body.spec.keypoints == COCO_WHOLEBODY_133
    assert [d.dim_value for d in whole_body.graph.graph.output[0].type.tensor_type.shape.dim] == [1, 133, 16, 24]
    other = examine(with_joints(arrays, 16)).spec.keypoints
    assert other is not None
    assert len(other) == 16


def test_batches_and_old_operator_sets_give_the_same(arrays: dict[str, Array], heatmaps: Array, image: Array) -> None:
    graph = build_network(arrays, options=BuildOptions(input_size=(64, 96), opset=11)).graph
    twice = run(graph, np.concatenate([image, image[..., ::-1]]))["heatmaps"]
    np.testing.assert_allclose(twice[:1], heatmaps, rtol=0, atol=1e-5 * np.abs(heatmaps).max())
    assert not np.allclose(twice[1], twice[0])


@pytest.mark.parametrize("size", [(250, 192), (256, 190), (0, 0), (16, 16)])
def test_sizes_that_the_branches_cannot_share_are_refused(arrays: dict[str, Array], size: tuple[int, int]) -> None:
    with pytest.raises(ArchitectureError, match="multiples of 32"):
        build_network(arrays, options=BuildOptions(input_size=size))


def test_arrays_that_do_not_fit_are_all_named(arrays: dict[str, Array]) -> None:
    damaged = dict(arrays)
    del damaged["stage3.2.fuse_layers.2.0.1.0.weight"]
    damaged["stage4.0.branches.0.0.conv1.weight"] = np.zeros((48, 32, 3, 3), np.float32)
    damaged["stage4.0.branches.7.0.conv1.weight"] = np.zeros((1,), np.float32)
    with pytest.raises(ArchitectureError) as error:
        build_network(damaged)
    text = str(error.value)
    assert "1 missing, 1 mis-shaped, 1 unexpected" in text
    assert "stage3.2.fuse_layers.2.0.1.0.weight  expected [128, 32, 3, 3]" in text
    assert "expected [32, 32, 3, 3], found [48, 32, 3, 3]" in text


def test_relatives_are_not_taken_for_it(arrays: dict[str, Array]) -> None:
    body = {n: a for n, a in arrays.items() if not n.startswith("final_layer.")}
    assert identify(body) is None
    higher = {**body, "final_layers.0.weight": np.zeros((34, 32, 1, 1), np.float32)}
    assert identify(higher) is None
    narrow = {
        n: np.zeros([18 if length == 32 else length for length in a.shape], np.float32) for n, a in arrays.items()
    }
    assert identify(narrow) is None


@pytest.mark.conformance
@pytest.mark.parametrize("width", [32, 48])
def test_outputs_are_those_of_torch(width: int) -> None:
    pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    import torch_rebuild

    model = torch_rebuild.hrnet(width)
    arrays = fill(torch_rebuild.shapes(model))
    image = np.random.RandomState(1).standard_normal((1, 3, 256, 192)).astype(np.float32)
    (wanted,) = torch_rebuild.outputs(model, arrays, image)
    network = build_network(arrays)
    assert network.weights.mismatch().count == 0
    got = run(network.graph, image)["heatmaps"]
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
