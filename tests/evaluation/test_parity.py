"""How far two models lie apart, in pixels of the picture."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import network, with_decoder, with_input, with_weight, write_bundle

from edgepose.bundle import BundleStage, read_bundle
from edgepose.decoding import build_decoder
from edgepose.errors import BundleError, DecodeError, InputError
from edgepose.evaluation.parity import Parity, compare, tensor_error
from edgepose.evaluation.parity_people import Readout, match, recorded
from edgepose.evaluation.parity_run import golden_frames, measure_conversion, verify
from edgepose.evaluation.timing import median_ms
from edgepose.golden import GOLDEN, GoldenFrame, read_golden, write_golden
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.loading import load
from edgepose.model import PoseModel
from edgepose.sample import sample_picture
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

Array = npt.NDArray[np.float32]
SPOTS = KeypointSet("spots", ("a", "b", "c"), sigmas=(0.05, 0.05, 0.05))
CROPS = PoseSpec(InputSpec("x", 64, 48, Crop()), DecoderSpec("heatmap", {"heatmaps": "y"}, {"refine": "none"}), SPOTS)
CROWD = PoseSpec(InputSpec("x", 200, 100, Letterbox()), DecoderSpec("movenet-multi", {"poses": "y"}), COCO_17)


@pytest.fixture(scope="module")
def base() -> PoseModel:
    return network()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, base: PoseModel) -> Path:
    made = tmp_path_factory.mktemp("models")
    base.save(made / "base.onnx")
    with_decoder(base, refine="none").save(made / "unrefined.onnx")
    write_bundle(made / "bundle", base)
    return made


def maps(*peaks: dict[tuple[int, int], float]) -> Array:
    """One heatmap 16 x 12 a keypoint, zero but for peaks at (x, y)."""
    found = np.zeros((1, len(peaks), 16, 12), np.float32)
    for channel, cells in enumerate(peaks):
        for (x, y), value in cells.items():
            found[0, channel, y, x] = value
    return found


def crop_answer(heatmaps: Array, zoom: float = 1.0) -> Readout:
    to_image = np.array([[[zoom, 0, 5], [0, zoom, 7]]], np.float64)
    return Readout(CROPS, build_decoder(CROPS), {"heatmaps": heatmaps}, (64, 48), to_image)


def crowd_answer(people: Array, zoom: float = 1.0) -> Readout:
    to_image = np.array([[[zoom, 0, 0], [0, zoom, 0]]], np.float64)
    return Readout(CROWD, build_decoder(CROWD), {"poses": people[None]}, (200, 100), to_image)


def person(x: float, y: float, score: float = 0.9, size: float = 0.2) -> Array:
    """A row of MoveNet's: keypoints on a circle around (x, y), fractions of the input."""
    angles = np.linspace(0, 2 * np.pi, 17, endpoint=False)
    joints = np.stack([y + size * np.sin(angles), x + size * np.cos(angles), np.full(17, 0.8)], axis=1)
    box = [y - size, x - size, y + size, x + size, score]
    return np.concatenate([joints.ravel(), box]).astype(np.float32)


def test_a_model_against_itself(folder: Path) -> None:
    parity = verify(folder / "base.onnx", folder / "base.onnx")
    assert len(parity.shifts) >= 17
    assert (parity.max, parity.p99, parity.mean, parity.moved) == (0, 0, 0, 0)
    assert parity.failures(0.0) == []
    assert parity.to_dict()["oks"] == {"min": 1.0, "mean": 1.0}


def test_pixels_are_those_of_the_picture(folder: Path, tmp_path: Path) -> None:
    """The quarter step is one pixel of the input on each axis; a picture twice as large doubles it."""
    image, boxes = sample_picture()
    found = []
    for zoom in (1, 2):
        path = tmp_path / f"{zoom}.png"
        cv2.imwrite(str(path), cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST))
        persons = [{"box": (zoom * b).tolist()} for b in boxes[:1]]
        listed = tmp_path / f"{zoom}.jsonl"
        listed.write_text(json.dumps({"source": path.name, "persons": persons}))
        parity = verify(folder / "unrefined.onnx", folder / "base.onnx", images=[path], boxes=listed)
        x1, y1, x2, y2 = zoom * boxes[0].astype(float)
        pixel = max((x2 - x1) / 96, (y2 - y1) / 128) * 1.25
        assert parity.max == pytest.approx(math.hypot(pixel, pixel), rel=1e-4)
        assert parity.failures(2 * pixel) == []
        assert len(parity.failures(pixel)) == 1
        found.append(parity.max)
    assert found[1] == pytest.approx(2 * found[0], rel=1e-4)


