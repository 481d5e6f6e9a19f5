"""The runtimes of MindSpore: the process, its end, and what is refused.  MindSpore Lite is stood in for here."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

import ascend_machine
import numpy as np
import pytest
from edgepose_converters.mindir.file import mindir_pieces
from edgepose_converters.mindir.program import Call, Program, Value
from edgepose_runtimes.mindir_ports import read_ports
from edgepose_runtimes.mindspore import MindSpore
from edgepose_runtimes.mindspore_lite import MindSporeLite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import TensorInfo

STAND_INS = Path(__file__).parent / "stand_ins"
CPU = Device("cpu")


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the stand-in and NumPy, and nothing else."""
    root = tmp_path_factory.mktemp("lite")
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib*/python3*/site-packages"))
    (packages / "mindspore_lite").symlink_to(STAND_INS / "mindspore_lite")
    (packages / "numpy.pth").write_text(str(Path(np.__file__).parent.parent))
    return root / "bin" / "python"


@pytest.fixture(autouse=True)
def _named(interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", str(interpreter))


def program() -> Program:
    image, out = Value("image", (1, 3, 4, 5), "float32"), Value("maps", (1, 3, 4, 5), "float32")
    return Program("doubling", (image,), {"maps": out}, [Call("Add", {}, (image, image), (out,), False, "maps")])


def write(folder: Path, **behaviour: Any) -> Path:
    file = folder / "model.mindir"
    file.write_bytes(b"".join(mindir_pieces(program())))
    said = {"inputs": [["image", [1, 3, 4, 5], "float32"]], **behaviour}
    (folder / "model.mindir.json").write_text(json.dumps(said))
    return file


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether the process ends within the time; a zombie has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


FEEDS = {"image": np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)}


def test_a_worker_computes_and_tells_what_it_runs_on(tmp_path: Path) -> None:
    session = MindSporeLite().open(write(tmp_path), CPU, {"threads": 3})
    assert session.inputs == (TensorInfo("image", (1, 3, 4, 5), "float32"),)
    assert session.outputs == (TensorInfo("maps", (1, 3, 4, 5), "float32"),)
    assert session.placement == "mindspore-lite 0.0.stand-in target cpu, enforce_fp32, 3 thread(s)"
    for factor in (1, 3):
        result = session.run({"image": FEEDS["image"] * factor})
        np.testing.assert_array_equal(result["maps"], FEEDS["image"] * factor * 2)
    session.close()
    session.close()
    with pytest.raises(DeviceError, match="is closed"):
        session.run(FEEDS)


def test_the_probe_says_what_is_found_and_what_is_missing(interpreter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = MindSporeLite().probe()
    assert found.available
    assert str(interpreter) in found.found
    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", str(interpreter.with_name("nothing")))
    missing = MindSporeLite().probe()
    assert not missing.available
    assert "EDGEPOSE_MSLITE_PYTHON" in missing.looked_for
    assert "pip install mindspore-lite" in missing.remedy
    # A Python without the package is no better than none.
    monkeypatch.setenv("EDGEPOSE_MINDSPORE_PYTHON", str(interpreter))
    assert not MindSpore().probe().available


def test_without_the_package_opening_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", "/nonexistent/python")
    monkeypatch.setenv("EDGEPOSE_MINDSPORE_PYTHON", "/nonexistent/python")
    for runtime in (MindSporeLite(), MindSpore()):
        with pytest.raises(DeviceError, match="not found") as caught:
            runtime.open(write(tmp_path), CPU, {})
        assert "pip install" in str(caught.value)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"refuse": True}, "RuntimeError: build_from_file failed! Error is Common error code"),
        ({"inputs": [["image", [1, 4, 5, 3], "float32"]]}, "declares other inputs"),
        ({"inputs": [["image", [1, 3, 4, 5], "uint8"]]}, "declares other inputs"),
        ({"inputs": [["a", [1, 3, 4, 5], "float32"], ["b", [1], "float32"]]}, "declares other inputs"),
    ],
)
def test_files_that_the_engine_refuses_or_sees_otherwise(behaviour: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=message):
        MindSporeLite().open(write(tmp_path, **behaviour), CPU, {})


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ({"fail": True}, "predict failed"),
        ({"crash": True}, r"has ended \(signal 6, Aborted"),
        ({"shrink": True}, "other shapes than before"),
    ],
)
def test_runs_that_fail(behaviour: Any, message: str, tmp_path: Path) -> None:
    session = MindSporeLite().open(write(tmp_path, **behaviour), CPU, {})
    with pytest.raises(DeviceError, match=message):
        session.run(FEEDS)
    session.close()


