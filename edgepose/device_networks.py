"""The networks that a device is tested with: the embedded models, and one of each family of decoders.

All but the embedded ones have random weights, the same everywhere: what a device computes is compared with what the
reference computes from the same weights, so they need not know people.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .architectures import BuildOptions, build_network, examine
from .artifact import embedded_folder
from .bundle import read_bundle
from .graph.builder import GraphBuilder
from .graph.passes import optimise
from .keypoints import COCO_17
from .model import PoseModel
from .spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

Array = npt.NDArray[np.float32]

#: The embedded detector takes any size; targets of one size get this, a multiple of its stride.
DETECTOR_SIZE = (256, 256)
_SIZE = 128
_KEYPOINTS = len(COCO_17)


@dataclass(frozen=True)
class ProvingNetwork:
    """A network to test a device with.

    Attributes
    ----------
    name
        What it is called in reports.
    decoder
        Family of its decoder: ``DecoderSpec.type``.
    write
        Writes it into a folder as an ONNX file that carries its spec; gives the file.
    input_size
        (height, width) in pixels to convert it for; None for its own.
    """

    name: str
    decoder: str
    write: Callable[[Path], Path]
    input_size: tuple[int, int] | None = None


def proving_networks() -> list[ProvingNetwork]:
    """All of them, the ones of a picture first."""
    return [
        ProvingNetwork("fast", "movenet-multi", lambda folder: _embedded(0, folder), DETECTOR_SIZE),
        ProvingNetwork("thunder", "movenet-single", lambda folder: _embedded(1, folder)),
        _network("heatmap", lambda: _architecture("mobile_pose_mobilenetv3_small", (_SIZE, 96))),
        _network("simcc", lambda: _architecture("rtmpose_t", (256, 192))),
        _network("openpose", lambda: _architecture("lightweight_openpose", (_SIZE, 192))),
        _network("regression", _regression),
        _network("yolo-pose", _one_stage),
    ]


def _network(decoder: str, build: Callable[[], PoseModel]) -> ProvingNetwork:
    return ProvingNetwork(decoder, decoder, lambda folder: build().save(folder / f"{decoder}.onnx"))


def _embedded(stage: int, folder: Path) -> Path:
    bundle = read_bundle(embedded_folder("fast"))
    part = bundle.manifest.stages[stage]
    return PoseModel.from_onnx(bundle.path(part.engine), part.spec).save(folder / f"{part.role}.onnx")


def _architecture(name: str, size: tuple[int, int]) -> PoseModel:
    """An architecture that edgepose builds, with random weights."""
    arrays = _weights(examine({}, name).expected)
    network = build_network(arrays, name, BuildOptions(input_size=size))
    return PoseModel(optimise(network.graph), network.spec, {"architecture": name, "weights": "random"})


def _weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Weights that keep activations in range: He's for kernels, and normalisations that are near to doing nothing."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Array:
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    last = name.rsplit(".", 1)[-1].rsplit("_", 1)[-1]
    if last in ("var", "variance"):
        noise = 1 + 0.1 * np.abs(noise)
    elif last in ("mean", "bias", "beta"):
        noise = 0.05 * noise
    elif len(shape) < 2:
        noise = 0.8 + 0.1 * noise
    else:
        noise = noise * np.sqrt(2 / np.prod(shape[1:]))
    return noise.astype(np.float32)


def _backbone(build: GraphBuilder, image: str) -> tuple[str, int]:
    """Four strided convolutions, one of them depthwise with a residue; the features and how many."""
    x, width = image, 3
    for level, channels in enumerate((16, 32, 48, 64)):
        kernel = build.constant(_weight(f"conv{level}.weight", (channels, width, 3, 3)))
        bias = build.constant(_weight(f"conv{level}.bias", (channels,)))
        x = build.op("Relu", build.op("Conv", x, kernel, bias, strides=[2, 2], pads=[1] * 4))
        width = channels
    depthwise = build.constant(_weight("depthwise.weight", (width, 1, 3, 3)))
    return build.op("Add", x, build.op("Conv", x, depthwise, group=width, pads=[1] * 4)), width


def _input(fit: Crop | Letterbox) -> InputSpec:
    return InputSpec("image", _SIZE, _SIZE, fit, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def _regression() -> PoseModel:
    """Coordinates from pooled features."""
    build = GraphBuilder("regression")
    features, width = _backbone(build, build.input("image", ("batch", 3, _SIZE, _SIZE)))
    pooled = build.op("Flatten", build.op("GlobalAveragePool", features))
    # So small that the joints, which lie around the middle, stay inside.
    kernel = build.constant(0.1 * _weight("head.weight", (2 * _KEYPOINTS, width)))
    bias = build.constant(np.full(2 * _KEYPOINTS, 0.5, np.float32))
    shape = build.constant(np.array([-1, _KEYPOINTS, 2], np.int64))
    head = build.op("Reshape", build.op("Gemm", pooled, kernel, bias, transB=1), shape)
    build.output(head, "coordinates", ("batch", _KEYPOINTS, 2))
    decoder = DecoderSpec("regression", {"coordinates": "coordinates"})
    return PoseModel(build.build(), PoseSpec(_input(Crop()), decoder, COCO_17), {"weights": "random"})


def _one_stage() -> PoseModel:
    """A head over cells like that of YOLOv8: a box, a score and keypoints for each cell of 16 pixels."""
    build = GraphBuilder("one-stage")
    features, width = _backbone(build, build.input("image", ("batch", 3, _SIZE, _SIZE)))
    stride = 16
    side = _SIZE // stride
    y, x = (a.reshape(1, 1, -1).astype(np.float32) for a in np.mgrid[:side, :side] * stride + stride / 2)
    cells = build.constant(np.concatenate([x, y], axis=1))

    def head(name: str, channels: int) -> str:
        kernel = build.constant(0.2 * _weight(f"{name}.weight", (channels, width, 1, 1)))
        flat = build.constant(np.array([0, channels, side * side], np.int64))
        return str(build.op("Reshape", build.op("Conv", features, kernel), flat))

    def times(value: str, factor: float) -> str:
        return str(build.op("Mul", value, build.constant(np.float32(factor))))

    center = build.op("Add", cells, times(build.op("Tanh", head("center", 2)), stride))
    extent = times(build.op("Sigmoid", head("extent", 2)), 2 * stride)
    score = build.op("Sigmoid", head("score", 1))
    points = []
    for k in range(_KEYPOINTS):
        place = build.op("Add", cells, times(build.op("Tanh", head(f"place{k}", 2)), stride))
        points += [place, build.op("Sigmoid", head(f"seen{k}", 1))]
    predictions = build.op("Concat", center, extent, score, *points, axis=1)
    channels = 5 + 3 * _KEYPOINTS
    build.output(predictions, "predictions", ("batch", channels, side * side))
    decoder = DecoderSpec("yolo-pose", {"predictions": "predictions"})
    return PoseModel(build.build(), PoseSpec(_input(Letterbox()), decoder, COCO_17), {"weights": "random"})
