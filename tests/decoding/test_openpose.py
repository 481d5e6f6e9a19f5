"""PAF decoding against what the original decoders gave, and on people that were planted."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding import build_decoder
from edgepose.decoding.openpose import OpenPoseDecoder
from edgepose.decoding.openpose_groups import People, group_aimet, group_lightweight, group_omz
from edgepose.decoding.openpose_limbs import LIMBS, Limbs, find_limbs
from edgepose.decoding.openpose_maps import Field, Resampling
from edgepose.decoding.openpose_peaks import MAX_PEAKS, Peaks, cross_peaks, smoothed_peaks
from edgepose.errors import DecodeError, SpecError
from edgepose.fitting.fixed_height import fit_height
from edgepose.keypoints import COCO_17, OPENPOSE_18, KeypointSet
from edgepose.spec import DecoderSpec, FixedHeight, InputSpec, PoseSpec

Group = Callable[[Peaks, Limbs], People]

VARIANTS = ("lightweight", "omz", "aimet")
#: Of the 18 keypoints, those of COCO in its order.
TO_COCO = [OPENPOSE_18.names.index(name) for name in COCO_17.names]
NECK = OPENPOSE_18.names.index("neck")
#: Keypoints from here on are eyes and ears.
HEAD = OPENPOSE_18.names.index("right_eye")


def load_benchmark() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks/decode_openpose.py"
    module = importlib.util.spec_from_file_location("decode_openpose", path)
    assert module is not None
    assert module.loader is not None
    loaded = importlib.util.module_from_spec(module)
    sys.modules["decode_openpose"] = loaded
    module.loader.exec_module(loaded)
    return loaded


bench = load_benchmark()


def decoder(keypoints: KeypointSet | None = OPENPOSE_18, **options: Any) -> OpenPoseDecoder:
    network = InputSpec("data", None, None, FixedHeight())
    spec = PoseSpec(network, DecoderSpec("openpose", {"heatmaps": "h", "pafs": "p"}, options), keypoints)
    built = build_decoder(spec)
    assert isinstance(built, OpenPoseDecoder)
    return built


def outputs(heatmaps: np.ndarray, pafs: np.ndarray) -> dict[str, np.ndarray]:
    """One frame's maps as a batch."""
    return {"heatmaps": np.asarray(heatmaps, np.float32)[None], "pafs": np.asarray(pafs, np.float32)[None]}


