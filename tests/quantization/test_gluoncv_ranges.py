"""Ranges of GluonCV's quantised symbol files: what they become, and the int8 network that MXNet made of them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgepose.checkpoints.mxnet_symbol import parse_symbol
from edgepose.errors import InputError
from edgepose.graph.mxnet import import_mxnet
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.activations import Activations
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.gluoncv_ranges import ranges_of
from edgepose.quantization.histogram_ranges import SIGNED_LEVELS, UNSIGNED_LEVELS, divergences, entropy_range
from edgepose.quantization.observers import Histogram
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec, Stretch

MODEL = "simple_pose_resnet18_v1b"
VARIANTS = ("naive", "entropy")
THRESHOLDS = Path(__file__).with_name("mxnet_thresholds.json")
Table = dict[str, tuple[float, float]]
Imported = Callable[[str], PoseModel]


def block(calibration: Table) -> PoseModel:
    """A residual block as MXNet fuses it: convolution, sum and ReLU in one operator; then a pooling."""
    nodes = [
        helper.make_node("Conv", ["data", "w"], ["conv"]),
        helper.make_node("Conv", ["data", "v"], ["short"]),
        helper.make_node("Add", ["conv", "short"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    weights = np.random.default_rng(0).normal(0, 1, (2, 3, 3, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("pool", TensorProto.FLOAT, [1, 3, 4, 4])],
        [numpy_helper.from_array(weights[0], "w"), numpy_helper.from_array(weights[1], "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = PoseSpec(InputSpec("data", 8, 8, Stretch()), DecoderSpec("heatmap", {"heatmaps": "pool"}), COCO_17)
    return PoseModel(model, spec.replace(calibration=calibration))


def test_names_of_other_values_are_left_out() -> None:
    ranges = ranges_of(block({"data": (-1.0, 2.0), "conv": (-3.0, 3.0), "gone": (0.0, 1.0)}))
    assert dict(ranges.tensors) == {"data": (-1.0, 2.0), "conv": (-3.0, 3.0)}
    assert ranges.method == "imported"
    ranges.check(block({}).graph)


def test_there_must_be_some() -> None:
    with pytest.raises(InputError, match="brought none"):
        ranges_of(block({}))
    with pytest.raises(InputError, match="of other values"):
        ranges_of(block({"gone": (0.0, 1.0)}))


@given(
    a=st.floats(-50, 50), b=st.floats(0, 1), low=st.floats(-9, 0), high=st.floats(0, 9), most=st.floats(0.1, 20)
)  # fmt: skip
def test_a_term_of_a_sum_loses_nothing(a: float, b: float, low: float, high: float, most: float) -> None:
    ranges = ranges_of(block({"data": (-1.0, 1.0), "short": (low, high), "relu": (0.0, most)})).tensors
    assert ranges["pool"] == ranges["relu"] == (0.0, most)
    other = low + b * (high - low)
    cut = float(np.clip(a, *ranges["conv"]))
    assert np.clip(cut + other, 0, most) == pytest.approx(np.clip(a + other, 0, most), abs=1e-9)


@pytest.fixture(scope="module")
def gluoncv(reference: Path) -> Path:
    return reference / "fixtures" / "gluoncv_aimet"


@pytest.fixture(scope="module")
def recipe(gluoncv: Path) -> ModuleType:
    loaded = importlib.util.spec_from_file_location("gluoncv_recipe", gluoncv / "recipe.py")
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def imported(gluoncv: Path, recipe: ModuleType) -> Imported:
    """The fixture's graph, with the weights of its recipe."""
    names = json.loads((gluoncv / "deploy" / f"{MODEL}-names.json").read_text())
    shapes = json.loads((gluoncv / "schema.json").read_text())[MODEL]["params"]
    arrays = {flat: recipe.fill(MODEL, own, tuple(shapes[own])) for flat, own in names.items()}

    def load(variant: str) -> PoseModel:
        text = (gluoncv / "deploy" / f"{MODEL}{variant}-symbol.json").read_bytes()
        graph, ranges = import_mxnet(parse_symbol(text, MODEL, 1 << 28), arrays, input_size=(256, 192), batch=1)
        graph = optimise(graph)
        decoder = DecoderSpec("heatmap", {"heatmaps": graph.graph.output[0].name})
        return PoseModel(graph, PoseSpec(InputSpec("data", 256, 192, Crop()), decoder, COCO_17, ranges))

    return load


