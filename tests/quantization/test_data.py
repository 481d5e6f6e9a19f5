"""Calibration sets: what is read from which source, and what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from calibration_samples import coco, network, pictures, top_down

from edgepose.artifact import embedded_folder
from edgepose.bundle import read_bundle
from edgepose.errors import EdgePoseError, InputError
from edgepose.fitting import fit
from edgepose.golden import GoldenFrame, read_golden, write_golden
from edgepose.media.pictures import read_picture
from edgepose.quantization.data import CalibrationSet, calibration_set

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_pictures_of_a_folder_are_fitted_as_the_model_says(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 5)
    spec = network().spec
    samples = calibration_set(folder, spec, batch=2)
    assert len(samples) == 5
    batches = list(samples.batches())
    assert [len(b.pixels) for b in batches] == [2, 2, 1]
    assert [n for b in batches for n in b.names] == [f"{i:03}.png" for i in range(5)]
    pixels = np.concatenate(list(samples))
    assert pixels.dtype == np.uint8
    for i, sample in enumerate(pixels):
        expected = fit(read_picture(folder / f"{i:03}.png"), spec.input).pixels[0]
        np.testing.assert_array_equal(sample, expected)


def test_limit_spreads_over_the_folder(tmp_path: Path) -> None:
    samples = calibration_set(pictures(tmp_path / "set", 10), network().spec, limit=3)
    names = [n for b in samples.batches() for n in b.names]
    assert names == ["001.png", "005.png", "008.png"]
    assert samples.record["samples"] == len(samples) == 3


def test_record_is_the_content_and_names_no_path(tmp_path: Path) -> None:
    spec = network().spec
    here = calibration_set(pictures(tmp_path / "a" / "set", 4), spec).record
    there = calibration_set(pictures(tmp_path / "b" / "set", 4), spec, batch=3).record
    assert here == there
    assert here["source"] == "pictures set"
    assert (here["images"], here["samples"]) == (4, 4)
    assert str(tmp_path) not in json.dumps(here)
    others = calibration_set(pictures(tmp_path / "c" / "set", 4, seed=1), spec).record
    assert others["sha256"] != here["sha256"]
    (tmp_path / "b" / "set" / "003.png").rename(tmp_path / "b" / "set" / "004.png")
    assert calibration_set(tmp_path / "b" / "set", spec).record["sha256"] != here["sha256"]


def test_coco_boxes_are_cropped_by_the_protocol(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 3)
    truth = coco(
        tmp_path / "truth.json",
        {"000.png": [[2, 3, 20, 30], [10, 10, 15, 25]], "001.png": [], "002.png": [[0, 0, 40, 48]]},
    )
    spec = top_down().spec
    samples = calibration_set(truth, spec, images=folder)
    assert len(samples) == 3
    pixels = np.concatenate(list(samples))
    # The protocol's boxes end one pixel early.
    first = fit(read_picture(folder / "000.png"), spec.input, np.array([[2, 3, 21, 32], [10, 10, 24, 34]]))
    np.testing.assert_array_equal(pixels[:2], first.pixels)
    assert samples.record["source"] == "coco truth.json"
    assert (samples.record["images"], samples.record["samples"]) == (2, 3)
    moved = coco(tmp_path / "moved.json", {"000.png": [[2, 3, 20, 31], [10, 10, 15, 25]], "002.png": [[0, 0, 40, 48]]})
    assert calibration_set(moved, spec, images=folder).record["sha256"] != samples.record["sha256"]


def test_coco_limit_counts_people(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 4)
    truth = coco(tmp_path / "t.json", {f"{i:03}.png": [[1, 1, 20, 30]] * 5 for i in range(4)})
    samples = calibration_set(truth, top_down().spec, images=folder, limit=8)
    names = [n for b in samples.batches() for n in b.names]
    assert names == sorted([f"{i:03}.png" for i in range(4)] * 2)


def test_whole_picture_models_take_the_pictures_of_a_coco_json(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 6)
    truth = coco(tmp_path / "t.json", {"004.png": [], "001.png": [[1, 1, 9, 9]]})
    samples = calibration_set(truth, network().spec, images=folder)
    assert [n for b in samples.batches() for n in b.names] == ["004.png", "001.png"]


def test_video_frames_are_spread_evenly() -> None:
    samples = calibration_set(EXAMPLES / "park.mp4", network().spec, limit=4)
    names = [n for b in samples.batches() for n in b.names]
    frames = [int(n.split()[-1]) for n in names]
    assert len(frames) == 4
    assert len({b - a for a, b in itertools.pairwise(frames)}) <= 2
    assert samples.record["source"] == "video park.mp4"


def test_top_down_models_get_the_people_that_the_embedded_detector_finds() -> None:
    samples = calibration_set(EXAMPLES / "park.mp4", top_down().spec, limit=4)
    (pixels,) = samples
    assert pixels.shape[0] == samples.record["samples"] == 4
    assert samples.record["images"] == 4
    assert all(len(np.unique(p)) > 20 for p in pixels)


def test_golden_frames_of_a_bundle() -> None:
    folder = embedded_folder("accurate")
    spec = read_bundle(folder).manifest.stages[-1].spec
    frames = [f for f in read_golden(folder / "golden.npz") if f.stage == 1]
    samples = calibration_set(folder, spec, limit=1)
    (pixels,) = samples
    np.testing.assert_array_equal(pixels, frames[0].pixels[:1])


def test_golden_frames_of_another_size_are_refused(tmp_path: Path) -> None:
    frame = GoldenFrame(0, np.zeros((1, 8, 8, 3), np.uint8), {"o": np.zeros((1, 1), np.float32)})
    write_golden(tmp_path / "golden.npz", [frame])
    with pytest.raises(InputError, match="no golden frame of the size"):
        calibration_set(tmp_path / "golden.npz", network().spec)


def read(samples: CalibrationSet) -> None:
    for _ in samples:
        pass


def test_unreadable_pictures_are_told_and_left_out(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 4)
    (folder / "001.png").write_bytes(b"no picture at all")
    samples = calibration_set(folder, network().spec)
    assert samples.record["images"] == len(samples) == 3
    assert [Path(name).name for name in samples.unreadable] == ["001.png"]
    for path in folder.iterdir():
        path.write_bytes(b"no picture at all")
    with pytest.raises(InputError, match="No picture of"):
        read(calibration_set(folder, network().spec))


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no pictures"):
        calibration_set(tmp_path, network().spec)
    with pytest.raises(InputError, match="There is no file or folder"):
        calibration_set(tmp_path / "none", network().spec)


def test_a_single_picture_must_be_meant(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 1)
    with pytest.raises(InputError, match="only one usable picture") as caught:
        read(calibration_set(folder, network().spec))
    assert "--limit 1" in str(caught.value)
    read(calibration_set(folder, network().spec, limit=1))
    (folder / "more.png").write_bytes(b"no picture at all")
    with pytest.raises(InputError, match="only one usable picture"):
        read(calibration_set(folder, network().spec))


def test_constant_pictures(tmp_path: Path) -> None:
    for i in range(3):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((40, 40, 3), 80 * i, np.uint8))
    with pytest.raises(InputError, match="of one colour"):
        read(calibration_set(tmp_path, network().spec))
    pictures(tmp_path, 1)
    assert calibration_set(tmp_path, network().spec).record["samples"] == 4


def test_nobody_in_the_pictures(tmp_path: Path) -> None:
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 200, 3)))
    with pytest.raises(InputError, match="nobody in the 2 pictures"):
        read(calibration_set(tmp_path, top_down().spec))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"images": 3}', '{"images": [{"id": 1}]}', "[" * 100_000),
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"bbox": [1], "image_id": 1}]}',
    ],
)
def test_no_coco_json(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no COCO annotation file"):
        calibration_set(path, network().spec, images=tmp_path)
    path.write_text('{"images": []}')
    with pytest.raises(InputError, match="lists no images"):
        calibration_set(path, network().spec, images=tmp_path)


def test_coco_pictures_stay_inside_their_folder(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 2)
    pictures(tmp_path / "secret", 2)
    truth = coco(tmp_path / "t.json", {"../secret/000.png": [[0, 0, 9, 9]], "000.png": [], "001.png": []})
    samples = calibration_set(truth, network().spec, images=folder)
    assert samples.record["images"] == 2
    assert list(samples.unreadable) == ["../secret/000.png"]


def test_coco_without_its_folder_or_a_folder_without_coco(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 2)
    truth = coco(tmp_path / "t.json", {"000.png": []})
    for arguments in ((truth, None), (truth, tmp_path / "none"), (folder, folder)):
        with pytest.raises(EdgePoseError):
            calibration_set(arguments[0], network().spec, images=arguments[1])
    with pytest.raises(InputError, match="no person with a box"):
        calibration_set(truth, top_down().spec, images=folder)
    with pytest.raises(InputError, match="limit is 0"):
        calibration_set(folder, network().spec, limit=0)


def test_the_hash_is_the_same_on_every_machine(reference: Path) -> None:
    folder = reference / "data" / "coco_keypoints"
    truth = folder / "person_keypoints_train2017.json"
    record = calibration_set(truth, top_down().spec, images=folder / "train2017", limit=5).record
    assert record["sha256"] == "737a5b716a5d4f67b6b1f253d43eb2164c791e1cbf23cb82e0733a24d58e62e7"
