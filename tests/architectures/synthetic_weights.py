"""Weights made from the names of arrays, so that two people who agree on names and shapes have the same network.

The recipe is the one of the reference fixtures: a stream of standard normal numbers seeded by the CRC-32 of the array's
name, scaled so that activations neither die nor explode.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

Array = npt.NDArray[np.float32]


def synthetic(name: str, shape: Sequence[int]) -> npt.NDArray[np.generic]:
    """The array that belongs to ``name``, float32 (counters: int64 zeros)."""
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(tuple(shape))
    if leaf == "running_mean":
        values = 0.1 * noise
    elif leaf == "running_var":
        values = 1 + 0.2 * np.abs(noise)
    elif leaf == "bias":
        values = 0.05 * noise
    elif len(shape) == 1:
        values = np.maximum(0.2, 0.6 + 0.1 * noise)
    else:
        values = noise * np.sqrt(2 / np.prod(shape[1:]))
    return values.astype(np.float32)


def fill(shapes: Mapping[str, Sequence[int]] | Iterable[Sequence]) -> dict[str, npt.NDArray[np.generic]]:
    """Synthetic arrays for all of ``shapes``, a mapping or (name, shape) pairs."""
    pairs = shapes.items() if isinstance(shapes, Mapping) else shapes
    return {name: synthetic(name, shape) for name, shape in pairs}


def run(graph: onnx.ModelProto, image: Array) -> dict[str, Array]:
    """Outputs of the graph by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))


def parameters(shapes: Iterable[Sequence[int]]) -> int:
    """How many numbers the arrays hold."""
    return int(sum(np.prod(s, dtype=np.int64) for s in shapes))


def multiplications(graph: onnx.ModelProto) -> int:
    """Multiply-accumulates of the convolutions and matrix products with constant weights, for a static graph."""
    weights = {i.name: tuple(i.dims) for i in graph.graph.initializer}
    values = [*graph.graph.value_info, *graph.graph.output]
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    total = 0
    for node in graph.graph.node:
        if node.op_type not in ("Conv", "MatMul", "Gemm"):
            continue
        out = shapes[node.output[0]]
        weight = next((weights[i] for i in node.input[1:] if i in weights), None)
        if weight is None:
            continue
        per_output = np.prod(weight[1:]) if node.op_type == "Conv" else weight[0]
        total += int(np.prod(out) * per_output)
    return total
