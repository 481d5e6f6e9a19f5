from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_samples import encoded, gradient, names_in, textured, video

from edgepose.errors import InputError
from edgepose.keypoints import COCO_17
from edgepose.media.pictures import read_picture
from edgepose.media.sinks import FolderSink, JsonLinesSink, PictureSink, VideoSink, open_save
from edgepose.media.source import Frame, open_source
from edgepose.poses import Poses


def somebody(size: tuple[int, int], ids: bool = False) -> Poses:
    height, width = size
    rng = np.random.default_rng(0)
    keypoints = rng.uniform(0.1, 0.9, (1, 17, 3)).astype(np.float32) * np.array([width, height, 1], np.float32)
    box = np.array([[1.5, 2, width - 1, height]], np.float32)
    track = np.array([7]) if ids else None
    return Poses(keypoints, np.array([0.75], np.float32), box, COCO_17, size, track)


def frame(source: str = "a.jpg", index: int = 0, image: np.ndarray | None = None, fps: float | None = None) -> Frame:
    pixels = textured() if image is None else image
    return Frame(source, index, pixels, None if fps is None else index / fps, fps)


def test_json_lines_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    with JsonLinesSink(path) as sink:
        sink.write(frame("a.jpg"), somebody((120, 160)))
        sink.write(frame("b.mp4", 4, fps=10), somebody((120, 160), ids=True))
        sink.write(frame("c.jpg"), Poses.empty(COCO_17, (120, 160)))
        assert not path.exists()
    first, second, third = (json.loads(line) for line in path.read_text().splitlines())
    assert list(first) == ["source", "frame", "width", "height", "persons"]
    assert (first["source"], first["frame"], first["width"], first["height"]) == ("a.jpg", 0, 160, 120)
    (person,) = first["persons"]
    assert set(person) == {"score", "box", "keypoints"}
    assert person["score"] == 0.75
    assert person["box"] == [1.5, 2, 159, 120]
    np.testing.assert_array_equal(np.float32(person["keypoints"]), somebody((120, 160)).keypoints[0])
    assert (second["frame"], second["persons"][0]["id"]) == (4, 7)
    assert third["persons"] == []


def test_json_of_an_aborted_run_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_text("old")
    with pytest.raises(InputError, match="no keypoint"), JsonLinesSink(path) as sink:  # noqa: PT012 - as it is used
        sink.write(frame(), somebody((120, 160)))
        somebody((120, 160)).keypoint("tail")
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["poses.jsonl"]


def test_json_to_standard_output_comes_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw), encoding="ascii"))
    sink = JsonLinesSink("-")
    sink.write(frame("bücher/ünï.jpg"), somebody((120, 160)))
    assert json.loads(raw.getvalue())["source"] == "bücher/ünï.jpg"
    sink.close()
    assert not sys.stdout.closed


def test_json_to_a_device(tmp_path: Path) -> None:
    with JsonLinesSink("/dev/null") as sink:
        sink.write(frame(), somebody((120, 160)))
    assert Path("/dev/null").is_char_device()
    with pytest.raises(InputError, match="No space"), JsonLinesSink("/dev/full") as sink:
        sink.write(frame(), somebody((120, 160)))


