"""Associative embedding against the reference decoder, and on people that were planted."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding import build_decoder
from edgepose.decoding.assignment import assign
from edgepose.decoding.associative_embedding import AssociativeEmbeddingDecoder
from edgepose.errors import DecodeError, SpecError
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.spec import DecoderSpec, InputSpec, Letterbox, PoseSpec

VARIANTS = ("omz", "higherhrnet")
NAMES = {"heatmaps": "heatmaps", "embeddings": "embeddings"}


def decoder(
    keypoints: KeypointSet | None = COCO_17, names: dict[str, str] | None = None, **options: Any
) -> AssociativeEmbeddingDecoder:
    network = InputSpec("image", None, None, Letterbox(long_side=512))
    built = build_decoder(PoseSpec(network, DecoderSpec("associative-embedding", names or NAMES, options), keypoints))
    assert isinstance(built, AssociativeEmbeddingDecoder)
    return built


def render(
    joints: np.ndarray, tags: np.ndarray, size: tuple[int, int] = (72, 96), sigma: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps [K, h, w] and tags [K, h, w] of people [P, K, 2] in cells, each with its own tag."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    heatmaps, embeddings = np.zeros((joints.shape[1], *size)), np.zeros((joints.shape[1], *size))
    for person, tag in zip(joints, tags, strict=True):
        for kind, (x, y) in enumerate(person):
            blob = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
            embeddings[kind] = np.where(blob > np.maximum(heatmaps[kind], 0.05), tag, embeddings[kind])
            heatmaps[kind] = np.maximum(heatmaps[kind], np.where(blob > 0.01, blob, 0))
    return heatmaps.astype(np.float32), embeddings.astype(np.float32)


def plant(places: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Joints [P, 17, 2] of people in columns of a 72 x 96 map, and tags that are far from each other."""
    random = np.random.default_rng(seed)
    joints = np.stack([random.uniform(6, 18, (len(places), 17)), random.uniform(6, 66, (len(places), 17))], axis=2)
    joints[..., 0] += np.array(places, float).reshape(-1, 1) * 24
    tags = 3.0 * random.permutation(len(places)) + random.uniform(-0.2, 0.2, len(places)) + 2
    return joints, tags


def batch(heatmaps: np.ndarray, embeddings: np.ndarray) -> dict[str, np.ndarray]:
    return {"heatmaps": heatmaps[None], "embeddings": embeddings[None]}


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("peaks", ["given", "window", "sign"])
def test_open_model_zoo(reference: Path, case: int, peaks: str) -> None:
    file = np.load(reference / "fixtures/simplepose_lwop/omz_decode.npz")
    heatmaps, found_in_graph, tags = (file[f"ae{case}_{n}"] for n in ("heatmaps", "nms_heatmaps", "tags"))
    outputs, names, options = batch(heatmaps, tags), dict(NAMES), {}
    if peaks == "given":
        outputs["nms_heatmaps"] = found_in_graph[None]
        names["nms_heatmaps"] = "nms_heatmaps"
    elif peaks == "sign":
        outputs["heatmaps"] = np.where(found_in_graph > 0, heatmaps, -heatmaps)[None]
        options = {"peaks": "sign"}
    found = decoder(names=names, **options).decode(outputs, (72, 72))[0]
    np.testing.assert_allclose(found.keypoints, file[f"ae{case}_poses"][..., :3], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, file[f"ae{case}_scores"], rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 3), max_size=4, unique=True), st.integers(0, 2**32 - 1))
def test_planted_people_are_found(variant: str, places: list[int], seed: int) -> None:
    joints, tags = plant(places, seed)
    heatmaps, embeddings = render(joints, tags)
    found = decoder(variant=variant, offset=0.5).decode(batch(heatmaps, embeddings), (288, 384))[0]
    assert len(found.scores) == len(places)
    for person in joints:
        error = np.abs(found.keypoints[..., :2] - (person + 0.5) * 4).max(axis=(1, 2))
        # Never further off than half a cell; a cell is 4 pixels.
        assert error.min() <= 2.01
    assert (found.scores > 0.7).all()


def test_a_joint_below_the_threshold_is_found_by_its_tag() -> None:
    joints, tags = plant([0, 2], seed=1)
    heatmaps, embeddings = render(joints, tags)
    heatmaps[9] *= 0.08
    found = decoder(offset=0.5).decode(batch(heatmaps, embeddings), (72, 96))[0]
    assert (found.keypoints[:, 9, 2] < 0.1).all()
    assert (found.keypoints[:, 9, 2] > 0).all()
    for person in joints:
        assert np.abs(found.keypoints[:, 9, :2] - (person[9] + 0.5)).max(axis=1).min() <= 0.51
    assert found.scores.max() < 16.5 / 17, "it does not count for the person's score"


def test_a_joint_that_is_nowhere_stays_missing() -> None:
    joints, tags = plant([1], seed=2)
    heatmaps, embeddings = render(joints, tags)
    heatmaps[4] = 0
    found = decoder().decode(batch(heatmaps, embeddings), (72, 96))[0]
    assert found.keypoints[0, 4].tolist() == [0, 0, 0]


