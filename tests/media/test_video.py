from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_samples import gradient, names_in, video

from edgepose.errors import InputError, MediaError
from edgepose.media.source import Failure, Frame, VideoSource, open_source
from edgepose.media.video_writer import VideoWriter


def split(path: Path) -> tuple[list[Frame], list[Failure]]:
    items = list(open_source(path))
    frames = [i for i in items if isinstance(i, Frame)]
    failures = [i for i in items if isinstance(i, Failure)]
    assert items == [*frames, *failures]
    return frames, failures


CONTAINERS = [
    ("clip.mp4", "mp4v"),
    ("clip.mov", "mp4v"),
    ("clip.avi", "MJPG"),
    ("clip.mkv", "mp4v"),
    ("clip.webm", "VP80"),
]


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
def test_containers(tmp_path: Path, name: str, codec: str) -> None:
    path = video(tmp_path / name, 12, codec).rename(tmp_path / "clip.bin")
    source = open_source(path)
    assert isinstance(source, VideoSource)
    assert (source.total, source.size, source.is_video, source.live) == (12, (64, 96), True, False)
    assert source.fps == pytest.approx(10)
    frames, failures = split(path)
    assert not failures
    assert [f.index for f in frames] == list(range(12))
    for frame in frames:
        assert frame.image.shape == (64, 96, 3)
        assert frame.image.dtype == np.uint8
        assert abs(float(frame.image.mean()) - 20 * frame.index) < 4
        assert frame.timestamp == pytest.approx(frame.index / 10, abs=0.002)
        assert frame.fps == pytest.approx(10)
        assert frame.source == str(path)


# A matrix of the track header turns the picture: a, b, u, c, d, v, x, y, w in 16.16 and 2.30 fixed point.
ONE, MINUS = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
ZERO, W = bytes(4), (1 << 30).to_bytes(4, "big")
TURNED = {
    90: ZERO + ONE + ZERO + MINUS + ZERO + ZERO,
    180: MINUS + ZERO + ZERO + ZERO + MINUS + ZERO,
    270: ZERO + MINUS + ZERO + ONE + ZERO + ZERO,
}


