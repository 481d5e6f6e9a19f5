"""A small network with clear peaks, and its poses through the command line, for tests of devices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepose.graph.builder import GraphBuilder
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

if TYPE_CHECKING:
    from conftest import Call

PARK = Path(__file__).parent.parent.parent / "examples" / "park.jpg"


def write_network(path: Path) -> Path:
    """A network that looks for edges of seventeen kinds, blurred, so that each map has one clear peak."""
    rng = np.random.default_rng(8)
    build = GraphBuilder("edges")
    x = build.input("image", ("batch", 3, 64, 48))
    kinds = rng.standard_normal((17, 3, 3, 3)).astype(np.float32) / 5
    x = build.op("Relu", build.op("Conv", x, build.constant(kinds, "kinds"), strides=[2, 2], pads=[1] * 4))
    ramp = 4 - np.abs(np.arange(-3, 4, dtype=np.float32))
    blur = np.broadcast_to(np.outer(ramp, ramp) / ramp.sum() ** 2, (17, 1, 7, 7)).astype(np.float32)
    x = build.op("Relu", build.op("Conv", x, build.constant(blur.copy(), "blur"), group=17, pads=[3] * 4))
    same = np.eye(17, dtype=np.float32).reshape(17, 17, 1, 1)
    build.output(build.op("Conv", x, build.constant(same, "same")), "heatmaps", ("batch", 17, 32, 24))
    entry = InputSpec("image", 64, 48, Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    model = PoseModel(build.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17))
    return model.save(path)


def persons(edgepose: Call, model: Path, *more: str) -> Any:
    found = edgepose("run", PARK, "--model", model, "--json", "-", *more)
    assert found.code == 0, found.err
    return json.loads(found.out)["persons"], found.err


def near(ours: Any, others: Any, limit: float) -> float:
    """Part of the joints that are no farther from each other than ``limit`` pixels."""
    assert len(ours) == len(others) > 0
    pairs = [(np.array(a["keypoints"]), np.array(b["keypoints"])) for a, b in zip(ours, others, strict=True)]
    return float(np.mean([np.hypot(*(a - b)[:, :2].T) < limit for a, b in pairs]))