def test_joints_that_count_and_joints_that_do_not() -> None:
    true = crop_answer(maps({(3, 4): 0.9}, {(2, 2): 0.8, (9, 9): 0.79999}, {(5, 5): 0.04}), zoom=3)
    mine = crop_answer(maps({(4, 4): 0.85}, {(2, 2): 0.79999, (9, 9): 0.8}, {(10, 15): 0.04}), zoom=3)
    parity = compare(true, mine, "p")
    # A cell is four pixels of the input, and each of those three of the picture.
    np.testing.assert_allclose(parity.shifts, [12])
    np.testing.assert_allclose(parity.score_shifts, [-0.05], atol=1e-6)
    assert (parity.unsettled, parity.weak, parity.lost) == (1, 1, 0)
    np.testing.assert_allclose(parity.aside, [12 * math.hypot(7, 7), 12 * math.hypot(5, 10)])
    assert 0 < parity.oks[0] < 1


def test_a_peak_that_is_clear_counts_even_where_it_jumps() -> None:
    true = crop_answer(maps({(3, 4): 0.9, (8, 4): 0.85}, {(2, 2): 0.8}, {(5, 5): 0.8}))
    mine = crop_answer(maps({(3, 4): 0.8, (8, 4): 0.85}, {(2, 2): 0.8}, {(5, 5): 0.8}))
    assert compare(true, mine, "p").shifts.max() == 20


def test_a_flat_map_has_no_place() -> None:
    flat = maps({(3, 4): 0.9}, {(2, 2): 0.8}, {})
    flat[0, 2] = 0.7 + 1e-6 * np.random.default_rng(0).standard_normal((16, 12))
    other = flat.copy()
    other[0, 2] = 0.7 + 1e-6 * np.random.default_rng(1).standard_normal((16, 12))
    parity = compare(crop_answer(flat), crop_answer(other), "p")
    assert (parity.unsettled, parity.shifts.max()) == (1, 0)


def test_a_joint_that_one_of_the_two_does_not_find_is_lost() -> None:
    true = crop_answer(maps({(3, 4): 0.9}, {(2, 2): 0.8}, {(5, 5): 0.8}))
    mine = crop_answer(maps({(3, 4): 0.9}, {(2, 2): 0.8}, {}))
    for pair in ((true, mine), (mine, true)):
        parity = compare(*pair, "p")
        assert parity.lost == 1
        assert len(parity.shifts) == 2
    # What the reference does not find is nothing that OKS could ask for.
    assert compare(true, mine, "p").oks[0] == pytest.approx(2 / 3)
    assert compare(mine, true, "p").oks[0] == pytest.approx(1)


def test_a_person_of_whom_nothing_is_found_has_no_oks() -> None:
    true, mine = crop_answer(maps({(3, 4): 0.9}, {(2, 2): 0.8}, {(5, 5): 0.8})), crop_answer(maps({}, {}, {}))
    parity = compare(true, mine, "p")
    assert (parity.lost, list(parity.oks)) == (3, [0])
    assert parity.oks_scores[0] > 0


def test_values_that_are_not_finite_fail() -> None:
    sound = maps({(3, 4): 0.9}, {(2, 2): 0.8}, {(5, 5): 0.8})
    broken = sound.copy()
    broken[0, 1] = np.nan
    parity = Parity([compare(crop_answer(sound), crop_answer(broken), "p")])
    assert [f for f in parity.failures() if "not finite" in f]
    json.dumps(parity.to_dict(), allow_nan=False)
    nowhere = crop_answer(sound)
    nowhere.to_image[:] = np.nan
    parity = Parity([compare(crop_answer(sound), nowhere, "p")])
    assert [f for f in parity.failures() if "lies nowhere" in f]
    json.dumps(parity.to_dict(), allow_nan=False)


def test_people_are_matched_whatever_their_order() -> None:
    people = np.stack([person(0.2, 0.3, 0.9), person(0.7, 0.7, 0.8), person(0.5, 0.2, 0.7, 0.05)])
    parity = compare(crowd_answer(people), crowd_answer(people[::-1].copy()), "p")
    assert (parity.people, parity.missing, parity.extra) == (3, 0, 0)
    assert parity.shifts.max() == 0
    np.testing.assert_allclose(parity.oks, 1)


