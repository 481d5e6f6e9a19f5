"""Lightweight OpenPose: stages, sizes, numbers, and the trained weights on real pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from synthetic_weights import Array, fill, multiplications, parameters, run

from edgepose.architectures import BuildOptions, Network, build_network, examine, identify
from edgepose.errors import ArchitectureError
from edgepose.keypoints import OPENPOSE_18
from edgepose.spec import FixedHeight

NAMES = {1: "lightweight_openpose", 2: "lightweight_openpose_2", 3: "lightweight_openpose_3"}


def arrays_for(stages: int) -> dict[str, Array]:
    return fill(examine({}, NAMES[stages]).expected)


def with_stages(listed: Sequence[Sequence], stages: int) -> list[Sequence]:
    """The published list of a network with one refinement stage, with as many as asked for."""
    first = "refinement_stages.0."
    more = [(n.replace(first, f"refinement_stages.{i}."), s) for i in range(1, stages) for n, s in listed if first in n]
    return [*listed, *more]


@pytest.fixture(scope="module")
def arrays() -> dict[str, Array]:
    return arrays_for(3)


@pytest.mark.parametrize(("stages", "count", "entries"), [(1, 4_091_698, 250), (3, 7_308_964, 426)])
def test_outputs_are_those_of_the_original(reference: Path, stages: int, count: int, entries: int) -> None:
    folder = reference / "fixtures/simplepose_lwop"
    shapes = with_stages(json.loads((folder / "lwop_state_dict.json").read_text()), stages)
    assert len(shapes) == entries
    arrays = fill(shapes)
    network = build_network(arrays)
    trained = (s for n, s in network.weights.expected.items() if "running" not in n)
    assert parameters(trained) == count
    with np.load(folder / "lwop_net.npz") as stored:
        image = (stored["image_bgr_u8"].astype(np.float32) - 128) / 256
        got = run(network.graph, np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
        # In network order: heatmaps and PAFs of the initial stage, then those of each refinement stage.
        for name, index in (("heatmaps", 2 * stages), ("pafs", 2 * stages + 1)):
            wanted = stored[f"stages{stages}_out{index}"]
            assert got[name].shape == wanted.shape
            assert np.abs(got[name] - wanted).max() <= 1e-4


@pytest.mark.parametrize(("size", "work"), [((368, 368), 8.88), ((256, 456), 7.66)])
def test_multiplications_are_as_many_as_published(size: tuple[int, int], work: float) -> None:
    graph = build_network(arrays_for(1), options=BuildOptions(input_size=size, batch=1)).graph
    assert multiplications(graph) / 1e9 == pytest.approx(work, abs=0.005)


@pytest.mark.parametrize("stages", NAMES)
def test_stages_are_counted(stages: int) -> None:
    found = identify(arrays_for(stages))
    assert found is not None
    assert found[1] == NAMES[stages]


def test_fewer_stages_on_request(arrays: dict[str, Array]) -> None:
    image = np.random.RandomState(0).standard_normal((1, 3, 64, 96)).astype(np.float32)
    fewer = build_network(arrays, "lightweight_openpose")
    assert {n.split(".")[1] for n in fewer.weights.aside} == {"1", "2"}
    assert all("refinement stage" in reason for reason in fewer.weights.aside.values())
    one = {n: a for n, a in arrays.items() if not n.startswith(("refinement_stages.1.", "refinement_stages.2."))}
    wanted = run(build_network(one).graph, image)
    got = run(fewer.graph, image)
    assert all(np.array_equal(got[name], wanted[name]) for name in wanted)
    with pytest.raises(ArchitectureError, match=r"missing +refinement_stages\.1\."):
        build_network(one, "lightweight_openpose_2")


def test_contract_of_dynamic_size(arrays: dict[str, Array]) -> None:
    spec = examine(arrays).spec
    assert (spec.input.height, spec.input.width, spec.input.color) == (None, None, "BGR")
    assert (spec.input.mean, spec.input.std) == ((128,) * 3, (256,) * 3)
    assert spec.input.fit == FixedHeight(368, stride=8, min_width=368, anchor="center", pad_value=128)
    assert spec.keypoints == OPENPOSE_18
    assert spec.decoder.type == "openpose"
    assert dict(spec.decoder.outputs) == {"heatmaps": "heatmaps", "pafs": "pafs"}
    assert spec.decoder.options == {"variant": "lightweight"}


def test_fixed_size(arrays: dict[str, Array]) -> None:
    network = build_network(arrays, options=BuildOptions(input_size=(256, 456), batch=1))
    assert (network.spec.input.height, network.spec.input.width) == (256, 456)
    assert network.spec.input.fit == FixedHeight(256, stride=8, min_width=None, anchor="center", pad_value=128)
    shapes = {o.name: [d.dim_value for d in o.type.tensor_type.shape.dim] for o in network.graph.graph.output}
    assert shapes == {"heatmaps": [1, 19, 32, 57], "pafs": [1, 38, 32, 57]}
    with pytest.raises(ArchitectureError, match="multiples of 8"):
        build_network(arrays, options=BuildOptions(input_size=(250, 455)))


def test_one_graph_for_all_sizes_and_batches(arrays: dict[str, Array]) -> None:
    graph = build_network(arrays, options=BuildOptions(opset=11)).graph
    for batch, height, width in ((1, 64, 64), (2, 40, 104)):
        image = np.zeros((batch, 3, height, width), np.float32)
        got = run(graph, image)
        assert got["heatmaps"].shape == (batch, 19, height // 8, width // 8)
        assert got["pafs"].shape == (batch, 38, height // 8, width // 8)


def test_arrays_that_do_not_fit_are_all_named(arrays: dict[str, Array]) -> None:
    damaged = dict(arrays)
    del damaged["cpm.align.0.bias"]
    damaged["model.7.0.weight"] = np.zeros((512, 512, 3, 3), np.float32)
    fit = examine(damaged)
    assert fit.architecture == "lightweight_openpose_3"
    assert fit.mismatch.missing == {"cpm.align.0.bias": (128,)}
    assert fit.mismatch.misshaped == {"model.7.0.weight": ((512, 1, 3, 3), (512, 512, 3, 3))}


# COCO keypoint -> index in the OpenPose order.
COCO_TO_OPENPOSE = (0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10)


@pytest.fixture(scope="module")
def trained(reference: Path) -> Network:
    from edgepose.checkpoints import read_checkpoint

    return build_network(
        read_checkpoint(reference / "data/weights/lightweight_openpose/lightweight_openpose.pth").arrays
    )


def test_trained_weights_see_people(reference: Path, trained: Network) -> None:
    """Most visible keypoints of large people must have a peak of their own map where they are."""
    folder = reference / "data/coco_keypoints"
    records = json.loads((folder / "person_keypoints_val2017.json").read_text())
    names = {record["id"]: record["file_name"] for record in records["images"]}
    people = [a for a in records["annotations"] if a["num_keypoints"] >= 13 and a["area"] > 15_000][:12]
    assert len(people) == 12
    seen = total = 0
    for person in people:
        picture = cv2.imread(str(folder / "val2017" / names[person["image_id"]]))
        scale = 256 / picture.shape[0]
        width = round(picture.shape[1] * scale / 8) * 8
        pixels = cv2.resize(picture, (width, 256)).astype(np.float32)
        image = np.ascontiguousarray(((pixels - 128) / 256).transpose(2, 0, 1)[None])
        maps = run(trained.graph, image)["heatmaps"][0]
        for index, (x, y, visibility) in zip(COCO_TO_OPENPOSE, np.reshape(person["keypoints"], (17, 3)), strict=True):
            if visibility != 2:
                continue
            column = round(x * width / picture.shape[1] / 8 - 0.5)
            row = round(y * scale / 8 - 0.5)
            around = maps[index, max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            seen += bool(around.size and around.max() > 0.3)
            total += 1
    assert total > 100
    assert seen / total > 0.75
