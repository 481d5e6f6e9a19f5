"""TFLite files of int8, made of graphs with Q/DQ nodes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgepose_converters.tflite import TfliteConverter
from edgepose_converters.tflite_integers import plan_integers
from edgepose_converters.tflite_lowering import nodes_of
from edgepose_converters.tflite_proof import proven_int8
from edgepose_converters.tflite_writing import write
from edgepose_runtimes.tflite import Tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from target_networks import QUICK, SLOW, family, picture, reference, small

from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.draft import Draft
from edgepose.graph.inference import infer_shapes
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.ranges import Ranges

CPU = Device("cpu")
executed = pytest.mark.skipif(not Tflite().probe().available, reason="no TFLite runtime: ai-edge-litert")
F, I8, I64 = np.float32, np.int8, np.int64

Build = Callable[["Quantised"], None]


class Quantised:
    """A graph whose values are quantised one by one; ``x`` is its input, from -2 to 2."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 9, 11)) -> None:
        self.build = GraphBuilder("case", 17)
        self.rng = np.random.default_rng(3)
        self.x = self.q(self.build.input("x", shape), 2 / 127, 1)

    def q(self, name: str, scale: float, zero: int, dtype: Any = np.int8) -> str:
        grid = [self.build.constant(F(scale)), self.build.constant(dtype(zero))]
        return self.build.op("DequantizeLinear", self.build.op("QuantizeLinear", name, *grid), *grid)

    def weights(self, *shape: int, axis: int | None = 0) -> str:
        scales = self.rng.uniform(0.5, 2, () if axis is None else shape[axis]).astype(F) / 127
        values = self.rng.integers(-127, 128, shape).astype(I8)
        zeros = np.zeros(scales.shape, I8)
        arrays = [self.build.constant(a) for a in (values, scales, zeros)]
        return self.build.op("DequantizeLinear", *arrays, **({} if axis is None else {"axis": axis}))

    def bias(self, weights: str, scale: float = 2 / 127) -> str:
        """A bias for weights with a scale for each channel."""
        maker = next(n for n in self.build._graph.node if n.output[0] == weights)
        scales = next(t for t in self.build._graph.initializer if t.name == maker.input[1])
        units = onnx.numpy_helper.to_array(scales) * F(scale)
        values = self.rng.integers(-9000, 9000, units.shape).astype(np.int32)
        arrays = [self.build.constant(a) for a in (values, units, np.zeros(units.shape, np.int32))]
        return self.build.op("DequantizeLinear", *arrays, axis=0)

    def graph(self, *results: str) -> onnx.ModelProto:
        for name in results:
            self.build._graph.output.append(onnx.ValueInfoProto(name=name))
        return self.build.build()


def translated(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, bytes, Counter[str]]:
    """The prepared graph, its file, and how often each operator is planned."""
    prepared = optimise(graph, opset=17)
    draft = Draft(prepared)
    infer_shapes(draft)
    plan = plan_integers(draft, nodes_of(draft.graph))
    return prepared, write(prepared, integers=True), Counter(n.op for n in plan.nodes)


def steps_apart(graph: onnx.ModelProto, path: Path, scale: float) -> tuple[float, float]:
    """Largest distance from ONNX Runtime in steps, and the part of the results that are the same."""
    prepared, data, _ = translated(graph)
    path.write_bytes(data)
    shape = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(0).uniform(-2.1, 2.1, shape).astype(F)}
    expected = reference(prepared, feeds)
    found = Tflite().open(path, CPU, {"threads": 1}).run(feeds)
    worst, same = 0.0, []
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape
        apart = np.abs(found[name] - wanted) / scale
        worst = max(worst, float(apart.max()))
        same.append(float((apart < 0.01).mean()))
        assert len(np.unique(wanted)) > 3
    return worst, min(same)


