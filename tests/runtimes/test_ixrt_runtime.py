"""ixRT as a runtime, against a stand-in that has the documented calls and nothing else."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgepose_converters.ixrt import IxRtConverter
from edgepose_runtimes.ixrt import IxRt
from edgepose_runtimes.tensorrt import TensorRt
from edgepose_runtimes.tensorrt_api import is_corex
from iluvatar_machine import CARD, environment, iluvatar, ixrtexec
from nvidia_machine import checked

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.plugins import Session
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

MR_V100 = Device("mr-v100")


def network(batch: int | str = "batch") -> PoseModel:
    """Three convolutions; two outputs."""
    rng = np.random.default_rng(0)
    build = GraphBuilder("network")
    y = build.input("image", (batch, 3, 16, 8))
    for i, (inside, outside) in enumerate(((3, 8), (8, 8), (8, 17))):
        weights = (rng.standard_normal((outside, inside, 3, 3)) / 8).astype(np.float32)
        y = build.op("Conv", y, build.constant(weights, f"w{i}"), pads=[1] * 4, name=f"conv{i}")
    build.output(build.op("Relu", y), "heatmaps", (batch, 17, 16, 8))
    build.output(build.op("Add", y, y), "twice", (batch, 17, 16, 8))
    spec = PoseSpec(InputSpec("image", 16, 8, Crop()), DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
    return PoseModel(build.build(), spec)


def feeds(batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal((batch, 3, 16, 8)).astype(np.float32)}


def right(session: Session, batch: int = 1, seed: int = 0) -> bool:
    """Whether a session gives what ONNX Runtime gives."""
    given = feeds(batch, seed)
    found, wanted = session.run(given), Runner(network().graph).run(given)
    return set(found) == set(wanted) and all(np.allclose(found[n], wanted[n], atol=1e-5) for n in wanted)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A machine with an MR-V100 and ixRT 1.0."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("IXRT_USE_CUDA_GRAPH", raising=False)
    with checked(iluvatar(monkeypatch)) as found:
        yield found


@pytest.fixture
def plan(machine: Any, tmp_path: Path) -> Path:
    """An engine of a network with dynamic batch, up to 8."""
    return tmp_path / IxRtConverter().convert(network(), tmp_path, "fp32", {}).engine


@pytest.mark.parametrize("module", ["ixrt", "tensorrt"])
@pytest.mark.parametrize("cuda", ["cuda.cudart", "libcudart"])
def test_it_computes_under_each_name_and_through_each_way_to_cuda(
    module: str, cuda: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with checked(iluvatar(monkeypatch, cuda, module, tmp_path)):
        engine = tmp_path / IxRtConverter().convert(network(), tmp_path, "fp32", {}).engine
        session = IxRt().open(engine, MR_V100, {})
        assert all(right(session, batch, batch) for batch in (1, 3, 8, 20))
        assert [i.shape for i in session.inputs] == [(None, 3, 16, 8)]
        assert {o.name: o.dtype for o in session.outputs} == {"heatmaps": "float32", "twice": "float32"}
        assert session.placement.startswith("ixRT 1.0.0 on Iluvatar MR-V100")
        assert cuda in session.placement
        session.close()
        session.close()
        with pytest.raises(DeviceError, match="closed"):
            session.run(feeds())


def test_a_network_with_fixed_shapes(machine: Any, tmp_path: Path) -> None:
    engine = tmp_path / IxRtConverter().convert(network(2), tmp_path, "fp32", {}).engine
    session = IxRt().open(engine, MR_V100, {})
    assert session.inputs[0].shape == (2, 3, 16, 8)
    assert right(session, 2)
    with pytest.raises(DeviceError, match="fed float32"):
        session.run(feeds(3))
    session.close()


def test_no_driver(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(iluvatar(monkeypatch, driver=False)):
        probe = IxRt().probe("mr-v100")
        assert not probe.available
        assert probe.found == "ixRT 1.0.0"
        assert "ixsmi -L must list the card" in probe.remedy
        assert "NVIDIA" not in probe.remedy
        # A runtime without a driver is a violation of the stand-in's.
        with pytest.raises(DeviceError, match="CUDA finds no GPU"):
            IxRt().open(plan, MR_V100, {})


def test_no_sdk(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(iluvatar(monkeypatch)):
        monkeypatch.setitem(sys.modules, "ixrt", None)
        probe = IxRt().probe("mr-v100")
        assert not probe.available
        assert "wheel of ixRT" in probe.remedy
        with pytest.raises(DeviceError, match="ixRT is not here: no module ixrt; no module tensorrt"):
            IxRt().open(plan, MR_V100, {})


def test_where_another_python_has_ixrt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(iluvatar(monkeypatch)):
        tool = ixrtexec(monkeypatch, tmp_path / "tool") / "bin" / "ixrtexec"
        assert "ixrtexec" not in IxRt().probe("mr-v100").remedy
        monkeypatch.setitem(sys.modules, "ixrt", None)
        assert f"There is {tool}, so another Python has ixRT" in IxRt().probe("mr-v100").remedy


def test_no_cuda(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(iluvatar(monkeypatch, cuda="")):
        assert "/usr/local/corex" in IxRt().probe("mr-v100").remedy
        with pytest.raises(DeviceError, match="CoreX's CUDA is not here"):
            IxRt().open(plan, MR_V100, {})


def test_nvidias_tensorrt_is_not_taken_for_ixrt(monkeypatch: pytest.MonkeyPatch, plan: Path) -> None:
    with checked(iluvatar(monkeypatch, module="nvidia")):
        probe = IxRt().probe("mr-v100")
        assert not probe.available
        assert "the module tensorrt is NVIDIA's" in probe.remedy
        with pytest.raises(DeviceError, match="NVIDIA's"):
            IxRt().open(plan, MR_V100, {})
        assert TensorRt().api().version.startswith("10.3")


def test_ixrt_is_not_taken_for_nvidias_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version says nothing: a header of it has TensorRT's 10.1."""
    for version in ("0.10.0", "10.1.0"):
        with checked(iluvatar(monkeypatch, module="tensorrt", version=version)):
            import tensorrt

            assert is_corex(tensorrt)
            assert not TensorRt().probe("cuda").available
            with pytest.raises(DeviceError, match="Iluvatar CoreX's"):
                TensorRt().api()
            assert IxRt().api().version == version


