"""Networks to quantise, ranges of one run, and what a quantised graph became in ONNX Runtime."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.draft import Draft
from edgepose.graph.inference import infer_shapes, known_values
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.ranges import Ranges, fingerprint
from edgepose.quantization.scheme import Scheme
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

Array = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[np.generic]]

ONNX_RUNTIME = Scheme(deconvolution="subpixel", fused=("Relu", "Clip"))
OPENVINO = Scheme(bias="float", open_end=True)
SIGNED = Scheme(activations="int8", symmetric=True, bias="float")
SCHEMES = {"onnxruntime": ONNX_RUNTIME, "openvino": OPENVINO, "signed": SIGNED}


def _recipe():
    path = Path(__file__).parent.parent / "architectures" / "synthetic_weights.py"
    loaded = importlib.util.spec_from_file_location("synthetic_weights_to_quantise", path)
    assert loaded is not None
    assert loaded.loader is not None
    module = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(module)
    return module


def family(name: str, size: tuple[int, int] | None = None) -> PoseModel:
    """An architecture with synthetic weights."""
    arrays = _recipe().fill(examine({}, name).expected)
    network = build_network(arrays, name, BuildOptions(input_size=size))
    return PoseModel(optimise(network.graph), network.spec, {"architecture": name})


class Network:
    """Builds a small network, op by op, for an input of 3x32x24."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.build = GraphBuilder("network")
        self.x = self.build.input("image", ("batch", 3, 32, 24))
        self.count = 0

    def weights(self, *shape: int, gain: float = 1.0) -> str:
        """Random weights."""
        self.count += 1
        array = gain * self.rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))
        return self.build.constant(array.astype(np.float32), f"w{self.count}")

    def conv(self, x: str, cin: int, cout: int, kernel: int = 3, name: str | None = None, **more) -> str:
        """A convolution with bias that keeps the size."""
        groups = more.get("group", 1)
        pads = [kernel // 2] * 4
        inputs = [x, self.weights(cout, cin // groups, kernel, kernel), self.weights(cout, gain=0.2)]
        return self.build.op("Conv", *inputs, name=name, pads=pads, **more)

    def relu(self, x: str) -> str:
        """Its positive part."""
        return self.build.op("Relu", x)

    def model(self, x: str, channels: int = 17, size: tuple[int, int] = (32, 24)) -> PoseModel:
        """The finished model with ``x`` as its heatmaps."""
        self.build.output(x, "heatmaps", ("batch", channels, *size))
        spec = PoseSpec(InputSpec("image", 32, 24, Crop()), DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
        return PoseModel(self.build.build(), spec)


def residual() -> PoseModel:
    """Stem, pooling, a residual block with a depthwise convolution, a deconvolution and a head."""
    net = Network()
    x = net.relu(net.conv(net.x, 3, 16, strides=[2, 2], name="stem"))
    x = stem = net.build.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, name="pool")
    x = net.relu(net.conv(x, 16, 16, group=16, name="depthwise"))
    x = net.relu(net.build.op("Add", net.conv(x, 16, 16, 1, name="expand"), stem, name="sum"))
    inputs = [x, net.weights(16, 8, 4, 4), net.weights(8, gain=0.1)]
    x = net.relu(net.build.op("ConvTranspose", *inputs, name="up", strides=[2, 2], pads=[1] * 4))
    return net.model(net.conv(x, 8, 17, 1, name="head"), size=(16, 12))


def picture(model: PoseModel, seed: int = 0, batch: int = 1) -> dict[str, npt.NDArray[np.generic]]:
    """An input: coarse blocks with noise."""
    spec = model.spec.input
    declared = [d.dim_value for d in model.graph.graph.input[0].type.tensor_type.shape.dim]
    axes = (1, 2) if spec.layout == "NHWC" else (2, 3)
    height, width = (spec.height or 128, spec.width or 128)
    height, width = declared[axes[0]] or height, declared[axes[1]] or width
    rng = np.random.default_rng(seed)
    blocks = rng.uniform(-2, 2.5, (batch, 3, -(-height // 8), -(-width // 8))).repeat(8, 2).repeat(8, 3)
    pixels = blocks[:, :, :height, :width] + 0.2 * rng.standard_normal((batch, 3, height, width))
    if spec.layout == "NHWC":
        pixels = pixels.transpose(0, 2, 3, 1)
    if spec.is_raw:
        pixels = np.clip(50 * pixels + 115, 0, 255)
    return {spec.name: np.ascontiguousarray(pixels, spec.dtype)}


def observed(model: PoseModel, feeds: Sequence[Feeds]) -> Ranges:
    """The smallest and largest value of every float value in some runs."""
    draft = Draft(model.graph)
    infer_shapes(draft)
    values = known_values(draft)
    floats = {name for name, v in values.items() if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    floats -= set(draft.constants())
    listed = {o.name for o in draft.graph.output}
    made = [o for n in draft.graph.node for o in n.output if o in floats]
    draft.graph.output.extend(values[name] for name in made if name not in listed)
    runner = Runner(draft)
    found: dict[str, tuple[float, float]] = {}
    for feed in feeds:
        for name, array in {**feed, **runner.run(feed)}.items():
            if name in floats and np.isfinite(array).all():
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = (min(low, float(array.min())), max(high, float(array.max())))
    return Ranges(found, "naive", fingerprint(model.graph))


def sqnr(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    """Signal to noise in dB of the worst output."""
    worst = np.inf
    for name, exact in expected.items():
        assert found[name].shape == exact.shape
        assert found[name].dtype == exact.dtype
        signal, noise = np.square(exact, dtype=np.float64).sum(), np.square(exact - found[name], dtype=np.float64).sum()
        worst = min(worst, 10 * np.log10(signal / max(noise, 1e-30)))
    return float(worst)


def run(graph: onnx.ModelProto, feeds: Feeds, folder: Path | None = None) -> tuple[dict[str, Array], Counter[str]]:
    """What ONNX Runtime gives with its rewriting, and the operators that it rewrote the graph to."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.optimized_model_filepath = str(folder / "optimised.onnx")
    session = ort.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    values = dict(zip(names, session.run(names, dict(feeds)), strict=True))
    nodes = onnx.load(folder / "optimised.onnx").graph.node if folder is not None else ()
    return values, Counter(n.op_type for n in nodes)


def optimised(model: PoseModel) -> onnx.ModelProto:
    """The model's graph after the usual passes."""
    return optimise(model.graph)