def test_ranges_are_those_that_mxnet_finds(imported: Imported, recipe: ModuleType) -> None:
    """On the whole network, with MXNet 1.9.1's own collector; what its fixtures were calibrated on is not known."""
    recorded = json.loads(THRESHOLDS.read_text())
    activations = Activations(imported("").graph)
    seen: dict[str, Histogram] = {}
    shape = (1, 3, 256, 192)
    for fed in (recipe.inp(MODEL, shape), recipe.rs(MODEL, "second").standard_normal(shape).astype(np.float32)):
        for name, array in activations.of("data", fed):
            if name in recorded:
                observer = seen.setdefault(name, Histogram(entropy_range))
                observer.update(array.reshape(-1), float(array.min()), float(array.max()))
    assert seen.keys() == recorded.keys()
    equal = 0
    for name, (low, high, threshold, divergence, bins) in recorded.items():
        observer = seen[name]
        np.testing.assert_allclose((observer.low, observer.high), (low, high), rtol=2e-6)
        assert len(observer.counts) == bins
        halves, found = divergences(observer.counts, UNSIGNED_LEVELS if low >= 0 else SIGNED_LEVELS)
        place = round(threshold / observer.width - 0.5) - int(halves[0])
        equal += place == int(np.argmin(found))
        # Where it is not the same threshold, it is as good: MXNet's sums in float32 are right to some 1e-5.
        assert found[place] - found.min() < 1e-6
        assert found.min() == pytest.approx(divergence, abs=1e-4)
    assert equal > len(recorded) / 2


def on_mxnets_grid(model: PoseModel) -> Ranges:
    """The ranges by which a uint8 grid has the levels of MXNet 1.9.1.

    The largest magnitude ``t`` gives 127.5 steps (int8) or, where nothing is negative, 255.5 (uint8).  oneDNN adds in
    place: where a term of the sum is int8, as after the convolution of a shortcut, so is the sum, which saturates at
    the 127th of the 255 levels; seen in MXNet's own values, and the reason why its error is that large.
    """
    table: Table = {}
    nodes = model.graph.graph.node
    activated = {n.input[0]: n.output[0] for n in nodes if n.op_type == "Relu"}
    shortcut = {activated[n.output[0]] for n in nodes if n.op_type == "Add" and any("down" in i for i in n.input)}
    assert len(shortcut) == 3
    for name, (low, high) in ranges_of(model).tensors.items():
        most = max(-low, high)
        if name in shortcut:
            table[name] = (-most * 127.5 / 255.5, most * 127.5 / 255.5)
        elif low >= 0:
            table[name] = (0.0, most * 255 / 255.5)
        elif name in model.spec.calibration:
            table[name] = (-most, most)
        else:  # a term of a sum, which MXNet does not round
            table[name] = (low, high)
    return Ranges(table, "imported")


