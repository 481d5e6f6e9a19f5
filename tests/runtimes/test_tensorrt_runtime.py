"""TensorRT as a runtime, against stand-ins that keep to the recorded interface of each version."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgepose_converters.tensorrt import TensorRtConverter
from edgepose_runtimes.tensorrt import TensorRt
from edgepose_runtimes.tensorrt_rtx import TensorRtRtx
from nvidia_machine import ORIN, OTHER, VERSIONS, checked, environment, nvidia
from tensorrt_samples import JETSON, expected, feeds, network, same

from edgepose.devices import Device
from edgepose.errors import DeviceError, InputError
from edgepose.graph.builder import GraphBuilder
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import DecoderSpec, InputSpec, PoseSpec

CUDAS = ("cuda.bindings.runtime", "cuda.cudart", "libcudart")


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A Jetson with TensorRT 10.3."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with checked(nvidia(monkeypatch)) as found:
        yield found


@pytest.fixture
def plan(machine: Any, tmp_path: Path) -> Path:
    """An engine of a network with dynamic batch, up to 8."""
    result = TensorRtConverter().convert(network(), tmp_path, "fp32", {})
    return tmp_path / result.engine


@pytest.fixture
def fixed(machine: Any, tmp_path: Path) -> Path:
    """An engine of a network with fixed shapes."""
    (tmp_path / "fixed").mkdir()
    result = TensorRtConverter().convert(network(2), tmp_path / "fixed", "fp32", {})
    return tmp_path / "fixed" / result.engine


@pytest.mark.parametrize("cuda", CUDAS)
def test_each_version_computes_through_each_way_to_cuda(
    version: str, cuda: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with checked(nvidia(monkeypatch, cuda, version=version)) as machine:
        result = TensorRtConverter().convert(network(), tmp_path, "fp32", {})
        session = TensorRt().open(tmp_path / result.engine, JETSON, {})
        for batch in (1, 3, 8, 20):
            assert same(session.run(feeds(batch, batch)), expected(feeds(batch, batch)))
        assert [i.shape for i in session.inputs] == [(None, 3, 16, 8)]
        assert {o.name: o.dtype for o in session.outputs} == {"heatmaps": "float32", "twice": "float32"}
        assert f"TensorRT {version}" in session.placement
        assert "Orin (compute capability 8.7, 16 multiprocessors)" in session.placement
        assert "image float32 -> heatmaps float32, twice float32" in session.placement
        assert cuda in session.placement
        session.close()
        session.close()
        with pytest.raises(DeviceError, match="closed"):
            session.run(feeds())
        assert machine.counted["cudaMalloc"] == 3


@pytest.mark.parametrize("cuda", CUDAS)
def test_a_cuda_graph_is_recorded_once_and_replayed(cuda: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(nvidia(monkeypatch, cuda)) as machine:
        result = TensorRtConverter().convert(network(2), tmp_path, "fp32", {})
        session = TensorRt().open(tmp_path / result.engine, JETSON, {"cuda_graph": "on"})
        assert "CUDA graph" in session.placement
        prepared = machine.counted["execute"]
        for seed in range(3):
            assert same(session.run(feeds(2, seed)), expected(feeds(2, seed), 2))
        assert machine.counted["cudaGraphLaunch"] == 3
        assert machine.counted["execute"] == prepared
        session.close()


def test_a_cuda_graph_of_dynamic_shapes_is_refused(plan: Path) -> None:
    with pytest.raises(DeviceError, match="dynamic shapes"):
        TensorRt().open(plan, JETSON, {"cuda_graph": "on"})


def test_a_recording_that_fails_leaves_nothing(fixed: Path, machine: Any) -> None:
    machine.failing = {"execute": 2}
    with pytest.raises(DeviceError, match="illegal memory access"):
        TensorRt().open(fixed, JETSON, {"cuda_graph": "on"})


def test_results_do_not_change_with_the_next_run(plan: Path) -> None:
    session = TensorRt().open(plan, JETSON, {})
    first = session.run(feeds(2, 0))
    kept = {n: a.copy() for n, a in first.items()}
    session.run(feeds(2, 1))
    session.close()
    assert same(first, kept)


def test_without_a_driver_nothing_is_touched(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, plan: Path
) -> None:
    with checked(nvidia(monkeypatch, version=version, driver=False)):
        probe = TensorRt().probe("jetson")
        assert not probe.available
        assert "CUDA driver version is insufficient" in probe.remedy
        # A Runtime object without a driver crashes later; the stand-in calls it a violation.
        with pytest.raises(DeviceError, match=r"CUDA finds no GPU.*cudaErrorInsufficientDriver"):
            TensorRt().open(plan, JETSON, {})


def test_no_gpu_behind_the_driver(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(nvidia(monkeypatch, gpus=[])), pytest.raises(DeviceError, match="finds no GPU"):
        TensorRt().open(plan, JETSON, {})


def test_whatever_this_machine_has_is_told_without_a_crash() -> None:
    """Where CUDA's own library is installed, the calls go through its calling convention."""
    code = (
        "from edgepose.errors import DeviceError; from edgepose_runtimes.cuda import find_cuda\n"
        "try: print('found', find_cuda().gpu(0))\n"
        "except DeviceError as error: print('told', error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("found Gpu(name=", "told CUDA"))


@pytest.mark.parametrize(("device", "word"), [("jetson", "JetPack"), ("cuda", "installation guide")])
def test_without_tensorrt_the_remedy_says_where_it_comes_from(
    device: str, word: str, monkeypatch: pytest.MonkeyPatch, plan: Path
) -> None:
    with checked(nvidia(monkeypatch)):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        probe = TensorRt().probe(device)
        assert not probe.available
        assert word in probe.remedy
        with pytest.raises(DeviceError, match="TensorRT is not here"):
            TensorRt().open(plan, JETSON, {})


def test_without_cudas_runtime(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(nvidia(monkeypatch, cuda="")):
        assert "libcudart.so" in TensorRt().probe("jetson").remedy
        with pytest.raises(DeviceError, match="CUDA's runtime is not here"):
            TensorRt().open(plan, JETSON, {})


def test_a_plan_of_another_version_is_recognised_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, plan: Path
) -> None:
    with checked(nvidia(monkeypatch, version="10.13")) as machine:
        with pytest.raises(DeviceError, match=r"built by TensorRT 10.3.0 .* this is TensorRT 10.13.3.9") as caught:
            TensorRt().open(plan, JETSON, {})
        assert "edgepose convert" in str(caught.value.hint)
        assert "--to tensorrt --precision fp32" in str(caught.value.hint)
        assert machine.counted["deserialize"] == 0


@pytest.mark.parametrize("gpu", [OTHER, (*ORIN[:3], 8)], ids=["another", "smaller"])
def test_a_plan_of_another_gpu_is_recognised_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, plan: Path, gpu: tuple[str, str, int, int]
) -> None:
    with checked(nvidia(monkeypatch, gpus=[gpu])) as machine:
        with pytest.raises(
            DeviceError, match=rf"on Orin .*16 multi.* this GPU is {gpu[0]} .* {gpu[3]} multiprocessors"
        ):
            TensorRt().open(plan, Device("cuda"), {})
        assert machine.counted["deserialize"] == 0


@pytest.mark.parametrize(
    ("level", "gpu", "taken"),
    [
        ("ampere+", OTHER, True),
        ("ampere+", ("Xavier", "7.2", 1 << 30, 8), False),
        ("same-compute-capability", ("Orin", "8.7", 1 << 30, 8), True),
        ("same-compute-capability", OTHER, False),
    ],
)
def test_hardware_compatible_plans_go_where_they_may(
    level: str, gpu: tuple[str, str, int, int], taken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with checked(nvidia(monkeypatch, version="10.13")):
        result = TensorRtConverter().convert(network(), tmp_path, "fp32", {"hardware_compatible": level})
    with checked(nvidia(monkeypatch, version="10.13", gpus=[gpu])) as machine:
        if taken:
            TensorRt().open(tmp_path / result.engine, Device("cuda"), {}).close()
        else:
            with pytest.raises(DeviceError, match="not portable"):
                TensorRt().open(tmp_path / result.engine, Device("cuda"), {})
            assert machine.counted["deserialize"] == 0


def test_a_version_compatible_plan_wants_to_be_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(nvidia(monkeypatch, version="10.3")):
        result = TensorRtConverter().convert(network(), tmp_path, "fp32", {"version_compatible": "on"})
    engine = tmp_path / result.engine
    with checked(nvidia(monkeypatch, version="11.4")):
        with pytest.raises(DeviceError, match="cannot load"):
            TensorRt().open(engine, JETSON, {})
        session = TensorRt().open(engine, JETSON, {"host_code": "on"})
        assert same(session.run(feeds()), expected(feeds()))
        session.close()


def test_a_plan_from_elsewhere_without_a_record(machine: Any, plan: Path) -> None:
    plan.with_name(plan.name + ".json").unlink()
    TensorRt().open(plan, JETSON, {}).close()
    plan.write_bytes(b"ftrt" + bytes(1000))
    with pytest.raises(DeviceError, match="magic tag does not match"):
        TensorRt().open(plan, JETSON, {})


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": "edgepose.plan", "version": 2}', '{"format": "edgepose.plan", "version": 1}']
)
def test_a_damaged_record_is_told(plan: Path, text: str) -> None:
    plan.with_name(plan.name + ".json").write_text(text)
    with pytest.raises(InputError, match=r"model\.engine\.json"):
        TensorRt().open(plan, JETSON, {})


@pytest.mark.parametrize(
    ("call", "which"),
    [("cudaStreamCreateWithFlags", 1), *((c, n) for c in ("cudaMalloc", "cudaMallocHost") for n in (1, 2, 3))],
)
def test_an_allocation_that_fails_in_the_middle_leaks_nothing(plan: Path, machine: Any, call: str, which: int) -> None:
    before = machine.counted[call]
    machine.failing = {call: before + which}
    with pytest.raises(DeviceError, match=f"{call} failed"):
        TensorRt().open(plan, JETSON, {})
    gc.collect()
    assert machine.living() == {}
    TensorRt().open(plan, JETSON, {}).close()


@pytest.mark.parametrize("version", ["8.6", "11.4"])
def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    with checked(nvidia(monkeypatch, version=version, gpus=[(*ORIN[:2], 100_000, 16)])):
        result = TensorRtConverter().convert(network(), tmp_path, "fp32", {})
        with pytest.raises(DeviceError, match="out of memory") as caught:
            TensorRt().open(tmp_path / result.engine, JETSON, {})
        assert "smaller batch" in str(caught.value.hint)


def test_no_room_for_the_context(plan: Path, machine: Any) -> None:
    machine.failing = {"context": 1}
    with pytest.raises(DeviceError, match="Requested amount of GPU memory"):
        TensorRt().open(plan, JETSON, {})


def test_a_run_that_fails_is_told_and_the_next_works(plan: Path, machine: Any) -> None:
    session = TensorRt().open(plan, JETSON, {})
    machine.failing = {"execute": 1, "cudaMemcpyAsync": 3}
    with pytest.raises(DeviceError, match="illegal memory access"):
        session.run(feeds())
    with pytest.raises(DeviceError, match="cudaMemcpyAsync failed: cudaErrorInvalidValue"):
        session.run(feeds())
    assert [s.waiting for s in machine.streams.values()] == [[]]
    assert same(session.run(feeds()), expected(feeds()))
    session.close()


@pytest.mark.parametrize("index", [1, 7])
def test_a_device_index_that_does_not_exist(plan: Path, index: int) -> None:
    with pytest.raises(DeviceError, match=f"There is no GPU {index} here; CUDA finds only GPU 0"):
        TensorRt().open(plan, Device("cuda", index), {})


def test_the_second_gpu_and_a_second_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(nvidia(monkeypatch, gpus=[ORIN, ORIN])) as machine:
        result = TensorRtConverter().convert(network(), tmp_path, "fp32", {})
        session = TensorRt().open(tmp_path / result.engine, Device("cuda", 1), {})
        assert {device for device, _ in machine.device_memory.values()} == {1}
        found: list[Any] = []

        def work() -> None:
            # CUDA's current device is that of a thread; a new one begins with the first GPU.
            found.append(session.run(feeds(3)))
            session.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert same(found[0], expected(feeds(3)))


def test_many_threads_take_turns(plan: Path, machine: Any) -> None:
    session = TensorRt().open(plan, JETSON, {})
    machine.delay = 0.001
    right: list[bool] = []

    def work(seed: int) -> None:
        right.extend(same(session.run(feeds(2, seed)), expected(feeds(2, seed))) for _ in range(5))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.close()
    assert right == [True] * 20


def test_two_estimators_in_one_process(plan: Path, fixed: Path, machine: Any) -> None:
    one, two = TensorRt().open(plan, JETSON, {}), TensorRt().open(fixed, JETSON, {"cuda_graph": "on"})
    for seed in range(2):
        assert same(one.run(feeds(3, seed)), expected(feeds(3, seed)))
        assert same(two.run(feeds(2, seed)), expected(feeds(2, seed), 2))
    one.close()
    assert same(two.run(feeds(2)), expected(feeds(2), 2))
    two.close()


def test_a_session_that_is_forgotten_gives_everything_back(plan: Path, machine: Any) -> None:
    session = TensorRt().open(plan, JETSON, {})
    session.run(feeds())
    del session
    gc.collect()
    assert machine.living() == {}


@pytest.mark.parametrize("threads", ["daemon", "no"])
def test_the_interpreter_may_end_while_it_runs(tmp_path: Path, plan: Path, threads: str) -> None:
    code = f"""
import threading, sys, time
import numpy as np
from pathlib import Path
from edgepose.devices import Device
from edgepose_runtimes.tensorrt import TensorRt
session = TensorRt().open(Path({str(plan)!r}), Device("jetson"), {{}})
x = {{"image": np.ones((8, 3, 16, 8), np.float32)}}
def work():
    while True:
        session.run(x)
if {threads == "daemon"}:
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
else:
    session.run(x)
print("ends")
"""
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(report=str(report)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ends" in done.stdout
    assert json.loads(report.read_text()) == {"violations": [], "left": {}}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x": np.zeros((1, 3, 16, 8), np.float32)}, "inputs image and was fed x"),
        ({"image": np.zeros((1, 3, 16, 9), np.float32)}, r"float32 \[\?, 3, 16, 8\]"),
        ({"image": np.zeros((1, 3, 16, 8), np.uint8)}, "fed uint8"),
        ({}, "nothing"),
        ({"image": np.zeros((0, 3, 16, 8), np.float32)}, "a batch of nothing"),
    ],
)
def test_wrong_inputs_are_refused(plan: Path, wrong: dict[str, np.ndarray], message: str) -> None:
    session = TensorRt().open(plan, JETSON, {})
    with pytest.raises(DeviceError, match=message):
        session.run(wrong)
    session.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"wings": 2}, "no option wings"), ({"cuda_graph": "maybe"}, "'off', 'on'"), ({"host_code": 1}, "'off', 'on'")],
)
def test_wrong_options_are_refused(plan: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        TensorRt().open(plan, JETSON, options)


def test_other_devices_are_refused(plan: Path) -> None:
    with pytest.raises(DeviceError, match="cannot use the device 'mr-v100'"):
        TensorRt().open(plan, Device("mr-v100"), {})


def test_batches_below_the_least_are_filled_up(machine: Any, tmp_path: Path) -> None:
    options = {"min_batch": 4, "opt_batch": 4, "max_batch": 4}
    result = TensorRtConverter().convert(network(), tmp_path, "fp32", options)
    session = TensorRt().open(tmp_path / result.engine, JETSON, {})
    for batch in (1, 4, 5, 9):
        assert same(session.run(feeds(batch)), expected(feeds(batch)))
    session.close()


def test_sizes_outside_the_limits_are_refused(machine: Any, tmp_path: Path) -> None:
    build = GraphBuilder("sizes")
    x = build.input("image", ("batch", 3, "height", "width"))
    build.output(build.op("Relu", x), "poses", ("batch", 3, "height", "width"))
    from edgepose.spec import Letterbox

    entry = InputSpec("image", None, None, Letterbox(long_side=64, stride=32))
    model = PoseModel(build.build(), PoseSpec(entry, DecoderSpec("movenet-multi", {"poses": "poses"}), COCO_17))
    result = TensorRtConverter().convert(model, tmp_path, "fp32", {})
    session = TensorRt().open(tmp_path / result.engine, JETSON, {})
    assert session.inputs[0].shape == (None, 3, None, None)
    for size in ((32, 64), (64, 32), (64, 64)):
        x = np.random.default_rng(0).standard_normal((9, 3, *size)).astype(np.float32)
        assert np.array_equal(session.run({"image": x})["poses"], np.maximum(x, 0))
    with pytest.raises(DeviceError, match=r"from \[1, 3, 32, 32\] to \[8, 3, 64, 64\]"):
        session.run({"image": np.zeros((1, 3, 32, 96), np.float32)})
    session.close()


def test_tensorrt_rtx_runs_through_the_same_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from edgepose_converters.tensorrt_rtx import TensorRtRtxConverter

    with checked(nvidia(monkeypatch, rtx=True, driver=False)):
        result = TensorRtRtxConverter().convert(network(), tmp_path, "fp16", {})
        assert result.engine == "model.rtx"
    with checked(nvidia(monkeypatch, rtx=True, gpus=[OTHER])):
        session = TensorRtRtx().open(tmp_path / result.engine, Device("cuda"), {})
        assert np.allclose(session.run(feeds(3))["heatmaps"], expected(feeds(3))["heatmaps"], atol=0.05)
        assert "TensorRT-RTX 1.7" in session.placement
        session.close()


def test_no_time_is_lost_waiting(plan: Path) -> None:
    """A run that ends in an error must not keep the lock."""
    session = TensorRt().open(plan, JETSON, {})
    with pytest.raises(DeviceError):
        session.run({})
    started = time.monotonic()
    session.run(feeds())
    session.close()
    assert time.monotonic() - started < 20