def test_people_who_are_missing_or_too_many() -> None:
    people = np.stack([person(0.2, 0.3, 0.9), person(0.7, 0.7, 0.8)])
    fewer = people.copy()
    fewer[1, -1] = 0.01
    parity = compare(crowd_answer(people), crowd_answer(fewer), "p")
    assert (parity.people, parity.missing, parity.extra) == (1, 1, 0)
    parity = compare(crowd_answer(fewer), crowd_answer(people), "p")
    assert (parity.people, parity.missing, parity.extra) == (1, 0, 1)
    elsewhere = np.stack([people[0], person(0.2, 0.85, 0.8, 0.1)])
    parity = compare(crowd_answer(people), crowd_answer(elsewhere), "p")
    assert (parity.people, parity.missing, parity.extra) == (1, 1, 1)


def test_a_person_just_at_the_threshold_is_no_failure() -> None:
    people = np.stack([person(0.2, 0.3, 0.9), person(0.7, 0.7, 0.10001)])
    fewer = people.copy()
    fewer[1, -1] = 0.09999
    for pair in ((people, fewer), (fewer, people)):
        parity = compare(*map(crowd_answer, pair), "p")
        assert (parity.people, parity.missing, parity.extra) == (1, 0, 0)


@given(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05), st.floats(0.5, 8), st.permutations([0, 1, 2]))
def test_a_shift_of_everything_is_measured(dx: float, dy: float, zoom: float, order: list[int]) -> None:
    people = np.stack([person(0.25, 0.25, 0.9), person(0.75, 0.7, 0.8), person(0.3, 0.8, 0.7)])
    moved = people.copy()
    moved[:, 0:51:3] += dy
    moved[:, 1:51:3] += dx
    parity = compare(crowd_answer(people, zoom), crowd_answer(moved[order], zoom), "p")
    distance = zoom * math.hypot(100 * dx, 200 * dy)
    np.testing.assert_allclose(parity.shifts, distance, atol=1e-4 * zoom * 100)
    assert (parity.people, parity.missing, parity.extra) == (3, 0, 0)


def test_who_is_who_is_decided_for_all_at_once() -> None:
    """Taking the most similar pair first would leave the second person alone."""
    assert match(np.array([[0.9, 0.8], [0.85, 0.0]])) == [(0, 1), (1, 0)]
    assert match(np.array([[0.9], [0.95], [0.2]])) == [(1, 0)]
    assert match(np.array([[0.05]])) == []
    assert match(np.zeros((0, 3))) == []


def test_people_of_keypoints_without_sigmas_are_matched_by_their_extent() -> None:
    spec = CROWD.replace(keypoints=dataclasses.replace(COCO_17, name="n", sigmas=()))
    people = np.stack([person(0.2, 0.3, 0.9), person(0.7, 0.7, 0.8)])
    answers = [
        Readout(spec, build_decoder(spec), {"poses": p[None]}, (200, 100), np.eye(2, 3)[None])
        for p in (people, people[::-1].copy())
    ]
    parity = compare(*answers, "p")
    assert parity.people == 2
    assert parity.shifts.max() == 0
    assert not len(parity.oks)


def test_infinities_that_both_have_are_equal() -> None:
    error = tensor_error(np.array([1.0, np.inf, np.nan, -np.inf]), np.array([1.5, np.inf, np.nan, -np.inf]))
    assert (error.largest, error.scale) == (0.5, 1.0)
    assert tensor_error(np.array([1.0]), np.array([np.nan])).largest == math.inf
    assert tensor_error(np.array([np.inf]), np.array([-np.inf])).largest == math.inf


def test_the_embedded_pair_gives_its_golden_outputs() -> None:
    parity = verify("accurate", device="cpu")
    assert [c.stage for c in parity.comparisons] == ["detector", "pose"]
    # Other processors round otherwise; half a tenth of a pixel is the bound for every FP32 conversion.
    assert parity.failures(0.05) == []


def test_golden_frames_of_a_bundle(folder: Path, tmp_path: Path, base: PoseModel) -> None:
    (frame,) = read_golden(folder / "bundle" / GOLDEN)
    parity = verify(folder / "bundle")
    assert parity.failures(0.05) == []
    heavy = with_weight(base, "final_layer.weight", lambda a: a[::-1].copy())
    wrong = write_bundle(tmp_path / "wrong", base, engine=heavy)
    assert verify(wrong).failures(0.05)
    assert verify(wrong).to_dict()["tensors"]["heatmaps"]["max"] > 0.1
    assert len(frame.pixels) == 2


def test_two_bundles_are_compared_on_golden_frames_and_on_pictures(folder: Path, tmp_path: Path) -> None:
    parity = verify(folder / "unrefined.onnx", folder / "bundle")
    assert [c.source for c in parity.comparisons] == ["golden frame 0"]
    assert parity.moved > 0
    path = tmp_path / "p.png"
    cv2.imwrite(str(path), sample_picture()[0])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    parity = verify(folder / "unrefined.onnx", folder / "bundle", images=[tmp_path])
    assert [c.source for c in parity.comparisons] == ["golden frame 0", str(path)]
    assert list(parity.unreadable) == [str(tmp_path / "broken.png")]


