"""A small network and pictures to calibrate it on."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, Fit, InputSpec, PoseSpec, Stretch

SIZE = (32, 24)
#: Values of the small network that depend on the picture, in order.
VALUES = ("data", "conv", "relu", "maps", "heatmaps")


def network(fit: Fit | None = None, *, gain: float = 1.0, batch: int | str = "batch", seed: int = 3) -> PoseModel:
    """Convolution, ReLU, convolution to 17 maps; a constant beside them."""
    rng = np.random.default_rng(seed)
    first = rng.normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32) * np.float32(gain)
    second = rng.normal(0, 0.3, (17, 4, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["data", "first"], ["conv"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Mul", ["half", "half"], ["quarter"]),
        helper.make_node("Conv", ["relu", "second"], ["maps"]),
        helper.make_node("Mul", ["maps", "quarter"], ["heatmaps"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, 3, *SIZE])],
        [helper.make_tensor_value_info("heatmaps", TensorProto.FLOAT, [batch, 17, SIZE[0] // 2, SIZE[1] // 2])],
        [
            numpy_helper.from_array(first, "first"),
            numpy_helper.from_array(second, "second"),
            numpy_helper.from_array(np.array(0.5, np.float32), "half"),
        ],
    )
    spec = PoseSpec(
        InputSpec("data", *SIZE, fit or Stretch(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        DecoderSpec("heatmap", {"heatmaps": "heatmaps"}),
        COCO_17,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return PoseModel(model, spec)


def top_down() -> PoseModel:
    """The same network as one that takes person crops."""
    return network(Crop())


def pictures(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (48, 40)) -> Path:
    """Write so many different pictures, lossless."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(count):
        coarse = rng.integers(0, 256, (6, 5, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i:03}.png"), cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))
    return folder


def coco(path: Path, boxes: dict[str, list[list[float]]]) -> Path:
    """Write a COCO JSON: picture -> boxes x, y, w, h."""
    images = [{"id": i, "file_name": name} for i, name in enumerate(boxes, 1)]
    annotations = [
        {"id": 100 * i + j, "image_id": i, "category_id": 1, "iscrowd": 0, "bbox": box, "keypoints": [5, 5, 2] * 17}
        for i, rows in enumerate(boxes.values(), 1)
        for j, box in enumerate(rows)
    ]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path
