"""Bundles: whole or absent, and checked before they are trusted."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.artifact import embedded_folder
from edgepose.bundle import MANIFEST, BundleStage, finish_bundle, read_bundle, writing_bundle
from edgepose.errors import BundleError
from edgepose.golden import GoldenFrame, read_golden, write_golden
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

POSE = PoseSpec(InputSpec("x", 64, 48, Crop()), DecoderSpec("heatmap", {"heatmaps": "y"}), COCO_17)
WHOLE = PoseSpec(InputSpec("x", 64, 48, Letterbox()), DecoderSpec("movenet-multi", {"poses": "y"}), COCO_17)


def write(folder: Path, *specs: PoseSpec) -> None:
    roles = ["pose"] if len(specs) == 1 else ["detector", "pose"]
    with writing_bundle(folder) as inside:
        (inside / "sub").mkdir()
        stages = []
        for i, (role, spec) in enumerate(zip(roles, specs, strict=True)):
            name = f"sub/model{i}.onnx"
            (inside / name).write_bytes(b"engine" * (i + 1))
            stages.append(BundleStage(role, "onnx", "fp32", name, spec))  # type: ignore[arg-type]
        finish_bundle(inside, "net", stages, license={"name": "Apache-2.0"})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    write(folder, WHOLE, POSE)
    return folder


def test_round_trip(bundle: Path) -> None:
    read = read_bundle(bundle)
    assert [s.spec for s in read.manifest.stages] == [WHOLE, POSE]
    assert read.path("sub/model1.onnx").read_bytes() == b"engineengine"
    assert read.manifest.license == {"name": "Apache-2.0"}


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with writing_bundle(tmp_path / "b") as inside:
            (inside / "model.onnx").write_bytes(b"x")
            raise RuntimeError("converter failed")

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_old_bundle_stays_when_writing_fails(bundle: Path) -> None:
    with pytest.raises(RuntimeError), writing_bundle(bundle):
        raise RuntimeError("converter failed")
    read_bundle(bundle)
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_a_new_bundle_takes_the_place_of_the_old(bundle: Path) -> None:
    write(bundle, WHOLE)
    assert len(read_bundle(bundle).manifest.stages) == 1
    assert [p.name for p in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError, match="not a bundle"):
        write(tmp_path / "photos", WHOLE)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("specs", [(POSE, POSE), (WHOLE, WHOLE)], ids=["detector needs boxes", "pose needs none"])
def test_stages_that_do_not_fit_together(tmp_path: Path, specs: tuple[PoseSpec, ...]) -> None:
    with pytest.raises(BundleError):
        write(tmp_path / "b", *specs)
    assert list(tmp_path.iterdir()) == []


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        path = folder / MANIFEST
        data = json.loads(path.read_text())
        change(data)
        path.write_text(json.dumps(data))

    return apply


def rename_file(new: str) -> Callable[[Path], object]:
    def change(data: dict[str, Any]) -> None:
        data["files"][new] = data["files"].pop("sub/model0.onnx")
        data["stages"][0]["engine"] = new

    return edit(change)


def link_out(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    shutil.move(folder / "sub/model0.onnx", outside)
    (folder / "sub/model0.onnx").symlink_to(outside)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing file": (lambda f: (f / "sub/model0.onnx").unlink(), "missing"),
    "dangling link": (
        lambda f: ((f / "sub/model0.onnx").unlink(), (f / "sub/model0.onnx").symlink_to(f / "gone")),
        "missing",
    ),
    "folder for a file": (lambda f: ((f / "sub/model0.onnx").unlink(), (f / "sub/model0.onnx").mkdir()), "regular"),
    "truncated file": (lambda f: (f / "sub/model0.onnx").write_bytes(b"eng"), "bytes"),
    "wrong sha256": (lambda f: (f / "sub/model0.onnx").write_bytes(b"ENGINE"), "SHA-256"),
    "link out of the folder": (link_out, "leaves the bundle"),
    "path upwards": (rename_file("../outside.onnx"), "not a file inside"),
    "absolute path": (rename_file("/etc/passwd"), "not a file inside"),
    "backslash path": (rename_file("..\\outside.onnx"), "not a file inside"),
    "null byte": (rename_file("a\0b"), "not a file inside"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "has no manifest.json"),
    "manifest is a folder": (lambda f: ((f / MANIFEST).unlink(), (f / MANIFEST).mkdir()), "not a regular file"),
    "empty manifest": (lambda f: (f / MANIFEST).write_text(""), "damaged"),
    "truncated manifest": (lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text()[:300]), "damaged"),
    "binary manifest": (lambda f: (f / MANIFEST).write_bytes(b"\xff\xfe\0"), "damaged"),
    "deep manifest": (lambda f: (f / MANIFEST).write_text("[" * 200_000), "damaged"),
    "huge manifest": (lambda f: os.truncate(f / MANIFEST, 1 << 30), "at most"),
    "other json": (lambda f: (f / MANIFEST).write_text("[1, 2]"), "not the manifest"),
    "unknown version": (edit(lambda d: d.update(version=99)), "version 99"),
    "no stages": (edit(lambda d: d.update(stages=[])), "stages"),
    "stages of another type": (edit(lambda d: d.update(stages=3)), "not well formed"),
    "files of another type": (edit(lambda d: d.update(files=[])), "not well formed"),
    "negative size": (edit(lambda d: d["files"]["sub/model0.onnx"].update(size=-1)), "not well formed"),
    "unknown role": (edit(lambda d: d["stages"][0].update(role="segmenter")), "stages"),
    "unknown spec field": (edit(lambda d: d["stages"][0]["spec"].update(extra=1)), "unknown field"),
    "engine not listed": (edit(lambda d: d["stages"][0].update(engine="other.onnx")), "not among the files"),
    "no name": (edit(lambda d: d.pop("name")), "missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(bundle: Path, damage: str) -> None:
    apply, words = DAMAGE[damage]
    apply(bundle)
    with pytest.raises(BundleError, match=words) as caught:
        read_bundle(bundle)
    assert caught.value.exit_code == 2


def test_embedded_bundle_is_whole_and_says_where_it_comes_from() -> None:
    manifest = read_bundle(embedded_folder("fast")).manifest
    assert manifest.license["name"] == "Apache-2.0"
    assert all(origin["url"] and origin["sha256"] for origin in manifest.source.values())
    assert sum(size for size, _ in manifest.files.values()) < 24e6


def test_golden_round_trip(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    frames = [GoldenFrame(s, pixels + s, {"a.b/c": np.full((2, 3), s, np.float32)}) for s in (0, 1)]
    write_golden(tmp_path / "golden.npz", frames)
    first = (tmp_path / "golden.npz").read_bytes()
    write_golden(tmp_path / "golden.npz", frames)
    assert (tmp_path / "golden.npz").read_bytes() == first
    for want, got in zip(frames, read_golden(tmp_path / "golden.npz"), strict=True):
        assert got.stage == want.stage
        np.testing.assert_array_equal(got.pixels, want.pixels)
        np.testing.assert_array_equal(got.outputs["a.b/c"], want.outputs["a.b/c"])


@pytest.mark.parametrize("keep", [0, 10, 100, 300])
def test_truncated_golden(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "golden.npz"
    write_golden(path, [GoldenFrame(0, np.zeros((1, 2, 2, 3), np.uint8), {"y": np.zeros((1, 3), np.float32)})])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BundleError):
        read_golden(path)


def test_golden_with_strange_entries(tmp_path: Path) -> None:
    for entries in ({"x": np.zeros(3)}, {"0.0.pixels": np.zeros(3)}, {"0.0.pixels": np.zeros((1, 2, 2, 3), np.uint8)}):
        np.savez(tmp_path / "golden.npz", **entries)
        with pytest.raises(BundleError):
            read_golden(tmp_path / "golden.npz")


def test_golden_bomb_is_refused_before_unpacking(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(3):
            archive.writestr(f"0.{i}.pixels.npy", bytes(400 << 20))
    with pytest.raises(BundleError, match="unpacks to"):
        read_golden(tmp_path / "golden.npz")