def test_json_into_a_pipe_that_is_closed() -> None:
    code = (
        "import numpy as np, sys\n"
        "from edgepose.keypoints import COCO_17\n"
        "from edgepose.media.sinks import JsonLinesSink\n"
        "from edgepose.media.source import Frame\n"
        "from edgepose.poses import Poses\n"
        "f = Frame('a', 0, np.zeros((2, 2, 3), np.uint8))\n"
        "sink = JsonLinesSink('-')\n"
        "try:\n"
        "    while True: sink.write(f, Poses.empty(COCO_17, (2, 2)))\n"
        "except BrokenPipeError:\n"
        "    print('gone', file=sys.stderr)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert b"gone" in process.stderr.read()
    process.wait(60)
    process.stderr.close()


def test_json_of_names_and_numbers_that_json_has_not(tmp_path: Path) -> None:
    poses = somebody((120, 160))
    poses.keypoints[0, 0] = (np.nan, np.inf, 0)
    with JsonLinesSink(tmp_path / "poses.jsonl") as sink:
        sink.write(frame(os.fsdecode(b"caf\xe9.jpg")), poses)
    line = json.loads((tmp_path / "poses.jsonl").read_bytes().decode("ascii"))
    assert line["source"] == "caf\N{REPLACEMENT CHARACTER}.jpg"
    assert line["persons"][0]["keypoints"][0] == [None, None, 0]


@pytest.mark.parametrize("target", ["missing/poses.jsonl", "."])
def test_json_that_cannot_be_written(tmp_path: Path, target: str) -> None:
    with pytest.raises(InputError, match="Cannot write"):
        JsonLinesSink(tmp_path / target)
    assert names_in(tmp_path) == []


FULL = """
import resource, sys
import numpy as np
from edgepose.errors import InputError
from edgepose.keypoints import COCO_17
from edgepose.media.sinks import JsonLinesSink
from edgepose.media.source import Frame
from edgepose.poses import Poses
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    with JsonLinesSink(sys.argv[1]) as sink:
        for _ in range(int(sys.argv[2])):
            sink.write(Frame('a', 0, np.zeros((2, 2, 3), np.uint8)), Poses.empty(COCO_17, (2, 2)))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("lines", [90, 5000])  # found out at the end, and in between
def test_full_disk_leaves_no_half_json(tmp_path: Path, lines: int) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "poses.jsonl"), str(lines)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Cannot write" in done.stdout
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.JPEG"])
def test_one_picture(tmp_path: Path, name: str) -> None:
    poses = somebody((120, 160))
    with PictureSink(tmp_path / name) as sink:
        sink.write(frame(), poses)
    image = read_picture(tmp_path / name)
    drawn = poses.draw(textured())
    assert np.abs(image.astype(int) - drawn).mean() < (0.01 if name == "out.png" else 6)
    assert not np.array_equal(drawn, textured())
    assert names_in(tmp_path) == [name]


def test_picture_too_long_for_jpeg(tmp_path: Path) -> None:
    image = np.zeros((1, 70_000, 3), np.uint8)
    with pytest.raises(InputError, match="cannot encode") as caught, PictureSink(tmp_path / "out.jpg") as sink:
        sink.write(frame(image=image), Poses.empty(COCO_17, (1, 70_000)))
    assert ".png" in str(caught.value.hint)
    assert names_in(tmp_path) == []


def test_one_video(tmp_path: Path) -> None:
    with VideoSink(tmp_path / "out.mp4", 12) as sink:
        for i in range(3):
            sink.write(frame("in.mp4", i, fps=12), somebody((120, 160)))
    source = open_source(tmp_path / "out.mp4")
    assert (source.total, source.size) == (3, (120, 160))
    assert source.fps == pytest.approx(12)


def test_folder_names_files_after_their_sources(tmp_path: Path) -> None:
    nobody = Poses.empty(COCO_17, (120, 160))
    folder = tmp_path / "new" / "drawn"
    with FolderSink(folder) as sink:
        for source in ("a/1.jpg", "b/1.jpg", "c/1.bmp", "c/1.png", "1", "d/x.tar.JPEG", "1.jpg"):
            sink.write(frame(source), nobody)
        for source in ("a/clip.avi", "b/clip.mkv"):
            for i in range(2):
                sink.write(frame(source, i, fps=5), nobody)
        sink.write(frame("clip.webp"), nobody)
    assert names_in(folder) == sorted(
        [
            "1.jpg",
            "1-2.jpg",
            "1.png",
            "1-2.png",
            "1-3.png",
            "x.tar.JPEG",
            "1-3.jpg",
            "clip.mp4",
            "clip-2.mp4",
            "clip.png",
        ]
    )
    assert [open_source(folder / f"clip{n}.mp4").total for n in ("", "-2")] == [2, 2]


def test_the_same_video_twice_gives_two_videos(tmp_path: Path) -> None:
    nobody = Poses.empty(COCO_17, (120, 160))
    with FolderSink(tmp_path / "out") as sink:
        for _ in range(2):
            for i in range(3):
                sink.write(frame("clip.mp4", i, fps=5), nobody)
    assert names_in(tmp_path / "out") == ["clip-2.mp4", "clip.mp4"]


def test_aborted_folder_keeps_what_is_finished(tmp_path: Path) -> None:
    nobody = Poses.empty(COCO_17, (120, 160))
    with pytest.raises(KeyboardInterrupt), FolderSink(tmp_path / "out") as sink:  # noqa: PT012 - as it is used
        sink.write(frame("a.png"), nobody)
        sink.write(frame("a.mp4", 0, fps=5), nobody)
        sink.write(frame("b.mp4", 0, fps=5), nobody)
        raise KeyboardInterrupt
    assert names_in(tmp_path / "out") == ["a.mp4", "a.png"]


def test_inputs_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png", gradient()))
    (tmp_path / "link").symlink_to(tmp_path)
    sources = [open_source(path)]
    for target in (tmp_path, tmp_path / "link", path, tmp_path / "link" / "a.png"):
        with pytest.raises(InputError, match=r"overwritten|is an input"):
            open_save(target, sources)
    assert path.read_bytes() == encoded(".png", gradient())


def test_what_a_path_means(tmp_path: Path) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).write_bytes(encoded(".png", gradient()))
    picture, pictures = open_source(tmp_path / "1.png"), open_source(tmp_path)
    clip = open_source(video(tmp_path / "clip.mp4"))
    out = tmp_path / "out"
    out.mkdir()
    assert isinstance(open_save(out / "a.jpg", [picture]), PictureSink)
    assert isinstance(open_save(out / "a.mp4", [clip]), VideoSink)
    for target in (out / "folder", out / "v1.2", f"{out}/new.png/", out):
        assert isinstance(open_save(target, [picture, clip, pictures]), FolderSink)
    for target, sources in [
        ("a.jpg", [pictures]),
        ("a.jpg", [clip]),
        ("a.jpg", [picture, picture]),
        ("a.mp4", [picture]),
        ("a.mp4", [clip, clip]),
        ("a.bmp", [picture]),
        ("a.avi", [clip]),
        ("missing/a.png", [picture]),
    ]:
        with pytest.raises(InputError, match="Cannot write"):
            open_save(out / target, sources)
    with pytest.raises(InputError, match="Cannot make"):
        open_save(tmp_path / "1.png" / "below", [clip])


def test_names_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    name = "ö" * 125 + ".png"
    with FolderSink(tmp_path / "out") as sink:
        sink.write(frame(name), Poses.empty(COCO_17, (120, 160)))
    assert names_in(tmp_path / "out") == [name]