@pytest.fixture(scope="module")
def scenes(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/lwop_decode_scenes.npz")


@pytest.fixture(scope="module")
def edges(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/lwop_decode_edge.npz")


def check_steps(scenes: Any, name: str, resampling: Resampling) -> None:
    """Positions and ids are those of the original, scores to 1e-5."""
    heatmaps, pafs = scenes[f"{name}_heatmaps"], scenes[f"{name}_pafs"]
    peaks = cross_peaks(heatmaps[:18], resampling, 0.1)
    expected = scenes[f"{name}_all_keypoints"]
    np.testing.assert_array_equal(np.diff(peaks.starts), scenes[f"{name}_n_per_type"])
    np.testing.assert_array_equal(np.stack([peaks.x, peaks.y], axis=1), expected[:, :2])
    np.testing.assert_allclose(peaks.score, expected[:, 2], rtol=0, atol=1e-5)
    people = group_lightweight(peaks, find_limbs(peaks, Field(pafs, resampling), 0.05))
    entries = scenes[f"{name}_pose_entries"]
    np.testing.assert_array_equal(people.ids, entries[:, :18].reshape(-1, 18))
    np.testing.assert_array_equal(people.count, entries[:, 19])
    np.testing.assert_allclose(people.score, entries[:, 18], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scene", range(12))
def test_each_step_gives_what_lightweight_openpose_gives(scenes: Any, scene: int) -> None:
    cells = scenes[f"s{scene}_heatmaps"].shape[1:]
    check_steps(scenes, f"s{scene}", Resampling(cells, 4, cv2.INTER_CUBIC))


@pytest.mark.parametrize("scene", range(12))
def test_people_and_their_coco_scores(scenes: Any, scene: int) -> None:
    heatmaps, pafs = scenes[f"s{scene}_heatmaps"], scenes[f"s{scene}_pafs"]
    _, height, width = heatmaps.shape
    found = decoder().decode(outputs(heatmaps, pafs), (height * 8, width * 8))[0]
    expected = scenes[f"s{scene}_coco_keypoints"].reshape(-1, 17, 3)
    coco = found.keypoints[:, TO_COCO]
    np.testing.assert_array_equal(coco[..., 2] > 0, expected[..., 2] > 0)
    # The original's are the middles of pixels of maps enlarged four times; a pixel is two of the input.
    np.testing.assert_allclose(coco[..., :2], expected[..., :2] * 2, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, scenes[f"s{scene}_coco_scores"], rtol=1e-5)


@pytest.mark.parametrize("scene", range(3))
def test_maps_resized_to_the_picture(scenes: Any, scene: int) -> None:
    """The way in which the published AP is measured."""
    name = f"v{scene}"
    heatmaps, pafs = scenes[f"{name}_heatmaps"], scenes[f"{name}_pafs"]
    width, height = scenes[f"{name}_image_wh"].tolist()
    spec = InputSpec("data", None, None, FixedHeight(368, min_width=368, interpolation="cubic"))
    assert isinstance(spec.fit, FixedHeight)
    fitted = fit_height(np.zeros((height, width, 3), np.uint8), spec, spec.fit)
    assert fitted.size == tuple(scenes[f"{name}_net_input_hw"])
    found = decoder().decode_in_picture(outputs(heatmaps, pafs), fitted.size, fitted.to_image, (height, width))[0]
    expected = scenes[f"{name}_coco_keypoints"].reshape(-1, 17, 3)
    coco = found.keypoints[:, TO_COCO]
    np.testing.assert_array_equal(coco[..., 2] > 0, expected[..., 2] > 0)
    np.testing.assert_allclose(coco[..., :2], expected[..., :2], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, scenes[f"{name}_coco_scores"], rtol=1e-5)
    top, left, bottom, right = scenes[f"{name}_pad_tlbr"].tolist()
    window = (top, left, fitted.size[0] - top - bottom, fitted.size[1] - left - right)
    check_steps(scenes, name, Resampling(heatmaps.shape[1:], 8, cv2.INTER_CUBIC, window, (height, width)))


@pytest.mark.parametrize("case", range(9))
def test_peaks_at_edges_on_plateaus_and_in_noise(edges: Any, case: int) -> None:
    heatmap = edges[f"e{case}_map"]
    peaks = cross_peaks(heatmap[None], Resampling(heatmap.shape, 1, cv2.INTER_CUBIC), 0.1)
    expected = edges[f"e{case}_keypoints"]
    np.testing.assert_array_equal(np.stack([peaks.x, peaks.y, peaks.score], axis=1), expected[:, :3])


@pytest.mark.parametrize("case", range(24))
def test_grouping_of_conflicting_limbs(edges: Any, case: int) -> None:
    """Cases 1 and 19 have equal affinities: they hold because sums are formed in the original's order."""
    keypoints, counts = edges[f"g{case}_keypoints"].astype(np.float32), edges[f"g{case}_counts"]
    starts = np.concatenate([[0], np.cumsum(counts)])
    peaks = Peaks(keypoints[:, 0], keypoints[:, 1], keypoints[:, 2], starts)
    pafs = (edges[f"g{case}_pafs_i16"] * edges["pafs_scale"]).astype(np.float32).transpose(2, 0, 1)
    field = Field(np.ascontiguousarray(pafs), Resampling(pafs.shape[1:], 1, cv2.INTER_CUBIC))
    people = group_lightweight(peaks, find_limbs(peaks, field, 0.05))
    expected = edges[f"g{case}_pose_entries"]
    np.testing.assert_array_equal(people.ids, expected[:, :18])
    np.testing.assert_array_equal(people.count, expected[:, 19])
    np.testing.assert_allclose(people.score, expected[:, 18], rtol=0, atol=1e-5)


@pytest.mark.parametrize("scene", [0, 1, 3, 5, 7, 9, 10])
@pytest.mark.parametrize("upsample", [1, 4])
def test_open_model_zoo(reference: Path, scenes: Any, scene: int, upsample: int) -> None:
    expected = np.load(reference / "fixtures/simplepose_lwop/omz_decode.npz")
    heatmaps, pafs = scenes[f"s{scene}_heatmaps"], scenes[f"s{scene}_pafs"]
    size = heatmaps.shape[1] * upsample, heatmaps.shape[2] * upsample
    found = decoder(variant="omz", upsample=upsample).decode(outputs(heatmaps, pafs), size)[0]
    coco = found.keypoints[:, TO_COCO]
    # Enlarged maps were decoded with the original's 'delta' of 0: from the pixel's corner, not its middle.
    coco[..., :2] -= (coco[..., 2:] > 0) * (0.5 if upsample > 1 else 0)
    np.testing.assert_allclose(coco, expected[f"op_r{upsample}_s{scene}_poses"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, expected[f"op_r{upsample}_s{scene}_scores"], rtol=1e-5)


def test_aimet(reference: Path) -> None:
    folder = reference / "fixtures/gluoncv_aimet"
    case = np.load(folder / "aimet_paf_decode.npz")
    heatmaps = np.ascontiguousarray(case["heatmap"].transpose(2, 0, 1))
    pafs = np.ascontiguousarray(case["paf"].transpose(2, 0, 1))
    resampling = Resampling(heatmaps.shape[1:], 1, cv2.INTER_LINEAR)
    peaks = smoothed_peaks(heatmaps[:18], resampling, 0.1)
    np.testing.assert_array_equal(np.stack([peaks.x, peaks.y], axis=1), case["points"][:, :2])
    np.testing.assert_allclose(peaks.score, case["points"][:, 2], rtol=0, atol=1e-6)
    people = group_aimet(peaks, find_limbs(peaks, Field(pafs, resampling), 0.05, penalty_height=heatmaps.shape[1]))
    np.testing.assert_array_equal(people.ids, case["keypoints"])
    np.testing.assert_allclose(people.score, case["scores"], rtol=0, atol=1e-5)

    expected = json.loads((folder / "aimet_paf_decode_expected.json").read_text())
    found = decoder(variant="aimet", upsample=1).decode(outputs(heatmaps, pafs), heatmaps.shape[1:])[0]
    for person, score, joints, total in zip(
        found.keypoints[:, TO_COCO], found.scores, expected["skeletons"], expected["scores"], strict=True
    ):
        assert score == pytest.approx(total / len(joints), rel=1e-5)
        assert {int(j["id"]) for j in joints} == set(np.flatnonzero(person[:, 2]))
        for joint in joints:
            assert person[int(joint["id"])] == pytest.approx([joint["x"] + 0.5, joint["y"] + 0.5, joint["score"]])


def as_mirror_of(keypoints: np.ndarray, width: int) -> np.ndarray:
    mirrored = keypoints[:, list(OPENPOSE_18.flip_indices)].copy()
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


@st.composite
def planted(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and which can be seen, of people at any of five places."""
    places = draw(st.lists(st.integers(0, 4), min_size=0, max_size=5, unique=True))
    return plant(places, draw(st.integers(0, 2**32 - 1)))


def plant(places: list[int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [P, 18, 2] in pixels of a 368 x 656 input, apart from each other, and which of them can be seen.

    What is hidden are ends of limbs, so that a person stays in one piece.
    """
    random = np.random.default_rng(seed)
    torso = random.uniform(45, 70, len(places))
    middle = np.stack([np.array(places) * 128 + random.uniform(60, 70, len(places)), torso * 1.2 + 20], axis=1)
    bent = bench.FIGURE + random.normal(0, 0.03, (len(places), 18, 2))
    people = middle[:, None] + bent * torso[:, None, None] if places else np.zeros((0, 18, 2))
    seen = np.ones((len(places), 18), bool)
    ends = [OPENPOSE_18.names.index(f"{side}_{part}") for side in ("left", "right") for part in ("wrist", "ankle")]
    seen[:, ends] = random.random((len(places), len(ends))) > 0.3
    return people, seen


@settings(deadline=None, max_examples=25)
@given(planted(), st.integers(0, 2**32 - 1))
def test_planted_people_are_found(people: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    keypoints, seen = people
    heatmaps, pafs = bench.render(keypoints, visible=seen)
    random = np.random.default_rng(seed)
    heatmaps += random.normal(0, 0.003, heatmaps.shape).astype(np.float32)
    pafs += random.normal(0, 0.003, pafs.shape).astype(np.float32)
    found = decoder().decode(outputs(heatmaps, pafs), (368, 656))[0]
    assert len(found.scores) == len(keypoints)
    for person, visible in zip(keypoints, seen, strict=True):
        nearest = np.abs(found.keypoints[:, NECK, :2] - person[NECK]).sum(axis=1).argmin()
        match = found.keypoints[nearest]
        # Eyes and ears are less than a cell apart; the original loses one now and then.
        np.testing.assert_array_equal(match[:HEAD, 2] > 0, visible[:HEAD])
        # One pixel of the enlarged map.
        there = match[:, 2] > 0
        assert np.abs(match[there, :2] - (person[there] + 0.5)).max() <= 2
        x1, y1, x2, y2 = found.boxes[nearest].tolist()
        assert [x1, y1] == pytest.approx(match[there, :2].min(axis=0) - 1)
        assert [x2, y2] == pytest.approx(match[there, :2].max(axis=0) + 1)


@settings(deadline=None, max_examples=15)
@given(planted(), st.tuples(*[st.integers(0, 6)] * 4), st.sampled_from(VARIANTS))
def test_padding_of_the_maps_moves_people_and_changes_nothing_else(
    people: tuple[np.ndarray, np.ndarray], pads: tuple[int, int, int, int], variant: str
) -> None:
    keypoints, seen = people
    heatmaps, pafs = bench.render(keypoints, visible=seen)
    heatmaps[:, [0, -1]] = heatmaps[..., [0, -1]] = pafs[:, [0, -1]] = pafs[..., [0, -1]] = 0
    top, left, bottom, right = pads
    frame = ((0, 0), (top, bottom), (left, right))
    build = decoder(variant=variant)
    plain = build.decode(outputs(heatmaps, pafs), (368, 656))[0]
    size = 368 + 8 * (top + bottom), 656 + 8 * (left + right)
    padded = build.decode(outputs(np.pad(heatmaps, frame), np.pad(pafs, frame)), size)[0]
    moved = plain.keypoints.copy()
    moved[..., :2] += np.float32([left * 8, top * 8]) * (moved[..., 2:] > 0)
    np.testing.assert_allclose(padded.keypoints, moved, rtol=0, atol=1e-3)
    np.testing.assert_allclose(padded.scores, plain.scores, rtol=1e-4)


@pytest.mark.parametrize("people", [1, 5, 20])
@pytest.mark.parametrize("seed", range(4))
def test_same_people_as_the_plain_algorithm(people: int, seed: int) -> None:
    heatmaps, pafs = bench.frame(people, seed)
    keypoints, entries = bench.plain(heatmaps, pafs)
    found = decoder().decode(outputs(heatmaps, pafs), (368, 656))[0]
    ids = entries[:, :18].astype(int)
    expected = np.where(ids[..., None] >= 0, keypoints[ids, :2] * 2 + 1, 0)
    np.testing.assert_allclose(found.keypoints[..., :2], expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.scores, entries[:, 18] * (entries[:, 19] - 1), rtol=1e-5)


def test_benchmark_has_a_row_for_each_crowd() -> None:
    rows = bench.rows(repeat=1)
    assert [row["people"] for row in rows] == list(bench.CROWDS)
    assert all(row["plain_ms"] > 0 and row["edgepose_ms"] > 0 for row in rows)


def test_rows_that_are_left_out_hold_nothing() -> None:
    """Enlarging all rows or only those that the bound lets through gives the same peaks."""
    random = np.random.default_rng(3)
    for seed in range(6):
        heatmaps = bench.frame(4, seed)[0][:18] * np.float32(random.uniform(0.1, 1))
        heatmaps[:, :4, :4] = random.choice([-2, 0.11, 3], (18, 4, 4))
        small = Resampling(heatmaps.shape[1:], 4, cv2.INTER_CUBIC)
        height, width = small.size
        large = Resampling(small.cells, 4, cv2.INTER_CUBIC, window=(0, 0, height, width))
        pruned, full = cross_peaks(heatmaps, small, 0.1), cross_peaks(heatmaps, large, 0.1)
        np.testing.assert_array_equal(pruned.x, full.x)
        np.testing.assert_array_equal(pruned.y, full.y)
        np.testing.assert_allclose(pruned.score, full.score, rtol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_decoded_frame_by_frame(variant: str) -> None:
    frames = [bench.frame(people, seed=people) for people in (3, 0, 1)]
    both = {"heatmaps": np.stack([h for h, _ in frames]), "pafs": np.stack([p for _, p in frames])}
    build = decoder(variant=variant)
    batch = build.decode(both, (368, 656))
    assert len(batch) == 3
    for together, (heatmaps, pafs) in zip(batch, frames, strict=True):
        alone = build.decode(outputs(heatmaps, pafs), (368, 656))[0]
        np.testing.assert_array_equal(together.keypoints, alone.keypoints)
        np.testing.assert_array_equal(together.scores, alone.scores)
    assert build.decode({k: v[:0] for k, v in both.items()}, (368, 656)) == []


def test_flip_test_of_a_perfect_network_changes_nothing() -> None:
    keypoints, _ = plant([0, 2, 3], seed=5)
    heatmaps, pafs = bench.render(keypoints)
    mirrored = bench.render(as_mirror_of(keypoints, 656))
    build = decoder()
    merged = build.merge_flip(outputs(heatmaps, pafs), outputs(*mirrored))
    np.testing.assert_allclose(merged["heatmaps"][0], heatmaps, atol=1e-6)
    found, plain = build.decode(merged, (368, 656))[0], build.decode(outputs(heatmaps, pafs), (368, 656))[0]
    np.testing.assert_allclose(found.keypoints[..., :2], plain.keypoints[..., :2], atol=2.1)
    with pytest.raises(DecodeError, match="another shape"):
        build.merge_flip(outputs(heatmaps, pafs), outputs(heatmaps[..., :-1], pafs[..., :-1]))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [0, 0.5, -1, 1e30, np.nan, np.inf, -np.inf])
def test_constant_outputs_have_nobody(variant: str, value: float) -> None:
    build = decoder(variant=variant)
    found = build.decode(outputs(np.full((19, 12, 15), value), np.full((38, 12, 15), value)), (96, 120))[0]
    assert found.keypoints.shape[1:] == (18, 3)
    assert np.isfinite(found.keypoints).all()
    assert np.isfinite(found.scores).all()
    if not np.isfinite(value) or value <= 0:
        assert len(found.scores) == 0
        assert found.boxes.shape == (0, 4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(VARIANTS), st.integers(1, 9), st.integers(1, 9))
def test_outputs_of_any_values_and_size_are_decoded(seed: int, variant: str, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    wild = np.array([0, 1, -1, 0.3, 1e38, -1e38, np.nan, np.inf, -np.inf], np.float32)
    maps = outputs(random.choice(wild, (19, height, width)), random.choice(wild, (38, height, width)))
    found = decoder(variant=variant).decode(maps, (height * 8, width * 8))[0]
    assert np.isfinite(found.keypoints).all()
    assert np.isfinite(found.scores).all()


def test_one_broken_value_costs_no_one_else() -> None:
    heatmaps, pafs = bench.render(bench.crowd(1, seed=2))
    expected = decoder().decode(outputs(heatmaps, pafs), (368, 656))[0]
    heatmaps[3, 0, 0], pafs[5, 45, 81] = np.nan, np.inf
    found = decoder().decode(outputs(heatmaps, pafs), (368, 656))[0]
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_noise_is_decoded_in_bounded_time(variant: str) -> None:
    random = np.random.default_rng(0)
    maps = outputs(random.random((19, 46, 82)), random.normal(size=(38, 46, 82)))
    start = time.perf_counter()
    decoder(variant=variant).decode(maps, (368, 656))
    assert time.perf_counter() - start < 20
    noise = random.random((2, 120, 200)).astype(np.float32)
    peaks = cross_peaks(noise, Resampling((120, 200), 4, cv2.INTER_CUBIC), 0.1)
    assert 100 < np.diff(peaks.starts).max() <= MAX_PEAKS


@pytest.mark.parametrize(
    ("heatmaps", "pafs"),
    [
        ((1, 18, 8, 8), (1, 38, 8, 8)),
        ((1, 19, 8, 8), (1, 36, 8, 8)),
        ((1, 19, 8, 8), (1, 38, 8, 9)),
        ((2, 19, 8, 8), (1, 38, 8, 8)),
        ((19, 8, 8), (38, 8, 8)),
        ((1, 19, 0, 8), (1, 38, 0, 8)),
    ],
)
def test_other_shapes_are_refused(heatmaps: tuple[int, ...], pafs: tuple[int, ...]) -> None:
    maps = {"heatmaps": np.zeros(heatmaps, np.float32), "pafs": np.zeros(pafs, np.float32)}
    with pytest.raises(DecodeError):
        decoder().decode(maps, (64, 64))
    with pytest.raises(DecodeError):
        decoder().decode({"heatmaps": maps["heatmaps"]}, (64, 64))


def test_a_picture_that_lies_elsewhere_is_refused() -> None:
    maps = outputs(np.zeros((19, 8, 8)), np.zeros((38, 8, 8)))
    outside = np.array([[[1, 0, 5], [0, 1, 0]]], np.float64)
    with pytest.raises(DecodeError, match="inside the input"):
        decoder().decode_in_picture(maps, (64, 64), outside, (64, 64))
    with pytest.raises(DecodeError, match="evenly"):
        decoder().decode_in_picture(maps, (60, 64), np.eye(2, 3)[None], (60, 64))


@pytest.mark.parametrize(
    "options",
    [{"upsample": 3}, {"variant": "cmu"}, {"keypoint_threshold": 0.0}, {"paf_threshold": -1.0}, {"upsampling": 4}],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        decoder(**options)


def test_other_keypoint_sets_are_refused() -> None:
    with pytest.raises(SpecError, match="openpose18"):
        decoder(COCO_17)


def linked(*links: tuple[int, int, int]) -> tuple[Peaks, Limbs]:
    """Candidates 2 k and 2 k + 1 for each keypoint k, of score 0.5; limbs (limb, a, b) of affinity 1."""
    peaks = Peaks(*np.zeros((2, 36), np.float32), np.full(36, 0.5, np.float32), np.arange(0, 38, 2))
    columns = np.array(links).reshape(-1, 3).T
    return peaks, Limbs(*columns, np.ones(len(links)))


# Limbs 0 to 3: neck to right shoulder, neck to left shoulder, right shoulder to elbow, right elbow to wrist.
# Limb 12: neck to nose.  Limb 17: right shoulder to right ear.  Candidates: 2 k, 2 k + 1.
@pytest.mark.parametrize("group", [group_omz, group_aimet])
def test_a_limb_between_two_parts_of_a_person_joins_them(group: Group) -> None:
    # The lower arm is there before the upper arm that belongs between it and the trunk.
    peaks, limbs = linked((0, 2, 4), (1, 2, 10), (3, 6, 8), (2, 4, 6))
    people = group(peaks, limbs)
    assert people.ids[0, [1, 2, 3, 4, 5]].tolist() == [2, 4, 6, 8, 10]
    assert people.score.tolist() == [5 * 0.5 + 4]


def test_lightweight_openpose_never_joins() -> None:
    people = group_lightweight(*linked((0, 2, 4), (1, 2, 10), (3, 6, 8), (2, 4, 6)))
    assert people.ids[0, [1, 2, 3, 4, 5]].tolist() == [2, 4, 6, -1, 10]
    assert len(people.ids) == 1


def test_people_that_overlap_are_not_joined() -> None:
    # Two trunks, each with a right shoulder; a limb from the first neck to the second's shoulder.
    links = ((0, 2, 4), (1, 2, 10), (12, 2, 0), (0, 3, 5), (1, 3, 11), (12, 3, 1), (0, 2, 5))
    peaks, limbs = linked(*links)
    apart = group_omz(peaks, limbs)
    assert apart.ids[:, :3].tolist() == [[0, 2, 4], [1, 3, 5]]
    # AIMET lets the first of them have the shoulder, which then is in both.
    shared = group_aimet(peaks, limbs)
    assert shared.ids[:, :3].tolist() == [[0, 2, 5], [1, 3, 5]]
    assert shared.count.tolist() == [5, 4]


def test_ears_begin_no_one_in_aimet() -> None:
    # Were a person begun by the first limb, the ear would join it to the head.
    links = ((17, 4, 32), (13, 0, 28), (14, 28, 32), (15, 0, 30))
    people = group_aimet(*linked(*links))
    assert people.ids[:, [0, 2, 14, 15, 16]].tolist() == [[0, -1, 28, 30, 32]]


@pytest.mark.parametrize(("group", "fewest"), [(group_lightweight, 3), (group_omz, 3), (group_aimet, 4)])
def test_people_of_few_keypoints_are_dropped(group: Group, fewest: int) -> None:
    chain = ((0, 2, 4), (2, 4, 6), (3, 6, 8))
    for length in range(1, 4):
        assert len(group(*linked(*chain[:length])).ids) == (length + 1 >= fewest)


def test_limbs_name_each_channel_once() -> None:
    assert sorted(channel for *_, channel in LIMBS) == list(range(0, 38, 2))
