"""The comparison that every conversion ends with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_graphs import Network, one_node

from edgepose.errors import GraphError
from edgepose.graph.check import compare
from edgepose.graph.draft import Draft
from edgepose.graph.feeds import random_feeds, trials
from edgepose.graph.passes import apply


def network(batch: int | str = 1) -> onnx.ModelProto:
    net = Network(5, batch=batch)
    net.conv(8, bias=True)
    net.batch_norm()
    net.op("Relu")
    net.conv(4)
    return net.build()


def with_constant(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (tensor,) = (t for t in changed.graph.initializer if t.name.startswith(name))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return changed


def test_equal_graphs_differ_by_nothing() -> None:
    (difference,) = compare(network(), network())
    assert (difference.output, difference.largest, difference.relative) == ("out0", 0.0, 0.0)
    assert difference.scale > 0.01


@pytest.mark.parametrize(
    ("name", "factor"),
    [("Conv1.1", 0.0), ("BatchNormalization2.3", 1.01), ("Conv1.0", 1.001)],
    ids=["lost bias", "variance 1 % off", "weight 0.1 % off"],
)
def test_a_wrong_constant_is_found(name: str, factor: float) -> None:
    with pytest.raises(GraphError, match=r"output 'out0' changed by up to [0-9.e-]+ \(largest reference value"):
        compare(network(), with_constant(network(), name, factor))


def test_a_wrong_constant_is_found_only_by_its_size() -> None:
    compare(network(), with_constant(network(), "Conv1.0", 1 + 1e-6))


def test_a_broken_pass_is_caught() -> None:
    def forget_the_epsilon(draft: Draft) -> int:
        for node in draft.graph.node:
            if node.op_type == "BatchNormalization":
                node.attribute[0].f = 0.1
        return 1

    def drop_the_activation(draft: Draft) -> int:
        for node in draft.graph.node:
            if node.op_type == "Relu":
                node.op_type = "Identity"
        return 1

    for broken in (forget_the_epsilon, drop_the_activation):
        with pytest.raises(GraphError, match="out0"):
            apply(network(), broken)


def test_a_lost_output_is_named() -> None:
    net = Network()
    inner = net.conv()
    net.op("Relu")
    one = net.build(inner)
    other = onnx.ModelProto()
    other.CopyFrom(one)
    del other.graph.output[1]
    with pytest.raises(GraphError, match="lost the output 'out1'"):
        compare(one, other)


def test_another_shape_is_named() -> None:
    one, other = (one_node("AveragePool", kernel_shape=[k, k]) for k in (2, 3))
    with pytest.raises(GraphError, match=r"'y' was float32 \[1, 8, 15, 11\] and is now float32 \[1, 8, 14, 10\]"):
        compare(one, other)


def test_new_nans_are_found_and_old_ones_allowed() -> None:
    broken = one_node("Sqrt")
    compare(broken, broken)
    with pytest.raises(GraphError, match="NaN"):
        compare(one_node("Abs"), broken)


def test_dynamic_batch_and_size_are_tried_at_two_sizes() -> None:
    model = one_node("Relu", shape=("batch", 3, "height", "width"))
    tried = [random_feeds(model, trial)["x"].shape for trial in trials((0, 1))]
    assert len({shape[0] for shape in tried}) == 2
    assert len({shape[2:] for shape in tried}) == 2
    assert all(length % 32 == 0 for shape in tried for length in shape[2:])


def test_a_graph_that_works_for_one_size_only_is_found() -> None:
    """Equal at the first size, different at the second."""
    shape = ("batch", 3, "height", "width")
    resize = {"roi": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32)}
    one = one_node("Resize", resize, inputs=("x", "roi", "s"), shape=shape, mode="nearest")
    two = one_node(
        "Resize",
        {"roi": np.zeros(0, np.float32), "e": np.zeros(0, np.float32), "z": np.array([1, 3, 128, 192])},
        inputs=("x", "roi", "e", "z"),
        shape=shape,
        mode="nearest",
    )
    with pytest.raises(GraphError, match="'y' was float32"):
        compare(one, two)


@pytest.mark.parametrize("kind", [1, 2, 3, 6, 7, 9, 10, 11])
def test_inputs_of_every_usual_type_can_be_fed(kind: int) -> None:
    value = helper.make_tensor_value_info("x", kind, [1, 3, 32, 32])
    out = helper.make_tensor_value_info("y", kind, [1, 3, 32, 32])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (difference,) = compare(model, model)
    feeds = random_feeds(model, next(trials((0,))))
    assert feeds["x"].std() > 0
    assert difference.largest == 0


def test_what_onnxruntime_says_is_told() -> None:
    model = one_node("Relu")
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(GraphError, match=r"ONNX Runtime .* refuses the original graph: .*NoSuchOperator"):
        compare(model, model)
