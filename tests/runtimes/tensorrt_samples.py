"""A network for TensorRT's runtime, and what it gives."""

from __future__ import annotations

import numpy as np

from edgepose.devices import Device
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

JETSON = Device("jetson")


def network(batch: int | str = "batch") -> PoseModel:
    """Three convolutions, of which the middle one may be halved, and a sum; two outputs."""
    rng = np.random.default_rng(0)
    build = GraphBuilder("network")
    x = build.input("image", (batch, 3, 16, 8))
    y = x
    for i, (inside, outside) in enumerate(((3, 8), (8, 8), (8, 17))):
        weights = (rng.standard_normal((outside, inside, 3, 3)) / 8).astype(np.float32)
        y = build.op("Conv", y, build.constant(weights, f"w{i}"), pads=[1] * 4, name=f"conv{i}")
    build.output(build.op("Relu", y), "heatmaps", (batch, 17, 16, 8))
    build.output(build.op("Add", y, y), "twice", (batch, 17, 16, 8))
    spec = PoseSpec(InputSpec("image", 16, 8, Crop()), DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
    return PoseModel(build.build(), spec)


def feeds(batch: int = 1, seed: int = 0) -> dict[str, np.ndarray]:
    return {"image": np.random.default_rng(seed).standard_normal((batch, 3, 16, 8)).astype(np.float32)}


def expected(given: dict[str, np.ndarray], batch: int | str = "batch") -> dict[str, np.ndarray]:
    return Runner(network(batch).graph).run(given)


def same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> bool:
    return set(found) == set(wanted) and all(np.allclose(found[n], wanted[n], atol=1e-5) for n in wanted)
