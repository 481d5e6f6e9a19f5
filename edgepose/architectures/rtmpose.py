"""RTMPose of mmpose 1.x (Jiang et al., 2023): CSPNeXt, a gated attention unit over the keypoints, SimCC.

Each keypoint is a token: its map from the last convolution, flattened and projected.  The tokens attend to each other
once; two linear layers turn each into a distribution over x and one over y, ``split_ratio`` bins for each pixel.
Facts from mmpose/models/heads/coord_cls_heads/rtmcc_head.py, mmpose/models/utils/rtmcc_block.py and
configs/body_2d_keypoint/rtmpose.  Batch normalisations have epsilon 1e-5, that of the SyncBN in all those
configurations; mmpose's bare CSPNeXt would default to 1e-3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ArchitectureError
from ..keypoints import COCO_17
from ..spec import Crop, DecoderSpec, InputSpec, PoseSpec
from .base import Arrays, BuildOptions, Network
from .contract import IMAGENET_MEAN, IMAGENET_STD, INPUT, PERSON_CROP, keypoint_set
from .cspnext import STRIDE, CSPNeXt
from .fit import closest
from .layers import Feature, Layers, Pair
from .shapes import Shapes, find_prefix

#: Deepen and widen factors of the published sizes.
SIZES = {
    "rtmpose_t": CSPNeXt(0.167, 0.375),
    "rtmpose_s": CSPNeXt(0.33, 0.5),
    "rtmpose_m": CSPNeXt(0.67, 0.75),
    "rtmpose_l": CSPNeXt(1.0, 1.0),
    "rtmpose_x": CSPNeXt(1.33, 1.25),
}
#: Bins for each pixel in all configurations.
SPLIT_RATIO = 2.0
#: Sides that the last convolution may have.
KERNELS = (1, 3, 5, 7)
#: Length that ScaleNorm does not divide by less than.
EPSILON = 1e-5
SIMCC_X, SIMCC_Y = "simcc_x", "simcc_y"


@dataclass(frozen=True)
class Head:
    """Lengths in the head, as the shapes tell them; the defaults are those of the configurations.

    Attributes
    ----------
    joints
        Keypoints.
    kernel
        Side of the last convolution.
    bins_x, bins_y
        Lengths of the two SimCC vectors.
    positions
        Pixels of the last feature map.
    hidden, gate, key
        Length of a token, of its gate and value, of query and key.
    """

    joints: int = len(COCO_17)
    kernel: int = 7
    bins_x: int = 2 * PERSON_CROP[1]
    bins_y: int = 2 * PERSON_CROP[0]
    positions: int = PERSON_CROP[0] * PERSON_CROP[1] // STRIDE**2
    hidden: int = 256
    gate: int = 512
    key: int = 128

    def split_ratio(self) -> float:
        """Bins for each pixel: those of both axes multiplied, over the pixels of the input."""
        return math.sqrt(self.bins_x * self.bins_y / self.positions) / STRIDE

    def input_size(self, split_ratio: float) -> Pair | None:
        """(height, width) in pixels that the SimCC layers were made for; None if that cannot be.

        Either the backbone has no such size, or there is less than one bin for a pixel.
        """
        height, width = self.bins_y / split_ratio, self.bins_x / split_ratio
        return None if split_ratio < 1 or height % STRIDE or width % STRIDE else (int(height), int(width))


class RTMPose:
    """RTMPose, sizes t to x, with any number of keypoints."""

    name = "rtmpose"
    description = "RTMPose of mmpose 1.x (PyTorch)"
    architectures = tuple(SIZES)

    def recognise(self, arrays: Arrays) -> str | None:
        """By the names of backbone and head; the size is the one that fits best."""
        if _shapes(arrays) is None:
            return None
        return closest(self, self.architectures, arrays)

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone and head.

        Raises
        ------
        ArchitectureError
            If another input size is asked for: the head's linear layers are made for one.
        """
        shapes = _shapes(arrays) or Shapes(arrays)
        head, size, split_ratio = _fix_size(_read_head(shapes))
        if options.input_size not in (None, size):
            raise ArchitectureError(
                f"'{architecture}' with these weights takes {size[0]} x {size[1]} pixels and no other size:"
                " its linear layers are as long as the feature map.",
                hint="Leave --input-size out.",
            )

        # Linear layers need their arrays transposed, so names are written in full here.
        net = Layers(architecture, arrays, options)
        x = SIZES[architecture].build(net, net.input(*size), f"{shapes.prefix}backbone.")
        tokens = _tokens(net, x, head, f"{shapes.prefix}head")
        tokens = _gated_attention(net, tokens, head, f"{shapes.prefix}head.gau")
        for axis, bins, output in (("cls_x", head.bins_x, SIMCC_X), ("cls_y", head.bins_y, SIMCC_Y)):
            vectors = _linear(net, tokens, f"{shapes.prefix}head.{axis}", head.hidden, bins)
            net.output(Feature(vectors, head.joints), output, bins)
        return net.finish(_spec(size, split_ratio, head.joints))