def test_nvidias_bindings_beside_corexs_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NVIDIA's have the same name and find no card; something else may have installed them."""
    with checked(iluvatar(monkeypatch, "libcudart", folder=tmp_path)) as machine:
        theirs: Any = type(sys)("cuda.cudart")
        vars(theirs).update(sys.modules["nvidia_stand_in.cudart"].bindings("12.9"))
        error = theirs.cudaError_t.cudaErrorInsufficientDriver
        theirs.cudaGetDeviceCount = lambda: (error, 0)
        monkeypatch.setitem(sys.modules, "cuda.cudart", theirs)
        assert "libcudart.so.10.2" in IxRt().cuda().source
        machine.driver = False
        assert IxRt().cuda().source == "cuda.cudart"


def test_a_plan_of_another_version_is_recognised_before_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, plan: Path
) -> None:
    with checked(iluvatar(monkeypatch, version="1.1.0")) as machine:
        with pytest.raises(DeviceError, match=r"built by ixRT 1\.0\.0 .* this is ixRT 1\.1\.0") as caught:
            IxRt().open(plan, MR_V100, {})
        assert "--to ixrt --precision fp32" in str(caught.value.hint)
        assert machine.counted["deserialize"] == 0
        plan.with_name(plan.name + ".json").unlink()
        with pytest.raises(DeviceError, match=r"cannot load .*condition check failed"):
            IxRt().open(plan, MR_V100, {})


def test_a_plan_of_tensorrt_is_told_from_one_of_ixrt(machine: Any, plan: Path) -> None:
    plan.with_name(plan.name + ".json").unlink()
    IxRt().open(plan, MR_V100, {}).close()
    plan.write_bytes(b"ftrt" + bytes(1000))
    with pytest.raises(DeviceError, match="IXRT_MAGIC_NUMBER"):
        IxRt().open(plan, MR_V100, {})


def test_out_of_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(iluvatar(monkeypatch, gpus=[(*CARD[:2], 100_000, 16)])):
        engine = tmp_path / IxRtConverter().convert(network(), tmp_path, "fp32", {}).engine
        with pytest.raises(DeviceError, match="cudaMalloc failed: cudaErrorMemoryAllocation") as caught:
            IxRt().open(engine, MR_V100, {})
        assert "smaller batch" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("call", "which"),
    [("cudaStreamCreateWithFlags", 1), *((c, n) for c in ("cudaMalloc", "cudaMallocHost") for n in (1, 2, 3))],
)
def test_an_allocation_that_fails_in_the_middle_leaks_nothing(plan: Path, machine: Any, call: str, which: int) -> None:
    machine.failing = {call: machine.counted[call] + which}
    with pytest.raises(DeviceError, match=f"{call} failed"):
        IxRt().open(plan, MR_V100, {})
    gc.collect()
    assert machine.living() == {}
    IxRt().open(plan, MR_V100, {}).close()


def test_no_room_for_the_context(plan: Path, machine: Any) -> None:
    machine.failing = {"context": 1}
    with pytest.raises(DeviceError, match="Requested amount of GPU memory could not be allocated"):
        IxRt().open(plan, MR_V100, {})


