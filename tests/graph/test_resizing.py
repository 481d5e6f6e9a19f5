"""Changing the batch and the input size of a graph."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_graphs import Network, one_node

from edgepose.errors import GraphError
from edgepose.graph.check import compare
from edgepose.graph.inference import shape_of
from edgepose.graph.passes import optimise, set_batch, set_input_size
from edgepose.graph.running import Runner


def backbone(batch: int | str = 1, size: int = 32) -> onnx.ModelProto:
    net = Network(3, size=size, channels=3, batch=batch)
    net.conv(8, stride=2)
    net.batch_norm()
    net.op("Relu")
    net.conv(8, stride=2)
    net.deconv(4)
    return net.build()


def input_shape(model: onnx.ModelProto) -> tuple[int | str | None, ...] | None:
    return shape_of(model.graph.input[0])


def output_shape(model: onnx.ModelProto) -> tuple[int | str | None, ...] | None:
    return shape_of(model.graph.output[0])


def test_fixed_to_fixed_batch() -> None:
    model = set_batch(backbone(1), 4)
    assert input_shape(model) == (4, 3, 32, 32)
    assert output_shape(model) == (4, 4, 16, 16)


def test_batch_from_several_to_one() -> None:
    assert output_shape(set_batch(backbone(4), 1)) == (1, 4, 16, 16)


def test_fixed_to_dynamic_batch_and_back() -> None:
    model = backbone(2)
    free = set_batch(model, None)
    assert input_shape(free) == ("batch", 3, 32, 32)
    assert output_shape(free) == ("batch", 4, 16, 16)
    back = set_batch(free, 2)
    assert input_shape(back) == input_shape(model)
    compare(model, back)


def test_a_batch_written_into_a_reshape_is_freed() -> None:
    net = Network(channels=4, size=8)
    net.conv(8)
    net.op("Reshape", net.graph.constant(np.array([1, 8, -1])))
    net.graph.output(net.x, "out", (1, 8, 64))
    model = set_batch(net.graph.build(), None)
    value = np.random.default_rng(0).standard_normal((5, 4, 8, 8)).astype(np.float32)
    assert Runner(model).run({"data": value})["out"].shape == (5, 8, 64)


def test_samples_that_influence_each_other_are_found() -> None:
    model = one_node("Softmax", axis=0, shape=(1, 3, 8, 8))
    with pytest.raises(GraphError, match="'y' changed"):
        set_batch(model, 2)


def test_a_graph_made_for_its_batch_is_refused() -> None:
    net = Network(channels=4, size=8)
    net.op("Add", net.graph.constant(np.ones((1, 4, 8, 8), np.float32)))
    net.op("Reshape", net.graph.constant(np.array([4, 8, 8])))
    net.graph.output(net.x, "out", (4, 8, 8))
    model = net.graph.build()
    with pytest.raises(GraphError, match=r"batch"):
        set_batch(model, 3)


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(GraphError, match="batch of 0"):
        optimise(backbone(), batch=0)


def test_fixed_to_fixed_size() -> None:
    model = set_input_size(backbone(), 64, 96)
    assert input_shape(model) == (1, 3, 64, 96)
    assert output_shape(model) == (1, 4, 32, 48)


def test_dynamic_size_and_back() -> None:
    model = backbone()
    free = set_input_size(model, None, None)
    assert input_shape(free) == (1, 3, "height", "width")
    back = set_input_size(free, 32, 32)
    assert output_shape(back) == output_shape(model)
    compare(model, back)


def test_channels_last_are_found() -> None:
    model = one_node("Relu", shape=(1, 16, 24, 3))
    assert input_shape(set_input_size(model, 32, 64)) == (1, 32, 64, 3)


def test_a_size_written_into_the_graph_is_found() -> None:
    net = Network(channels=3, size=32)
    net.conv(4, stride=2)
    net.op("Resize", "", "", net.graph.constant(np.array([1, 4, 32, 32])), mode="nearest")
    with pytest.raises(GraphError, match="does not grow with the input"):
        set_input_size(net.build(), 64, 64)
    net = Network(channels=3, size=32)
    net.op("Flatten")
    net.x = net.layer("Gemm", net.x, np.ones((3 * 32 * 32, 2), np.float32))
    net.graph.output(net.x, "out", (1, 2))
    model = net.graph.build()
    for height, width in ((64, 64), (None, None)):
        with pytest.raises(GraphError) as caught:
            set_input_size(model, height, width)
        assert (
            "pixels" in str(caught.value) or "dynamic size" in str(caught.value) or "does not run" in str(caught.value)
        )


def test_a_graph_without_a_picture_is_refused_with_what_is_there() -> None:
    with pytest.raises(GraphError, match=r"inputs: x \[1, 8, 16, 12\]"):
        set_input_size(one_node("Relu"), 64, 64)


def test_optimise_does_all_at_once() -> None:
    model = optimise(backbone(), batch="dynamic", input_size=(64, 48), opset=11)
    assert input_shape(model) == ("batch", 3, 64, 48)
    assert model.opset_import[0].version == 11
    assert output_shape(model) == ("batch", 4, 32, 24)


def test_a_pixel_shuffle_that_is_written_out_does_not_fix_the_size() -> None:
    net = Network(4, size=32, channels=3, batch="batch")
    net.conv(16, stride=2)
    net.op("Reshape", net.graph.constant(np.array([0, 4, 2, 2, 16, 16])))
    net.op("Transpose", perm=[0, 1, 4, 2, 5, 3])
    net.op("Reshape", net.graph.constant(np.array([0, 4, 32, 32])))
    model = net.build()
    value = np.zeros((1, 3, 64, 96), np.float32)
    for size in ((64, 96), "dynamic"):
        assert Runner(optimise(model, input_size=size)).run({"data": value})["out0"].shape == (1, 4, 64, 96)


def test_onnxsim_is_one_more_step() -> None:
    pytest.importorskip("onnxsim")
    model = backbone("batch")
    compare(model, optimise(model, simplify=True), seeds=(11, 12))


def test_onnxsim_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from edgepose.errors import DependencyError

    monkeypatch.setitem(sys.modules, "onnxsim", None)
    with pytest.raises(DependencyError, match="onnxsim") as caught:
        optimise(backbone(), simplify=True)
    assert "edgepose[simplify]" in str(caught.value)
