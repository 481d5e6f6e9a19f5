"""Building a graph op by op."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgepose.errors import GraphError
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.check import compare
from edgepose.graph.draft import Draft
from edgepose.graph.passes import newest_opset
from edgepose.graph.running import Runner


def test_names_are_kept_and_made_unique() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", ("batch", 3))
    weight = graph.constant(np.ones(3, np.float32), "layer.weight")
    names = [graph.op("Mul", x, weight, name="layer") for _ in range(3)]
    assert names == ["layer", "layer_1", "layer_2"]
    assert graph.constant(np.ones(3, np.float32), "layer.weight") == weight
    assert graph.op("Relu", names[-1], name="layer.weight") == "layer.weight_1"


def test_large_and_small_arrays_come_out_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "large": rng.standard_normal((64, 64)).astype(np.float32),
        "transposed": rng.standard_normal((64, 32)).astype(np.float32).T,
        "small": np.array([1.5, -0.0, np.inf], np.float32),
        "scalar": np.float32(3),
        "half": rng.standard_normal((64, 64)).astype(np.float16),
        "whole": rng.integers(-5, 5, 2000),
        "empty": np.zeros(0, np.float32),
        "big endian": rng.standard_normal(2000).astype(">f4"),
    }
    graph = GraphBuilder("g")
    x = graph.input("x", (1,))
    for name, array in arrays.items():
        graph.constant(array, name)
    graph.output(graph.op("Relu", x), "y", (1,))
    stored = {t.name: t for t in graph.build().graph.initializer}
    for name, array in arrays.items():
        back = numpy_helper.to_array(stored[name])
        assert back.shape == np.shape(array)
        assert back.dtype.newbyteorder("=") == np.asarray(array).dtype.newbyteorder("=")
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("opset", [11, 13, 17, newest_opset()])
def test_file_version_is_the_oldest_that_holds_the_opset(opset: int) -> None:
    graph = GraphBuilder("g", opset)
    graph.output(graph.op("Relu", graph.input("x", (1,))), "y", (1,))
    model = graph.build()
    assert model.ir_version == helper.find_min_ir_version_for(model.opset_import)
    compare(model, model)


def test_an_invalid_graph_is_an_error() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", (2, 3))
    graph.output(graph.op("MatMul", x, graph.constant(np.ones((4, 5), np.float32))), "y", (2, 5))
    with pytest.raises(GraphError, match="'g'"):
        graph.build()


def test_a_draft_leaves_its_model_alone_and_gives_it_back_whole() -> None:
    graph = GraphBuilder("g")
    x = graph.input("x", ("batch", 40))
    weight = np.random.default_rng(1).standard_normal((40, 40)).astype(np.float32)
    graph.output(graph.op("MatMul", x, graph.constant(weight, "w")), "y", ("batch", 40))
    model = graph.build()
    before = model.SerializeToString(deterministic=True)
    draft = Draft(model)
    assert draft.model.ByteSize() < 1000
    assert draft.finish().SerializeToString(deterministic=True) == before
    draft.put_constant("w", 2 * weight)
    assert model.SerializeToString(deterministic=True) == before
    value = np.ones((1, 40), np.float32)
    np.testing.assert_allclose(
        Runner(draft).run({"x": value})["y"], 2 * Runner(model).run({"x": value})["y"], rtol=1e-5, atol=1e-4
    )