@pytest.mark.parametrize("angle", TURNED)
def test_rotation_is_applied(tmp_path: Path, angle: int) -> None:
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:20, :30] = 255  # top left
    path = tmp_path / "turned.mp4"
    with_matrix = tmp_path / "plain.mp4"
    writer = VideoWriter(with_matrix, 10)
    stored = np.rot90(upright, angle // 90)  # counter-clockwise; the matrix turns it back clockwise
    for _ in range(3):
        writer.write(np.ascontiguousarray(stored))
    writer.close()
    data = with_matrix.read_bytes()
    track = data.index(b"tkhd")
    identity = ONE + ZERO + ZERO + ZERO + ONE + ZERO + ZERO + ZERO + W
    at = data.index(identity, track)
    path.write_bytes(data[:at] + TURNED[angle] + data[at + 24 :])
    frames, failures = split(path)
    assert not failures
    assert np.abs(frames[0].image.astype(int) - upright).mean() < 8
    assert open_source(path).size == (64, 96)


@pytest.mark.parametrize(("name", "codec"), CONTAINERS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_video_ends_in_a_failure(tmp_path: Path, name: str, codec: str, keep: float) -> None:
    path = video(tmp_path / name, 12, codec)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    frames, failures = split(path)
    assert len(frames) <= 12
    assert len(failures) == 1
    assert "cut short" in failures[0].reason
    assert str(path) in failures[0].reason
    assert [f.index for f in frames] == list(range(len(frames)))


def test_video_without_its_index(tmp_path: Path) -> None:
    data = video(tmp_path / "clip.mp4").read_bytes()
    path = tmp_path / "unfinished.mp4"
    path.write_bytes(data[: data.index(b"moov") - 4])
    frames, failures = split(path)
    assert not frames
    assert "not finished" in failures[0].reason


def test_video_whose_pixels_are_lost(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.avi", 12, "MJPG")
    data = bytearray(path.read_bytes())
    start = data.index(b"movi") + 4
    data[start + 400 : -200] = bytes(len(data) - 200 - start - 400)
    path.write_bytes(bytes(data))
    frames, failures = split(path)
    assert len(frames) < 12
    assert len(failures) == 1


def test_video_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    data = video(path, 3).read_bytes()
    cluster = data.index(b"\x1f\x43\xb6\x75")
    damaged = bytearray(data)
    damaged[cluster + 8 :] = bytes(len(data) - cluster - 8)
    path.write_bytes(bytes(damaged))
    frames, failures = split(path)
    assert not frames
    assert len(failures) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 26\n",
    ],
)
def test_playlists_that_lead_elsewhere_are_not_opened(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    for source in (open_source(path), VideoSource(path)):
        items = list(source)
        assert len(items) == 1
        assert isinstance(items[0], Failure)


def test_videos_print_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, codec in CONTAINERS:
        path = video(tmp_path / name, 6, codec)
        capfd.readouterr()  # what the writer above printed
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        split(path)
        middle = bytearray(data)
        middle[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        path.write_bytes(bytes(middle))
        split(path)
    assert capfd.readouterr() == ("", "")


def test_stopping_early_releases_the_file(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4")
    iterator = iter(open_source(path))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    opened = {str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()}
    assert str(path) not in opened


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 95), (1, 1), (33, 2)])
def test_written_video_comes_back(tmp_path: Path, height: int, width: int) -> None:
    path = tmp_path / "out.mp4"
    image = np.full((height, width, 3), 90, np.uint8)
    writer = VideoWriter(path, 29.97)
    for _ in range(4):
        writer.write(image)
        assert not path.exists()
    writer.close()
    frames, failures = split(path)
    assert not failures
    assert len(frames) == 4
    assert frames[0].image.shape == (height + height % 2, width + width % 2, 3)
    assert abs(float(frames[0].image.mean()) - 90) < 5
    assert frames[0].fps == pytest.approx(29.97, abs=0.01)
    assert names_in(tmp_path) == ["out.mp4"]


def test_frame_rate_is_25_where_the_source_has_none(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4")
    writer.write(gradient())
    writer.close()
    assert open_source(tmp_path / "out.mp4").fps == pytest.approx(25)


def test_frames_of_another_size_are_brought_to_the_first(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 10)
    writer.write(gradient(64, 96))
    writer.write(gradient(32, 20))
    writer.close()
    frames, _ = split(tmp_path / "out.mp4")
    assert [f.size for f in frames] == [(64, 96), (64, 96)]


def test_aborted_video_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    writer = VideoWriter(path, 10)
    writer.write(gradient())
    writer.abort()
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["out.mp4"]


def test_video_without_a_frame_is_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "out.mp4", 10).close()
    assert names_in(tmp_path) == []


def test_video_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"written as \.mp4"):
        VideoWriter(tmp_path / "out.avi")
    with pytest.raises(InputError, match="does not exist"):
        VideoWriter(tmp_path / "missing" / "out.mp4")
    writer = VideoWriter(tmp_path / "out.mp4", 10)
    with pytest.raises(MediaError, match="cannot encode"):
        writer.write(np.zeros((2, 40_000, 3), np.uint8))
    writer.abort()
    assert names_in(tmp_path) == []


FULL_DISK = """
import resource, sys
import numpy as np
from edgepose.errors import MediaError
from edgepose.media.video_writer import VideoWriter
writer = VideoWriter(sys.argv[1], 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rng = np.random.default_rng(0)
for _ in range(20):
    writer.write(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8))
try:
    writer.close()
except MediaError as error:
    print(error)
"""


def test_full_disk_leaves_no_half_video(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Cannot write" in done.stdout
    assert names_in(tmp_path) == []


def test_reference_videos(reference: Path) -> None:
    frames, failures = split(reference / "data/video/mmpose_demo.mp4")
    assert not failures
    assert [f.size for f in frames] == [(540, 960)] * 5
    long = open_source(reference / "data/video/one-by-one-person-detection.mp4")
    assert (long.total, long.size) == (1394, (432, 768))
    assert long.fps == pytest.approx(10)
