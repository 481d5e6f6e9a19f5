"""pyACL on ``.om`` files, against a stand-in that keeps pyACL's rules and counts what is taken and given back."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ascend_machine
import numpy as np
import pytest
from ascend_machine import expected, network, om_file, pictures
from edgepose_runtimes import acl_calls, acl_process
from edgepose_runtimes.acl import PyAcl
from edgepose_runtimes.acl_calls import CALLS, AclError
from edgepose_runtimes.ascend_devices import cann_version
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import TensorInfo

DEVICE = Device("ascend310")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with one device; whatever a test does, nothing may be left on it."""
    for variable in ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME"):
        monkeypatch.delenv(variable, raising=False)
    with ascend_machine.checked(ascend_machine.pyacl(monkeypatch)) as made:
        yield made


def test_a_model_computes_what_its_graph_does_and_gives_all_back(world: Any, tmp_path: Path) -> None:
    model = network()
    session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
    assert session.inputs == (TensorInfo("image", (1, 3, 64, 48), "float32"),)
    assert session.outputs == (TensorInfo("heatmaps", (1, 17, 32, 24), "float32"),)
    assert session.placement == "pyACL 1.7.0 on Ascend310, device 0"
    allocated = world.counted["rt.malloc"]
    for seed in range(3):
        feeds = pictures(model, seed=seed)
        np.testing.assert_allclose(
            session.run(feeds)["heatmaps"], expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5
        )
    # Buffers are those of the first run.
    assert world.counted["rt.malloc"] == allocated == 2
    session.close()
    session.close()
    with pytest.raises(DeviceError, match="is closed"):
        session.run(feeds)


def test_results_are_the_callers_own(world: Any, tmp_path: Path) -> None:
    model = network()
    session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
    first = session.run(pictures(model, seed=1))["heatmaps"]
    kept = first.copy()
    session.run(pictures(model, seed=2))
    np.testing.assert_array_equal(first, kept)
    session.close()


