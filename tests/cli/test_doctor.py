"""edgepose doctor: what is missing, in order, and the one thing to do next."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgepose.cli.doctor import examine
from edgepose.devices import device_names
from edgepose.system import System

if TYPE_CHECKING:
    from conftest import Call

ACCELERATORS = [n for n in device_names() if n != "cpu"]


def test_everything_at_once(edgepose: Call) -> None:
    done = edgepose("doctor")
    assert done.code == 0
    for name in device_names():
        assert f" {name}: " in done.out
    assert "onnxruntime runtime" in done.out


def test_a_device_in_detail(edgepose: Call) -> None:
    done = edgepose("doctor", "--device", "cpu")
    assert done.code == 0
    assert "processor" in done.out
    assert "runtime: onnxruntime" in done.out
    assert "converter:" in done.out
    assert "Next" not in done.out
    assert "jetson" not in done.out


@pytest.mark.parametrize("name", ACCELERATORS)
def test_a_device_that_is_not_here(edgepose: Call, name: str) -> None:
    report = json.loads(edgepose("doctor", "--device", name, "--json").out)
    (device,) = report["devices"]
    if device["found"]:
        pytest.skip(f"there is a {name} here")
    assert edgepose("doctor", "--device", name).code == 1
    parts = [s["part"].partition(":")[0] for s in device["steps"]]
    assert parts[-3:] == ["Python binding", "runtime", "converter"]
    assert device["next"] == next(s for s in device["steps"] if not s["good"])
    assert device["next"]["remedy"] in edgepose("doctor", "--device", name).out


def test_an_unknown_device(edgepose: Call) -> None:
    done = edgepose("doctor", "--device", "jetsen")
    assert done.code == 2
    assert "Did you mean 'jetson'" in done.err


def test_the_next_step_moves_on_as_things_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("EDGEPOSE_MSLITE_PYTHON", "EDGEPOSE_MINDSPORE_PYTHON"):
        monkeypatch.setenv(variable, "/nonexistent/python")

    def missing(*files: str, **environment: str) -> str:
        for file in files:
            place = tmp_path / file.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        (device,) = examine(("ascend310b",), System(tmp_path, environment))["devices"]
        return str(device["next"]["part"])

    assert missing() == "driver"
    assert missing("/usr/local/Ascend/driver/version.info") == "device files"
    assert missing("/dev/davinci0", "/dev/davinci_manager", "/dev/svm0") == "SDK: CANN"
    assert missing("/opt/cann/version.cfg", ASCEND_HOME_PATH="/opt/cann") in ("Python binding", "runtime")


def test_a_runtime_alone_does_not_make_a_device_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that could use the device, were the device's software there."""
    package = tmp_path / "python/lib/python3.7/site-packages/mindspore_lite"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    program = tmp_path / "python/bin/python"
    program.parent.mkdir()
    program.symlink_to(sys.executable)
    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", str(program))
    system = System(tmp_path / "root", {})
    for file in ("/dev/davinci0", "/dev/davinci_manager", "/usr/local/Ascend/driver/version.info"):
        place = system.root / file.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    (device,) = examine(("ascend310p",), system)["devices"]
    assert device["found"]
    assert any(s["part"] == "runtime" and "mindspore-lite" in s["found"] for s in device["steps"])
    assert device["usable_with"] == []
    assert device["next"]["part"] == "SDK: CANN"
    (device,) = examine(("ascend310p",), System(system.root, {"ASCEND_HOME_PATH": "/usr/local/Ascend"}))["devices"]
    assert "mindspore-lite" in device["usable_with"]
    assert device["next"] is None


def test_json_is_plain_and_names_the_engines_of_a_device(edgepose: Call) -> None:
    report = json.loads(edgepose("doctor", "--json").out)
    assert [d["name"] for d in report["devices"]] == list(device_names())
    cpu = report["devices"][-1]
    assert "onnxruntime" in cpu["usable_with"]
    assert {"onnxruntime", "onnx"} <= set(cpu["engines"])
    assert cpu["next"] is None
