from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from media_samples import encoded, gradient, video

from edgepose.errors import InputError
from edgepose.media.source import Failure, Frame, PictureSource, VideoSource, open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pictures"
    (root / "deeper").mkdir(parents=True)
    for i in (10, 2, 1):
        (root / f"img{i}.png").write_bytes(encoded(".png", np.full((4, 5, 3), i, np.uint8)))
    (root / "IMG3.PNG").write_bytes(encoded(".png", np.full((4, 5, 3), 3, np.uint8)))
    (root / "no_suffix").write_bytes(encoded(".jpg", gradient()))
    (root / ".hidden.png").write_bytes(encoded(".png", gradient()))
    (root / "deeper" / "below.png").write_bytes(encoded(".png", gradient()))
    (root / "labels.txt").write_text("0 0 0")
    return root


def names(source: object) -> list[str]:
    return [Path(item.source).name for item in source]  # type: ignore[attr-defined]


def test_folder_in_natural_order(folder: Path) -> None:
    source = open_source(folder)
    assert names(source) == ["img1.png", "img2.png", "IMG3.PNG", "img10.png", "no_suffix"]
    assert source.total == 5
    assert (source.is_video, source.live, source.fps, source.size) == (False, False, None, None)
    frames = [item for item in source if isinstance(item, Frame)]
    assert [f.image[0, 0, 0] for f in frames[:4]] == [1, 2, 3, 10]
    assert all(f.index == 0 and f.timestamp is None and not f.is_video for f in frames)
    assert frames[0].size == (4, 5)


def test_an_unreadable_picture_does_not_end_the_iteration(folder: Path) -> None:
    (folder / "img2.png").write_bytes(b"not a picture at all")
    (folder / "img10.png").unlink()
    (folder / "img10.png").symlink_to(folder / "gone.png")
    items = list(open_source(folder))
    assert [isinstance(i, Failure) for i in items] == [False, True, False, True, False]
    failure = items[1]
    assert isinstance(failure, Failure)
    assert failure.source == str(folder / "img2.png")
    assert failure.source in failure.reason


def test_a_pipe_in_a_folder_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "img5.png")
    os.mkfifo(folder / "pipe")
    assert sum(isinstance(i, Failure) for i in open_source(folder)) == 1


def test_folder_without_pictures(tmp_path: Path) -> None:
    video(tmp_path / "clip.mp4")
    with pytest.raises(InputError, match="holds no pictures") as caught:
        open_source(tmp_path)
    assert "*.mp4" in str(caught.value.hint)


def test_single_picture_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "picture.mp4"
    path.write_bytes(encoded(".png", gradient()))
    source = open_source(str(path))
    assert isinstance(source, PictureSource)
    (frame,) = source
    assert isinstance(frame, Frame)
    assert frame.source == str(path)
    np.testing.assert_array_equal(frame.image, gradient())


def test_single_video_is_told_by_content(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", frames=3).rename(tmp_path / "clip.jpg")
    source = open_source(path)
    assert isinstance(source, VideoSource)
    assert [i.index for i in source if isinstance(i, Frame)] == [0, 1, 2]


def test_sources_can_be_read_twice(folder: Path, tmp_path: Path) -> None:
    for source in (open_source(folder), open_source(video(tmp_path / "clip.mp4", frames=3))):
        first, second = list(source), list(source)
        assert len(first) == len(second) == source.total
        for a, b in zip(first, second, strict=True):
            assert isinstance(a, Frame)
            assert isinstance(b, Frame)
            np.testing.assert_array_equal(a.image, b.image)


def test_pattern(folder: Path) -> None:
    assert names(open_source(f"{folder}/img*.png")) == ["img1.png", "img2.png", "img10.png"]
    assert names(open_source(f"{folder}/**/*.png")) == ["below.png", "img1.png", "img2.png", "img10.png"]
    assert names(open_source(f"{folder}/*")) == ["img1.png", "img2.png", "IMG3.PNG", "img10.png", "no_suffix"]
    assert names(open_source(f"{folder}/[n]*")) == ["no_suffix"]


def test_pattern_of_pictures_and_videos(folder: Path) -> None:
    video(folder / "img4.mp4", frames=2)
    (folder / "img5.avi").write_bytes(b"RIFF\0\0\0\0AVI " + bytes(40))
    source = open_source(f"{folder}/img*")
    items = list(source)
    assert [Path(i.source).name for i in items] == [
        "img1.png", "img2.png", "img4.mp4", "img4.mp4", "img5.avi", "img10.png",
    ]  # fmt: skip
    assert [isinstance(i, Frame) and i.is_video for i in items] == [False, False, True, True, False, False]
    assert isinstance(items[4], Failure)
    assert source.total == 6
    assert len(source.files) == 5


def test_name_that_looks_like_a_pattern(tmp_path: Path) -> None:
    path = tmp_path / "img[1].png"
    path.write_bytes(encoded(".png", gradient()))
    assert names(open_source(path)) == ["img[1].png"]


@pytest.mark.parametrize("text", ["0", "12", "/dev/null", "rtsp://camera/1", "http://host/a.mp4", "udp://0.0.0.0:1"])
def test_cameras_and_streams_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="not supported yet"):
        open_source(text)


def test_a_file_named_by_a_number_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").write_bytes(encoded(".png", gradient()))
    monkeypatch.chdir(tmp_path)
    assert names(open_source("0")) == ["0"]


@pytest.mark.parametrize(
    "text", ["", "missing.png", "missing/", "a\0b", "no*match?.png", "x" * 5000, "file.png/deeper"]
)
def test_what_is_not_there(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file.png").write_bytes(encoded(".png", gradient()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        open_source(text)


def test_pattern_without_pictures_says_what_it_found(folder: Path) -> None:
    with pytest.raises(InputError, match="matches 1 files, none of them"):
        open_source(f"{folder}/*.txt")