def test_golden_frames_of_another_crop_are_not_used(folder: Path, tmp_path: Path, base: PoseModel) -> None:
    other = with_input(base, fit=Crop(convention="udp")).save(tmp_path / "udp.onnx")
    parity = verify(other, folder / "bundle")
    assert [c.source for c in parity.comparisons] == ["sample picture"]
    assert parity.max > 1


def test_a_picture_without_people_proves_nothing(folder: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((90, 120, 3), 128, np.uint8))
    parity = verify(folder / "base.onnx", folder / "base.onnx", images=[tmp_path / "grey.png"])
    assert ["no joint" in f for f in parity.failures()] == [True]


def test_what_cannot_be_compared(folder: Path, tmp_path: Path, base: PoseModel) -> None:
    with pytest.raises(InputError, match="no golden frames"):
        verify(folder / "base.onnx")
    with pytest.raises(InputError, match="Give --against"):
        verify(folder / "bundle", images=[tmp_path])
    names = tuple(f"k{i}" for i in range(17))
    other = PoseModel(base.graph, base.spec.replace(keypoints=KeypointSet("k", names)), {}).save(tmp_path / "k.onnx")
    with pytest.raises(InputError, match="not the same ones"):
        verify(other, folder / "base.onnx")
    frame = GoldenFrame(0, np.zeros((1, 64, 48, 3), np.uint8), {"z": np.zeros((1, 3), np.float32)})
    with pytest.raises(BundleError, match="no output 'y'"):
        recorded(CROPS, build_decoder(CROPS), frame)
    frame = GoldenFrame(0, frame.pixels, {"y": np.zeros((1, 3), np.float32)})
    with pytest.raises(DecodeError):
        recorded(CROPS, build_decoder(CROPS), frame).people()


def test_golden_frames_know_the_way_back_to_the_picture(tmp_path: Path) -> None:
    pixels, outputs = np.zeros((2, 64, 48, 3), np.uint8), {"y": np.zeros((2, 3, 16, 12), np.float32)}
    outputs["y"][:, :, 3, 2] = 1
    to_image = np.array([[[2, 0, 10], [0, 2, 20]], [[3, 0, 0], [0, 3, 0]]], np.float64)
    write_golden(tmp_path / GOLDEN, [GoldenFrame(0, pixels, outputs, to_image), GoldenFrame(0, pixels, outputs)])
    frames = read_golden(tmp_path / GOLDEN)
    np.testing.assert_array_equal(frames[0].to_image, to_image)
    assert frames[1].to_image is None
    people = recorded(CROPS, build_decoder(CROPS), frames[0]).people()
    np.testing.assert_allclose(people[0].joints[0, 0, :2], [2 * 8 + 10, 2 * 12 + 20])
    np.testing.assert_allclose(people[1].joints[0, 0, :2], [3 * 8, 3 * 12])
    for wrong in (to_image[:1], to_image * np.nan, to_image.astype(np.float32), to_image[:, :1]):
        write_golden(tmp_path / GOLDEN, [GoldenFrame(0, pixels, outputs, wrong)])
        with pytest.raises(BundleError):
            read_golden(tmp_path / GOLDEN)


def test_a_conversion_is_measured_where_it_can_run(folder: Path, base: PoseModel) -> None:
    bundle = read_bundle(folder / "bundle")
    measured = measure_conversion([base], bundle.folder, bundle.manifest.stages)
    assert measured["status"] == "executed"
    assert measured["pixels"]["max"] <= 0.05
    assert measured["joints"]["compared"] >= 17
    assert "onnxruntime" in measured["runtime"]
    json.dumps(measured, allow_nan=False)
    stage = BundleStage("pose", "no-such-target", "fp32", "model.onnx", base.spec)
    measured = measure_conversion([base], bundle.folder, [stage])
    assert measured["status"] == "not executed"
    assert "no-such-target" in measured["reason"]


def test_golden_frames_of_files_that_are_no_bundles(folder: Path) -> None:
    from edgepose.artifact import resolve

    assert golden_frames(resolve(folder / "base.onnx")) == []
    assert [f.stage for f in golden_frames(resolve("accurate"))] == [0, 1]
    assert [f.stage for f in golden_frames(resolve("fast"))] == [0]


def test_a_run_takes_time(folder: Path) -> None:
    with load(folder / "base.onnx", detector=None) as estimator:
        ms = median_ms(estimator.stages[0], np.zeros((1, 128, 96, 3), np.uint8))
    assert 0 < ms < 10_000
