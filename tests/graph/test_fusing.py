"""Recognising pixel shuffles, hard sigmoids and needless expands."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_graphs import Network, counts

from edgepose.graph.check import compare
from edgepose.graph.passes import optimise


def shuffled(shapes: list[list[int]], order: list[int], result: list[int], batch: int | str = 1) -> onnx.ModelProto:
    """Reshape to each of ``shapes``, transpose, reshape to ``result``; the input has 16 channels of 6 x 8."""
    net = Network(channels=4, size=6, batch=batch)
    net.conv(16, 1)
    net.op("MaxPool", kernel_shape=[1, 3], pads=[0, 2, 0, 2])
    for shape in shapes:
        net.op("Reshape", net.graph.constant(np.array(shape)))
    net.op("Transpose", perm=order)
    net.op("Reshape", net.graph.constant(np.array(result)))
    return net.build()


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize(
    ("shapes", "order", "mode"),
    [
        ([[0, 4, 2, 2, 6, 8]], [0, 1, 4, 2, 5, 3], b"CRD"),
        ([[0, 4, 4, 6, 8], [0, 0, 2, 2, 6, 8]], [0, 1, 4, 2, 5, 3], b"CRD"),
        ([[0, 2, 2, 4, 6, 8]], [0, 3, 4, 1, 5, 2], b"DCR"),
    ],
)
def test_pixel_shuffle(shapes: list[list[int]], order: list[int], mode: bytes, batch: int | str) -> None:
    model = shuffled(shapes, order, [0, 4, 12, 16], batch)
    result = optimise(model)
    assert counts(result) == {"Conv": 1, "MaxPool": 1, "DepthToSpace": 1}
    assert [a.s for a in result.graph.node[-1].attribute if a.name == "mode"] == [mode]
    compare(model, result, seeds=(2, 3))


@pytest.mark.parametrize(
    ("shapes", "order", "result"),
    [
        ([[0, 4, 4, 1, 6, 8]], [0, 1, 4, 2, 5, 3], [0, 4, 24, 8]),  # unequal blocks
        ([[0, 4, 2, 2, 8, 6]], [0, 1, 4, 2, 5, 3], [0, 4, 16, 12]),  # rows and columns exchanged
        ([[0, 4, 2, 2, 6, 8]], [0, 1, 4, 2, 5, 3], [0, 4, 16, 12]),  # another shape at the end
        ([[0, 4, 2, 2, 6, 8]], [0, 1, 2, 4, 5, 3], [0, 4, 12, 16]),  # another order
    ],
)
def test_what_only_looks_like_a_pixel_shuffle(shapes: list[list[int]], order: list[int], result: list[int]) -> None:
    model = shuffled(shapes, order, result)
    assert counts(optimise(model))["Transpose"] == 1


def gate(shift: float, top: float, factor: float, op_type: str, low: float = 0.0) -> onnx.ModelProto:
    net = Network()
    net.conv()
    number = [net.graph.constant(np.float32(value)) for value in (shift, low, top, factor)]
    net.op("Add", number[0])
    net.op("Clip", *number[1:3])
    net.op(op_type, number[3])
    return net.build()


@pytest.mark.parametrize(("factor", "op_type"), [(6.0, "Div"), (1 / 6, "Mul")])
def test_hard_sigmoid(factor: float, op_type: str) -> None:
    model = gate(3.0, 6.0, factor, op_type)
    result = optimise(model)
    assert counts(result) == {"Conv": 1, "HardSigmoid": 1}
    compare(model, result)


@pytest.mark.parametrize("model", [gate(3, 6, 5, "Div"), gate(3, 6, 6, "Mul"), gate(3, 6, 6, "Div", low=0.5)])
def test_what_only_looks_like_a_hard_sigmoid(model: onnx.ModelProto) -> None:
    assert "HardSigmoid" not in counts(optimise(model))


def test_needless_expand() -> None:
    net = Network(batch="batch")
    whole = net.conv()
    net.op("GlobalAveragePool")
    net.op("Expand", net.graph.constant(np.array([1, 1, 16, 16])))
    net.op("Mul", whole)
    model = net.build()
    result = optimise(model)
    assert "Expand" not in counts(result)
    compare(model, result, seeds=(2, 3))


def test_an_expand_that_matters_stays() -> None:
    net = Network()
    net.conv()
    net.op("GlobalAveragePool")
    small = net.x
    net.op("Expand", net.graph.constant(np.array([1, 1, 16, 16])))
    net.op("Mul", small)
    assert counts(optimise(net.build()))["Expand"] == 1
