"""RTMPose: sizes, head, numbers."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_weights import Array, fill, multiplications, parameters, run

from edgepose.architectures import BuildOptions, build_network, examine, identify
from edgepose.errors import ArchitectureError
from edgepose.keypoints import COCO_17, COCO_WHOLEBODY_133, HALPE_26, KeypointSet

# Millions of parameters and 10^9 multiplications that mmpose publishes for COCO at 256 x 192.
PUBLISHED = {
    "rtmpose_t": (3.34, 0.36),
    "rtmpose_s": (5.47, 0.68),
    "rtmpose_m": (13.59, 1.93),
    "rtmpose_l": (27.66, 4.16),
}
FACTORS = {
    "rtmpose_t": (0.167, 0.375),
    "rtmpose_s": (0.33, 0.5),
    "rtmpose_m": (0.67, 0.75),
    "rtmpose_l": (1.0, 1.0),
    "rtmpose_x": (1.33, 1.25),
}


def shapes_for(
    architecture: str, joints: int = 17, size: tuple[int, int] = (256, 192), split_ratio: float = 2
) -> dict[str, tuple[int, ...]]:
    """Shapes of the architecture with another head."""
    height, width = size
    shapes = dict(examine({}, architecture).expected)
    shapes["head.final_layer.weight"] = (joints, *shapes["head.final_layer.weight"][1:])
    shapes["head.final_layer.bias"] = (joints,)
    shapes["head.mlp.1.weight"] = (256, height * width // 1024)
    shapes["head.cls_x.weight"] = (int(split_ratio * width), 256)
    shapes["head.cls_y.weight"] = (int(split_ratio * height), 256)
    return shapes


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    return fill(shapes_for("rtmpose_s"))


@pytest.fixture(scope="module")
def image() -> Array:
    return np.random.RandomState(0).standard_normal((1, 3, 256, 192)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors(arrays: dict[str, Array], image: Array) -> dict[str, Array]:
    return run(build_network(arrays).graph, image)


@pytest.mark.parametrize("architecture", PUBLISHED)
def test_sizes_are_as_published(architecture: str) -> None:
    shapes = shapes_for(architecture)
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    found = identify(arrays)
    assert found is not None
    assert found[1] == architecture
    count, work = PUBLISHED[architecture]
    assert parameters(s for n, s in shapes.items() if "running" not in n) / 1e6 == pytest.approx(count, abs=0.005)
    # What is published counts normalisations and activations as well.
    graph = build_network(arrays, options=BuildOptions(batch=1)).graph
    assert multiplications(graph) / 1e9 == pytest.approx(work, rel=0.02)


def test_the_head_has_the_published_shapes() -> None:
    shapes = examine({}, "rtmpose_m").expected
    assert {n: s for n, s in shapes.items() if n.startswith("head.")} == {
        "head.final_layer.weight": (17, 768, 7, 7),
        "head.final_layer.bias": (17,),
        "head.mlp.0.g": (1,),
        "head.mlp.1.weight": (256, 48),
        "head.gau.ln.g": (1,),
        "head.gau.uv.weight": (1152, 256),
        "head.gau.gamma": (2, 128),
        "head.gau.beta": (2, 128),
        "head.gau.o.weight": (256, 512),
        "head.gau.res_scale.scale": (256,),
        "head.cls_x.weight": (384, 256),
        "head.cls_y.weight": (512, 256),
    }


def test_outputs_are_those_recorded_from_torch(vectors: dict[str, Array]) -> None:
    """Recorded from the rebuild that the conformance test below compares with (torch 2.13.0)."""
    assert {n: v.shape for n, v in vectors.items()} == {"simcc_x": (1, 17, 384), "simcc_y": (1, 17, 512)}
    recorded = {
        "simcc_x": [0.00289, 0.86477, 1.50955, 0.73473, 0.17444, -1.60836, 0.50322, -1.01884],
        "simcc_y": [0.00032, 0.9018, -0.60645, -0.20341, 0.69432, -1.4875, 1.76996, -0.5901],
    }
    for name, wanted in recorded.items():
        got = vectors[name]
        found = [got.mean(), got.std(), *got.ravel()[:: got.size // 6][:6]]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5)


def test_contract(arrays: dict[str, Array]) -> None:
    spec = examine(arrays).spec
    assert spec.is_top_down
    assert spec.keypoints == COCO_17
    assert (spec.input.color, spec.input.mean, spec.input.std) == (
        "RGB",
        (123.675, 116.28, 103.53),
        (58.395, 57.12, 57.375),
    )
    assert spec.decoder.type == "simcc"
    assert dict(spec.decoder.outputs) == {"simcc_x": "simcc_x", "simcc_y": "simcc_y"}
    assert spec.decoder.options == {"split_ratio": 2.0, "sigma": [4.9, 5.66]}


@pytest.mark.parametrize(("joints", "keypoints"), [(26, HALPE_26), (133, COCO_WHOLEBODY_133), (14, None)])
def test_any_number_of_keypoints(joints: int, keypoints: KeypointSet | None, image: Array) -> None:
    network = build_network(fill(shapes_for("rtmpose_t", joints)))
    found = network.spec.keypoints
    assert found is not None
    assert len(found) == joints
    assert keypoints in (None, found)
    assert run(network.graph, image)["simcc_x"].shape == (1, joints, 384)


@pytest.mark.parametrize(
    ("size", "split_ratio", "sigma"),
    [((384, 288), 2, [6.0, 6.93]), ((256, 256), 2, [5.66, 5.66]), ((256, 192), 3, [4.9, 5.66])],
)
def test_input_size_and_split_ratio_are_read_from_the_head(
    size: tuple[int, int], split_ratio: float, sigma: list[float]
) -> None:
    spec = examine(fill(shapes_for("rtmpose_t", 17, size, split_ratio))).spec
    assert (spec.input.height, spec.input.width) == size
    assert spec.decoder.options == {"split_ratio": split_ratio, "sigma": sigma}


def test_another_input_size_is_refused(arrays: dict[str, Array]) -> None:
    assert build_network(arrays, options=BuildOptions(input_size=(256, 192))).spec.input.width == 192
    with pytest.raises(ArchitectureError, match="256 x 192 pixels and no other size"):
        build_network(arrays, options=BuildOptions(input_size=(384, 288)))


@pytest.mark.parametrize(
    ("name", "wrong", "expected"),
    [
        ("head.mlp.1.weight", (256, 47), (256, 48)),
        ("head.cls_x.weight", (383, 256), (384, 256)),
        ("head.gau.uv.weight", (1100, 256), (1152, 256)),
        ("head.final_layer.weight", (17, 512, 2, 2), (17, 512, 7, 7)),
        ("backbone.stage1.0.bn.weight", (65,), (64,)),
    ],
)
def test_one_wrong_array_is_found_out(
    arrays: dict[str, Array], name: str, wrong: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    fit = examine({**arrays, name: np.zeros(wrong, np.float32)})
    assert fit.architecture == "rtmpose_s"
    assert fit.mismatch.misshaped == {name: (expected, wrong)}
    assert fit.mismatch.count == 1


def test_wrappers_and_training_leftovers_do_not_matter(
    arrays: dict[str, Array], image: Array, vectors: dict[str, Array]
) -> None:
    leftovers = {
        "data_preprocessor.mean": np.zeros((3, 1, 1), np.float32),
        "module.backbone.stem.0.bn.num_batches_tracked": np.zeros((), np.int64),
    }
    network = build_network({**{f"module.{n}": a for n, a in arrays.items()}, **leftovers})
    assert np.array_equal(run(network.graph, image)["simcc_y"], vectors["simcc_y"])


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
def test_operator_sets_and_batches(
    arrays: dict[str, Array], image: Array, vectors: dict[str, Array], opset: int
) -> None:
    got = run(build_network(arrays, options=BuildOptions(opset=opset)).graph, np.concatenate([image, image / 2]))
    for name, wanted in vectors.items():
        assert got[name].shape[0] == 2
        np.testing.assert_allclose(got[name][:1], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_relatives_are_not_taken_for_it(arrays: dict[str, Array]) -> None:
    assert identify({n: a for n, a in arrays.items() if n.startswith("backbone.")}) is None
    assert identify({n: a for n, a in arrays.items() if n.startswith("head.")}) is None


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("architecture", "joints", "size"),
    [(a, 17, (256, 192)) for a in PUBLISHED] + [("rtmpose_x", 26, (384, 288)), ("rtmpose_t", 133, (256, 192))],
)
def test_outputs_are_those_of_torch(architecture: str, joints: int, size: tuple[int, int]) -> None:
    pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    import torch_rebuild

    model = torch_rebuild.rtmpose(*FACTORS[architecture], joints, size)
    arrays = fill(torch_rebuild.shapes(model))
    image = np.random.RandomState(1).standard_normal((1, 3, *size)).astype(np.float32)
    network = build_network(arrays)
    got = run(network.graph, image)
    # Tighter than the float32 rounding of a deeper network would allow, so that no slip in the attention goes unseen.
    for name, wanted in zip(("simcc_x", "simcc_y"), torch_rebuild.outputs(model, arrays, image), strict=True):
        assert np.abs(got[name] - wanted).max() <= 1e-5 * np.abs(wanted).max()