def conv(*, axis: int | None = 0, behind: str = "", **attributes: Any) -> Build:
    def made(g: Quantised) -> str:
        group = attributes.get("group", 1)
        w = g.weights(8, 4 // group, 3, 3, axis=axis)
        y = g.build.op("Conv", g.x, w, *([] if axis is None else [g.bias(w)]), **{"pads": [1] * 4, **attributes})
        if behind == "Relu6":
            y = g.build.op("Clip", y, g.build.constant(F(0)), g.build.constant(F(6)))
        elif behind:
            y = g.build.op(behind, y)
        return y

    return made


def deconv(*, group: int = 1, kernel: int = 4, pads: int = 1) -> Build:
    def made(g: Quantised) -> str:
        w = g.weights(4, 5 if group == 1 else 1, kernel, kernel, axis=1 if group == 1 else None)
        return g.build.op("ConvTranspose", g.x, w, strides=[2, 2], pads=[pads] * 4, group=group)

    return made


def one(op: str, *constants: Any, **attributes: Any) -> Build:
    def made(g: Quantised) -> str:
        names = ["" if c is None else g.build.constant(np.asarray(c)) for c in constants]
        return g.build.op(op, g.x, *names, **attributes)

    return made


def two(op: str, **attributes: Any) -> Build:
    def made(g: Quantised) -> str:
        other = g.q(g.build.op("Conv", g.x, g.weights(4, 4, 1, 1)), 0.05, -20)
        return g.build.op(op, g.x, other, **attributes)

    return made


def dense(op: str, transposed: bool = False) -> Build:
    def made(g: Quantised) -> str:
        flat = g.q(g.build.op("Reshape", g.x, g.build.constant(np.array([1, -1], I64))), 2 / 127, 1)
        w = g.weights(*((7, 396) if transposed else (396, 7)), axis=0 if transposed else 1)
        return g.build.op(op, flat, w, *([g.bias(w)] if op == "Gemm" else []), **({"transB": 1} if transposed else {}))

    return made


SAME = (2 / 127, 1)
#: What is computed -> its scale and zero point.
CASES: dict[str, tuple[Build, tuple[float, int]]] = {
    "conv": (conv(), (0.12, 7)),
    "conv-one-scale": (conv(axis=None), (0.12, 7)),
    "conv-strided": (conv(strides=[2, 2]), (0.12, 7)),
    "conv-dilated": (conv(dilations=[2, 2], pads=[2] * 4), (0.12, 7)),
    "conv-uneven-padding": (conv(pads=[0, 2, 1, 0]), (0.12, 7)),
    "depthwise": (conv(group=4), (0.06, -5)),
    "conv-relu": (conv(behind="Relu"), (0.1, -128)),
    "conv-relu-on-a-signed-grid": (conv(behind="Relu"), (0.1, 3)),
    "conv-relu6": (conv(behind="Relu6"), (6 / 255, -128)),
    "conv-relu6-on-a-wider-grid": (conv(behind="Relu6"), (0.1, -20)),
    "deconv": (deconv(), (0.12, 7)),
    "deconv-window": (deconv(kernel=3, pads=0), (0.12, 7)),
    "depthwise-deconv": (deconv(group=4), (0.05, 0)),
    "gemm": (dense("Gemm"), (0.5, 3)),
    "gemm-transposed": (dense("Gemm", True), (0.5, 3)),
    "matmul": (dense("MatMul"), (0.5, 3)),
    "add": (two("Add"), (0.06, -9)),
    "sub": (two("Sub"), (0.06, -9)),
    "mul": (two("Mul"), (0.06, -9)),
    "max-pool": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2]), SAME),
    "max-pool-padded": (one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), SAME),
    "average-pool": (one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), (0.01, -4)),
    "average-pool-with-padding": (
        one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), (0.01, -4),
    ),
    "average-pool-without-padding": (one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4), (0.01, -4)),
    "global-average": (one("GlobalAveragePool"), (0.004, 9)),
    "sigmoid": (one("Sigmoid"), (1 / 256, -128)),
    "elu": (one("Elu"), (0.012, -50)),
    "leaky": (one("LeakyRelu", alpha=0.3), (0.011, -60)),
    "hard-swish": (one("HardSwish"), (0.01, -80)),
    "reshape": (one("Reshape", np.array([1, 36, 11], I64)), SAME),
    "transpose": (one("Transpose", perm=[0, 2, 1, 3]), SAME),
    "slice": (one("Slice", np.array([1, 2], I64), np.array([8, 9], I64), np.array([2, 3], I64)), SAME),
    "pad": (one("Pad", np.array([0, 0, 1, 2, 0, 0, 1, 0], I64)), SAME),
    "depth-to-space": (one("DepthToSpace", blocksize=2, mode="DCR"), SAME),
    "depth-to-space-crd": (one("DepthToSpace", blocksize=2, mode="CRD"), SAME),
    "resize": (
        one("Resize", None, None, np.array([1, 4, 18, 22], I64), mode="nearest", nearest_mode="floor",
            coordinate_transformation_mode="asymmetric"), SAME,
    ),
}  # fmt: skip
#: The integer kernels of these approximate a function.
_APPROXIMATE = frozenset({"hard-swish", "elu", "leaky", "sigmoid"})