FAMILIES = (RTMPose(),)


def _shapes(arrays: Arrays) -> Shapes | None:
    """The arrays under the prefix of a wrapper; None if there is no head of this kind."""
    prefix = find_prefix(arrays, r"head\.(?:gau\.|cls_[xy]\.)")
    if prefix is None or not any(name.startswith(f"{prefix}backbone.stage") for name in arrays):
        return None
    return Shapes(arrays, prefix)


def _read_head(shapes: Shapes) -> Head:
    default = Head()

    def length(otherwise: int, *places: tuple[str, int]) -> int:
        return shapes.majority(((f"head.{name}", axis) for name, axis in places), otherwise)

    kernel = length(default.kernel, ("final_layer.weight", 2), ("final_layer.weight", 3))
    return Head(
        joints=shapes.keypoints("head.final_layer", default.joints),
        kernel=kernel if kernel in KERNELS else default.kernel,
        bins_x=length(default.bins_x, ("cls_x.weight", 0)),
        bins_y=length(default.bins_y, ("cls_y.weight", 0)),
        positions=length(default.positions, ("mlp.1.weight", 1)),
        hidden=length(
            default.hidden,
            ("mlp.1.weight", 0),
            ("gau.uv.weight", 1),
            ("gau.o.weight", 0),
            ("gau.res_scale.scale", 0),
            ("cls_x.weight", 1),
            ("cls_y.weight", 1),
        ),
        gate=length(default.gate, ("gau.o.weight", 1)),
        key=length(default.key, ("gau.gamma", 1), ("gau.beta", 1)),
    )


