"""edgepose selftest: what a user with a board runs, here on the CPU and on a third party's engine that is at fault."""

from __future__ import annotations

import getpass
import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from edgepose.anonymous import Anonymiser
from edgepose.device_networks import proving_networks
from edgepose.device_proof import SKIPPED, plan, prove_device
from edgepose.devices import Device

FAMILIES = {"movenet-multi", "movenet-single", "heatmap", "simcc", "openpose", "regression", "yolo-pose"}
#: A third party's runtime for the engines of the target 'onnx', which computes with ONNX Runtime and then does this.
ENGINE = """
    import os
    import numpy as np
    from edgepose.plugins import Probe, TensorInfo, runtime

    class Faulty:
        name = "faulty"
        targets = {"onnx": (".onnx",), "stone": (".stone",), "brass": (".brass",)}
        devices = ("cpu",)

        def probe(self, device=None):
            return Probe(True, "nothing", "a faulty engine")

        def open(self, engine, device, options):
            return Session(runtime("onnxruntime").open(engine, device, options))

    class Session:
        def __init__(self, sound):
            self.sound, self.inputs, self.outputs = sound, sound.inputs, sound.outputs
            self.placement = "faulty engine"
            self.runs = 0

        def run(self, feeds):
            FAULT
            return results

        def close(self):
            self.sound.close()

    class Stone:
        name, precisions, scheme = "stone", ("fp32",), None

        def probe(self):
            return Probe(False, "the chisel", remedy="apt install chisel")
"""
FAULTS = {
    "reversed": "results = {n: np.flip(a, range(1, a.ndim)).copy() for n, a in self.sound.run(feeds).items()}",
    "not finite": "results = {n: a * np.float32('nan') for n, a in self.sound.run(feeds).items()}",
    "raises": "raise RuntimeError('vendor error 507011 at ' + os.path.expanduser('~/model.bin'))",
    "ends": "os._exit(77)",
}


def install(folder: Path, fault: str) -> None:
    """Install the third party's package into a folder on the path."""
    (folder / "thirdparty.py").write_text(textwrap.dedent(ENGINE).replace("FAULT", FAULTS[fault]))
    info = folder / "thirdparty-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[edgepose.runtimes]\nfaulty = thirdparty:Faulty\n[edgepose.converters]\nstone = thirdparty:Stone\n"
    )


