"""Networks that hand numbers through: whatever raw outputs a test wants come out of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from edgepose.decoding import Detections, build_decoder
from edgepose.graph.builder import GraphBuilder
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, Fit, InputSpec, PoseSpec

SIZE = (256, 192)
MAPS = {"heatmaps": (17, 64, 48)}
VECTORS = {"simcc_x": (17, 384), "simcc_y": (17, 512)}
#: Of the 17 keypoints, most tests need a few.
FOUR = KeypointSet(name="four", names=("a", "b", "c", "d"))


def carrier(
    kind: str,
    shapes: Mapping[str, Sequence[int]],
    *,
    size: tuple[int, int] | None = SIZE,
    fit: Fit | None = None,
    batch: int | str = "batch",
    opset: int = 17,
    dtype: str = "float32",
    keypoints: KeypointSet = COCO_17,
    **options: Any,
) -> PoseModel:
    """A model with decoder ``kind`` whose outputs (role -> shape without the batch) are cut out of its input."""
    height, width = size or ("height", "width")
    builder = GraphBuilder("carrier", opset)
    x = builder.input("input", (batch, 3, height, width))
    flat = builder.op("Reshape", x, builder.constant(np.array([0, -1])))
    start = 0
    for role, shape in shapes.items():
        stop = start + math.prod(shape)
        part = builder.op("Slice", flat, *(builder.constant(np.array([v])) for v in (start, stop, 1)))
        part = builder.op("Reshape", part, builder.constant(np.array([0, *shape])))
        if dtype != "float32":
            part = builder.op("Cast", part, to=10)
        builder.output(part, role, (batch, *shape), dtype)
        start = stop
    entry = InputSpec("input", *(size or (None, None)), fit or Crop(), color="BGR")
    return PoseModel(
        builder.build(), PoseSpec(entry, DecoderSpec(kind, {role: role for role in shapes}, options), keypoints)
    )


def fill(arrays: Sequence[np.ndarray], size: tuple[int, int] = SIZE) -> np.ndarray:
    """The input [N, 3, H, W] that makes a carrier give these arrays [N, ...]."""
    count = len(arrays[0])
    flat = np.concatenate([a.reshape(count, -1) for a in arrays], axis=1)
    tensor = np.zeros((count, 3 * size[0] * size[1]), np.float32)
    tensor[:, : flat.shape[1]] = flat
    return tensor.reshape(count, 3, *size)


def outputs_of(model: PoseModel, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Run a model in ONNX Runtime; role -> output."""
    session = open_session(model)
    names = list(model.spec.decoder.outputs.values())
    return dict(zip(model.spec.decoder.outputs, session.run(names, {model.spec.input.name: tensor}), strict=True))


def people(model: PoseModel, tensor: np.ndarray) -> list[Detections]:
    """Run a model in ONNX Runtime and decode in numpy what is left to decode."""
    raw = {role: np.asarray(a, np.float32) for role, a in outputs_of(model, tensor).items()}
    size = tensor.shape[1:3] if model.spec.input.layout == "NHWC" else tensor.shape[2:]
    return build_decoder(model.spec).decode(raw, (size[0], size[1]))


_SESSIONS: dict[int, tuple[PoseModel, onnxruntime.InferenceSession]] = {}


def open_session(model: PoseModel) -> onnxruntime.InferenceSession:
    """A session, opened once for each model."""
    if id(model) not in _SESSIONS:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.graph.SerializeToString(), options, ["CPUExecutionProvider"])
        _SESSIONS[id(model)] = (model, session)
    return _SESSIONS[id(model)][1]


def assert_same(wanted: Sequence[Detections], found: Sequence[Detections]) -> None:
    """The same people, to 1e-3 px and 1e-5 in score."""
    assert len(wanted) == len(found)
    for one, other in zip(wanted, found, strict=True):
        assert one.keypoints.shape == other.keypoints.shape
        np.testing.assert_allclose(other.keypoints[..., :2], one.keypoints[..., :2], atol=1e-3, rtol=1e-6)
        np.testing.assert_allclose(other.keypoints[..., 2], one.keypoints[..., 2], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-5, rtol=1e-5)
        assert (one.boxes is None) == (other.boxes is None)
        if one.boxes is not None:
            np.testing.assert_allclose(other.boxes, one.boxes, atol=1e-3, rtol=1e-6)
