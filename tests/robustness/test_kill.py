"""kill -9 at any moment of a conversion: no half bundle, no orphan, and the next conversion is not in trouble."""

from __future__ import annotations

import random
import shutil
import sys
import time
import venv
from pathlib import Path

import numpy as np
import pytest
from processes import ARCHITECTURE, Conversion, write_checkpoint

from edgepose.bundle import read_bundle
from edgepose.multi_target import installed_targets

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans in /proc")

STAND_INS = Path(__file__).parent / "stand_ins"
CPU_TARGETS = [t for t in ("openvino", "tflite", "mindir", "onnx") if t in installed_targets()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / f"{ARCHITECTURE}.npz")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which MindSpore Lite never finishes loading."""
    root = tmp_path_factory.mktemp("lite")
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib*/python3*/site-packages"))
    (packages / "mindspore_lite").symlink_to(STAND_INS / "mindspore_lite")
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parent.parent))
    return root / "bin" / "python"


def names(targets: list[str]) -> set[str]:
    return {f"{ARCHITECTURE}-{target}-fp32" for target in targets}


def check_folder(folder: Path) -> int:
    """Every visible thing in the folder is a whole bundle; how many."""
    bundles = [p for p in folder.iterdir() if not p.name.startswith(".")] if folder.exists() else []
    for path in bundles:
        assert path.name in names(CPU_TARGETS)
        read_bundle(path)
    return len(bundles)


def kill_at_random(checkpoint: Path, folder: Path, kills: int) -> None:
    started = time.monotonic()
    Conversion(checkpoint, CPU_TARGETS, folder / "whole").finish()
    duration = time.monotonic() - started
    rng = random.Random(2026)
    out, seen, working = folder / "out", set[int](), 0
    for number in range(kills):
        if number % 5 == 0:
            # Into an empty place as well as over bundles and over what the killed ones left.
            shutil.rmtree(out, ignore_errors=True)
        moment = duration * (number + rng.random()) / kills
        conversion = Conversion(checkpoint, CPU_TARGETS, out)
        time.sleep(moment)
        working += len(conversion.alive()) > 1
        conversion.kill()
        assert conversion.survivors() == [], f"killed after {moment:.3f} of {duration:.3f} s"
        seen.add(check_folder(out))
    print(f"\n{kills} kills within {duration:.1f} s; {working} with a worker alive; whole bundles: {sorted(seen)}")
    Conversion(checkpoint, CPU_TARGETS, out).finish()
    assert check_folder(out) == len(CPU_TARGETS)
    assert {p.name for p in out.iterdir()} == names(CPU_TARGETS), "parts of killed conversions are still there"
    for name in names(CPU_TARGETS):
        assert sorted(p.name for p in (out / name).iterdir()) == sorted(
            p.name for p in (folder / "whole" / name).iterdir()
        )


def test_killed_at_random_moments(checkpoint: Path, tmp_path: Path) -> None:
    kill_at_random(checkpoint, tmp_path, 5)


@pytest.mark.conformance
def test_killed_at_fifty_random_moments(checkpoint: Path, tmp_path: Path) -> None:
    kill_at_random(checkpoint, tmp_path, 50)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.5])
def test_a_worker_in_the_middle_of_its_work_ends_too(
    checkpoint: Path, tmp_path: Path, endless: Path, delay: float
) -> None:
    conversion = Conversion(checkpoint, ["mindir"], tmp_path / "out", env={"EDGEPOSE_MSLITE_PYTHON": str(endless)})
    end = time.monotonic() + 60
    while not any("mindspore_worker" in command for command in conversion.alive()):
        assert conversion.process.poll() is None, "the conversion ended without a worker"
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(delay)
    assert conversion.process.poll() is None
    conversion.kill()
    assert conversion.survivors() == []
    assert [p.name for p in tmp_path.iterdir() if p.name == "out"] == []


def test_a_conversion_that_still_writes_is_not_taken_for_a_leftover(
    checkpoint: Path, tmp_path: Path, endless: Path
) -> None:
    out = tmp_path / "out"
    waiting = Conversion(checkpoint, ["mindir"], out, env={"EDGEPOSE_MSLITE_PYTHON": str(endless)})
    try:
        end = time.monotonic() + 60
        while not any("mindspore_worker" in command for command in waiting.alive()):
            assert time.monotonic() < end
            time.sleep(0.01)
        (part,) = tmp_path.glob(".out.*.part")
        Conversion(checkpoint, ["mindir"], out, env={"EDGEPOSE_MSLITE_PYTHON": "no-such-python"}).finish()
        assert part.is_dir()
        assert waiting.process.poll() is None
        read_bundle(out)
    finally:
        waiting.kill()
        assert waiting.survivors() == []
    Conversion(checkpoint, ["mindir"], out, env={"EDGEPOSE_MSLITE_PYTHON": "no-such-python"}).finish()
    assert not part.exists()
    read_bundle(out)
