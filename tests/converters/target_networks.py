"""Networks to bring to a target, and how far what came out is from what went in."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.plugins import Session
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

Array = npt.NDArray[np.float32]

#: One architecture of each family, the small one where sizes differ in depth only.
QUICK = (
    "mobile_pose_mobilenetv3_small",
    "mobile_pose_mobilenetv2_1.0",
    "rtmpose_t",
)
SLOW = (
    "simple_pose_resnet18_v1b",
    "simple_pose_resnet50_v1d",
    "mobile_pose_resnet18_v1b",
    "mobile_pose_mobilenet1.0",
    "mobile_pose_mobilenetv3_large",
    "alpha_pose_resnet101_v1b_coco",
    "mindspore_simple_pose_resnet50",
    "pose_resnet50_caffe",
    "pose_hrnet_w32",
    "rtmpose_s",
    "lightweight_openpose",
    "aimet_pose",
)
_SIZES = {"lightweight_openpose": (256, 456), "aimet_pose": (128, 128)}


def _recipe():
    path = Path(__file__).parent.parent / "architectures" / "synthetic_weights.py"
    loaded = importlib.util.spec_from_file_location("synthetic_weights_of_families", path)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=1)
def family(name: str) -> PoseModel:
    """An architecture with synthetic weights."""
    arrays = _recipe().fill(examine({}, name).expected)
    network = build_network(arrays, name, BuildOptions(input_size=_SIZES.get(name)))
    return PoseModel(optimise(network.graph), network.spec, {"architecture": name})


def small(batch: int | str = "batch", size: tuple[int | str, int | str] = (64, 48)) -> PoseModel:
    """A network with a strided convolution, a depthwise one, a residue and a deconvolution."""
    rng = np.random.default_rng(5)

    def weights(*shape: int) -> Array:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    build = GraphBuilder("small")
    x = build.input("image", (batch, 3, *size))
    x = build.op(
        "Conv", x, build.constant(weights(16, 3, 3, 3), "w1"), build.constant(weights(16), "b1"),
        strides=[2, 2], pads=[1] * 4,
    )  # fmt: skip
    stem = x = build.op("Relu", x)
    x = build.op("Conv", x, build.constant(weights(16, 1, 3, 3), "w2"), group=16, pads=[1] * 4)
    x = build.op("Add", build.op("Relu", x), stem)
    x = build.op("ConvTranspose", x, build.constant(weights(16, 16, 4, 4), "w3"), strides=[2, 2], pads=[1] * 4)
    x = build.op("Conv", build.op("Relu", x), build.constant(weights(17, 16, 1, 1), "w4"))
    heights = [d if isinstance(d, int) else f"map_{d}" for d in size]
    build.output(x, "heatmaps", (batch, 17, *heights))
    fixed = [d if isinstance(d, int) else 64 for d in size]
    spec = PoseSpec(
        InputSpec("image", fixed[0], fixed[1], Crop()),
        DecoderSpec("heatmap", {"heatmaps": "heatmaps"}),
        COCO_17,
    )
    return PoseModel(build.build(), spec)


def picture(model: PoseModel, batch: int = 1, seed: int = 0) -> dict[str, Array]:
    """A normalised input: coarse blocks with noise."""
    shape = [d.dim_value for d in model.graph.graph.input[0].type.tensor_type.shape.dim]
    shape = [batch, shape[1], shape[2] or 64, shape[3] or 96]
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-2, 2.5, (batch, 3, -(-shape[2] // 8), -(-shape[3] // 8)))
    blocks = coarse.repeat(8, 2).repeat(8, 3)[:, :, : shape[2], : shape[3]]
    return {model.spec.input.name: (blocks + 0.2 * rng.standard_normal(shape)).astype(np.float32)}


def reference(graph: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """What ONNX Runtime gives, without its rewriting."""
    return Runner(graph).run(feeds)


def distance(expected: dict[str, Array], found: dict[str, Array]) -> float:
    """Largest difference as a part of the largest value of the output."""
    assert set(expected) == set(found)
    for name in expected:
        assert expected[name].shape == found[name].shape
        assert expected[name].dtype == found[name].dtype
    return max(float(np.abs(expected[n] - found[n]).max() / np.abs(expected[n]).max()) for n in expected)


def moved(model: PoseModel, session: Session, batch: int = 1) -> float:
    """Distance of a session's results from those of the FP32 graph in ONNX Runtime."""
    feeds = picture(model, batch)
    return distance(reference(model.graph, feeds), session.run(feeds))