def test_a_run_that_fails_is_told_and_the_next_works(plan: Path, machine: Any) -> None:
    session = IxRt().open(plan, MR_V100, {})
    machine.failing = {"execute": 1}
    with pytest.raises(DeviceError, match="illegal memory access"):
        session.run(feeds())
    session._plan._holdings.wait()
    assert right(session)
    session.close()


@pytest.mark.parametrize("index", [1, 7])
def test_a_device_index_that_does_not_exist(plan: Path, index: int) -> None:
    with pytest.raises(DeviceError, match=f"There is no GPU {index} here; CUDA finds only GPU 0"):
        IxRt().open(plan, Device("mr-v100", index), {})


def test_other_devices_are_refused(plan: Path) -> None:
    with pytest.raises(DeviceError, match="ixRT cannot use the device 'cuda'"):
        IxRt().open(plan, Device("cuda"), {})


def test_the_second_card_and_a_second_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with checked(iluvatar(monkeypatch, gpus=[CARD, CARD])) as machine:
        engine = tmp_path / IxRtConverter().convert(network(), tmp_path, "fp32", {}).engine
        session = IxRt().open(engine, Device("mr-v100", 1), {})
        assert {device for device, _ in machine.device_memory.values()} == {1}
        found: list[bool] = []

        def work() -> None:
            found.append(right(session, 3))
            session.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [True]


@pytest.mark.parametrize(
    ("owner", "call"), [("ICudaEngine", "get_tensor_mode"), ("IExecutionContext", "set_tensor_address")]
)
def test_another_interface_than_is_documented_is_told(
    plan: Path, monkeypatch: pytest.MonkeyPatch, machine: Any, owner: str, call: str
) -> None:
    import ixrt

    monkeypatch.delattr(getattr(ixrt, owner), call)
    with pytest.raises(DeviceError, match=f"another interface .*{call}") as caught:
        IxRt().open(plan, MR_V100, {})
    assert "edgepose selftest --device mr-v100" in str(caught.value.hint)
    del caught
    gc.collect()
    assert machine.living() == {}


def test_two_estimators_in_one_process(plan: Path) -> None:
    one, two = IxRt().open(plan, MR_V100, {}), IxRt().open(plan, MR_V100, {})
    for seed in range(2):
        assert right(one, 3, seed)
        assert right(two, 2, seed)
    one.close()
    assert right(two)
    two.close()


@pytest.mark.parametrize("threads", ["daemon", "no"])
def test_the_interpreter_may_end_while_it_runs(tmp_path: Path, plan: Path, threads: str) -> None:
    code = f"""
import threading, sys, time
import numpy as np
from pathlib import Path
from edgepose.devices import Device
from edgepose_runtimes.ixrt import IxRt
session = IxRt().open(Path({str(plan)!r}), Device("mr-v100"), {{}})
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


def test_cuda_graphs_are_those_of_ixrt_itself(plan: Path, monkeypatch: pytest.MonkeyPatch, machine: Any) -> None:
    with pytest.raises(DeviceError, match="by itself") as caught:
        IxRt().open(plan, MR_V100, {"cuda_graph": "on"})
    assert "export IXRT_USE_CUDA_GRAPH=1" in str(caught.value.hint)
    monkeypatch.setenv("IXRT_USE_CUDA_GRAPH", "1")
    session = IxRt().open(plan, MR_V100, {"cuda_graph": "on"})
    assert session.placement.endswith("IXRT_USE_CUDA_GRAPH=1")
    assert right(session)
    assert machine.counted["cudaStreamBeginCapture"] == 0
    session.close()


@pytest.mark.parametrize(
    ("options", "message"), [({"host_code": "on"}, "no option host_code"), ({"cuda_graph": "maybe"}, "'off', 'on'")]
)
def test_wrong_options_are_refused(plan: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        IxRt().open(plan, MR_V100, options)


def test_a_recipe_is_carried_out_once(
    machine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    result = IxRtConverter().convert(network(), tmp_path, "fp16", {"build": "on-device", "max_batch": 4})
    assert result.engine == "model.recipe.json"
    for attempt in range(2):
        caplog.clear()
        session = IxRt().open(tmp_path / result.engine, MR_V100, {})
        assert bool("Building" in caplog.text) == (attempt == 0)
        found, wanted = session.run(feeds(3)), Runner(network().graph).run(feeds(3))
        assert np.allclose(found["heatmaps"], wanted["heatmaps"], atol=0.05)
        session.close()
    with checked(iluvatar(monkeypatch, version="1.1.0")):
        IxRt().open(tmp_path / result.engine, MR_V100, {}).close()
    assert len(list((tmp_path / "cache" / "edgepose" / "plans").glob("*.engine"))) == 2
