"""Deconvolution as convolution and depth-to-space."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from edgepose.graph.builder import GraphBuilder
from edgepose.graph.draft import Draft
from edgepose.graph.inference import check_and_infer
from edgepose.graph.running import Runner
from edgepose.quantization.subpixel import rewrite_deconvolutions


def deconvolution(kernel, stride, pads, more, channels=(3, 5), *, activation=None, bias=True, **attributes):
    """One deconvolution with dynamic input size, and an input."""
    rng = np.random.default_rng(sum(kernel) + 7 * stride)
    build = GraphBuilder("one")
    x = build.input("x", ("batch", channels[0], "height", "width"))
    inputs = [x, build.constant(rng.standard_normal((*channels, *kernel)).astype(np.float32), "w")]
    if bias:
        wide = channels[1] * attributes.get("group", 1)
        inputs.append(build.constant(rng.standard_normal(wide).astype(np.float32), "b"))
    y = build.op(
        "ConvTranspose", *inputs, strides=[stride, stride], pads=pads, output_padding=more, name="y", **attributes
    )
    if activation:
        y = build.op(activation, y, name="z")
    build.output(y, "out", ("batch", channels[1] * attributes.get("group", 1), "rows", "columns"))
    feeds = {"x": rng.standard_normal((2, channels[0], 5, 4)).astype(np.float32)}
    return build.build(), feeds


def agreement(graph, feeds) -> float:
    """Largest difference that the rewriting makes, in units of the largest value."""
    draft = Draft(graph)
    done = rewrite_deconvolutions(draft)
    check_and_infer(draft)
    assert done.refused == {}
    assert not any(n.op_type == "ConvTranspose" for n in draft.graph.node)
    expected, found = (Runner(g).run(feeds)["out"] for g in (graph, draft.finish()))
    assert expected.shape == found.shape
    return float(np.abs(expected - found).max() / np.abs(expected).max())


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_equal_for_every_shape_that_enlarges_by_the_stride(data):
    stride = data.draw(st.integers(1, 4))
    kernel, begins, ends, more = [], [], [], []
    for _ in range(2):
        size = data.draw(st.integers(1, 7))
        extra = data.draw(st.integers(0, stride - 1))
        total = size + extra - stride
        assume(total >= 0)
        begin = data.draw(st.integers(0, min(total, size - 1)))
        assume(total - begin <= size)
        kernel.append(size), begins.append(begin), ends.append(total - begin), more.append(extra)
    activation = data.draw(st.sampled_from([None, "Relu", "Sigmoid"]))
    bias = data.draw(st.booleans())
    graph, feeds = deconvolution(kernel, stride, [*begins, *ends], more, activation=activation, bias=bias)
    assert agreement(graph, feeds) < 1e-6


@pytest.mark.parametrize("channels", [(6, 1), (6, 4)], ids=["depthwise", "grouped"])
@pytest.mark.parametrize(("kernel", "pad"), [(4, 1), (2, 0), (6, 2)])
def test_groups(kernel, pad, channels):
    groups = 6 if channels[1] == 1 else 2
    graph, feeds = deconvolution([kernel] * 2, 2, [pad] * 4, [0, 0], channels, activation="Relu", group=groups)
    assert agreement(graph, feeds) < 1e-6


@pytest.mark.parametrize(
    ("kernel", "pad", "more"), [(4, 1, 0), (2, 0, 0), (3, 1, 1)], ids=["k4s2p1", "k2s2p0", "k3s2p1"]
)
def test_the_deconvolutions_of_pose_networks(kernel, pad, more):
    graph, feeds = deconvolution([kernel] * 2, 2, [pad] * 4, [more] * 2, (16, 16), activation="Relu")
    assert agreement(graph, feeds) < 1e-6


def test_the_activation_is_computed_before_weaving_and_names_stay():
    graph, _ = deconvolution([4, 4], 2, [1] * 4, [0, 0], activation="Relu")
    draft = Draft(graph)
    done = rewrite_deconvolutions(draft)
    kinds = [n.op_type for n in draft.graph.node]
    assert kinds == ["Conv", "Relu", *["Slice"] * 4, "Concat", "DepthToSpace"]
    assert dict(done.layers) == {"y.phases": "y"}
    assert [o.name for o in draft.graph.output] == ["out"]
    assert set(done.same_range.values()) == {"y", "out"}


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"kernel": [3, 3], "more": [0, 0]}, "enlarged"),
        ({"dilations": [2, 2]}, "dilated"),
        ({"auto_pad": "SAME_UPPER", "pads": None, "more": None}, "size"),
    ],
)
def test_what_has_no_exact_form_stays(changes, word):
    given = {"kernel": [4, 4], "stride": 2, "pads": [1] * 4, "more": [0, 0], "bias": False, **changes}
    graph, _ = deconvolution(**given)
    draft = Draft(graph)
    done = rewrite_deconvolutions(draft)
    assert word in done.refused["out"]
    assert done.layers == {}
    assert [n.op_type for n in draft.graph.node] == ["ConvTranspose"]