@pytest.mark.parametrize(
    ("count", "batches"), [(1, [1]), (2, [2]), (3, [4]), (4, [4]), (7, [4, 4]), (9, [4, 4, 1]), (10, [4, 4, 2])]
)
def test_any_batch_goes_through_the_smallest_profiles_that_hold_it(
    world: Any, tmp_path: Path, count: int, batches: list[int]
) -> None:
    model = network()
    session = PyAcl().open(om_file(tmp_path / "model.om", model, batches=[4, 1, 2]), DEVICE, {})
    assert session.inputs[0].shape == (None, 3, 64, 48)
    assert session.outputs[0].shape == (None, 17, 32, 24)
    assert session.placement.endswith("batches 1, 2, 4")
    feeds = pictures(model, count)
    found = session.run(feeds)["heatmaps"]
    np.testing.assert_allclose(found, expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    assert world.executed == [(b,) for b in batches]
    with pytest.raises(DeviceError, match="0 pictures"):
        session.run({"image": feeds["image"][:0]})
    session.close()


def test_a_size_is_chosen_by_what_is_fed(world: Any, tmp_path: Path) -> None:
    model = network(1, ("height", "width"))
    session = PyAcl().open(om_file(tmp_path / "model.om", model, sizes=[[64, 48], [96, 128]]), DEVICE, {})
    assert session.inputs[0].shape == (1, 3, None, None)
    for size in ((64, 48), (96, 128), (64, 48)):
        feeds = pictures(model, size=size)
        found = session.run(feeds)["heatmaps"]
        np.testing.assert_allclose(found, expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    with pytest.raises(DeviceError, match="64 x 48, 96 x 128") as caught:
        session.run(pictures(model, size=(64, 64)))
    assert "dynamic_image_size" in str(caught.value)
    session.close()


def test_on_the_device_itself_memory_is_copied_within_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with ascend_machine.checked(ascend_machine.pyacl(monkeypatch, on_device=True)):
        model = network()
        session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
        feeds = pictures(model)
        np.testing.assert_allclose(
            session.run(feeds)["heatmaps"], expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5
        )
        session.close()


def test_what_is_fed_is_checked(world: Any, tmp_path: Path) -> None:
    model = network()
    session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
    feeds = pictures(model)["image"]
    for wrong in ({"x": feeds}, {"image": feeds.astype(np.float64)}, {"image": feeds[:, :, 1:]}, {}):
        with pytest.raises(DeviceError, match="was fed"):
            session.run(wrong)
    # Pieces of another array are copied as a whole.
    turned = np.ascontiguousarray(feeds.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    assert not turned.flags.c_contiguous
    np.testing.assert_array_equal(session.run({"image": turned})["heatmaps"], session.run({"image": feeds})["heatmaps"])
    session.close()
    with pytest.raises(DeviceError, match="no option threads"):
        PyAcl().open(tmp_path / "model.om", DEVICE, {"threads": 2})
    with pytest.raises(DeviceError, match="cannot use the device 'cpu'"):
        PyAcl().open(tmp_path / "model.om", Device("cpu"), {})


# ---- Failures: each has its own test.


def test_no_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(acl_process, "_process", acl_process._Process())
    monkeypatch.setitem(sys.modules, "acl", None)
    probe = PyAcl().probe()
    assert not probe.available
    assert "set_env.sh" in probe.remedy
    with pytest.raises(DeviceError, match="cannot be imported") as caught:
        PyAcl().open(touch(tmp_path / "model.om"), DEVICE, {})
    assert "set_env.sh" in str(caught.value)


def test_another_module_of_that_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(acl_process, "_process", acl_process._Process())
    (tmp_path / "acl").mkdir()
    (tmp_path / "acl" / "__init__.py").write_text("rt = mdl = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not PyAcl().probe().available
    with pytest.raises(DeviceError, match="is not pyACL"):
        PyAcl().open(touch(tmp_path / "model.om"), DEVICE, {})
    del sys.modules["acl"]


def test_no_driver(world: Any, tmp_path: Path) -> None:
    world.failing["rt.get_device_count"] = 507899
    with pytest.raises(DeviceError, match=r"acl\.rt\.get_device_count returned 507899") as caught:
        PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    assert "npu-smi" in str(caught.value)


@pytest.mark.parametrize(("devices", "index"), [(0, 0), (1, 1), (4, 7)])
def test_a_device_that_does_not_exist(world: Any, tmp_path: Path, devices: int, index: int) -> None:
    world.devices = devices
    with pytest.raises(DeviceError, match=f"pyACL sees {devices} device"):
        PyAcl().open(om_file(tmp_path / "model.om", network()), Device("ascend310", index), {})
    assert "rt.set_device" not in world.calls


def test_the_second_device_is_really_used(world: Any, tmp_path: Path) -> None:
    world.devices = 2
    session = PyAcl().open(om_file(tmp_path / "model.om", network()), Device("ascend310", 1), {})
    assert dict(world.set_devices) == {1: 1}
    assert session.placement.endswith("device 1")
    session.close()


@pytest.mark.parametrize(("soc", "asked", "right"), [("Ascend310P3", "ascend310", "ascend310p")])
def test_another_kind_of_device_is_not_taken_instead(
    world: Any, tmp_path: Path, soc: str, asked: str, right: str
) -> None:
    world.soc = soc
    with pytest.raises(DeviceError, match=f"{soc}, not '{asked}'") as caught:
        PyAcl().open(om_file(tmp_path / "model.om", network(), soc=soc), Device(asked), {})
    assert f"--device {right}" in str(caught.value)
    PyAcl().open(om_file(tmp_path / "model.om", network(), soc=soc), Device(right), {}).close()


def test_an_engine_for_another_soc_is_known_before_it_is_loaded(world: Any, tmp_path: Path) -> None:
    world.soc = "Ascend310P3"
    engine = om_file(tmp_path / "model.om", network(), soc="Ascend310P1")
    (tmp_path / "atc.json").write_text(json.dumps({"soc_version": "Ascend310P1"}))
    with pytest.raises(DeviceError, match="compiled for Ascend310P1; the device here is Ascend310P3") as caught:
        PyAcl().open(engine, Device("ascend310p"), {})
    assert "soc_version=Ascend310P3" in str(caught.value)
    assert "mdl.load_from_file" not in world.calls


def test_an_older_cann_than_the_engine(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = ascend_machine.install(tmp_path / "cann", "7.0")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(root))
    engine = om_file(tmp_path / "model.om", network())
    (tmp_path / "atc.json").write_text(json.dumps({"cann": "8.0.RC3"}))
    with pytest.raises(DeviceError, match=r"compiled by CANN 8\.0\.RC3; here is CANN 7\.0\.RC3"):
        PyAcl().open(engine, DEVICE, {})
    for older in ("7.0.RC1", "6.3", "", "unknown"):
        (tmp_path / "atc.json").write_text(json.dumps({"cann": older}))
        session = PyAcl().open(engine, DEVICE, {})
        assert session.placement == "pyACL 1.7.0, CANN 7.0.RC3 on Ascend310, device 0"
        session.close()


def test_the_version_of_cann_is_told_by_its_folder(tmp_path: Path) -> None:
    assert cann_version({}) == ""
    assert cann_version({"ASCEND_HOME_PATH": str(tmp_path / "nothing")}) == ""
    versioned, latest = tmp_path / "8.2.RC1", tmp_path / "latest"
    (versioned / "runtime").mkdir(parents=True)
    latest.mkdir()
    (latest / "runtime").symlink_to(versioned / "runtime")
    assert cann_version({"ASCEND_HOME_PATH": str(latest)}) == "8.2.RC1"


def test_an_engine_from_elsewhere_or_no_engine_at_all(world: Any, tmp_path: Path) -> None:
    for content in (b"", b"not an engine", om_file(tmp_path / "x.om", network(), soc="Ascend310B4").read_bytes()):
        engine = tmp_path / "model.om"
        engine.write_bytes(content)
        with pytest.raises(AclError, match=r"acl\.mdl\.load_from_file returned 545001") as caught:
            PyAcl().open(engine, DEVICE, {})
        assert "Convert the checkpoint again" in str(caught.value)
    with pytest.raises(DeviceError, match="There is no file"):
        PyAcl().open(tmp_path / "missing.om", DEVICE, {})


def test_out_of_memory(world: Any, tmp_path: Path) -> None:
    world.memory_limit = 10_000
    with pytest.raises(AclError, match="out of device memory"):
        PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})


@pytest.mark.parametrize("nth", [1, 2])
def test_an_allocation_that_fails_in_the_middle(world: Any, tmp_path: Path, nth: int) -> None:
    world.failing["rt.malloc"] = (207001, nth)
    with pytest.raises(AclError, match="out of device memory") as caught:
        PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    assert "npu-smi" in str(caught.value)
    assert world.living() == {}
    # And there is nothing in the way of the next.
    PyAcl().open(tmp_path / "model.om", DEVICE, {}).close()


def use(path: Path, model: Any, **described: Any) -> None:
    """Everything that can be done with a model."""
    session = PyAcl().open(om_file(path, model, **described), DEVICE, {})
    try:
        session.run(pictures(model))
    finally:
        session.close()


#: Calls whose failure cannot be told: they return no code.
WITHOUT_CODE = {name for name, form in CALLS.items() if form == "plain"}
#: Calls that are made for profiles of the batch, or of the size, alone.
FOR_BATCHES = {"mdl.get_dynamic_batch", "mdl.set_dynamic_batch_size", "mdl.get_cur_output_dims"}
FOR_SIZES = {"mdl.get_dynamic_hw", "mdl.set_dynamic_hw_size"}
AT_THE_END = {"finalize"}


@pytest.mark.parametrize("name", sorted(set(CALLS) - WITHOUT_CODE - AT_THE_END))
def test_a_code_from_any_call_is_an_error_that_names_it(world: Any, tmp_path: Path, name: str) -> None:
    model = network(1, ("height", "width")) if name in FOR_SIZES else network()
    described: dict[str, Any] = {"batches": [1, 2]} if name in FOR_BATCHES else {}
    described = {"sizes": [[64, 48], [96, 96]]} if name in FOR_SIZES else described
    world.failing[name] = 100000
    with pytest.raises(AclError) as caught:
        use(tmp_path / "model.om", model, **described)
    assert caught.value.call == f"acl.{name}"
    assert caught.value.code == (None if CALLS[name] == "handle" else 100000)
    assert f"acl.{name}" in str(caught.value)
    assert name in world.calls
    if name in RELEASES:
        # It is the release itself that fails; all the others were released nevertheless.
        world.failing.clear()
        left = world.living()
        assert set(left) <= {"device", "context", "memory", "buffer", "dataset", "desc", "model"}
        assert len(left) == 1
        world.things.clear()
        world.memory.clear()
        world.set_devices.clear()
        world.violations.clear()
    else:
        assert world.living() == {}


RELEASES = {
    "rt.free", "rt.reset_device", "rt.destroy_context", "mdl.unload", "mdl.destroy_desc", "mdl.destroy_dataset",
    "destroy_data_buffer",
}  # fmt: skip


@pytest.mark.parametrize("nth", range(1, 30))
def test_whichever_query_fails_nothing_leaks(world: Any, tmp_path: Path, nth: int) -> None:
    """The n-th of all calls that are made when a model is opened and run returns a code."""
    model = network()
    use(tmp_path / "model.om", model, batches=[1, 2])
    order = [n for n in world.calls if n not in WITHOUT_CODE | RELEASES | {"init"}]
    assert len(order) > 29
    name = order[nth - 1]
    world.failing[name] = (500003, world.counted[name] + order[:nth].count(name))
    with pytest.raises(AclError, match=f"acl.{name}"):
        use(tmp_path / "model.om", model, batches=[1, 2])
    assert world.living() == {}


def test_codes_have_a_meaning_and_a_remedy() -> None:
    assert "out of device memory" in str(AclError("rt.malloc", 207001, "Cannot load 'x'"))
    assert "HwHiAiUser" in str(AclError("rt.set_device", 207006, "Cannot open device 0"))
    assert str(AclError("rt.malloc", 4711, "Cannot load 'x'")) == "Cannot load 'x': acl.rt.malloc returned 4711."


def test_every_call_is_one_that_the_stand_in_has(world: Any) -> None:
    module = acl_calls.load()
    acl = acl_calls.Acl(module)
    assert [name for name in CALLS if not acl.has(name)] == []


def test_an_older_pyacl_without_names(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = acl_calls.load()
    monkeypatch.delattr(module.mdl, "get_input_name_by_index")
    monkeypatch.delattr(module.mdl, "get_output_name_by_index")
    session = PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    assert [i.name for i in session.inputs] == ["image"]
    assert [o.name for o in session.outputs] == ["heatmaps"]
    session.close()


def test_names_that_the_compiler_has_lost_are_taken_from_its_record(world: Any, tmp_path: Path) -> None:
    engine = om_file(tmp_path / "model.om", network(), outputs=[["Conv_9:0", "float32"]])
    (tmp_path / "atc.json").write_text(json.dumps({"outputs": ["heatmaps"]}))
    session = PyAcl().open(engine, DEVICE, {})
    assert [o.name for o in session.outputs] == ["heatmaps"]
    session.close()
    for damaged in ("{", "[]", '{"outputs": 3, "soc_version": null}', '{"outputs": ["a", "b"]}', "[" * 100_000):
        (tmp_path / "atc.json").write_text(damaged)
        PyAcl().open(engine, DEVICE, {}).close()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("rt.malloc", 7),
        ("rt.malloc", (7, None)),
        ("mdl.execute", (0, 0)),
        ("rt.get_run_mode", 1),
        ("rt.get_device_count", None),
    ],
)
def test_an_answer_of_another_form_is_refused(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: Any
) -> None:
    part, _, call = name.partition(".")
    monkeypatch.setattr(getattr(acl_calls.load(), part), call, lambda *arguments: answer)
    with pytest.raises(DeviceError, match=f"acl.{name} gave"):
        use(tmp_path / "model.om", network())


def test_a_missing_call_is_named(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(acl_calls.load().mdl, "get_dynamic_batch")
    with pytest.raises(DeviceError, match=r"no acl\.mdl\.get_dynamic_batch"):
        use(tmp_path / "model.om", network(), batches=[1, 2])


def test_another_library_has_initialised_it(world: Any, tmp_path: Path) -> None:
    acl_calls.load().init()
    PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {}).close()
    acl_process._end()
    assert not world.finalized


def test_it_is_initialised_once_and_finalised_at_the_end(world: Any, tmp_path: Path) -> None:
    engine = om_file(tmp_path / "model.om", network())
    PyAcl().open(engine, DEVICE, {}).close()
    PyAcl().open(engine, DEVICE, {}).close()
    left_open = PyAcl().open(engine, DEVICE, {})
    assert world.inits == 1
    assert world.counted["init"] == 1
    acl_process._end()
    assert world.finalized
    left_open.close()
    with pytest.raises(DeviceError, match="is ending"):
        PyAcl().open(engine, DEVICE, {})


def test_two_sessions_share_a_device(world: Any, tmp_path: Path) -> None:
    model = network()
    first, second = (PyAcl().open(om_file(tmp_path / f"{n}.om", model), DEVICE, {}) for n in "ab")
    feeds = pictures(model)
    np.testing.assert_array_equal(first.run(feeds)["heatmaps"], second.run(feeds)["heatmaps"])
    first.close()
    # The device is not taken from under the other.
    assert world.counted["rt.reset_device"] == 0
    second.run(feeds)
    second.close()
    assert world.counted["rt.reset_device"] == 1


def test_a_second_thread_may_use_and_close_it(world: Any, tmp_path: Path) -> None:
    model = network()
    session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
    feeds = pictures(model)
    results: list[Any] = []

    def work() -> None:
        results.append(session.run(feeds)["heatmaps"])
        session.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    np.testing.assert_allclose(results[0], expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)


def test_many_threads_at_once_wait_for_each_other(world: Any, tmp_path: Path) -> None:
    model = network()
    world.delay = 0.01
    session = PyAcl().open(om_file(tmp_path / "model.om", model), DEVICE, {})
    inputs = [pictures(model, seed=seed) for seed in range(6)]
    results: dict[int, Any] = {}

    def work(number: int) -> None:
        results[number] = session.run(inputs[number])["heatmaps"]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, feeds in enumerate(inputs):
        np.testing.assert_allclose(results[number], expected(model.graph, feeds)["heatmaps"], rtol=1e-4, atol=1e-5)
    session.close()


def test_a_forgotten_session_gives_everything_back(world: Any, tmp_path: Path) -> None:
    session = PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    assert world.living()
    del session
    gc.collect()
    assert world.living() == {}


def test_a_forked_process_is_refused(world: Any, tmp_path: Path) -> None:
    session = PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    acl_process._process.pid += 1
    with pytest.raises(DeviceError, match="spawn"):
        session.run(pictures(network()))
    with pytest.raises(DeviceError, match="forked"):
        PyAcl().open(tmp_path / "model.om", DEVICE, {})
    acl_process._process.pid = os.getpid()
    child = os.fork()
    if not child:
        # Closing there must not touch what the parent goes on using; its stand-in counts calls.
        before = len(world.calls)
        session.close()
        os._exit(0 if len(world.calls) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    session.run(pictures(network()))
    session.close()


def test_the_end_does_not_wait_for_ever(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = PyAcl().open(om_file(tmp_path / "model.om", network()), DEVICE, {})
    monkeypatch.setattr(acl_process, "_GRACE", 0.05)
    world.delay = 1.0
    thread = threading.Thread(target=session.run, args=(pictures(network()),))
    thread.start()
    time.sleep(0.2)
    acl_process._end()
    # What runs is not pulled from under it; the driver takes everything back with the process.
    assert not world.finalized
    assert world.living()
    thread.join()
    session.close()


ENDING = """
import sys, threading, time
import numpy as np
from pathlib import Path
from edgepose.devices import Device
from edgepose_runtimes.acl import PyAcl
session = PyAcl().open(Path(sys.argv[1]), Device("ascend310"), {})
feeds = {"image": np.zeros((1, 3, 64, 48), np.float32)}
session.run(feeds)
if sys.argv[2] == "running":
    def work():
        for _ in range(3):
            session.run(feeds)
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.1)
if sys.argv[2] == "raising":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["idle", "running", "raising"])
def test_the_interpreter_ends_while_a_session_is_open(world: Any, tmp_path: Path, how: str) -> None:
    engine, report = om_file(tmp_path / "model.om", network()), tmp_path / "report.json"
    settings = {"report": str(report), "delay": 0.3 if how == "running" else 0.0}
    environment = {**os.environ, "PYTHONPATH": str(ascend_machine.STAND_INS), "ACL_STAND_IN": json.dumps(settings)}
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(engine), how],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == (3 if how == "raising" else 0), done.stderr
    assert json.loads(report.read_text()) == {"violations": [], "living": {}, "finalized": True}


def test_a_recipe_is_not_an_engine_until_it_is_compiled(world: Any, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(DeviceError, match="not compiled yet") as caught:
        PyAcl().open(tmp_path / "model.onnx", DEVICE, {})
    assert "sh atc.sh" in str(caught.value)
    om_file(tmp_path / "model.om", network())
    PyAcl().open(tmp_path / "model.onnx", DEVICE, {}).close()


def touch(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def test_the_stand_in_is_not_lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    world = ascend_machine.pyacl(monkeypatch)
    acl = acl_calls.load()
    assert not hasattr(acl.rt, "malloc_gpu")
    for wrong in ((), (1,), (1, 2, 3), ("1", 0), (np.int64(1), 0), (1.0, 0)):
        with pytest.raises(TypeError):
            acl.rt.malloc(*wrong)
    assert acl.rt.get_device_count()[1] != 0
    assert acl.init() == 0
    assert acl.init() == acl_calls.REPEATED_INIT
    assert acl.rt.malloc(16, 0) == (0, 107002)
    assert acl.rt.set_device(1) != 0
    assert acl.rt.set_device(0) == 0
    context, _ = acl.rt.create_context(0)
    pointer, code = acl.rt.malloc(16, 0)
    assert code == 0
    host = np.zeros(16, np.uint8)
    assert acl.rt.memcpy(pointer, 16, host.ctypes.data, 16, 2) != 0
    assert acl.rt.memcpy(pointer, 16, host.ctypes.data, 17, 1) != 0
    assert acl.rt.memcpy(pointer, 16, host.ctypes.data, 16, 1) == 0
    assert acl.create_data_buffer(pointer, 32) == 0
    assert acl.rt.free(pointer) == 0
    assert acl.rt.free(pointer) != 0
    assert acl.rt.destroy_context(context) == 0
    assert acl.rt.destroy_context(context) != 0
    assert acl.finalize() == 0
    said = ["before acl.init", "malloc without a context", "memcpy of kind 2", "create_data_buffer on memory"]
    said += ["which is not allocated", "destroyed twice", "acl.finalize while there are {'device': 1}"]
    assert len(world.violations) == len(said)
    for words, violation in zip(said, world.violations, strict=True):
        assert words in violation


#: Without a context nothing can be released, so that one stays out.
FAILING = sorted(set(CALLS) - WITHOUT_CODE - RELEASES - {"init", "finalize", "rt.set_context"})
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from([None, [1, 3]])),
        st.tuples(st.sampled_from(["run", "close", "forget", "run elsewhere"]), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.sampled_from(FAILING)),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_and_whatever_fails_nothing_leaks(
    steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ascend_machine.checked(ascend_machine.pyacl(monkeypatch)) as world:
        model = network()
        files = {}
        for batches in (None, [1, 3]):
            described = {"batches": batches} if batches else {}
            files[str(batches)] = om_file(tmp_path / f"{batches}.om", model, **described)
        feeds = pictures(model)
        true = expected(model.graph, feeds)["heatmaps"]
        sessions: list[Any] = []

        def run(session: Any) -> None:
            with contextlib.suppress(DeviceError):
                np.testing.assert_allclose(session.run(feeds)["heatmaps"], true, rtol=1e-4, atol=1e-5)

        for kind, value in steps:
            if kind == "open":
                with contextlib.suppress(AclError):
                    sessions.append(PyAcl().open(files[str(value)], DEVICE, {}))
            elif kind == "fail":
                world.failing = {value: (500003, world.counted[value] + 1)}
            elif sessions:
                session = sessions[value % len(sessions)]
                if kind == "run":
                    run(session)
                elif kind == "run elsewhere":
                    thread = threading.Thread(target=run, args=(session,))
                    thread.start()
                    thread.join()
                elif kind == "close":
                    session.close()
                else:
                    sessions.remove(session)
                    del session
                    gc.collect()
        for session in sessions:
            session.close()