@executed
@pytest.mark.parametrize("name", CASES)
def test_operators_compute_in_integers_as_the_graph_says(tmp_path: Path, name: str) -> None:
    build, (scale, zero) = CASES[name]
    g = Quantised()
    graph = g.graph(g.q(build(g), scale, zero))
    _, _, planned = translated(graph)
    # Nothing is dequantised on the way.
    assert planned["DequantizeLinear"] == planned["QuantizeLinear"] == 1
    worst, same = steps_apart(graph, tmp_path / "case.tflite", scale)
    if name == "average-pool-without-padding":  # the mean is rounded in the scale of what it is of, and once more
        assert worst < 2.01
    else:
        assert worst < 1.01
        assert same > (0.9 if name in _APPROXIMATE else 0.985)


@executed
def test_parts_that_are_joined_share_one_scale(tmp_path: Path) -> None:
    g = Quantised()
    left, right = (g.q(g.build.op("Conv", g.x, g.weights(4, 4, 1, 1)), 0.03, 4) for _ in range(2))
    joined = g.q(g.build.op("Concat", left, right, g.build.op("Identity", left), axis=1), 0.03, 4)
    graph = g.graph(joined)
    assert translated(graph)[2]["DequantizeLinear"] == 1
    assert steps_apart(graph, tmp_path / "case.tflite", 0.03)[0] < 1.01


@executed
def test_what_has_no_integer_kernel_is_computed_in_float_between(tmp_path: Path) -> None:
    g = Quantised()
    y = g.q(g.build.op("Tanh", g.x), 0.008, 2)
    y = g.q(g.build.op("Conv", y, g.weights(6, 4, 3, 3), pads=[1] * 4), 0.08, 5)
    graph = g.graph(y)
    _, _, planned = translated(graph)
    assert planned["QuantizeLinear"] == planned["DequantizeLinear"] == 2
    worst, _ = steps_apart(graph, tmp_path / "case.tflite", 0.08)
    assert worst < 1.01


@executed
def test_padding_with_something_else_than_zero_is_done_in_float(tmp_path: Path) -> None:
    g = Quantised()
    pads = [g.build.constant(np.array([0, 0, 1, 2, 0, 0, 1, 0], I64)), g.build.constant(F(-0.5))]
    y = g.q(g.build.op("Pad", g.x, *pads), 2 / 127, 1)
    graph = g.graph(g.q(g.build.op("Conv", y, g.weights(6, 4, 3, 3)), 0.08, 5))
    assert steps_apart(graph, tmp_path / "case.tflite", 0.08)[0] < 1.01


@executed
def test_parts_with_other_scales_are_joined_in_float(tmp_path: Path) -> None:
    g = Quantised()
    left, right = (g.q(g.build.op("Conv", g.x, g.weights(4, 4, 1, 1)), s, 4) for s in (0.03, 0.05))
    graph = g.graph(g.q(g.build.op("Concat", left, right, axis=1), 0.05, 4))
    worst, _ = steps_apart(graph, tmp_path / "case.tflite", 0.05)
    assert worst < 1.01


