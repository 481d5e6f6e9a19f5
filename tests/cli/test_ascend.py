"""From a graph to poses on an Ascend device, through the command line; the device and CANN are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ascend_machine
import numpy as np
import pytest

from edgepose.bundle import read_bundle
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.passes import set_batch
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


@pytest.fixture
def cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with a card, its driver, CANN and its environment."""
    root = ascend_machine.install(tmp_path / "cann")
    ascend_machine.source_environment(root, monkeypatch)
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    with ascend_machine.checked(ascend_machine.pyacl(monkeypatch)):
        yield root


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A network that looks for edges of seventeen kinds, blurred, so that each map has one clear peak."""
    rng = np.random.default_rng(8)
    build = GraphBuilder("edges")
    x = build.input("image", ("batch", 3, 64, 48))
    kinds = rng.standard_normal((17, 3, 3, 3)).astype(np.float32) / 5
    x = build.op("Conv", x, build.constant(kinds, "kinds"), strides=[2, 2], pads=[1] * 4)
    x = build.op("Relu", x)
    ramp = 4 - np.abs(np.arange(-3, 4, dtype=np.float32))
    blur = np.broadcast_to(np.outer(ramp, ramp) / ramp.sum() ** 2, (17, 1, 7, 7)).astype(np.float32)
    x = build.op("Conv", x, build.constant(blur.copy(), "blur"), group=17, pads=[3] * 4)
    build.output(x, "heatmaps", ("batch", 17, 32, 24))
    entry = InputSpec("image", 64, 48, Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    model = PoseModel(build.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17))
    return model.save(tmp_path / "edges.onnx")


def persons(edgepose: Call, model: Path, *more: str) -> Any:
    found = edgepose("run", PARK, "--model", model, "--json", "-", *more)
    assert found.code == 0, found.err
    return json.loads(found.out)["persons"], found.err


def distances(ours: Any, others: Any) -> Any:
    assert len(ours) == len(others) > 0
    pairs = [(np.array(a["keypoints"]), np.array(b["keypoints"])) for a, b in zip(ours, others, strict=True)]
    return np.concatenate([np.hypot(*(a - b)[:, :2].T) for a, b in pairs])


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-3), ("fp16", 3.0)])
def test_convert_and_run(edgepose: Call, cann: Path, source: Path, precision: str, limit: float) -> None:
    target = source.with_name("bundle")
    done = edgepose("convert", source, "--to", "om", "--precision", precision, "-o", target)
    assert done.code == 0, done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].target == "om"
    assert bundle.manifest.tools["cann"] == "8.0.RC3"
    assert bundle.manifest.measured["parity"]["status"] == "executed"
    assert "pyACL" in bundle.manifest.measured["parity"]["runtime"]
    ours, said = persons(edgepose, target, "--device", "ascend310")
    assert "pyACL 1.7.0, CANN 8.0.RC3 on Ascend310, device 0" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    off = distances(ours, others)
    assert (off < limit).mean() >= 0.95


def test_without_the_card_the_bundle_does_not_run_and_says_why(
    edgepose: Call, cann: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "om", "-o", target).code == 0
    for card in (tmp_path / "root" / "dev").glob("davinci*"):
        card.unlink()
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310")
    assert done.code == 2
    assert "/dev/davinci0" in done.err
    assert "driver" in done.err
    done = edgepose("run", PARK, "--model", target, "--device", "cpu")
    assert done.code == 2
    assert "does not run on the device 'cpu'" in done.err
    # The card is there, and pyACL is not.
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    monkeypatch.setitem(sys.modules, "acl", None)
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310")
    assert done.code == 2
    assert "set_env.sh" in done.err


def test_a_card_of_another_kind(
    edgepose: Call, cann: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "om", "-o", target).code == 0
    ascend_machine.cards(tmp_path / "root", monkeypatch, chip="310P3")
    ascend_machine.pyacl(monkeypatch, soc="Ascend310P3")
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310")
    assert done.code == 2
    assert "ascend310p" in done.err
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310p")
    assert done.code == 2
    assert "was compiled for Ascend310; the device here is Ascend310P3" in done.err


def test_an_engine_that_gives_something_else_is_not_served(
    edgepose: Call, cann: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "om", "-o", target).code == 0
    # A device whose results are turned upside down.
    from acl import om

    computed = om.compute
    monkeypatch.setattr(om, "compute", lambda *a: [r[:, :, ::-1].copy() for r in computed(*a)])
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310")
    assert done.code == 2
    assert "self-test" in done.err


def test_two_estimators_in_one_process_and_a_second_thread(edgepose: Call, cann: Path, source: Path) -> None:
    import edgepose as package
    from edgepose.media.pictures import read_picture

    targets = [source.with_name(name) for name in ("one", "two")]
    for target, precision in zip(targets, ("fp32", "fp16"), strict=True):
        assert edgepose("convert", source, "--to", "om", "--precision", precision, "-o", target).code == 0
    image = read_picture(PARK)
    found: dict[str, Any] = {}
    with (
        package.load(targets[0], device="ascend310") as first,
        package.load(targets[1], device="ascend310") as second,
    ):
        found["first"] = first(image)

        def work() -> None:
            found["second"] = second(image)
            found["again"] = first(image)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        found["last"] = second(image)
    np.testing.assert_array_equal(found["first"].keypoints, found["again"].keypoints)
    np.testing.assert_array_equal(found["second"].keypoints, found["last"].keypoints)
    assert not np.array_equal(found["first"].keypoints, found["second"].keypoints)


def test_doctor_knows_the_engines(edgepose: Call, cann: Path) -> None:
    report = json.loads(edgepose("doctor", "--device", "ascend310", "--json").out)
    (device,) = report["devices"]
    assert device["found"]
    assert "acl" in device["usable_with"]
    engines = {(e["kind"], e["name"]): e for e in report["engines"]}
    assert "CANN 8.0.RC3" in engines["converter", "om"]["found"]


def test_options_of_the_target(edgepose: Call, cann: Path, source: Path) -> None:
    target = source.with_name("bundle")
    options = ("--option", "aipp=on", "--option", "soc-version=Ascend310")
    done = edgepose("convert", source, "--to", "om", *options, "--precision", "fp16", "-o", target)
    assert done.code == 0, done.err
    entry = read_bundle(target).manifest.stages[0].spec.input
    assert (entry.dtype, entry.layout, entry.color, entry.is_raw) == ("uint8", "NHWC", "BGR", True)
    ours, _ = persons(edgepose, target, "--device", "ascend310")
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert (distances(ours, others) < 3).mean() >= 0.95
    for wrong, words in (
        (["--option", "aipp"], "NAME=VALUE"),
        (["--option", "aipp=on", "--option", "aipp=off"], "given twice"),
        (["--option", "wings=2"], "no option wings"),
        (["--option", "aipp=on", "--to", "onnx"], "one target"),
    ):
        done = edgepose("convert", source, "--to", "om", *wrong, "-o", source.with_name("wrong"))
        assert done.code == 2
        assert words in done.err
        assert not source.with_name("wrong").exists()


def test_batches_serve_a_crowd(edgepose: Call, cann: Path, source: Path) -> None:
    target = source.with_name("bundle")
    done = edgepose("convert", source, "--to", "om", "--option", "dynamic_batch_size=1,4", "-o", target)
    assert done.code == 0, done.err
    ours, said = persons(edgepose, target, "--device", "ascend310")
    assert "batches 1, 4" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert distances(ours, others).max() < 1e-3


def test_a_recipe_is_written_here_and_compiled_there(
    edgepose: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    monkeypatch.setattr("edgepose_converters.om.toolchain._ROOTS", ())
    monkeypatch.delenv("ASCEND_HOME_PATH", raising=False)
    done = edgepose("convert", source, "--to", "om", "-o", target)
    assert done.code == 2
    assert "recipe=on" in done.err
    assert not target.exists()
    done = edgepose("convert", source, "--to", "om", "--option", "recipe=on", "-o", target)
    assert done.code == 0, done.err
    assert "atc.sh" in done.err
    assert read_bundle(target).manifest.measured["parity"]["status"] == "not executed"
    # On the machine with the device: not before it is compiled.
    root = ascend_machine.install(tmp_path / "cann")
    ascend_machine.source_environment(root, monkeypatch)
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    ascend_machine.pyacl(monkeypatch)
    monkeypatch.setenv("PATH", f"{root / 'bin'}:{os.environ['PATH']}")
    done = edgepose("run", PARK, "--model", target, "--device", "ascend310")
    assert done.code == 2
    assert "sh atc.sh" in done.err
    subprocess.run(["sh", str(target / "atc.sh")], check=True, capture_output=True)
    ours, _ = persons(edgepose, target, "--device", "ascend310")
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert distances(ours, others).max() < 1e-3


def test_air_goes_to_the_device_as_it_is(edgepose: Call, cann: Path, source: Path) -> None:
    model = PoseModel.from_onnx(source)
    air = ascend_machine.om_file(source.with_name("network.air"), model, soc="")
    target, spec = source.with_name("bundle"), source.with_name("spec.json")
    arguments = ("convert", air, "--to", "om", "--precision", "fp16", "-o", target)
    done = edgepose(*arguments)
    assert done.code == 2
    assert "--spec" in done.err
    spec.write_text(model.spec.to_json())
    done = edgepose(*arguments, "--spec", spec)
    assert done.code == 0, done.err
    assert "no reference" in read_bundle(target).manifest.measured["parity"]["reason"]
    ours, _ = persons(edgepose, target, "--device", "ascend310")
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert distances(ours, others).max() < 1e-3
    done = edgepose("convert", source.with_name("missing.air"), "--to", "om", "--spec", spec, "-o", target)
    assert done.code == 2


def test_int8_is_calibrated_compiled_and_run(edgepose: Call, cann: Path, source: Path) -> None:
    target = source.with_name("bundle")
    done = edgepose(
        *("convert", source, "--to", "om", "--precision", "int8", "--calibration", PARK.parent, "-o", target),
        *("--max-oks-loss", "0.5"),
    )
    assert done.code == 0, done.err
    bundle = read_bundle(target)
    assert bundle.manifest.stages[0].precision == "int8"
    assert bundle.manifest.calibration
    assert ascend_machine.told(cann)["precision_mode"] == "force_fp16"
    ours, said = persons(edgepose, target, "--device", "ascend310")
    assert "pyACL" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert np.median(distances(ours, others)) < 6


def test_mindir_runs_there_in_mindspore_lite(
    edgepose: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("EDGEPOSE_MSLITE_PYTHON", "EDGEPOSE_MINDSPORE_PYTHON"):
        monkeypatch.setenv(variable, "/nonexistent/python")
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "mindir", "-o", target).code == 0
    # What the stand-in needs to compute the file lies beside it.
    graph = tmp_path / "fixed.onnx"
    graph.write_bytes(set_batch(PoseModel.from_onnx(source).graph, 1).SerializeToString())
    said = {"inputs": [["image", [1, 3, 64, 48], "float32"]], "graph": str(graph)}
    (target / "model.mindir.json").write_text(json.dumps(said))
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    monkeypatch.setenv("EDGEPOSE_MSLITE_PYTHON", str(ascend_machine.lite_python(tmp_path / "lite")))
    monkeypatch.setenv("MSLITE_STAND_IN", json.dumps({"devices": 1}))
    ours, said_ = persons(edgepose, target, "--device", "ascend310")
    assert "target ascend (CPU as backup), device 0, enforce_fp16" in said_
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert distances(ours, others).max() < 1e-3


def test_onnx_runs_there_in_onnx_runtime(
    edgepose: Call, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = source.with_name("bundle")
    assert edgepose("convert", source, "--to", "onnx", "-o", target).code == 0
    ascend_machine.cards(tmp_path / "root", monkeypatch)
    # Where ONNX Runtime has no provider for the card, 'auto' takes the CPU, and asking for the card is an error.
    assert edgepose("run", PARK, "--model", target).code == 0
    assert edgepose("run", PARK, "--model", target, "--device", "ascend310").code == 2
    ascend_machine.onnxruntime_cann(monkeypatch)
    ours, said = persons(edgepose, target, "--device", "ascend310")
    assert "CANNExecutionProvider" in said
    assert "force_fp16 on ascend310" in said
    others, _ = persons(edgepose, source, "--device", "cpu")
    assert distances(ours, others).max() < 1e-3


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-2), ("fp16", 2.0)])
def test_a_trained_network_gives_the_same_poses(
    edgepose: Call, cann: Path, reference: Path, tmp_path: Path, precision: str, limit: float
) -> None:
    weights = reference / "data/weights/lightweight_openpose/lightweight_openpose.pth"
    arguments = ("convert", weights, "--input-size", "256x344", "--batch", "1")
    for target, chosen in (("om", precision), ("onnx", "fp32")):
        done = edgepose(*arguments, "--to", target, "--precision", chosen, "-o", tmp_path / target)
        assert done.code == 0, done.err
    ours, said = persons(edgepose, tmp_path / "om", "--device", "ascend310")
    assert "pyACL" in said
    others, _ = persons(edgepose, tmp_path / "onnx", "--device", "cpu")
    assert len(others) >= 2
    off = distances(ours, others)
    # A joint of two nearly equal peaks may go to the other.
    assert (off < limit).mean() >= 0.95