def saturating(model: PoseModel, ranges: Ranges, rng: np.random.Generator | None = None) -> onnx.ModelProto:
    """The float network with values cut to their ranges; with ``rng``, disturbed as if it were rounded.

    Every value but zero, and every weight by its channel, moves by an evenly distributed part of up to half a step.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model.graph)
    graph = result.graph
    stored = {t.name: t for t in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    shapes["data"] = [1, 3, 256, 192]
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, array: Any) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def cut(source: str, name: str, target: str) -> None:
        low, high = ranges.tensors[name]
        if rng is not None:
            noise = constant(f"{name}.noise", rng.uniform(-0.5, 0.5, shapes[name]) * (high - low) / 255)
            nodes.append(helper.make_node("Sign", [source], [f"{name}.sign"]))
            nodes.append(helper.make_node("Mul", [f"{name}.sign", noise], [f"{name}.part"]))
            nodes.append(helper.make_node("Add", [source, f"{name}.part"], [f"{name}.moved"]))
            source = f"{name}.moved"
        # On the grid of a saturated sum there are levels below zero that ReLU never takes.
        ends = [max(low, 0.0) if "relu" in name else low, high]
        names = [constant(f"{name}.{side}", v) for side, v in zip(("low", "high"), ends, strict=True)]
        nodes.append(helper.make_node("Clip", [source, *names], [target]))

    cut("data", "data", "data.cut")
    for node in model.graph.graph.node:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.input[:] = ["data.cut" if i == "data" else i for i in copy.input]
        if rng is not None and copy.op_type == "Conv":
            weights = numpy_helper.to_array(stored[copy.input[1]])
            step = np.abs(weights).max(axis=(1, 2, 3), keepdims=True) / 127.5
            moved = weights + rng.uniform(-0.5, 0.5, weights.shape) * step
            stored[copy.input[1]].CopyFrom(numpy_helper.from_array(moved.astype(np.float32), copy.input[1]))
        name = node.output[0]
        if name in ranges.tensors:
            copy.output[0] = f"{name}.raw"
        nodes.append(copy)
        if name in ranges.tensors:
            cut(f"{name}.raw", name, name)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


@pytest.mark.parametrize("variant", VARIANTS)
def test_mxnets_int8_outputs_are_reproduced(variant: str, imported: Imported, gluoncv: Path) -> None:
    """Within what rounding does to two networks on the same grids.

    The tolerance: each rounding moves a value by an even part of its step.  The float network with such disturbances in
    every activation and weight differs from the one without by ``sigma`` (root mean square, in steps of the output).
    MXNet and our graph round in different places (sums before or after the addition, batch norms folded or not, weights
    to 127.5 or 127 levels), which makes their errors independent: they differ by at most ``sigma * sqrt(2)``, and, as
    these are sums of thousands of parts, normally distributed, by less than 6 times that in all of 52,224 values.
    """
    model = imported(f"-quantized-{variant}")
    ranges = on_mxnets_grid(model)
    (name,) = model.spec.decoder.outputs.values()
    step = ranges.tensors[name][1] / 127.5
    with np.load(gluoncv / "deploy" / f"{MODEL}-quantized-outputs.npz") as stored:
        theirs = stored[f"output_int8_{variant}"]
        fp32 = stored["output_fp32"]
    with np.load(gluoncv / "io" / f"{MODEL}.npz") as stored:
        feeds = {"data": stored["input_a"]}

    def run(graph: onnx.ModelProto) -> np.ndarray:
        return Runner(graph).run(feeds)[name]

    def rms(difference: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(difference, dtype=np.float64)))) / step

    ideal = run(saturating(model, ranges))
    sigma = rms(run(saturating(model, ranges, np.random.default_rng(0))) - ideal)
    quantised = quantize_model(model, ranges, Scheme(deconvolution="float"))
    ours = run(quantised.model.graph)
    assert 0.5 < sigma < 2
    assert rms(theirs - ideal) < sigma  # it is their network
    assert rms(ours - ideal) < sigma
    assert rms(ours - theirs) < np.sqrt(2) * sigma
    assert np.abs(ours - theirs).max() / step < 6 * np.sqrt(2) * sigma
    # Without the grids and the saturation of MXNet the imported ranges serve better than they did there.
    better = run(quantize_model(model, ranges_of(model), Scheme(deconvolution="float")).model.graph)
    assert rms(better - fp32) < 0.5 * rms(theirs - fp32)
