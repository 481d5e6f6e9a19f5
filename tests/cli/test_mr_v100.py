"""From a graph to poses on an Iluvatar MR-V100, through the command line; the card, CoreX and ixRT are stand-ins."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iluvatar_machine
import pytest
from nvidia_machine import checked
from poses_by_command import near, persons, write_network

from edgepose.bundle import read_bundle

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the plans that are built on the device."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edgepose" / "plans"


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A machine with an MR-V100 and ixRT 1.0."""
    iluvatar_machine.card(tmp_path / "root", monkeypatch)
    with checked(iluvatar_machine.iluvatar(monkeypatch)) as machine:
        yield machine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_network(tmp_path / "edges.onnx")


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 3.0), ("int8", 10.0)])
def test_convert_and_run(edgepose: Call, card: Any, source: Path, precision: str, limit: float, cache: Path) -> None:
    target = source.with_name("bundle")
    more = ["--calibration", PARK.parent, "--max-shift", "9"] if precision == "int8" else []
    done = edgepose("convert", source, "--to", "ixrt", "--precision", precision, "-o", target, *more)
    assert done.code == 0, done.err
    assert "Not run on hardware" in done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].engine == "model.engine"
    assert bundle.manifest.tools["ixrt"] == "1.0.0"
    assert any("Not run on hardware" in n for n in bundle.manifest.notes)
    assert bundle.manifest.measured["parity"]["status"] == "executed"
    flags = {"fp32": [], "fp16": ["FP16"], "int8": ["FP16", "INT8"]}
    assert iluvatar_machine.head(target / "model.engine")["flags"] == flags[precision]
    ours, said = persons(edgepose, target, "--device", "mr-v100")
    assert "ixRT 1.0.0 on Iluvatar MR-V100" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert near(ours, others, limit) >= 0.9
    assert not cache.exists()


def test_convert_on_a_workstation_and_run_on_the_card(
    edgepose: Call,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    target = source.with_name("bundle")
    for name in ("ixrt", "tensorrt"):
        monkeypatch.setitem(sys.modules, name, None)
    options = ["--option", "max_batch=2"]
    done = edgepose("convert", source, "--to", "ixrt", "--precision", "fp16", "-o", target, *options)
    assert done.code == 0, done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].engine == "model.recipe.json"
    assert bundle.manifest.measured["parity"]["status"] == "not executed"
    iluvatar_machine.card(tmp_path / "root", monkeypatch)
    with checked(iluvatar_machine.iluvatar(monkeypatch, module="tensorrt")):
        ours, _ = persons(edgepose, target, "--device", "mr-v100")
        assert "this takes minutes, once" in caplog.text
        caplog.clear()
        assert persons(edgepose, target, "--device", "mr-v100")[0] == ours
        assert caplog.text == ""
    (plan,) = cache.glob("*.engine")
    assert iluvatar_machine.head(plan)["profile"]["image"][2] == [2, 3, 64, 48]
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert near(ours, others, 3.0) >= 0.9


def test_convert_with_the_tool_and_run(
    edgepose: Call, card: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iluvatar_machine.ixrtexec(monkeypatch, tmp_path / "tool")
    target = source.with_name("bundle")
    options = ["--option", "via=ixrtexec"]
    done = edgepose("convert", source, "--to", "ixrt", "--precision", "fp16", "-o", target, *options)
    assert done.code == 0, done.err
    assert "Built, and run once, by ixrtexec." in done.err
    ours, _ = persons(edgepose, target, "--device", "mr-v100")
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert near(ours, others, 3.0) >= 0.9


def test_the_embedded_model_with_both_of_its_networks(edgepose: Call, card: Any, tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    done = edgepose("convert", "accurate", "--to", "ixrt", "-o", target)
    assert done.code == 0, done.err
    ours, _ = persons(edgepose, target, "--device", "mr-v100")
    found = edgepose("run", PARK, "--device", "cpu", "--json", "-")
    assert near(ours, json.loads(found.out)["persons"], 0.5) == 1


def test_what_stands_in_the_way_is_told(
    edgepose: Call, card: Any, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "ixrt", "-o", target).code == 0

    def refused(*more: str) -> str:
        done = edgepose("run", PARK, "--model", target, *more)
        assert done.code == 2
        assert "Traceback" not in done.err
        return done.err

    assert "does not run on the device 'cuda'" in refused("--device", "cuda")
    assert "There is no GPU 3 here" in refused("--device", "mr-v100:3")
    with checked(iluvatar_machine.iluvatar(monkeypatch, version="1.1.0")):
        said = refused("--device", "mr-v100")
        assert "built by ixRT 1.0.0" in said
        assert "edgepose convert" in said
        assert "--to ixrt" in said
    with checked(iluvatar_machine.iluvatar(monkeypatch, driver=False)):
        assert "ixsmi -L must list the card" in refused("--device", "mr-v100")
    with checked(iluvatar_machine.iluvatar(monkeypatch, gpus=[("Iluvatar MR-V100", "7.1", 1000, 16)])):
        assert "cudaErrorMemoryAllocation" in refused("--device", "mr-v100")
    with checked(iluvatar_machine.iluvatar(monkeypatch, module="nvidia")):
        assert "NVIDIA's" in refused("--device", "mr-v100")
    iluvatar_machine.iluvatar(monkeypatch)
    monkeypatch.setitem(sys.modules, "ixrt", None)
    assert "wheel of ixRT" in refused("--device", "mr-v100")
    (tmp_path / "root" / "dev" / "iluvatar0").unlink()
    assert "Install the Iluvatar CoreX SDK" in refused("--device", "mr-v100")


@pytest.mark.conformance
def test_selftest_proves_every_decoder(edgepose: Call, card: Any, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = edgepose("selftest", "--device", "mr-v100", "--output", report)
    assert done.code == 0, done.err
    cases = json.loads(report.read_text())["cases"]
    assert {(c["target"], c["precision"]) for c in cases} == {("ixrt", "fp32"), ("ixrt", "fp16")}
    assert {c["status"] for c in cases} == {"passed"}


def test_doctor_names_the_version_and_the_way_to_cuda(edgepose: Call, card: Any) -> None:
    done = edgepose("doctor", "--device", "mr-v100", "--json")
    engines = {e["name"]: e for e in json.loads(done.out)["engines"] if e["kind"] == "runtime"}
    assert engines["ixrt"]["available"]
    assert "ixRT 1.0.0, 1 GPU(s) through cuda.cudart" in engines["ixrt"]["found"]
