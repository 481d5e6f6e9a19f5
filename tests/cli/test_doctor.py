"""edgepose doctor: what is missing, in order, and the one thing to do next."""

from __future__ import annotations

import json
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


def test_the_next_step_moves_on_as_things_are_installed(tmp_path: Path) -> None:
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


def test_json_is_plain_and_names_the_engines_of_a_device(edgepose: Call) -> None:
    report = json.loads(edgepose("doctor", "--json").out)
    assert [d["name"] for d in report["devices"]] == list(device_names())
    cpu = report["devices"][-1]
    assert "onnxruntime" in cpu["usable_with"]
    assert {"onnxruntime", "onnx"} <= set(cpu["engines"])
    assert cpu["next"] is None