def test_feeds_devices_and_options_are_checked(tmp_path: Path) -> None:
    file = write(tmp_path)
    session = MindSporeLite().open(file, CPU, {})
    with pytest.raises(DeviceError, match="was fed float64"):
        session.run({"image": FEEDS["image"].astype(np.float64)})
    with pytest.raises(DeviceError, match="was fed x"):
        session.run({"x": FEEDS["image"]})
    session.close()
    with pytest.raises(DeviceError, match="no option thread"):
        MindSporeLite().open(file, CPU, {"thread": 1})
    for runtime in (MindSporeLite(), MindSpore()):
        for device in (Device("cuda"), Device("cpu", 1)):
            with pytest.raises(DeviceError, match="cannot use the device"):
                runtime.open(file, device, {})


def test_an_accelerator_that_is_not_there_is_not_replaced_by_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DeviceError, match="There is no ascend310 here"):
        MindSporeLite().open(write(tmp_path), Device("ascend310"), {})
    # The card is there, and CANN is not.
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    with pytest.raises(DeviceError, match="build_from_file failed") as caught:
        MindSporeLite().open(write(tmp_path), Device("ascend310"), {})
    assert "libgraph.so is not found" in str(caught.value)
    assert "set_env.sh" in str(caught.value)


def child_of(session: Any) -> int:
    return int(session._engine.pid)


def test_closing_or_forgetting_a_session_ends_its_process(tmp_path: Path) -> None:
    file = write(tmp_path)
    closed = MindSporeLite().open(file, CPU, {})
    pid = child_of(closed)
    closed.close()
    assert gone(pid, 0.1)
    forgotten = MindSporeLite().open(file, CPU, {})
    pid = child_of(forgotten)
    del forgotten
    gc.collect()
    assert gone(pid)


@pytest.mark.parametrize("busy", [False, True])
def test_killing_us_ends_the_worker_even_in_the_middle_of_a_run(busy: bool, tmp_path: Path) -> None:
    file = write(tmp_path, busy=busy)
    code = (
        "import sys, time, numpy as np\n"
        "from pathlib import Path\n"
        "from edgepose.devices import Device\n"
        "from edgepose_runtimes.mindspore_lite import MindSporeLite\n"
        "session = MindSporeLite().open(Path(sys.argv[1]), Device('cpu'), {})\n"
        "print(session._engine.pid, flush=True)\n"
        "session.run({'image': np.zeros((1, 3, 4, 5), np.float32)})\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        assert not gone(worker, 0.0)
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    assert gone(worker)


def test_names_of_inputs_and_outputs_are_read_from_the_file(tmp_path: Path) -> None:
    ports = read_ports(write(tmp_path))
    assert ports.inputs == (TensorInfo("image", (1, 3, 4, 5), "float32"),)
    assert ports.outputs == ("maps",)
    assert ports.version == 1


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_files_are_refused_in_words(data: st.DataObject, tmp_path: Path) -> None:
    whole = b"".join(mindir_pieces(program()))
    kind = data.draw(st.sampled_from(["cut", "changed", "random"]))
    if kind == "cut":
        damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "changed":
        octets = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 8))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        damaged = bytes(octets)
    else:
        damaged = data.draw(st.binary(max_size=400))
    file = tmp_path / "damaged.mindir"
    file.write_bytes(damaged)
    with contextlib.suppress(DeviceError):
        read_ports(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for runtime in (MindSporeLite(), MindSpore()):
        with pytest.raises(DeviceError):
            runtime.open(tmp_path / "missing.mindir", CPU, {})