def selftest(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command in a process of its own with the package installed; the report."""
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "edgepose", "selftest", "--output", str(folder / "report.json"), *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, cwd=folder, capture_output=True, text=True, check=False
    )
    report = folder / "report.json"
    return done, json.loads(report.read_text()) if report.exists() else {}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("whole")
    return selftest(folder, "--device", "cpu", "--runtime", "onnxruntime", "--target", "onnx", "--precision", "fp32")


def test_every_family_passes_on_the_cpu(whole: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, report = whole
    assert done.returncode == 0, done.stderr
    assert {c["decoder"] for c in report["cases"]} == FAMILIES
    for case in report["cases"]:
        assert case["status"] == "passed"
        assert case["compared"] >= 17, "no joints were compared"
        assert case["pixels"]["max"] <= 1.0
        assert case["ms"] > 0
        assert case["size"] > 1000
        assert "onnxruntime" in case["placement"]
        assert case["tools"]["onnx"]
    assert report["summary"] == {"passed": 7, "failed": 0, "skipped": 0, "running": 0}
    assert report["device"]["name"] == "cpu"


def test_progress_and_table_are_shown(whole: tuple[subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    done, _ = whole
    assert "[1/7] onnx fp32 fast ..." in done.stderr
    assert "[7/7] onnx fp32 yolo-pose passed" in done.stderr
    head, *rows = done.stdout.splitlines()
    assert head.split()[:4] == ["target", "precision", "network", "result"]
    assert len([r for r in rows if r.startswith("onnx ") and " passed " in r]) == 7
    assert "7 passed, 0 failed, 0 skipped" in rows[-1]


def test_the_report_tells_nothing_about_people(
    whole: tuple[subprocess.CompletedProcess[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "raises")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "thirdparty", raising=False)
    networks = [n for n in proving_networks() if n.name in ("regression", "yolo-pose")]
    failed = prove_device(Device("cpu"), [("onnx", "fp32")], [], "faulty", networks=networks).to_dict()
    for case in failed["cases"]:
        assert case["status"] == "failed"
        assert "vendor error 507011 at ~/model.bin" in case["error"]
    for report in (whole[1], failed):
        text = json.dumps(report)
        for secret in (str(Path.home()), str(tmp_path), f"/{getpass.getuser()}/"):
            assert secret not in text
        if socket.gethostname() not in ("localhost", "cpu"):
            assert socket.gethostname() not in text.split()


@pytest.mark.parametrize("fault", ["reversed", "not finite"])
def test_an_engine_that_computes_something_else_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    install(tmp_path, fault)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "thirdparty", raising=False)
    networks = [n for n in proving_networks() if n.name in ("regression", "yolo-pose", "heatmap")]
    report = prove_device(Device("cpu"), [("onnx", "fp32")], [], "faulty", networks=networks)
    assert [c.status for c in report.cases] == ["failed"] * 3
    for case in report.cases:
        assert case.error
        assert case.seconds is not None
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_library_that_ends_the_process_is_named_in_the_report(tmp_path: Path) -> None:
    install(tmp_path, "ends")
    done, report = selftest(tmp_path, "--runtime", "faulty", "--target", "onnx", "--precision", "fp32")
    assert done.returncode == 77
    assert [(c["network"], c["status"]) for c in report["cases"]] == [("fast", "running")]
    assert report["planned"] == 7


def test_what_cannot_be_tested_is_a_row_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "reversed")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "thirdparty", raising=False)
    pairs, skipped = plan(Device("cpu"), "faulty")
    assert pairs == [("onnx", "fp32"), ("onnx", "fp16")]
    rows = {(c.target, c.precision): c for c in skipped}
    assert all(c.status == SKIPPED for c in skipped)
    assert set(rows) == {(t, p) for t in ("brass", "stone") for p in ("fp32", "fp16")}
    assert "the chisel" in rows["stone", "fp32"].error
    assert rows["stone", "fp32"].remedy == "apt install chisel"
    assert "no installed converter" in rows["brass", "fp32"].error


def test_nothing_can_be_tested(tmp_path: Path) -> None:
    install(tmp_path, "reversed")
    done, report = selftest(tmp_path, "--runtime", "faulty", "--target", "stone")
    assert done.returncode == 2
    assert "apt install chisel" in done.stdout
    assert report == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "mr-v100"], "edgepose doctor --device mr-v100"),
        (["--device", "toaster"], "There is no device 'toaster'"),
        (["--target", "stone"], "opens 'stone' on cpu"),
        (["--device", "cpu", "--runtime", "nosuch"], "There is no runtime 'nosuch'"),
        (["--precision", "fp8"], "fp8"),
    ],
)
def test_wrong_use(tmp_path: Path, arguments: list[str], said: str) -> None:
    done, report = selftest(tmp_path, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert report == {}


def test_a_report_that_cannot_be_written_is_an_error_and_not_a_crash(tmp_path: Path) -> None:
    done, _ = selftest(tmp_path, "--target", "onnx", "--precision", "fp32", "--output", str(tmp_path / "no" / "r.json"))
    assert done.returncode == 2
    assert "does not exist" in done.stderr


def test_texts_without_what_tells_whose_machine_it_is() -> None:
    clean = Anonymiser().text
    home = str(Path.home())
    assert clean(f"cannot read '{home}/secret/model.onnx'") == "cannot read '~/secret/model.onnx'"
    assert clean(f"{home}") == "~"
    assert clean("/home/grace/venv/lib/x.so: no such file") == "~/venv/lib/x.so: no such file"
    assert clean("/Users/ada/x") == "~/x"
    assert clean("TensorRT 10.13.3.9 at /usr/local/cuda-12.6/lib64, /opt/x") == (
        "TensorRT 10.13.3.9 at /usr/local/cuda-12.6/lib64, /opt/x"
    )
    assert Anonymiser().data({"a": [f"{home}/x", 1, None, ("/home/eve/y",)]}) == {"a": ["~/x", 1, None, ["~/y"]]}