@executed
def test_a_layer_whose_result_stays_float_keeps_the_meaning_of_its_weights(tmp_path: Path) -> None:
    g = Quantised()
    inner = g.q(g.build.op("Conv", g.x, g.weights(4, 4, 3, 3), pads=[1] * 4), 0.08, 5)
    w = g.weights(3, 4, 3, 3)
    graph = g.graph(g.build.op("Conv", inner, w, g.bias(w, 0.08)))
    # A step of what it reads, times the largest weights, moves it by this.
    worst, _ = steps_apart(graph, tmp_path / "case.tflite", 0.08 * 2 * 4)
    assert worst < 1


@executed
@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    depthwise=st.booleans(),
    zero=st.integers(-128, 127),
)
def test_any_convolution(tmp_path_factory, kernel, strides, pads, depthwise, zero) -> None:
    g = Quantised((1, 4, 13, 12))
    w = g.weights(8, 1 if depthwise else 4, *kernel)
    scale = 0.02 * float(np.sqrt(np.prod(kernel)) * (1 if depthwise else 2))
    y = g.build.op("Conv", g.x, w, g.bias(w), strides=strides, pads=pads, group=4 if depthwise else 1)
    graph = g.graph(g.q(y, scale, zero))
    worst, same = steps_apart(graph, tmp_path_factory.getbasetemp() / "conv.tflite", scale)
    assert worst < 1.01
    assert same > 0.95


# ---- whole networks ----


def calibrated(model: PoseModel, seeds: range = range(3)) -> Ranges:
    """The smallest and largest value of each activation over a few pictures."""
    draft = Draft(model.graph)
    infer_shapes(draft)
    values = {v.name: v for v in draft.graph.value_info}
    graph = onnx.ModelProto.FromString(model.graph.SerializeToString())
    known = {o.name for o in graph.graph.output}
    for node in graph.graph.node:
        for name in node.output:
            kind = values[name].type.tensor_type.elem_type if name in values else 0
            if kind == TensorProto.FLOAT and name not in known:
                graph.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    found: dict[str, tuple[float, float]] = {}
    for seed in seeds:
        feeds = picture(model, seed=seed)
        for name, array in {**feeds, **reference(graph, feeds)}.items():
            if array.dtype == F:
                low, high = found.get(name, (0.0, 0.0))
                found[name] = min(low, float(array.min())), max(high, float(array.max()))
    return Ranges(found, "naive")


def rms(array: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(array.astype(np.float64)))))


@executed
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_families(tmp_path: Path, name: str) -> None:
    model = PoseModel(optimise(family(name).graph, batch=1), family(name).spec)
    quantised = quantize_model(model, calibrated(model), TfliteConverter.scheme).model
    result = TfliteConverter().convert(quantised, tmp_path, "int8", {})
    session = Tflite().open(tmp_path / result.engine, CPU, {})
    assert [o.name for o in session.outputs] == [o.name for o in model.graph.graph.output]
    assert {o.dtype for o in session.outputs} == {i.dtype for i in session.inputs} == {"float32"}
    feeds = picture(model, seed=7)
    exact, rounded, found = reference(model.graph, feeds), reference(quantised.graph, feeds), session.run(feeds)
    for output in exact:
        # As far from the float network as the same integers are elsewhere.
        assert rms(found[output] - exact[output]) < 1.25 * rms(rounded[output] - exact[output])
    TfliteConverter().convert(model, tmp_path, "fp32", {})
    float_size = (tmp_path / "model.tflite").stat().st_size
    TfliteConverter().convert(quantised, tmp_path, "int8", {})
    assert (tmp_path / "model.tflite").stat().st_size < 0.36 * float_size


@executed
def test_xnnpack_takes_the_whole_network(tmp_path: Path) -> None:
    model = PoseModel(optimise(small().graph, batch=1), small().spec)
    quantised = quantize_model(model, calibrated(model), TfliteConverter.scheme).model
    result = TfliteConverter().convert(quantised, tmp_path, "int8", {})
    assert any("XNNPACK in 1 part" in note for note in result.notes)


