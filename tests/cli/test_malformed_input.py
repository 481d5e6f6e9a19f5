"""Malformed input of every kind: an error with its exit code, no traceback, no hang, no partial output."""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

from edgepose.artifact import embedded_folder
from edgepose.bundle import MANIFEST

if TYPE_CHECKING:
    from conftest import Call

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PARK = EXAMPLES / "park.jpg"
#: Bad input is refused in a moment; the model's own loading time is in this as well.
SECONDS_EACH = 5.0


def huge_png(width: int, height: int) -> bytes:
    """A PNG that declares more pixels than any memory holds."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def malformed_pictures() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of pictures and videos that cannot be read."""
    image = cv2.resize(cv2.imread(str(PARK)), (64, 36), interpolation=cv2.INTER_AREA)
    for suffix in (".jpg", ".png", ".bmp", ".webp", ".tiff", ".gif", ".ppm"):
        encoded = cv2.imencode(suffix, image)[1].tobytes() if suffix != ".gif" else b"GIF89a" + bytes(64)
        for i in range(14):
            yield f"cut{i}{suffix}", encoded[: len(encoded) * i // 16]
        yield f"zeros{suffix}", bytes(len(encoded))
        yield f"text{suffix}", b"this is not a picture\n" * 20
        yield f"head{suffix}", encoded[:16] + bytes(200)
    for name, size in {"wide": (2**31 - 1, 1), "tall": (1, 2**31 - 1), "both": (2**30, 2**30), "none": (0, 0)}.items():
        yield f"huge_{name}.png", huge_png(*size)
    bmp = bytearray(cv2.imencode(".bmp", image)[1].tobytes())
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    yield "huge.bmp", bytes(bmp)
    yield "huge.ppm", b"P6\n2000000000 2000000000\n255\n" + bytes(100)
    for suffix in (".zip", ".npy", ".pdf", ".svg", ".txt", ""):
        yield (
            f"other{suffix}.jpg",
            {".zip": b"PK\3\4", ".npy": b"\x93NUMPY", ".pdf": b"%PDF-1.7"}.get(suffix, b"<svg/>"),
        )


def malformed_clips() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of videos that are cut short at their beginning."""
    clip = (EXAMPLES / "park.mp4").read_bytes()
    for i in range(12):
        yield f"clip{i}.mp4", clip[: len(clip) * i // 64]


def test_malformed_clips(edgepose: Call, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, content in malformed_clips():
        (tmp_path / "clips" / name).write_bytes(content)
    done = edgepose("run", tmp_path / "clips" / "*.mp4", "--json", tmp_path / "x.jsonl", "--save", tmp_path / "drawn")
    assert done.code == 1
    assert "Traceback" not in done.err
    assert [name for name, _ in malformed_clips() if name not in done.err] == []
    for path in (tmp_path / "drawn").iterdir():
        assert cv2.VideoCapture(str(path)).read()[0]


def test_malformed_pictures_in_one_folder(edgepose: Call, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = []
    for name, content in malformed_pictures():
        (folder / name).write_bytes(content)
        names.append(name)
    for name, target in {"dangling.jpg": "gone.jpg", "loop.jpg": "loop.jpg"}.items():
        (folder / name).symlink_to(folder / target)
        names.append(name)
    os.mkfifo(folder / "pipe.jpg")
    names.append("pipe.jpg")
    assert len(names) > 130
    good = folder / "good.png"
    cv2.imwrite(str(good), cv2.imread(str(PARK)))
    start = time.monotonic()
    done = edgepose("run", folder, "--json", tmp_path / "x.jsonl", "--save", tmp_path / "drawn")
    assert time.monotonic() - start < 60
    assert done.code == 1
    assert "Traceback" not in done.err
    read = [Path(json.loads(line)["source"]).name for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    # A few cut files still hold every pixel (only padding is gone); they are read whole, never in part.
    still_whole = set(read) - {"good.png"}
    assert "good.png" in read
    assert still_whole <= {n for n in names if n.startswith("cut")}
    assert len(still_whole) < 10
    not_named = [n for n in names if n not in read and n not in done.err]
    assert not_named == []
    assert sorted(p.name for p in (tmp_path / "drawn").iterdir()) == sorted(
        p if Path(p).suffix in (".png", ".jpg") else f"{Path(p).stem}.png" for p in read
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["drawn", "pictures", "x.jsonl"]


@pytest.mark.parametrize("name", ["cut0.jpg", "cut9.png", "huge_both.png", "clip3.mp4", "text.gif"])
def test_a_malformed_picture_alone(edgepose: Call, tmp_path: Path, name: str) -> None:
    content = dict([*malformed_pictures(), *malformed_clips()])[name]
    (tmp_path / name).write_bytes(content)
    target = tmp_path / ("out.mp4" if name.endswith("mp4") else "out.png")
    done = edgepose("run", tmp_path / name, "--save", target, "--json", tmp_path / "x.jsonl")
    assert done.code in (1, 2)
    assert name in done.err
    assert not target.exists()


def malformed_models(folder: Path) -> Iterator[Path]:
    """Bundles and files that are no models."""
    source = embedded_folder("fast")
    manifest = (source / MANIFEST).read_bytes()
    name = json.loads(manifest)["stages"][0]["engine"]
    engine = (source / name).read_bytes()

    def bundle(name: str, text: bytes | None, model: bytes | None) -> Path:
        path = folder / name
        path.mkdir()
        for kept in source.iterdir():
            if kept.name not in (MANIFEST, name):
                (path / kept.name).symlink_to(kept)
        if text is not None:
            (path / MANIFEST).write_bytes(text)
        if model is not None:
            (path / name).write_bytes(model)
        return path

    for i in range(30):
        yield bundle(f"cut_manifest{i}", manifest[: len(manifest) * i // 30], engine)
    for i in range(4):
        yield bundle(f"cut_engine{i}", manifest, engine[: len(engine) * i // 4])
    yield bundle("no_manifest", None, engine)
    yield bundle("no_engine", manifest, None)
    data = json.loads(manifest)
    for key in data:
        if key in ("format", "version", "name", "stages", "files", "created"):
            for value in (None, [], {}, "", -1):
                yield bundle(
                    f"{key}_{json.dumps(value)}".replace('"', ""), json.dumps({**data, key: value}).encode(), engine
                )
    for i, content in enumerate([b"", b"\0", b"\x08\x07", engine[:5000], b"{}", os.urandom(3000)]):
        path = folder / f"model{i}.onnx"
        path.write_bytes(content)
        yield path
    yield folder
    yield folder / "missing.onnx"
    (folder / "link.onnx").symlink_to("missing.onnx")
    yield folder / "link.onnx"
    yield Path("/dev/null")


def test_malformed_models(edgepose: Call, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    count = 0
    for model in malformed_models(tmp_path / "models"):
        for arguments in (["info", model], ["run", PARK, "--model", model, "--save", tmp_path / "out.png"]):
            start = time.monotonic()
            done = edgepose(*arguments)
            assert done.code == 2, (model, done)
            assert "Traceback" not in done.err
            assert len(done.err) > 20
            assert done.out == ""
            assert time.monotonic() - start < SECONDS_EACH
            count += 1
        if model.is_dir() and model != tmp_path / "models":
            shutil.rmtree(model)
    assert not (tmp_path / "out.png").exists()
    assert count > 130