def test_enlarging_changes_positions_by_less_than_a_cell() -> None:
    joints, tags = plant([0, 1, 3], seed=3)
    heatmaps, embeddings = render(joints, tags)
    plain = decoder(variant="higherhrnet").decode(batch(heatmaps, embeddings), (144, 192))[0]
    large = decoder(variant="higherhrnet", upsample=2).decode(batch(heatmaps, embeddings), (144, 192))[0]
    assert len(large.scores) == 3
    for person in plain.keypoints:
        assert np.abs(large.keypoints[..., :2] - person[:, :2]).max(axis=(1, 2)).min() < 2


def test_flip_test_gives_each_pixel_two_tags() -> None:
    joints, tags = plant([0, 2], seed=4)
    heatmaps, embeddings = render(joints, tags)
    mirrored = joints[:, list(COCO_17.flip_indices)].copy()
    mirrored[..., 0] = 95 - mirrored[..., 0]
    # The mirrored picture has tags of its own.
    turned, other = render(mirrored, tags[::-1] * 2)
    build = decoder(variant="higherhrnet")
    merged = build.merge_flip(batch(heatmaps, embeddings), batch(turned, other))
    assert merged["embeddings"].shape == (1, 17, 72, 96, 2)
    np.testing.assert_allclose(merged["heatmaps"][0], heatmaps, atol=1e-6)
    np.testing.assert_array_equal(merged["embeddings"][0, ..., 0], embeddings)
    plain = build.decode(batch(heatmaps, embeddings), (72, 96))[0]
    found = build.decode(merged, (72, 96))[0]
    np.testing.assert_allclose(found.keypoints, plain.keypoints, atol=1e-5)


def test_networks_that_find_peaks_themselves_have_no_flip_test() -> None:
    heatmaps, embeddings = render(*plant([0], seed=5))
    with pytest.raises(DecodeError, match="flip"):
        decoder(peaks="sign").merge_flip(batch(heatmaps, embeddings), batch(heatmaps, embeddings))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("peaks", ["window", "sign"])
@pytest.mark.parametrize("value", [0, -1, 0.5, 1e30, np.nan, np.inf, -np.inf])
def test_constant_outputs_break_nothing(variant: str, peaks: str, value: float) -> None:
    maps = np.full((17, 9, 12), value, np.float32)
    found = decoder(variant=variant, peaks=peaks).decode(batch(maps, maps), (36, 48))[0]
    assert found.keypoints.shape[1:] == (17, 3)
    assert np.isfinite(found.keypoints).all()
    if not np.isfinite(value) or value == 0:
        assert len(found.scores) == 0


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(VARIANTS), st.integers(1, 9), st.integers(1, 9))
def test_outputs_of_any_values_and_size_are_decoded(seed: int, variant: str, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    wild = np.array([0, 1, -1, 0.3, 1e38, -1e38, np.nan, np.inf, -np.inf], np.float32)
    maps, tags = random.choice(wild, (2, 17, height, width))
    found = decoder(variant=variant).decode(batch(maps, tags), (height * 4, width * 4))[0]
    assert np.isfinite(found.keypoints).all()
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize(
    ("heatmaps", "embeddings"),
    [
        ((1, 18, 8, 8), (1, 18, 8, 8)),
        ((1, 17, 8, 8), (1, 17, 8, 9)),
        ((1, 17, 8, 8), (1, 1, 8, 8)),
        ((1, 17, 0, 8), (1, 17, 0, 8)),
        ((17, 8, 8), (17, 8, 8)),
        ((2, 17, 8, 8), (1, 17, 8, 8, 1)),
    ],
)
def test_other_shapes_are_refused(heatmaps: tuple[int, ...], embeddings: tuple[int, ...]) -> None:
    maps = {"heatmaps": np.zeros(heatmaps, np.float32), "embeddings": np.zeros(embeddings, np.float32)}
    with pytest.raises(DecodeError):
        decoder().decode(maps, (32, 32))
    with pytest.raises(DecodeError):
        decoder().decode({"heatmaps": maps["heatmaps"]}, (32, 32))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 4},
        {"kernel": 0},
        {"upsample": 0},
        {"max_people": 0},
        {"variant": "ae"},
        {"detection_threshold": -1.0},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        decoder(**options)
    with pytest.raises(SpecError):
        decoder(keypoints=None)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2**32 - 1), st.booleans())
def test_assignment_costs_the_least(rows: int, more: int, seed: int, ties: bool) -> None:
    random = np.random.default_rng(seed)
    size = rows, rows + more
    cost = random.integers(0, 3, size).astype(float) if ties else random.normal(size=size)
    chosen = assign(cost)
    assert len(set(chosen.tolist())) == rows
    least = min(sum(cost[r, c] for r, c in enumerate(p)) for p in permutations(range(size[1]), rows))
    assert cost[np.arange(rows), chosen].sum() == pytest.approx(least)


def test_assignment_of_many() -> None:
    """A hidden permutation is found."""
    random = np.random.default_rng(0)
    hidden = random.permutation(200)
    cost = random.uniform(1, 2, (200, 200))
    cost[np.arange(200), hidden] = random.uniform(0, 0.001, 200)
    np.testing.assert_array_equal(assign(cost), hidden)
    np.testing.assert_array_equal(assign(np.zeros((5, 5))), np.arange(5))
    assert assign(np.zeros((0, 3))).shape == (0,)
