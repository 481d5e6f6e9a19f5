"""Small networks with a contract, and pictures for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from edgepose.fitting import to_tensor
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.running import Runner
from edgepose.importing import ImportOptions, import_checkpoint
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.data import CalibrationSet, calibration_set
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

SIZE = 16


class Net:
    """A network built layer by layer; ``x`` is the value so far.  Weights of different channels differ in size."""

    def __init__(self, seed: int = 0, *, spread: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = GraphBuilder("net", 17)
        self.spread = spread
        self.channels = 3
        self.x = self.graph.input("data", ("batch", 3, SIZE, SIZE))

    def conv(
        self, out: int | None = None, kernel: int = 3, *, depthwise: bool = False, bias: bool = True, name: str = "conv"
    ) -> str:
        out = self.channels if out is None or depthwise else out
        inner = 1 if depthwise else self.channels
        array = self.rng.standard_normal((out, inner, kernel, kernel)) / np.sqrt(inner * kernel * kernel)
        array *= np.exp(self.spread * self.rng.standard_normal((out, 1, 1, 1)))
        constants = [self.graph.constant(array.astype(np.float32), f"{name}.weight")]
        if bias:
            values = self.rng.standard_normal(out).astype(np.float32)
            constants.append(self.graph.constant(values, f"{name}.bias"))
        pads = [kernel // 2] * 4
        self.x = self.graph.op(
            "Conv",
            self.x,
            *constants,
            name=name,
            kernel_shape=[kernel] * 2,
            pads=pads,
            group=out // inner if depthwise else 1,
        )
        self.channels = out
        return self.x

    def deconv(self, out: int, *, name: str = "deconv") -> str:
        array = self.rng.standard_normal((self.channels, out, 4, 4)) / np.sqrt(4 * self.channels)
        constants = [self.graph.constant(array.astype(np.float32), f"{name}.weight")]
        constants.append(self.graph.constant(self.rng.standard_normal(out).astype(np.float32), f"{name}.bias"))
        self.x = self.graph.op(
            "ConvTranspose", self.x, *constants, name=name, kernel_shape=[4, 4], strides=[2, 2], pads=[1] * 4
        )
        self.channels = out
        return self.x

    def op(self, kind: str, *others: str, **attributes: Any) -> str:
        self.x = self.graph.op(kind, self.x, *others, **attributes)
        return self.x

    def relu6(self) -> str:
        bounds = [self.graph.constant(np.float32(v), f"bound{v}") for v in (0, 6)]
        return self.op("Clip", *bounds)

    def build(self) -> PoseModel:
        """The network; its output is called ``heatmaps``."""
        self.graph.output(self.x, "heatmaps", ("batch", self.channels, "height", "width"))
        entry = InputSpec("data", SIZE, SIZE, Crop(), mean=(120.0, 115.0, 100.0), std=(60.0, 58.0, 57.0))
        return PoseModel(self.graph.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17))


def pictures(count: int = 8, seed: int = 5) -> list[npt.NDArray[np.uint8]]:
    """Batches of two noisy pictures of blocks."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, 4, 4, 3)).repeat(SIZE // 4, 1).repeat(SIZE // 4, 2)
    noisy = np.clip(blocks + rng.normal(0, 12, blocks.shape), 0, 255).astype(np.uint8)
    return [noisy[i : i + 2] for i in range(0, count, 2)]


def outputs(model: PoseModel, count: int = 4, seed: int = 9) -> npt.NDArray[np.float64]:
    """What the network gives for random inputs."""
    x = np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE)).astype(np.float32)
    return Runner(model.graph).run({"data": x})["heatmaps"].astype(np.float64)


def constant(model: PoseModel, name: str) -> npt.NDArray[np.float64]:
    """A weight of the network."""
    from onnx import numpy_helper

    (tensor,) = [t for t in model.graph.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor).astype(np.float64)


@st.composite
def nets(draw: st.DrawFn, spreads: tuple[float, ...] = (0.0, 1.0, 2.0)) -> PoseModel:
    """Chains and branches of convolutions of all kinds, their channels of about the same size or not."""
    net = Net(draw(st.integers(0, 2**32 - 1)), spread=draw(st.sampled_from(spreads)))
    for i in range(draw(st.integers(2, 6))):
        kind = draw(st.sampled_from(["conv", "conv", "depthwise", "deconv", "skip", "pool"]))
        if kind == "deconv" and i < 3:
            net.deconv(draw(st.sampled_from([4, 6])), name=f"layer{i}")
        elif kind == "skip":
            before = net.x
            net.conv(name=f"layer{i}", bias=draw(st.booleans()))
            net.op("Add", before)
        elif kind == "pool":
            net.op("MaxPool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
        else:
            net.conv(
                draw(st.sampled_from([4, 8])),
                draw(st.sampled_from([1, 3])),
                depthwise=kind == "depthwise",
                bias=draw(st.booleans()),
                name=f"layer{i}",
            )
        activation = draw(st.sampled_from(["Relu", "Relu", "PRelu", "Sigmoid", ""]))
        if activation == "PRelu":
            slopes = net.rng.uniform(0.05, 0.5, (net.channels, 1, 1)).astype(np.float32)
            net.op("PRelu", net.graph.constant(slopes, f"slopes{i}"))
        elif activation:
            net.op(activation)
    net.conv(4, 1, name="head")
    return net.build()


def trained(reference: Path) -> tuple[PoseModel, CalibrationSet, CalibrationSet]:
    """Ultralight-SimplePose, and crops of people from the calibration and the validation pictures."""
    normalised = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
    decoder = DecoderSpec("heatmap", {"heatmaps": "hybridsequential0_conv7_fwd"})
    spec = PoseSpec(InputSpec("data", 256, 192, Crop(), **normalised), decoder, COCO_17)
    path = reference / "data/weights/ultralight_simplepose/Ultralight-Nano-SimplePose.params"
    model = import_checkpoint(path, ImportOptions(spec=spec))
    data = reference / "data/coco_keypoints"
    train, val = (
        calibration_set(data / f"person_keypoints_{part}2017.json", model.spec, images=data / f"{part}2017", limit=n)
        for part, n in (("train", 12), ("val", 8))
    )
    return model, train, val


def heatmaps(model: PoseModel, samples: CalibrationSet) -> npt.NDArray[np.float64]:
    """The network's answers to samples."""
    runner = Runner(model.graph)
    found = [next(iter(runner.run({"data": to_tensor(p, model.spec.input)}).values())) for p in samples]
    return np.concatenate(found).astype(np.float64)
