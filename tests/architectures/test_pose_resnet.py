"""Simple baselines in the dialects of MindSpore and PyTorch."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from synthetic_weights import fill, run

from edgepose.architectures import BuildOptions, build_network, examine, identify

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
LEAVES = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "fixtures" / "simplepose_lwop"


@pytest.fixture(scope="module")
def torch_arrays(folder: Path) -> dict[str, np.ndarray]:
    """A ResNet-50 net of an eighth of the width, under the names of PyTorch."""
    rows = json.loads((folder / "simple_pose_div8_params.json").read_text())
    return fill((twin, shape) for _, shape, twin in rows)


@pytest.fixture(scope="module")
def recorded(folder: Path):
    return np.load(folder / "simple_pose_net.npz")


@pytest.fixture(scope="module")
def image(recorded) -> np.ndarray:
    pixels = recorded["images_bgr_u8"].astype(np.float32) / 255
    return np.ascontiguousarray(((pixels - MEAN) / STD).transpose(0, 3, 1, 2))


def mindspore(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same arrays as MindSpore calls them, layers not yet renamed."""
    renamed = {}
    for name, array in arrays.items():
        layer, _, leaf = name.rpartition(".")
        is_norm = f"{layer}.running_mean" in arrays
        if leaf != "num_batches_tracked":
            renamed[f"{layer}.{LEAVES[leaf]}" if is_norm else name] = array
    return renamed


