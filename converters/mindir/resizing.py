"""Resizing pictures.

MindSpore's own resizing differs from release to release and from ONNX's many rules.  Resizing is linear, one axis after
the other, so what a node does along an axis is a matrix; it is read off by letting ONNX Runtime resize the identity.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgepose.graph.draft import ir_version_for
from edgepose.graph.passes import newest_opset
from edgepose.graph.passes.wiring import attributes_of
from edgepose.graph.running import Runner

from .layers import matrix_product
from .lowering import Lowering, Operator, Unsupported
from .program import Value

Matrix = npt.NDArray[np.float32]


def _resize(node: onnx.NodeProto, work: Lowering) -> None:
    x = work.value(node.input[0])
    shape = work.shape(node.output[0])
    if len(x.shape) != 4 or x.shape[:2] != shape[:2] or x.dtype != "float32":
        raise Unsupported(node, "only pictures of float32 are resized, in height and width")
    attributes: dict[str, Any] = attributes_of(node)
    if attributes.get("coordinate_transformation_mode") == b"tf_crop_and_resize":
        raise Unsupported(node, "it crops")
    if attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch" or "axes" in attributes:
        raise Unsupported(node, "its size is stated by the aspect ratio or for some axes only")
    scales, sizes = work.constant_input(node, 2), work.constant_input(node, 3)
    matrices = []
    for axis in (2, 3):
        scale = None if scales is None or not scales.size else float(scales[axis])
        size = None if sizes is None else int(sizes[axis])
        matrices.append(_matrix(node, x.shape[axis], scale, size))
    if tuple(m.shape[0] for m in matrices) != shape[2:]:
        raise Unsupported(node, f"ONNX Runtime resizes to {[len(m) for m in matrices]} and not to {list(shape[2:])}")
    if all(np.array_equal(m, _repeating(*m.shape)) for m in matrices):
        result = work.call("ResizeNearestNeighbor", x, gives=shape, size=shape[2:], align_corners=False)
    else:
        result = _along_width(work, x, matrices[1])
        result = work.transpose(_along_width(work, work.transpose(result, (0, 1, 3, 2)), matrices[0]), (0, 1, 3, 2))
    work.finish(node, result, x.name in work.nonnegative and all(np.all(m >= 0) for m in matrices))


def _matrix(node: onnx.NodeProto, length: int, scale: float | None, size: int | None) -> Matrix:
    """What the node does along an axis: float32 [length behind, length before]."""
    probe = onnx.NodeProto()
    probe.CopyFrom(node)
    del probe.input[:], probe.output[:]
    probe.output.append("y")
    if size is not None:
        probe.input.extend(["x", "", "", "amount"])
        amount = helper.make_tensor("amount", TensorProto.INT64, [4], [1, length, size, 1])
    else:
        probe.input.extend(["x", "", "amount"])
        amount = helper.make_tensor("amount", TensorProto.FLOAT, [4], [1.0, 1.0, scale or 1.0, 1.0])
    graph = helper.make_graph(
        [probe],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, length, length, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [amount],
    )
    opset = min(newest_opset(), 17)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version_for(opset))
    identity = np.eye(length, dtype=np.float32).reshape(1, length, length, 1)
    return np.ascontiguousarray(Runner(model, "resizing").run({"x": identity})["y"][0, :, :, 0].T)


def _repeating(behind: int, before: int) -> Matrix:
    """What MindSpore's nearest neighbour does along an axis, on which its runtimes agree for whole factors."""
    if behind % before:
        return np.zeros((0, 0), np.float32)
    return np.repeat(np.eye(before, dtype=np.float32), behind // before, axis=0)


def _along_width(work: Lowering, x: Value, matrix: Matrix) -> Value:
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(len(matrix))):
        return x
    flat = work.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    made = matrix_product(work, flat, work.constant(np.ascontiguousarray(matrix.T)))
    return work.reshape(made, (*x.shape[:-1], len(matrix)))


OPERATORS: dict[str, Operator] = {"Resize": _resize}