@executed
def test_a_layer_kept_in_float_is_between_float_tensors(tmp_path: Path) -> None:
    model = PoseModel(optimise(small().graph, batch=1), small().spec)
    names = [n.output[0] for n in model.graph.graph.node if n.op_type == "Conv"]
    quantised = quantize_model(model, calibrated(model), TfliteConverter.scheme, keep_float=[names[1]]).model
    TfliteConverter().convert(quantised, tmp_path, "int8", {})
    feeds = picture(model)
    found = Tflite().open(tmp_path / "model.tflite", CPU, {}).run(feeds)
    for name, wanted in reference(quantised.graph, feeds).items():
        assert rms(found[name] - wanted) < 0.01 * rms(wanted)


def test_converting_twice_gives_the_same_bytes() -> None:
    model = PoseModel(optimise(small().graph, batch=1), small().spec)
    graph = optimise(quantize_model(model, calibrated(model), TfliteConverter.scheme).model.graph, opset=17)
    assert write(graph, integers=True) == write(graph, integers=True)


@executed
def test_a_file_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    model = PoseModel(optimise(small().graph, batch=1), small().spec)
    ranges = calibrated(model)
    right = quantize_model(model, ranges, TfliteConverter.scheme).model
    other = quantize_model(model, ranges, TfliteConverter.scheme).model
    path = tmp_path / "model.tflite"
    weights = next(t for t in other.graph.graph.initializer if t.name == "w2.quantized")
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    path.write_bytes(write(optimise(other.graph, opset=17), integers=True))
    with pytest.raises(ConversionError, match="something else than ONNX Runtime"):
        proven_int8(path, right)


# ---- what is refused ----


def refused(graph: onnx.ModelProto) -> str:
    with pytest.raises(ConversionError) as caught:
        write(optimise(graph, opset=17), integers=True)
    return str(caught.value)


def test_unsigned_activations_are_refused_by_name() -> None:
    g = Quantised()
    unsigned = g.q(g.build.op("Relu", g.x), 0.02, 0, np.uint8)
    message = refused(g.graph(g.q(g.build.op("Conv", unsigned, g.weights(4, 4, 1, 1)), 0.1, 0)))
    assert re.search(r"QuantizeLinear.*uint8", message)


def test_weights_with_a_zero_point_are_refused_by_name() -> None:
    g = Quantised()
    arrays = [g.build.constant(a) for a in (np.ones((4, 4, 1, 1), I8), F(0.1), I8(3))]
    weights = g.build.op("DequantizeLinear", *arrays)
    assert "operator Conv" in refused(g.graph(g.q(g.build.op("Conv", g.x, weights), 0.1, 0)))


def test_scales_along_other_axes_are_refused_by_name() -> None:
    g = Quantised()
    assert "operator Conv" in refused(g.graph(g.q(g.build.op("Conv", g.x, g.weights(4, 4, 1, 1, axis=1)), 0.1, 0)))


def test_activations_with_a_scale_for_each_channel_are_refused_by_name() -> None:
    g = Quantised()
    scales, zeros = g.build.constant(np.full(4, 0.1, F)), g.build.constant(np.zeros(4, I8))
    quantised = g.build.op("QuantizeLinear", g.x, scales, zeros, axis=1)
    value = g.build.op("DequantizeLinear", quantised, scales, zeros, axis=1)
    message = refused(g.graph(g.q(g.build.op("Conv", value, g.weights(4, 4, 1, 1)), 0.1, 0)))
    assert "QuantizeLinear" in message
    assert "each channel" in message


def test_a_graph_that_is_not_quantised_is_refused_with_the_option_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not quantised") as caught:
        TfliteConverter().convert(small(), tmp_path, "int8", {})
    assert "--calibration" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_graph_with_nothing_to_compute_in_integers_is_refused() -> None:
    g = Quantised()
    assert "nothing of this graph" in refused(g.graph(g.build.op("Tanh", g.x)))
