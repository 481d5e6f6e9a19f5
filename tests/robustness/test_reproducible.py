"""Converting twice gives the same bytes, but for the times that docs/bundles.md names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from processes import ARCHITECTURE, Conversion, write_checkpoint

from edgepose.bundle import MANIFEST, read_bundle
from edgepose.interpreters import find_interpreter
from edgepose.multi_target import installed_targets
from edgepose.plugins import converter

#: Fields of manifest.json that tell when a bundle was made: all that may differ.
TIMES = ("created",)
#: Converters whose target may be installed and whose vendor's tool does not write the same bytes twice.
UNSTEADY = {"tensorrt", "tensorrt-rtx", "ixrt", "om"}
TARGETS = [t for t in installed_targets() if t not in UNSTEADY]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / f"{ARCHITECTURE}.npz")


@pytest.fixture(scope="module", params=["fp32", "fp16"])
def twice(
    request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path]:
    """The precision, and two folders of bundles: of two processes that hash in another order, in other places."""
    precision = str(request.param)
    folders = []
    for seed, name in (("1", "one"), ("4242", "another-place")):
        folder = tmp_path_factory.mktemp(name)
        targets = [t for t in TARGETS if precision in converter(t).precisions]
        Conversion(
            checkpoint, targets, folder, "--precision", precision, env={"PYTHONHASHSEED": seed, "TZ": f"UTC{seed[0]}"}
        ).finish()
        folders.append(folder)
    return precision, folders[0], folders[1]


def contents(bundle: Path) -> dict[str, bytes]:
    read_bundle(bundle)
    return {p.relative_to(bundle).as_posix(): p.read_bytes() for p in sorted(bundle.rglob("*")) if p.is_file()}


def timeless(manifest: bytes) -> dict[str, Any]:
    data = json.loads(manifest)
    for field in TIMES:
        del data[field]
    return data


def assert_same(one: Path, other: Path) -> None:
    first, second = contents(one), contents(other)
    assert list(first) == list(second)
    before, after = timeless(first.pop(MANIFEST)), timeless(second.pop(MANIFEST))
    assert json.dumps(before) == json.dumps(after), "manifests differ, or their fields have another order"
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_bytes_twice(twice: tuple[str, Path, Path], target: str) -> None:
    precision, one, other = twice
    if precision not in converter(target).precisions:
        pytest.skip(f"{target} has no {precision}")
    name = f"{ARCHITECTURE}-{target}-{precision}"
    assert_same(one / name, other / name)


def test_only_the_named_times_differ(twice: tuple[str, Path, Path]) -> None:
    """A byte of a weight, a name or a number would be seen."""
    precision, one, _ = twice
    bundle = one / f"{ARCHITECTURE}-onnx-{precision}"
    changed = one.with_name(f"{one.name}-changed") / bundle.name
    shutil.copytree(bundle, changed)
    manifest = json.loads((changed / MANIFEST).read_text())
    manifest["created"] = "2001-01-01T00:00:00+00:00"
    (changed / MANIFEST).write_text(json.dumps(manifest))
    assert_same(bundle, changed)
    manifest["measured"] = {**manifest["measured"], "ms": 12.5}
    (changed / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(AssertionError, match="manifests differ"):
        assert_same(bundle, changed)


def by_option(checkpoint: Path, folder: Path, seed: str, **options: Any) -> Path:
    code = (
        "import json, sys, edgepose\n"
        "checkpoint, output, options = sys.argv[1:]\n"
        "edgepose.convert(checkpoint, 'mindir', output=output, input_size=(128, 96),"
        " target_options=json.loads(options))\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(checkpoint), str(folder), json.dumps(options)],
        env={**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return folder


def test_mindspore_lite_writes_the_same_bytes_twice(checkpoint: Path, tmp_path: Path) -> None:
    if find_interpreter("mindspore_lite", "EDGEPOSE_MSLITE_PYTHON") is None and not shutil.which("converter_lite"):
        pytest.skip("MindSpore Lite's converter needed: name its Python in EDGEPOSE_MSLITE_PYTHON")
    one, other = (by_option(checkpoint, tmp_path / seed, seed, via="mslite") for seed in ("1", "4242"))
    assert_same(one, other)


@pytest.mark.conformance
def test_mindspore_exports_all_but_the_engine_the_same(checkpoint: Path, tmp_path: Path) -> None:
    """MindSpore writes a time and an address into the file and orders its functions by address."""
    if find_interpreter("mindspore", "EDGEPOSE_MINDSPORE_PYTHON") is None:
        pytest.skip("MindSpore needed: name its Python in EDGEPOSE_MINDSPORE_PYTHON")
    one, other = (by_option(checkpoint, tmp_path / seed, seed, mindir_version=3) for seed in ("1", "4242"))
    first, second = contents(one), contents(other)
    assert first["golden.npz"] == second["golden.npz"]
    assert len(first["model.mindir"]) == pytest.approx(len(second["model.mindir"]), abs=64)
    before, after = timeless(first[MANIFEST]), timeless(second[MANIFEST])
    assert before.pop("files").keys() == after.pop("files").keys()
    assert before == after
