"""TFLite files, written without TensorFlow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgepose_converters.tflite import TfliteConverter
from edgepose_converters.tflite_writing import supported_operators, write
from edgepose_runtimes.tflite import Tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from target_networks import QUICK, SLOW, distance, family, moved, picture, reference, small

from edgepose.devices import Device
from edgepose.errors import ConversionError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.half import round_weights
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel

CPU = Device("cpu")
FLOATS = ("fp32", "fp16")
executed = pytest.mark.skipif(not Tflite().probe().available, reason="no TFLite runtime: ai-edge-litert")

Build = Callable[[GraphBuilder, str], str]


def graph_of(build: Build, shape: tuple[int, ...] = (1, 4, 9, 11), opset: int = 17) -> onnx.ModelProto:
    """A graph around a few nodes; output 'y'."""
    builder = GraphBuilder("case", opset)
    value = build(builder, builder.input("x", shape))
    draft = builder._graph
    draft.output.append(onnx.ValueInfoProto(name=value))
    return builder.build()


def run(graph: onnx.ModelProto, path: Path, *, half: bool = False, seed: int = 0) -> tuple[dict, dict]:
    """What ONNX Runtime and TFLite give for one random input."""
    prepared = optimise(graph, opset=17)
    path.write_bytes(write(prepared, half=half))
    shape = [d.dim_value for d in graph.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}
    session = Tflite().open(path, CPU, {"threads": 1})
    return reference(graph, feeds), session.run(feeds)


def right_or_refused(graph: onnx.ModelProto, path: Path) -> str:
    """'right', or the operator that the refusal names; what is wrong fails the test."""
    try:
        expected, found = run(graph, path)
    except ConversionError as error:
        named = re.search(r"the operator (\w+)", error.message)
        return named.group(1) if named else error.message
    assert distance(expected, found) < 1e-5
    return "right"


def weights(*shape: int) -> np.ndarray:
    return (np.random.default_rng(sum(shape)).standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def one(op: str, *constants: object, **attributes: object) -> Build:
    """One node with constants behind its input."""

    def build(b: GraphBuilder, x: str) -> str:
        names = ["" if c is None else b.constant(np.asarray(c)) for c in constants]
        return b.op(op, x, *names, **attributes)

    return build


F = np.float32
I = np.int64  # noqa: E741


def after_conv(op: str, *constants: object, **attributes: object) -> Build:
    """The same behind a convolution, so that the operand has its channels last."""

    def build(b: GraphBuilder, x: str) -> str:
        x = b.op("Conv", x, b.constant(weights(4, 4, 3, 3)), pads=[1] * 4)
        return one(op, *constants, **attributes)(b, x)

    return build


def joined(axis: int) -> Build:
    def build(b: GraphBuilder, x: str) -> str:
        y = b.op("Conv", x, b.constant(weights(4, 4, 3, 3)), pads=[1] * 4)
        return b.op("Concat", x, y, b.constant(weights(1, 4, 9, 11)), axis=axis)

    return build


def split(b: GraphBuilder, x: str) -> str:
    y = b.op("Conv", x, b.constant(weights(6, 4, 3, 3)), pads=[1] * 4)
    first, second = b.op("Split", y, b.constant(np.array([2, 4], I)), axis=1, outputs=2)
    return b.op("Concat", second, first, axis=1)


def attention(b: GraphBuilder, x: str) -> str:
    flat = b.op("Reshape", x, b.constant(np.array([1, 4, 99], I)))
    left = b.op("MatMul", flat, b.constant(weights(99, 8)))
    right = b.op("MatMul", flat, b.constant(weights(99, 7)))
    return b.op("MatMul", b.op("Transpose", left, perm=[0, 2, 1]), right)


def peaks(b: GraphBuilder, x: str) -> str:
    flat = b.op("Reshape", x, b.constant(np.array([1, 4, 99], I)))
    best = b.op("ArgMax", flat, axis=2, keepdims=1)
    value = b.op("GatherElements", flat, best, axis=2)
    row = b.op("Div", best, b.constant(np.array(11, I)))
    return b.op("Concat", value, b.op("Cast", row, to=1), b.op("Cast", best, to=1), axis=2)


def best_people(b: GraphBuilder, x: str) -> str:
    flat = b.op("Reshape", x, b.constant(np.array([4, 99], I)))
    values, places = b.op("TopK", flat, b.constant(np.array([5], I)), axis=1, outputs=2)
    chosen = b.op("Where", b.op("Less", values, b.constant(np.array(2, F))), values, b.constant(np.array(0, F)))
    return b.op("Concat", chosen, b.op("Cast", places, to=1), axis=0)


def normalised(b: GraphBuilder, x: str) -> str:
    flat = b.op("Reshape", x, b.constant(np.array([1, 4, 99], I)))
    norm = b.op("Max", b.op("ReduceL2", flat, axes=[2]), b.constant(np.array(1e-5, F)))
    return b.op("Mul", b.op("Div", flat, norm), b.constant(weights(99)))


CASES: dict[str, Build] = {
    "hard-sigmoid": after_conv("HardSigmoid", alpha=1 / 6, beta=0.5),
    "hard-sigmoid-of-onnx": after_conv("HardSigmoid", alpha=0.2, beta=0.4),
    "hard-swish": after_conv("HardSwish"),
    "elu": after_conv("Elu"),
    "relu": after_conv("Relu"),
    "relu-alone": one("Relu"),
    "relu6": after_conv("Clip", F(0), F(6)),
    "clip": after_conv("Clip", F(-0.5), F(0.25)),
    "clip-below": after_conv("Clip", F(-0.5)),
    "clip-above": after_conv("Clip", None, F(0.5)),
    "leaky": after_conv("LeakyRelu", alpha=0.3),
    "prelu": after_conv("PRelu", weights(4, 1, 1)),
    "sigmoid": after_conv("Sigmoid"),
    "tanh": after_conv("Tanh"),
    "exp": after_conv("Exp"),
    "sign": lambda b, x: b.op("Sign", after_conv("Relu")(b, b.op("Sub", x, b.op("Floor", x)))),
    "sign-below": after_conv("Sign"),
    "channel-scale": after_conv("Mul", weights(4, 1, 1)),
    "row-shift": after_conv("Add", weights(9, 1)),
    "column-shift": after_conv("Sub", weights(11)),
    "whole-shift": after_conv("Add", weights(1, 4, 9, 11)),
    "global-average": after_conv("GlobalAveragePool"),
    "mean": after_conv("ReduceMean", axes=[1, 3], keepdims=0),
    "mean-kept": after_conv("ReduceMean", axes=[1], keepdims=1),
    "sum": after_conv("ReduceSum", np.array([2], I), keepdims=1),
    "maximum-along": after_conv("ReduceMax", axes=[-1], keepdims=0),
    "transpose": after_conv("Transpose", perm=[0, 2, 3, 1]),
    "transpose-other": after_conv("Transpose", perm=[0, 3, 1, 2]),
    "flatten": after_conv("Flatten"),
    "slice": after_conv("Slice", np.array([1, -8], I), np.array([3, 100], I), np.array([1, 3], I), np.array([1, 2], I)),
    "pad": after_conv("Pad", np.array([0, 1, 2, 0, 0, 0, 1, 3], I)),
    "pad-value": after_conv("Pad", np.array([0, 0, 2, 0, 0, 0, 1, 3], I), F(-2.5)),
    "pad-reflect": after_conv("Pad", np.array([0, 0, 2, 1, 0, 0, 1, 3], I), mode="reflect"),
    "gather": after_conv("Gather", np.array([3, -1, 0], I), axis=1),
    "softmax": after_conv("Softmax", axis=-1),
    "depth-to-space-dcr": after_conv("DepthToSpace", blocksize=2, mode="DCR"),
    "depth-to-space-crd": after_conv("DepthToSpace", blocksize=2, mode="CRD"),
    "depth-to-space-alone": one("DepthToSpace", blocksize=2, mode="CRD"),
    "expand": one("Expand", np.array([2, 4, 9, 11], I)),
    "resize-nearest": after_conv(
        "Resize", None, np.array([1, 1, 4, 4], F), mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "resize-nearest-centred": after_conv("Resize", None, np.array([1, 1, 3, 2], F), mode="nearest"),
    "resize-linear": after_conv("Resize", None, np.array([1, 1, 2, 2], F), mode="linear"),
    "resize-corners": after_conv(
        "Resize", None, None, np.array([1, 4, 20, 17], I), mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    "resize-asymmetric": after_conv(
        "Resize", None, np.array([1, 1, 2, 2], F), mode="linear", coordinate_transformation_mode="asymmetric"
    ),
    "concat-channels": joined(1),
    "concat-rows": joined(2),
    "split": split,
    "attention": attention,
    "peaks": peaks,
    "best-people": best_people,
    "normalised": normalised,
}  # fmt: skip


@executed
@pytest.mark.parametrize("name", CASES)
def test_operators(tmp_path: Path, name: str) -> None:
    expected, found = run(graph_of(CASES[name]), tmp_path / "case.tflite")
    assert distance(expected, found) < 1e-5


@executed
@settings(max_examples=60, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
    groups=st.sampled_from((1, 4)),
    multiplier=st.integers(1, 2),
    half=st.booleans(),
)
def test_any_convolution(tmp_path_factory, kernel, strides, dilations, pads, groups, multiplier, half) -> None:
    shape = (4 * multiplier, 4 // groups, *kernel)

    def build(b: GraphBuilder, x: str) -> str:
        constants = [b.constant(weights(*shape)), b.constant(weights(shape[0]))]
        return b.op("Conv", x, *constants, strides=strides, dilations=dilations, pads=pads, group=groups)

    graph = graph_of(build, (1, 4, 13, 12))
    if half:
        graph = round_weights(graph)
    expected, found = run(graph, tmp_path_factory.getbasetemp() / "conv.tflite", half=half)
    assert distance(expected, found) < 1e-5


@executed
@settings(max_examples=60, deadline=None)
@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    extra=st.integers(0, 1),
    groups=st.sampled_from((1, 4)),
)
def test_any_transposed_convolution_is_right_or_refused(tmp_path_factory, kernel, stride, pads, extra, groups) -> None:
    shape = (4, 5 if groups == 1 else 1, kernel, kernel)
    extra = min(extra, stride - 1)

    def build(b: GraphBuilder, x: str) -> str:
        constants = [b.constant(weights(*shape)), b.constant(weights(5 if groups == 1 else 4))]
        options = {"strides": [stride] * 2, "pads": pads, "group": groups, "output_padding": [extra] * 2}
        return b.op("ConvTranspose", x, *constants, **options)

    try:
        graph = graph_of(build, (1, 4, 6, 5))
    except Exception:  # an output without pixels: ONNX refuses it
        return
    path = tmp_path_factory.getbasetemp() / "deconv.tflite"
    answer = right_or_refused(graph, path)
    assert answer in ("right", "ConvTranspose")
    if groups == 1 and not extra:
        assert answer == "right"


@executed
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize(("kernel", "pad", "extra"), [(4, 1, 0), (3, 1, 1), (2, 0, 0)])
def test_deconvolutions_of_pose_networks(tmp_path: Path, groups: int, kernel: int, pad: int, extra: int) -> None:
    def build(b: GraphBuilder, x: str) -> str:
        constant = b.constant(weights(4, 4 // groups, kernel, kernel))
        options = {"strides": [2, 2], "pads": [pad] * 4, "output_padding": [extra] * 2}
        return b.op("ConvTranspose", x, constant, group=groups, **options)

    expected, found = run(graph_of(build), tmp_path / "deconv.tflite")
    assert distance(expected, found) < 1e-5


@executed
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(("MaxPool", "AveragePool")),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    pads=st.tuples(*[st.integers(0, 1)] * 4),
    ceil=st.booleans(),
    include=st.booleans(),
    positive=st.booleans(),
)
def test_any_pooling_is_right_or_refused(tmp_path_factory, kind, kernel, stride, pads, ceil, include, positive) -> None:
    if any(p >= kernel for p in pads):
        pads = (0, 0, 0, 0)
    options = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": int(ceil)}
    if kind == "AveragePool":
        options["count_include_pad"] = int(include)

    def build(b: GraphBuilder, x: str) -> str:
        # Far below zero: a padding with zeros would win.
        x = b.op("Relu", x) if positive else b.op("Sub", x, b.constant(F(9)))
        return b.op(kind, x, **options)

    answer = right_or_refused(graph_of(build, (1, 4, 10, 13)), tmp_path_factory.getbasetemp() / "pool.tflite")
    assert answer in ("right", kind)
    if not ceil and (kind == "MaxPool" or include or not any(pads)):
        assert answer == "right"


def refused(graph: onnx.ModelProto) -> str:
    with pytest.raises(ConversionError) as caught:
        write(optimise(graph, opset=17), half=False)
    return caught.value.message


@pytest.mark.parametrize(
    ("case", "operator"),
    [
        (one("Mod", F(2), fmod=1), "Mod"),
        (one("Elu", alpha=0.5), "Elu"),
        (one("Softmax", axis=1), "Softmax"),
        (one("Resize", None, np.array([1, 1, 2, 2], F), mode="cubic"), "Resize"),
        (one("Resize", None, np.array([1, 1, 1.5, 1.5], F), mode="nearest"), "Resize"),
        (one("ArgMax", axis=1, select_last_index=1), "ArgMax"),
        (one("MaxPool", kernel_shape=[3, 3], dilations=[2, 2]), "MaxPool"),
        (lambda b, x: b.op("Conv", x, b.op("Transpose", x, perm=[1, 0, 2, 3])), "Conv"),
        (lambda b, x: b.op("Conv", x, b.constant(weights(4, 2, 3, 3)), group=2), "Conv"),
    ],
)
def test_what_would_be_wrong_is_refused_by_name(case: Build, operator: str) -> None:
    shape = (1, 4, 9, 11) if operator != "Conv" else (4, 4, 9, 11)
    assert re.search(rf"\b{operator}\b", refused(graph_of(case, shape)))


def test_all_operators_of_the_families_are_in_the_table() -> None:
    used = {n.op_type for name in (*QUICK, "lightweight_openpose") for n in family(name).graph.graph.node}
    assert used <= set(supported_operators())


@executed
@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(n, marks=pytest.mark.conformance) for n in SLOW)])
def test_families(tmp_path: Path, name: str, precision: str) -> None:
    model = family(name)
    result = TfliteConverter().convert(model, tmp_path, precision, {})
    session = Tflite().open(tmp_path / result.engine, CPU, {})
    assert [i.name for i in session.inputs] == [model.spec.input.name]
    assert [o.name for o in session.outputs] == [o.name for o in model.graph.graph.output]
    feeds = picture(model)
    graph = model.graph if precision == "fp32" else round_weights(model.graph)
    assert distance(reference(graph, feeds), session.run(feeds)) < 2e-5
    assert moved(model, session) < (2e-5 if precision == "fp32" else 5e-3)


def test_half_is_half_the_size(tmp_path: Path) -> None:
    sizes = {}
    for precision in FLOATS:
        TfliteConverter().convert(family(QUICK[0]), tmp_path, precision, {})
        sizes[precision] = (tmp_path / "model.tflite").stat().st_size
    assert sizes["fp16"] < 0.55 * sizes["fp32"]


@pytest.mark.parametrize("precision", FLOATS)
def test_converting_twice_gives_the_same_bytes(tmp_path: Path, precision: str) -> None:
    files = []
    for _ in range(2):
        result = TfliteConverter().convert(small(), tmp_path, precision, {})
        assert list(result.files) == [p.name for p in tmp_path.iterdir()]
        files.append((tmp_path / result.engine).read_bytes())
    assert files[0] == files[1]
    assert files[0][4:8] == b"TFL3"


@executed
def test_a_dynamic_batch_becomes_one_and_a_fixed_one_stays(tmp_path: Path) -> None:
    for batch, expected in (("batch", 1), (3, 3)):
        model = small(batch)
        result = TfliteConverter().convert(model, tmp_path, "fp32", {})
        session = Tflite().open(tmp_path / "model.tflite", CPU, {})
        assert session.inputs[0].shape == (expected, 3, 64, 48)
        assert moved(model, session, batch=expected) < 1e-5
        assert ("The batch size is 1." in result.notes) == (batch == "batch")


def test_a_dynamic_size_is_refused_with_the_option_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="fixed input size") as caught:
        TfliteConverter().convert(small(size=("height", "width")), tmp_path, "fp32", {})
    assert "--input-size" in str(caught.value)


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="not in bf16"):
        TfliteConverter().convert(small(), tmp_path, "bf16", {})
    with pytest.raises(ConversionError, match="no option wings"):
        TfliteConverter().convert(small(), tmp_path, "fp32", {"wings": 2})
    assert not list(tmp_path.iterdir())


@executed
def test_weights_stored_as_half_before_are_read(tmp_path: Path) -> None:
    from edgepose.graph.half import store_half

    model = family(QUICK[0])
    stored = PoseModel(store_half(model.graph), model.spec)
    TfliteConverter().convert(stored, tmp_path, "fp32", {})
    session = Tflite().open(tmp_path / "model.tflite", CPU, {})
    assert moved(stored, session) < 1e-5
