"""More than two hundred malformed inputs: each is refused by name, quickly, silently, and leaves nothing behind."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from media_samples import encoded, gif, gradient, names_in, png, png_chunk, textured, tiff, video
from test_pictures import HUGE

from edgepose.errors import EdgePoseError
from edgepose.keypoints import COCO_17
from edgepose.media.pictures import read_picture
from edgepose.media.sinks import FolderSink, JsonLinesSink
from edgepose.media.source import Failure, Frame, PictureSource, open_source
from edgepose.poses import Poses

SECONDS = 5.0  # a tenth of a second on an idle machine; a hang is what must be told apart

PICTURES = {
    "png": encoded(".png", textured(48, 64)),
    "jpg": encoded(".jpg", textured(48, 64)),
    "progressive.jpg": encoded(".jpg", textured(48, 64), cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "bmp": encoded(".bmp", textured(24, 32)),
    "lossy.webp": encoded(".webp", textured(48, 64), cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless.webp": encoded(".webp", textured(48, 64), cv2.IMWRITE_WEBP_QUALITY, 101),
    "gif": gif(8, 8, bytes(i % 4 for i in range(64)), bytes(range(12))),
    "lzw.tif": encoded(".tiff", textured(48, 64)),
    "raw.tif": tiff(gradient(), photometric=2),
    "ppm": encoded(".ppm", textured(24, 32)),
}
FOREIGN = {
    "text": b"The quick brown fox jumps over the lazy dog.\n" * 20,
    "json": b'{"images": [], "annotations": []}',
    "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "zip": b"PK\x03\x04" + bytes(200),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(200),
    "wav": b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0" + bytes(60),
    "pdf": b"%PDF-1.7\n" + bytes(200),
    "playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
    "noise": np.random.default_rng(5).bytes(500),
}
SUFFIXES = ("png", "jpg", "bmp", "webp", "gif", "tif", "mp4", "avi", "mkv")


def _png_header(width: int, height: int, bits: int, color: int) -> bytes:
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))


_PNG, _END = b"\x89PNG\r\n\x1a\n", png_chunk(b"IEND", b"")
_SOF = b"\xff\xc0\0\x0b\x08\0\x10\0\x10\1\1\x11\0"
_SOS = b"\xff\xda\0\x08\1\1\0\0\x3f\0"


def _bmp(width: int, height: int, bits: int, *, offset: int = 54, compression: int = 0, size: int = 40) -> bytes:
    head = b"BM" + struct.pack("<III", 200, 0, offset)
    return head + struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 0, 0, 0, 0) + bytes(200)


def _box(name: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(body) if length is None else length, name) + body


_FTYP = _box(b"ftyp", b"isom\0\0\2\0isomiso2")

HEADERS = {
    "no-pixels.png": _PNG + _png_header(8, 8, 8, 2) + _END,
    "no-width.png": png(0, 8, 8, 2, b"\0" * 8),
    "odd-depth.png": png(8, 8, 7, 2, b"\0" * 200),
    "odd-colour.png": png(8, 8, 8, 5, b"\0" * 200),
    "no-header.png": _PNG + png_chunk(b"IDAT", b"") + _END,
    "wrong-crc.png": PICTURES["png"][:60] + b"\xff\xff" + PICTURES["png"][62:],
    "long-chunk.png": _PNG + _png_header(8, 8, 8, 2) + struct.pack(">I4s", 0x7FFFFFFF, b"IDAT"),
    "no-zlib.png": _PNG + _png_header(8, 8, 8, 2) + png_chunk(b"IDAT", b"\xff" * 50) + _END,
    "few-rows.png": png(8, 80, 8, 2, b"\0" * 50),
    "no-palette.png": png(4, 1, 8, 3, b"\0\0\1\2\3"),
    "ends.jpg": b"\xff\xd8\xff\xd9",
    "only-markers.jpg": b"\xff\xd8" + b"\xff" * 300 + b"\xff\xd9",
    "no-frame.jpg": b"\xff\xd8" + _SOS + bytes(20) + b"\xff\xd9",
    "no-scan.jpg": b"\xff\xd8" + _SOF + b"\xff\xd9",
    "no-tables.jpg": b"\xff\xd8" + _SOF + _SOS + bytes(20) + b"\xff\xd9",
    "no-height.jpg": PICTURES["jpg"].replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 0, 64)),
    "segment-of-one.jpg": b"\xff\xd8\xff\xe0\0\1" + _SOF + _SOS + b"\xff\xd9",
    "many-scans.jpg": b"\xff\xd8" + _SOF.replace(b"\xc0", b"\xc2") + _SOS * 5000 + b"\xff\xd9",
    "no-bits.bmp": _bmp(4, 4, 0),
    "odd-bits.bmp": _bmp(4, 4, 77),
    "negative-width.bmp": _bmp(-4, 4, 24),
    "no-width.bmp": _bmp(0, 4, 24),
    "far-offset.bmp": _bmp(4, 4, 24, offset=0xFFFFFFF0),
    "odd-compression.bmp": _bmp(4, 4, 24, compression=99),
    "odd-header.bmp": _bmp(4, 4, 24, size=0xFFFFFFFF),
    "itself.tif": b"II*\0" + struct.pack("<IHHHII", 4, 4, 4, 4, 4, 4) + bytes(20),
    "far-directory.tif": b"II*\0" + struct.pack("<I", 0xFFFFFFF0) + bytes(50),
    "no-fields.tif": b"MM\0*" + struct.pack(">IH", 8, 0) + bytes(50),
    "many-fields.tif": b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(900_000),
    "long-field.tif": b"II*\0" + struct.pack("<IHHHII", 8, 1, 256, 4, 0xFFFFFFFF, 0) + bytes(50),
    "big.tif": b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 60) + bytes(50),
    "no-strips.tif": b"II*\0" + struct.pack("<IHHHIIHHII", 8, 2, 256, 4, 1, 9, 257, 4, 1, 9) + bytes(50),
    "no-picture.gif": b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b";",
    "no-size.gif": b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + PICTURES["gif"][25:],
    "odd-block.gif": b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0, 0, 0) + b"\x99\x99" * 20,
    "odd-code.gif": PICTURES["gif"][:35] + b"\xff" + PICTURES["gif"][36:],
    "empty.webp": b"RIFF\4\0\0\0WEBP",
    "long.webp": b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff" + bytes(60),
    "odd-chunk.webp": b"RIFF\x44\0\0\0WEBPABCD\x38\0\0\0" + bytes(56),
    "no-key-frame.webp": b"RIFF\x44\0\0\0WEBPVP8 \x38\0\0\0" + bytes(56),
    "no-picture.webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\7\0\0\7\0\0",
    "words.ppm": b"P6 eight by eight 255\n" + bytes(192),
    "no-white.pgm": b"P5 8 8 0\n" + bytes(64),
    "large-white.pgm": b"P5 8 8 70000\n" + bytes(128),
    "comment.pgm": b"P5 #" + b"x" * 100_000,
    "minus.ppm": b"P6 -8 8 255\n" + bytes(192),
    "no-boxes.mp4": _FTYP,
    "empty-index.mp4": _FTYP + _box(b"moov"),
    "zero-index.mp4": _FTYP + _box(b"moov", bytes(500)),
    "nested.mp4": _FTYP + _box(b"moov", _box(b"moov", _box(b"moov", _box(b"trak", _box(b"trak"))))),
    "small-box.mp4": _FTYP + _box(b"moov", bytes(20), length=4),
    "large-box.mp4": _FTYP + struct.pack(">I4sQ", 1, b"mdat", 1 << 62),
    "endless-box.mp4": _FTYP + _box(b"mdat", bytes(100), length=0),
    "many-boxes.mp4": _FTYP + _box(b"free") * 100_000,
    "no-list.avi": b"RIFF\x10\0\0\0AVI LIST\4\0\0\0hdrl",
    "zero.avi": b"RIFF\0\0\0\0AVI " + bytes(100),
    "long-list.avi": b"RIFF\x50\0\0\0AVI LIST\xff\xff\xff\xffhdrlavih" + bytes(60),
    "no-segment.mkv": b"\x1a\x45\xdf\xa3\x84" + bytes(100),
    "zero-length.mkv": b"\x1a\x45\xdf\xa3\0" + bytes(100),
    "unknown-length.mkv": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
    "long-length.mkv": b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + bytes(50),
}


def _cuts(data: bytes, count: int) -> list[int]:
    return sorted({*np.linspace(1, len(data) - 1, count).astype(int).tolist(), len(data) - 2, len(data) - 4})


def _videos() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        kinds = (("mp4", "mp4v"), ("mov", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v"), ("webm", "VP80"))
        return {name: video(Path(folder) / f"v.{name}", 6, codec).read_bytes() for name, codec in kinds}


def _files() -> dict[str, bytes]:
    files = {f"cut-{end}.{name}": data[:end] for name, data in PICTURES.items() for end in _cuts(data, 10)}
    files |= {f"cut-{end}.{name}": data[:end] for name, data in _videos().items() for end in _cuts(data, 8)}
    files |= {f"{name}.{suffix}": data for name, data in FOREIGN.items() for suffix in ("png", "jpg", "mp4")}
    files |= {f"empty.{suffix}": b"" for suffix in SUFFIXES}
    files |= {f"zeros.{suffix}": bytes(5000) for suffix in SUFFIXES}
    files |= {f"magic.{name}": data[:12] for name, data in PICTURES.items()}
    files |= {f"huge-{name}": data for name, data in HUGE.items()}
    return files | HEADERS


FILES = _files()


def test_there_are_enough() -> None:
    assert len(FILES) >= 200


@pytest.mark.parametrize("name", FILES)
def test_malformed_file(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    path = folder / name
    path.write_bytes(FILES[name])
    capfd.readouterr()

    start = time.perf_counter()
    with pytest.raises(EdgePoseError) as caught:
        read_picture(path)
    assert str(path) in str(caught.value)

    with FolderSink(out) as drawings, JsonLinesSink(tmp_path / "poses.jsonl") as lines:
        items = list(open_source(path))
        for item in items:
            if isinstance(item, Frame):
                drawings.write(item, Poses.empty(COCO_17, item.size))
                lines.write(item, Poses.empty(COCO_17, item.size))
    assert time.perf_counter() - start < SECONDS

    failures = [item for item in items if isinstance(item, Failure)]
    assert items[-1:] == failures, "exactly one failure, at the end"
    assert str(path) in failures[0].reason
    frames = len(items) - 1
    # A video that was cut short has frames before the cut, which are drawn into a whole video.
    assert names_in(out) == ([path.with_suffix(".mp4").name] if frames else [])
    assert len((tmp_path / "poses.jsonl").read_text().splitlines()) == frames
    assert names_in(folder) == [name]
    assert capfd.readouterr() == ("", "")


def test_all_of_them_in_one_folder(tmp_path: Path) -> None:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "good.png").write_bytes(PICTURES["png"])
    items = list(open_source(tmp_path))
    assert len(items) > 150
    assert [item.source for item in items if isinstance(item, Frame)] == [str(tmp_path / "good.png")]


def _special(folder: Path) -> dict[str, Path]:
    (folder / "folder.png").mkdir()
    (folder / "dangling.jpg").symlink_to(folder / "nothing")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    (folder / "to-folder.mp4").symlink_to(folder)
    (folder / "to-device.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.jpg"))
    return {p.name: p for p in folder.iterdir()} | {
        "missing": folder / "missing.png",
        "below-a-file": folder / "pipe.png" / "below.png",
        "null": folder / "a\0b.png",
        "too-long": folder / ("x" * 300 + ".png"),
        "device": Path("/dev/zero"),
        "process": Path("/proc/self/mem"),
    }


def test_what_is_no_file() -> None:
    root = Path(tempfile.mkdtemp(prefix="ep"))  # a socket's path must be short
    try:
        for name, path in _special(root).items():
            start = time.perf_counter()
            with pytest.raises(EdgePoseError):
                read_picture(path)
            (only,) = PictureSource([path], name)
            assert isinstance(only, Failure)
            if name != "to-folder.mp4":
                try:
                    items = list(open_source(path))
                except EdgePoseError:
                    items = []
                assert all(isinstance(item, Failure) for item in items), name
            assert time.perf_counter() - start < SECONDS, name
    finally:
        for path in root.iterdir():
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        root.rmdir()
