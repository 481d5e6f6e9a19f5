"""edgepose run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import edgepose as package

if TYPE_CHECKING:
    from conftest import Call

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PARK = EXAMPLES / "park.jpg"
COMMAND = (sys.executable, "-m", "edgepose", "run", "--model", "fast")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = cv2.imread(str(PARK))
    for name, size in {"a.png": (320, 180), "b.jpg": (640, 360)}.items():
        cv2.imwrite(str(folder / name), cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return folder


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_picture(edgepose: Call) -> None:
    done = edgepose("run", PARK)
    assert done.code == 0
    assert f"{PARK}: 2 people" in done.out
    assert done.err == ""


def test_json_lines_on_stdout_and_nothing_else(edgepose: Call) -> None:
    done = edgepose("run", PARK, "--json", "-")
    (line,) = lines(done.out)
    assert list(line) == ["source", "frame", "width", "height", "persons"]
    assert (line["source"], line["frame"], line["width"], line["height"]) == (str(PARK), 0, 1280, 720)
    poses = package.load()(cv2.imread(str(PARK)))
    assert line["persons"] == poses.to_dict()
    assert "2 people in 1 frame" in done.err


def test_a_folder_to_json_and_drawn_pictures(edgepose: Call, photos: Path, tmp_path: Path) -> None:
    done = edgepose("run", photos, "--json", tmp_path / "poses.jsonl", "--save", tmp_path / "drawn")
    assert done.code == 0
    found = lines((tmp_path / "poses.jsonl").read_text())
    assert [Path(str(line["source"])).name for line in found] == ["a.png", "b.jpg"]
    for name in ("a.png", "b.jpg"):
        drawn, plain = cv2.imread(str(tmp_path / "drawn" / name)), cv2.imread(str(photos / name))
        assert drawn.shape == plain.shape
        assert (np.abs(drawn.astype(int) - plain) > 60).any(axis=2).sum() > 50


def test_several_sources_and_a_pattern(edgepose: Call, photos: Path) -> None:
    done = edgepose("run", photos / "*.png", photos / "b.jpg", "--json", "-")
    assert [Path(str(line["source"])).name for line in lines(done.out)] == ["a.png", "b.jpg"]


def test_a_video(edgepose: Call, tmp_path: Path) -> None:
    done = edgepose(
        *("run", EXAMPLES / "park.mp4", "--model", "fast"),
        *("--json", tmp_path / "v.jsonl", "--save", tmp_path / "drawn.mp4"),
    )
    assert done.code == 0
    found = lines((tmp_path / "v.jsonl").read_text())
    assert [line["frame"] for line in found] == list(range(40))
    capture = cv2.VideoCapture(str(tmp_path / "drawn.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (40, 15)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drawn.mp4", "v.jsonl"]


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_done(edgepose: Call, photos: Path) -> None:
    (photos / "aa.jpg").write_bytes(b"no picture")
    done = edgepose("run", photos, photos / "nope.jpg", "--json", "-")
    assert done.code == 1
    assert [Path(str(line["source"])).name for line in lines(done.out)] == ["a.png", "b.jpg"]
    assert "aa.jpg" in done.err
    assert "nope.jpg" in done.err
    assert "2 could not be read" in done.err


def test_only_unreadable_pictures(edgepose: Call, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"")
    done = edgepose("run", tmp_path / "x.jpg")
    assert done.code == 1
    assert "x.jpg" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope.jpg"],
        ["rtsp://camera/1"],
        [PARK, "--model", "nope"],
        [PARK, "--device", "gpu"],
        [PARK, "--device", "ascend310"],
        [PARK, "--json", "/nonexistent/x.jsonl"],
        [PARK, "--save", "/nonexistent/x.jpg"],
        [PARK, "--spec", "x.json"],
        [PARK, "--nosuch"],
    ],
    ids=lambda a: " ".join(Path(x).name if isinstance(x, Path) else x for x in a) or "nothing",
)
def test_wrong_usage(edgepose: Call, arguments: list[str | Path]) -> None:
    done = edgepose("run", *arguments)
    assert done.code == 2
    assert done.out == ""
    assert len(done.err) > 10
    assert "Traceback" not in done.err


def test_sixteen_bit_grey_alpha_and_orientation(edgepose: Call, tmp_path: Path) -> None:
    image = cv2.resize(cv2.imread(str(PARK)), (640, 360), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    alpha = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    for name, pixels in {"16.png": image.astype(np.uint16) * 257, "alpha.png": alpha, "plain.png": image}.items():
        cv2.imwrite(str(tmp_path / name), pixels)
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    jpeg = cv2.imencode(".jpg", np.ascontiguousarray(np.rot90(image)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    # An EXIF block that says: turn this picture by 90 degrees clockwise to see it upright.
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    done = edgepose("run", tmp_path, "--json", "-")
    assert done.code == 0
    by_name = {Path(str(line["source"])).name: line for line in lines(done.out)}
    assert by_name["16.png"]["persons"] == by_name["alpha.png"]["persons"] == by_name["plain.png"]["persons"]
    turned = by_name["turned.jpg"]
    assert (turned["width"], turned["height"]) == (640, 360)
    for name in ("turned.jpg", "grey.png"):
        persons = by_name[name]["persons"]
        assert isinstance(persons, list)
        assert len(persons) >= 1


def test_no_progress_bar_without_a_terminal(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, EXAMPLES / "park.mp4", "--json", tmp_path / "x.jsonl"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo terminal")
def test_a_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    import pty

    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(3):
        shutil.copy(EXAMPLES / "park.mp4", clips / f"{i}.mp4")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, clips / "*.mp4", "--json", tmp_path / "x.jsonl"],
        stdout=subprocess.DEVNULL,
        stderr=child,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert process.wait() == 0
    os.close(parent)
    assert b"finding people" in shown
    assert b"/120" in shown


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_work_leaves_nothing_behind(tmp_path: Path, how: signal.Signals) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for i in range(20):
        shutil.copy(EXAMPLES / "park.mp4", clips / f"{i}.mp4")
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        [*COMMAND, clips / "*.mp4", "--json", out / "x.jsonl", "--save", out / "drawn"],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any(p.stat().st_size for p in out.glob(".x*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(how)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + how
    assert "Traceback" not in err
    assert "interrupted" in err
    left = [p for p in out.rglob("*") if p.is_file()]
    assert all(p.parent.name == "drawn" and p.suffix == ".mp4" and cv2.VideoCapture(str(p)).isOpened() for p in left)


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, EXAMPLES / "park.mp4", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode()
    assert process.wait(timeout=60) == 1
    assert "Traceback" not in err
