"""edgepose verify --blame: planted faults are found, by their step and by their cause."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from planted import ARCHITECTURE, network, with_decoder, with_input, with_weight, write_bundle

from edgepose.artifact import resolve
from edgepose.evaluation.blame import Blame, find_blame
from edgepose.graph.embed import embed
from edgepose.graph.half import compute_half
from edgepose.model import PoseModel
from edgepose.spec import Crop

MIDDLE = "layer3.2.conv2.weight"


@pytest.fixture(scope="module")
def base() -> PoseModel:
    return network()


@pytest.fixture
def blame(tmp_path: Path, base: PoseModel) -> Callable[..., Blame]:
    """Blame of a model against the sound one, or against another."""

    def find(model: PoseModel, reference: PoseModel = base) -> Blame:
        paths = [m.save(tmp_path / f"{i}.onnx") for i, m in enumerate((model, reference))]
        return find_blame(*map(resolve, paths))

    return find


def perturbed(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    weights[0, 0, 1, 1] += 0.5
    return weights


Fault = Callable[[PoseModel], PoseModel]
FAULTS: dict[str, tuple[Fault, str, tuple[str, ...]]] = {
    "channels": (lambda m: with_input(m, color="RGB"), "colour", ("channels are swapped", "RGB", "BGR")),
    "std": (
        lambda m: with_input(m, std=(58.395, 57.12, 65.025)),
        "normalisation",
        ("std differs", "65.025", "57.375"),
    ),
    "std-for-unit-pixels": (
        lambda m: with_input(m, std=(0.229, 0.224, 0.225)),
        "normalisation",
        ("std differs", "pixels from 0 to 1"),
    ),
    "mean-reversed": (
        lambda m: with_input(m, mean=m.spec.input.mean[::-1]),
        "normalisation",
        ("mean differs", "reverse order"),
    ),
    "max-pool": (
        lambda m: network(f"{ARCHITECTURE}_torch_pool"),
        "network",
        ("MaxPool", "number 3 of", "pads", "other side"),
    ),
    "flip-shift": (lambda m: with_decoder(m, flip_shift=False), "flip", ("flip_shift", "False", "one cell")),
    "quarter-rule": (
        lambda m: with_decoder(m, quarter_rule="mindpose"),
        "decoder",
        ("quarter_rule", "mindpose", "msra"),
    ),
    "quarter-rule-at-the-border": (
        lambda m: with_decoder(m, quarter_rule="mmpose"),
        "decoder",
        ("quarter_rule", "mmpose", "msra"),
    ),
    "no-quarter": (lambda m: with_decoder(m, refine="none"), "decoder", ("refine", "no quarter step")),
    "udp": (lambda m: with_input(m, fit=Crop(convention="udp")), "crop", ("convention", "udp", "msra")),
    "padding": (lambda m: with_input(m, fit=Crop(padding=1.2)), "crop", ("padding", "1.2 in the model")),
    "weight": (lambda m: with_weight(m, MIDDLE, perturbed), "network", ("Conv", MIDDLE, "1 of 9216", "0.5")),
    "first-layer": (
        lambda m: with_weight(m, "conv1.weight", lambda a: a[:, ::-1].copy()),
        "network",
        ("'conv1.weight'", "other colour order"),
    ),
}


@pytest.mark.parametrize(("plant", "step", "words"), FAULTS.values(), ids=list(FAULTS))
def test_a_planted_fault_is_found(
    blame: Callable[..., Blame], base: PoseModel, plant: Fault, step: str, words: tuple[str, ...]
) -> None:
    found = blame(plant(base))
    assert found.first is not None
    assert (found.first.stage, found.first.name) == ("pose", step)
    for word in words:
        assert word in found.first.cause
    assert found.first.detail
    assert found.first.cause in found.to_text()
    # Nothing else is blamed, except that the crop's convention decides about cells and mirroring as well.
    consequences = ["decoder", "flip"] if found.first.cause.startswith("the crop's convention") else []
    assert [s.name for s in found.steps if s.status == "differs"] == [step, *consequences]


def test_a_sound_model_is_not_blamed(blame: Callable[..., Blame], base: PoseModel) -> None:
    found = blame(base)
    assert found.first is None
    names = ["picture", "crop", "colour", "normalisation", "network", "decoder", "flip", "mapping back"]
    assert [s.name for s in found.steps] == names
    assert {s.status for s in found.steps} == {"shared", "same"}


@pytest.mark.parametrize(("pre", "post"), [(True, False), (False, True), (True, True)])
def test_what_is_embedded_in_the_graph_is_no_fault(
    blame: Callable[..., Blame], base: PoseModel, pre: bool, post: bool
) -> None:
    inside = embed(base, pre=pre, post=post)
    for pair in ((inside, base), (base, inside)):
        found = blame(*pair)
        assert found.first is None, found.to_text()


def test_a_fault_behind_an_embedded_input_is_found(blame: Callable[..., Blame], base: PoseModel) -> None:
    first = blame(embed(with_weight(base, MIDDLE, perturbed), pre=True)).first
    assert first is not None
    assert first.name == "network"
    assert MIDDLE in first.cause


def test_a_fault_in_an_embedded_decoder_graph_is_seen_in_pixels(blame: Callable[..., Blame], base: PoseModel) -> None:
    worse = with_weight(base, "final_layer.weight", lambda a: a[::-1].copy())
    first = blame(embed(worse, post=True)).first
    assert first is not None
    assert first.name == "network"
    assert first.pixels is not None
    assert first.pixels > 5


def test_half_precision_is_no_fault_where_it_is_declared(tmp_path: Path, base: PoseModel) -> None:
    half = PoseModel(compute_half(base.graph).graph, base.spec, {})
    bundle = write_bundle(tmp_path / "half", base, engine=half, precision="fp16")
    reference = base.save(tmp_path / "base.onnx")
    assert find_blame(resolve(bundle), resolve(reference)).first is None
    undeclared = find_blame(resolve(half.save(tmp_path / "half.onnx")), resolve(reference)).first
    assert undeclared is not None
    assert "float16 in the model" in undeclared.cause


def test_a_fault_under_half_precision_is_found(tmp_path: Path, base: PoseModel) -> None:
    wrong = with_weight(base, MIDDLE, lambda a: 3 * a)
    half = PoseModel(compute_half(wrong.graph).graph, base.spec, {})
    bundle = write_bundle(tmp_path / "half", base, engine=half, precision="fp16")
    first = find_blame(resolve(bundle), resolve(base.save(tmp_path / "base.onnx"))).first
    assert first is not None
    assert "layer3.2.conv2" in first.cause


def test_nodes_of_other_names_are_paired_by_their_order(blame: Callable[..., Blame], base: PoseModel) -> None:
    worse = with_weight(base, MIDDLE, perturbed)
    ends = {worse.spec.input.name, *worse.spec.decoder.outputs.values()}
    for node in worse.graph.graph.node:
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                side[i] = name if name in ends else f"other/{name}"
        node.name = f"other/{node.name}"
    for tensor in worse.graph.graph.initializer:
        tensor.name = f"other/{tensor.name}"
    del worse.graph.graph.value_info[:]
    first = blame(worse).first
    assert first is not None
    assert f"the weights '{MIDDLE}' differ" in first.cause


def test_the_detector_comes_before_the_pose() -> None:
    found = find_blame(resolve("accurate"), resolve("accurate"))
    assert found.first is None
    assert [s.stage for s in found.steps][:2] == ["", "detector"]
    assert found.steps[-1].stage == "pose"
