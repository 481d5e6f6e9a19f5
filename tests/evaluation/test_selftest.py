"""The golden self-test: an engine that gives something else here must not be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from planted import network, with_input, with_weight, write_bundle

from edgepose.artifact import embedded_folder
from edgepose.bundle import BundleStage, finish_bundle, read_bundle, writing_bundle
from edgepose.conversion import golden_frame
from edgepose.errors import BundleError, DeviceError
from edgepose.golden import GOLDEN, GoldenFrame, write_golden
from edgepose.graph.half import compute_half
from edgepose.loading import load
from edgepose.model import PoseModel
from edgepose.selftest import self_test


@pytest.fixture(scope="module")
def base() -> PoseModel:
    return network()


def check(folder: Path) -> None:
    bundle = read_bundle(folder)
    with load(bundle, device="cpu", detector=None) as estimator:
        self_test(estimator.stages, bundle)


def test_the_embedded_pair_passes() -> None:
    check(embedded_folder("accurate"))


def test_sound_engines_pass(tmp_path: Path, base: PoseModel) -> None:
    check(write_bundle(tmp_path / "fp32", base))
    half = PoseModel(compute_half(base.graph).graph, base.spec, {})
    check(write_bundle(tmp_path / "fp16", base, engine=half, precision="fp16"))


@pytest.mark.parametrize("fault", ["channels", "weights", "nothing", "not finite"])
def test_a_wrong_engine_is_refused(tmp_path: Path, base: PoseModel, fault: str) -> None:
    engine = {
        "channels": lambda: with_input(base, color="RGB"),
        "weights": lambda: with_weight(base, "final_layer.weight", lambda a: a[::-1].copy()),
        "nothing": lambda: with_weight(base, "final_layer.weight", np.zeros_like),
        "not finite": lambda: with_weight(base, "final_layer.weight", lambda a: np.full_like(a, np.nan)),
    }[fault]()
    folder = write_bundle(tmp_path / "wrong", base, engine=engine)
    with pytest.raises(DeviceError, match="self-test of 'wrong' failed on onnxruntime") as caught:
        check(folder)
    assert ("not finite" if fault == "not finite" else "joints") in caught.value.message


def test_one_joint_in_forty_may_jump_and_one_in_seventeen_may_not(tmp_path: Path, base: PoseModel) -> None:
    frame = golden_frame(base, tmp_path)
    maps = frame.outputs["heatmaps"].copy()
    # The reference's surest joint is put into a corner.
    person, joint = np.unravel_index(int(maps.max(axis=(2, 3)).argmax()), maps.shape[:2])
    maps[person, joint, 0, 0] = 1.5 * maps.max()
    jumped = GoldenFrame(0, frame.pixels[[person]], {"heatmaps": maps[[person]]})
    with pytest.raises(DeviceError, match="off by more than 1 px"):
        check(with_golden(tmp_path / "one", base, jumped))
    check(with_golden(tmp_path / "many", base, jumped, *[frame] * 4))


def test_what_the_conversion_measured_widens_the_tolerance(tmp_path: Path, base: PoseModel) -> None:
    wrong = with_input(base, color="RGB")
    frame = golden_frame(base, tmp_path)
    check(with_golden(tmp_path / "wide", wrong, frame, measured={"status": "executed", "pixels": {"p99": 1000.0}}))
    for strange in (None, [], {"pixels": 3}, {"pixels": {"p99": None}}, {"pixels": {"p99": "9"}}, {"pixels": {}}):
        with pytest.raises(DeviceError):
            check(with_golden(tmp_path / "strict", wrong, frame, measured=strange))


def test_frames_without_people_compare_the_outputs(tmp_path: Path, base: PoseModel) -> None:
    below = with_weight(base, "final_layer.bias", lambda a: a - np.float32(100))
    check(write_bundle(tmp_path / "sound", below))
    wrong = with_weight(below, "final_layer.bias", lambda a: a - np.float32(50))
    with pytest.raises(DeviceError, match="the output 'heatmaps' is off by 50"):
        check(write_bundle(tmp_path / "wrong", below, engine=wrong))


def test_a_bundle_without_golden_frames_cannot_be_tested(tmp_path: Path, base: PoseModel) -> None:
    with pytest.raises(BundleError, match="self_test=False"):
        check(write_bundle(tmp_path / "bare", base, golden=False))


def with_golden(folder: Path, model: PoseModel, *frames: GoldenFrame, measured: object = None) -> Path:
    with writing_bundle(folder) as inside:
        model.save(inside / "model.onnx")
        write_golden(inside / GOLDEN, frames)
        stages = [BundleStage("pose", "onnx", "fp32", "model.onnx", model.spec)]
        finish_bundle(inside, "net", stages, measured={"parity": measured})
    return folder