def _fix_size(head: Head) -> tuple[Head, Pair, float]:
    """Head, input size and split ratio that belong together.

    Where the lengths contradict each other, one of them is wrong and will be reported: the split ratio then is that of
    the configurations, and if that does not help either, the input size too.
    """
    for ratio in (head.split_ratio(), SPLIT_RATIO):
        if size := head.input_size(ratio):
            return replace(head, positions=size[0] * size[1] // STRIDE**2), size, ratio
    default = Head()
    return (
        replace(head, bins_x=default.bins_x, bins_y=default.bins_y, positions=default.positions),
        PERSON_CROP,
        SPLIT_RATIO,
    )


def _spec(size: Pair, split_ratio: float, joints: int) -> PoseSpec:
    height, width = size
    return PoseSpec(
        input=InputSpec(
            name=INPUT,
            height=height,
            width=width,
            fit=Crop(),
            color="RGB",
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
        ),
        decoder=DecoderSpec(
            "simcc",
            {SIMCC_X: SIMCC_X, SIMCC_Y: SIMCC_Y},
            # All configurations have targets this wide: (4.9, 5.66) for 192 x 256, (6.0, 6.93) for 288 x 384.
            {"split_ratio": split_ratio, "sigma": [round(math.sqrt(side / 8), 2) for side in (width, height)]},
        ),
        keypoints=keypoint_set(joints),
    )


def _tokens(net: Layers, x: Feature, head: Head, name: str) -> str:
    """One token for each keypoint [N, joints, hidden]: its map, flattened, normalised and projected."""
    maps = net.conv(x, f"{name}.final_layer", head.joints, head.kernel, bias=True)
    shape = net.graph.constant(np.asarray([0, head.joints, head.positions], np.int64), f"{name}.tokens")
    tokens = net.graph.op("Reshape", maps.name, shape, name=f"{name}.tokens.reshape")
    tokens = _scale_norm(net, tokens, f"{name}.mlp.0", head.positions)
    return _linear(net, tokens, f"{name}.mlp.1", head.positions, head.hidden)


def _gated_attention(net: Layers, tokens: str, head: Head, name: str) -> str:
    """Gated attention unit: squared-ReLU attention between the keypoints, gated, beside a scaled shortcut."""
    graph = net.graph
    x = _scale_norm(net, tokens, f"{name}.ln", head.hidden)
    lengths = (head.gate, head.gate, head.key)
    x = net.silu(Feature(_linear(net, x, f"{name}.uv", head.hidden, sum(lengths)), head.joints)).name
    gate, value, base = _split(net, x, lengths, f"{name}.split")

    # Both rows are scaled by the fourth root of their length, so that query times key is already divided by its
    # square root: the product stays small enough for half precision.
    shrink = np.float32(head.key**-0.25)
    gamma, beta = (net.weights.take(f"{name}.{row}", (2, head.key)) * shrink for row in ("gamma", "beta"))
    query, key = (
        graph.op(
            "Add",
            graph.op("Mul", base, graph.constant(gamma[i], f"{name}.gamma.{i}"), name=f"{name}.{role}/Mul"),
            graph.constant(beta[i], f"{name}.beta.{i}"),
            name=f"{name}.{role}/Add",
        )
        for i, role in enumerate(("query", "key"))
    )
    key = graph.op("Transpose", key, perm=[0, 2, 1], name=f"{name}.key/Transpose")
    kernel = graph.op("Relu", graph.op("MatMul", query, key, name=f"{name}.attention"), name=f"{name}.attention/Relu")
    kernel = graph.op("Mul", kernel, kernel, name=f"{name}.attention/Mul")
    mixed = graph.op("Mul", gate, graph.op("MatMul", kernel, value, name=f"{name}.value"), name=f"{name}.gate/Mul")
    mixed = _linear(net, mixed, f"{name}.o", head.gate, head.hidden)
    scale = net.parameter(f"{name}.res_scale.scale", (head.hidden,))
    shortcut = graph.op("Mul", tokens, scale, name=f"{name}.res_scale/Mul")
    result: str = graph.op("Add", shortcut, mixed, name=f"{name}.res_scale/Add")
    return result


def _scale_norm(net: Layers, x: str, name: str, length: int) -> str:
    """x / max(rms(x), epsilon) * g, where rms is the root of the mean square along the last axis.

    The elements are divided by the root of their number before they are squared: the sum then is a mean, which does not
    overflow half precision where the sum would.
    """
    graph = net.graph
    scaled = graph.op("Mul", x, graph.constant(np.float32(length**-0.5), f"{name}.scale"), name=f"{name}/Mul")
    if graph.opset >= 18:  # the axes became an input
        axes = graph.constant(np.asarray([-1], np.int64), f"{name}.axes")
        rms = graph.op("ReduceL2", scaled, axes, keepdims=1, name=f"{name}/ReduceL2")
    else:
        rms = graph.op("ReduceL2", scaled, axes=[-1], keepdims=1, name=f"{name}/ReduceL2")
    rms = graph.op("Max", rms, graph.constant(np.float32(EPSILON), f"{name}.epsilon"), name=f"{name}/Max")
    unit = graph.op("Div", x, rms, name=f"{name}/Div")
    result: str = graph.op("Mul", unit, net.parameter(f"{name}.g", (1,)), name=f"{name}.g/Mul")
    return result


def _linear(net: Layers, x: str, name: str, inputs: int, out: int) -> str:
    """Linear layer without bias along the last axis; ``name.weight`` [out, in] is stored transposed in the graph."""
    full = f"{name}.weight"
    weight = net.graph.constant(net.weights.take(full, (out, inputs)).T, full)
    result: str = net.graph.op("MatMul", x, weight, name=name)
    return result


def _split(net: Layers, x: str, lengths: tuple[int, ...], name: str) -> tuple[str, ...]:
    """Pieces of these lengths along the last axis."""
    if net.graph.opset < 13:  # the lengths became an input
        pieces = net.graph.op("Split", x, outputs=len(lengths), name=name, axis=2, split=list(lengths))
    else:
        sizes = net.graph.constant(np.asarray(lengths, np.int64), f"{name}.lengths")
        pieces = net.graph.op("Split", x, sizes, outputs=len(lengths), name=name, axis=2)
    return tuple(pieces)