def mindpose(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    renamed = {}
    for name, array in mindspore(arrays).items():
        if name.startswith(("deconv_layers", "final_layer")):
            renamed["head." + name.replace("deconv_layers", "deconv_layer")] = array
        else:
            renamed["backbone." + name.replace("downsample", "down_sample")] = array
    return renamed


def mmpose(arrays: dict[str, np.ndarray], head: str) -> dict[str, np.ndarray]:
    is_head = re.compile("deconv_layers|final_layer")
    return {(f"{head}." if is_head.match(n) else "backbone.") + n: a for n, a in arrays.items()}


def simple_pose(folder: Path, which: str) -> dict[str, np.ndarray]:
    """The MindSpore model zoo's own names, with the values that belong to the PyTorch names."""
    rows = json.loads((folder / f"simple_pose_{which}_params.json").read_text())
    return {name: fill([(twin, shape)])[twin] for name, shape, twin in rows}


@pytest.mark.parametrize("style", ["mindspore", "pytorch"])
@pytest.mark.parametrize("which", ["div8", pytest.param("full", marks=pytest.mark.conformance)])
def test_mindspore_simple_pose_in_both_pool_styles(which, style, folder, recorded, image):
    arrays = simple_pose(folder, which)
    architecture = None if style == "mindspore" else "mindspore_simple_pose_resnet50_torch_pool"
    network = build_network(arrays, architecture)
    heatmaps = run(network.graph, image)["heatmaps"]
    np.testing.assert_allclose(heatmaps, recorded[f"{which}_heatmaps_maxpool_{style}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("rename", "architecture", "pool"),
    [
        (lambda a: a, "pose_resnet50", "pytorch"),
        (lambda a: {f"module.{n}": v for n, v in a.items()}, "pose_resnet50", "pytorch"),
        (lambda a: mmpose(a, "head"), "mmpose_resnet50", "pytorch"),
        (lambda a: mmpose(a, "keypoint_head"), "mmpose_resnet50", "pytorch"),
        (mindspore, "mindspore_simple_baselines_resnet50", "pytorch"),
        (
            lambda a: {f"network.{n}": v for n, v in mindspore(a).items()},
            "mindspore_simple_baselines_resnet50",
            "pytorch",
        ),
        (mindpose, "mindpose_resnet50", "mindspore"),
    ],
    ids=[
        "microsoft",
        "data-parallel",
        "mmpose-1.x",
        "mmpose-0.x",
        "simple_baselines",
        "simple_baselines-train",
        "mindpose",
    ],
)
def test_the_same_weights_under_every_dialect(rename, architecture, pool, torch_arrays, recorded, image):
    arrays = rename(torch_arrays)
    assert identify(arrays)[1] == architecture
    heatmaps = run(build_network(arrays).graph, image[:1])["heatmaps"]
    np.testing.assert_allclose(heatmaps, recorded[f"div8_heatmaps_maxpool_{pool}"][:1], rtol=0, atol=1e-5)


def test_the_state_dict_of_the_authors_fits_counters_included(folder):
    rows = json.loads((folder / "pose_resnet50_pytorch_state_dict.json").read_text())
    assert any(name.endswith("num_batches_tracked") for name, _ in rows)
    arrays = {name: np.broadcast_to(np.float32(0), tuple(shape)) for name, shape in rows}
    found = examine(arrays)
    assert (found.architecture, found.mismatch.count, len(found.expected)) == ("pose_resnet50", 0, 282)


def test_a_prefix_stays_in_the_names_that_the_user_sees(torch_arrays):
    arrays = {f"module.{n}": v for n, v in torch_arrays.items()}
    del arrays["module.layer2.1.bn2.bias"]
    assert examine(arrays).mismatch.missing == {"module.layer2.1.bn2.bias": (16,)}


CONTRACTS = {
    "microsoft": (lambda a: a, "BGR", (58.395, 57.12, 57.375), {}),
    "mmpose": (lambda a: mmpose(a, "head"), "RGB", (58.395, 57.12, 57.375), {"quarter_rule": "mmpose"}),
    "simple_baselines": (mindspore, "BGR", (58.395, 57.12, 57.375), {}),
    "mindpose": (mindpose, "RGB", (58.395, 57.12, 65.025), {"quarter_rule": "mindpose"}),
}


@pytest.mark.parametrize(("rename", "color", "std", "decoding"), CONTRACTS.values(), ids=list(CONTRACTS))
def test_contract(rename, color, std, decoding, torch_arrays):
    spec = examine(rename(torch_arrays)).spec
    assert spec.input.color == color
    np.testing.assert_allclose(spec.input.mean, (123.675, 116.28, 103.53))
    np.testing.assert_allclose(spec.input.std, std)
    assert (spec.input.height, spec.input.width, spec.is_top_down) == (256, 192, True)
    assert dict(spec.decoder.options) == decoding


def test_contract_of_mindspore_simple_pose_is_bgr_with_rgb_statistics(folder):
    spec = examine(simple_pose(folder, "div8")).spec
    assert spec.input.color == "BGR"
    np.testing.assert_allclose(spec.input.mean, (123.675, 116.28, 103.53))
    np.testing.assert_allclose(spec.input.std, (58.395, 57.12, 57.375))


@pytest.mark.parametrize(
    ("joints", "name"), [(17, "coco17"), (26, "halpe26"), (133, "coco_wholebody133"), (16, "unnamed16")]
)
def test_number_of_joints_is_read_from_the_last_layer(joints, name, torch_arrays):
    arrays = dict(torch_arrays)
    arrays["final_layer.weight"] = np.zeros((joints, 32, 1, 1), np.float32)
    arrays["final_layer.bias"] = np.zeros(joints, np.float32)
    network = build_network(arrays, options=BuildOptions(input_size=(64, 32)))
    assert network.graph.graph.output[0].type.tensor_type.shape.dim[1].dim_value == joints
    assert network.spec.keypoints.name == name
    assert len(network.spec.keypoints) == joints


def test_other_heads_are_read_from_the_shapes(torch_arrays):
    """Two transposed convolutions of kernel 3 and 2 with bias, and a 3x3 convolution to the heatmaps."""
    arrays = {n: a for n, a in torch_arrays.items() if not n.startswith(("deconv", "final"))}
    arrays |= fill(
        {
            "deconv_layers.0.weight": (256, 32, 3, 3),
            "deconv_layers.0.bias": (32,),
            **{f"deconv_layers.1.{leaf}": (32,) for leaf in LEAVES},
            "deconv_layers.3.weight": (32, 48, 2, 2),
            "deconv_layers.3.bias": (48,),
            **{f"deconv_layers.4.{leaf}": (48,) for leaf in LEAVES},
            "final_layer.weight": (17, 48, 3, 3),
            "final_layer.bias": (17,),
        }
    )
    network = build_network(arrays, options=BuildOptions(input_size=(64, 96)))
    assert run(network.graph, np.zeros((1, 3, 64, 96), np.float32))["heatmaps"].shape == (1, 17, 8, 12)


def test_caffe_style_moves_the_stride(torch_arrays):
    """Only a strided convolution of another size tells the two styles apart, never names or shapes of arrays."""
    graph = build_network(torch_arrays, "pose_resnet50_caffe", BuildOptions(input_size=(64, 64))).graph.graph
    strides = {
        n.name: list(next(a.ints for a in n.attribute if a.name == "strides"))
        for n in graph.node
        if n.op_type == "Conv"
    }
    assert strides["layer2.0.conv1"] == [2, 2]
    assert strides["layer2.0.conv2"] == [1, 1]
