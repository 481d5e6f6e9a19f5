"""The layers that pose networks are made of.

An architecture is written as calls of these methods.  Each layer takes its arrays by the checkpoint's own names, so the
same code that builds the graph also says which arrays it expects and with which shapes.

Batch normalisation becomes a BatchNormalization node: folding it is a pass over the graph, and a graph that still has
the checkpoint's own arrays is what the folded one is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import ArchitectureError
from ..graph.builder import Dim, GraphBuilder
from ..spec import PoseSpec
from .base import BuildOptions, Network
from .weights import Weights

Pair = tuple[int, int]


@dataclass(frozen=True)
class Feature:
    """A value of the graph, N x C x H x W, and how many channels it has."""

    name: str
    channels: int


@dataclass(frozen=True)
class NormNames:
    """What a framework calls the four arrays of a batch normalisation."""

    scale: str
    shift: str
    mean: str
    variance: str


TORCH_NORM = NormNames("weight", "bias", "running_mean", "running_var")
GLUON_NORM = NormNames("gamma", "beta", "running_mean", "running_var")
MINDSPORE_NORM = NormNames("gamma", "beta", "moving_mean", "moving_variance")


class Layers:
    """Adds layers to one graph and takes their arrays from one checkpoint.

    Parameters
    ----------
    name
        Name of the graph: the architecture.
    arrays
        Name -> array of the checkpoint.
    options
        How the graph is to be built.
    norm
        Names of the arrays of a batch normalisation.
    prefix
        What stands before every array's name in this checkpoint.

    Attributes
    ----------
    graph, weights
        For what no method here covers.
    """

    def __init__(
        self,
        name: str,
        arrays: Mapping[str, npt.NDArray[np.generic]],
        options: BuildOptions,
        norm: NormNames = TORCH_NORM,
        prefix: str = "",
    ) -> None:
        self.graph = _NoGraph(name, options.opset) if options.books_only else GraphBuilder(name, options.opset)
        self.weights = Weights(arrays)
        self._norm = norm
        self._prefix = prefix
        self._batch: Dim = "batch" if options.batch is None else options.batch

    # ---- the ends of the network ----

    def input(self, height: Dim, width: Dim, name: str = "input") -> Feature:
        """Declare the picture input N x 3 x height x width; a string is a dynamic length."""
        return Feature(self.graph.input(name, (self._batch, 3, height, width)), 3)

    def output(self, x: Feature, name: str, *size: Dim) -> None:
        """Declare ``x`` as the graph's output ``name``; ``size`` is what follows batch and channels in its shape."""
        self.graph.output(x.name, name, (self._batch, x.channels, *size))

    def finish(self, spec: PoseSpec) -> Network:
        """The network, once all layers and outputs are there."""
        return Network(self.graph.build(), spec, self.weights)

    # ---- arrays ----

    def parameter(self, name: str, shape: tuple[int, ...], stored: tuple[int, ...] | None = None) -> str:
        """The checkpoint's array ``name`` as an initialiser of the same name.

        Parameters
        ----------
        name
            Its name without the prefix.
        shape
            Shape that the graph needs.
        stored
            Shape in the checkpoint where it is another one of the same size.
        """
        full = self._prefix + name
        return self.graph.constant(self.weights.take(full, stored or shape).reshape(shape), full)

    # ---- convolutions ----

    def conv(
        self,
        x: Feature,
        name: str,
        out: int,
        kernel: int | Pair = 1,
        *,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> Feature:
        """Convolution with ``name.weight`` [out, in / groups, kh, kw] and, if asked for, ``name.bias`` [out].

        The padding is that which keeps the size at stride 1 unless it is given.
        """
        kh, kw = _pair(kernel)
        ph, pw = (dilation * (kh // 2), dilation * (kw // 2)) if padding is None else _pair(padding)
        inputs = [x.name, self.parameter(f"{name}.weight", (out, x.channels // groups, kh, kw))]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", (out,)))
        value = self.graph.op(
            "Conv",
            *inputs,
            name=name,
            kernel_shape=[kh, kw],
            strides=_pair(stride),
            pads=[ph, pw, ph, pw],
            dilations=[dilation, dilation],
            group=groups,
        )
        return Feature(value, out)

    def conv_dense(self, x: Feature, name: str, out: int) -> Feature:
        """Fully connected layer on each position, ``name.weight`` [out, in] and ``name.bias``, as a 1x1 convolution."""
        weight = self.parameter(f"{name}.weight", (out, x.channels, 1, 1), stored=(out, x.channels))
        bias = self.parameter(f"{name}.bias", (out,))
        return Feature(self.graph.op("Conv", x.name, weight, bias, name=name, kernel_shape=[1, 1]), out)

    def deconv(self, x: Feature, name: str, out: int, kernel: int = 4, *, bias: bool = False) -> Feature:
        """Transposed convolution that doubles the size, with ``name.weight`` [in, out, k, k] for k of 2, 3 or 4."""
        inputs = [x.name, self.parameter(f"{name}.weight", (x.channels, out, kernel, kernel))]
        if bias:
            inputs.append(self.parameter(f"{name}.bias", (out,)))
        pad = (kernel - 1) // 2
        value = self.graph.op(
            "ConvTranspose",
            *inputs,
            name=name,
            kernel_shape=[kernel, kernel],
            strides=[2, 2],
            pads=[pad] * 4,
            output_padding=[kernel % 2] * 2,
        )
        return Feature(value, out)

    def norm(self, x: Feature, name: str, epsilon: float = 1e-5) -> Feature:
        """Batch normalisation with stored statistics."""
        leaves = (self._norm.scale, self._norm.shift, self._norm.mean, self._norm.variance)
        arrays = [self.parameter(f"{name}.{leaf}", (x.channels,)) for leaf in leaves]
        return Feature(self.graph.op("BatchNormalization", x.name, *arrays, name=name, epsilon=epsilon), x.channels)

    # ---- activations ----

    def relu(self, x: Feature) -> Feature:
        """max(x, 0)."""
        return self._op("Relu", x)

    def relu6(self, x: Feature) -> Feature:
        """x clipped to 0..6."""
        low, high = (self.graph.constant(np.float32(v), f"relu6.{v}") for v in (0, 6))
        return self._op("Clip", x, low, high)

    def elu(self, x: Feature) -> Feature:
        """x where positive, exp(x) - 1 elsewhere."""
        return self._op("Elu", x)

    def sigmoid(self, x: Feature) -> Feature:
        """1 / (1 + exp(-x))."""
        return self._op("Sigmoid", x)

    def silu(self, x: Feature) -> Feature:
        """x * sigmoid(x)."""
        return self.mul(x, self.sigmoid(x))

    def hard_sigmoid(self, x: Feature) -> Feature:
        """(x + 3) / 6 clipped to 0..1."""
        return self._op("HardSigmoid", x, alpha=1 / 6, beta=0.5)

    def hard_swish(self, x: Feature) -> Feature:
        """x * hard_sigmoid(x), as two nodes: the HardSwish operator came with opset 14 only."""
        return self.mul(x, self.hard_sigmoid(x))

    # ---- pooling and size ----

    def max_pool(
        self, x: Feature, kernel: int = 3, stride: int = 2, pads: tuple[int, int, int, int] = (1, 1, 1, 1)
    ) -> Feature:
        """Maximum over windows; ``pads`` are top, left, bottom, right."""
        return self._op("MaxPool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=list(pads))

    def avg_pool(self, x: Feature, kernel: int, stride: int) -> Feature:
        """Mean over windows, without padding."""
        return self._op("AveragePool", x, kernel_shape=[kernel] * 2, strides=[stride] * 2)

    def global_avg_pool(self, x: Feature) -> Feature:
        """Mean over height and width, which become 1."""
        return self._op("GlobalAveragePool", x)

    def pixel_shuffle(self, x: Feature, factor: int = 2) -> Feature:
        """Channels (C, r, r) become C channels of r times the size."""
        value = self.graph.op("DepthToSpace", x.name, name=_inner(x, "DepthToSpace"), blocksize=factor, mode="CRD")
        return Feature(value, x.channels // factor**2)

    def upsample(self, x: Feature, factor: int) -> Feature:
        """Repeat every pixel ``factor`` times in both directions."""
        scales = self.graph.constant(np.asarray([1, 1, factor, factor], np.float32), f"upsample.{factor}")
        # The region of interest, unused here, may be left out since opset 13.
        region = "" if self.graph.opset >= 13 else self.graph.constant(np.zeros(0, np.float32), "upsample.region")
        return self._op(
            "Resize",
            x,
            region,
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    # ---- joining ----

    def add(self, a: Feature, b: Feature) -> Feature:
        """a + b."""
        return self._op("Add", a, b.name)

    def mul(self, a: Feature, b: Feature) -> Feature:
        """a * b, where b may be 1 x 1 in size."""
        return self._op("Mul", a, b.name)

    def concat(self, features: Sequence[Feature]) -> Feature:
        """Channels one after the other."""
        value = self.graph.op("Concat", *(f.name for f in features), name=_inner(features[0], "Concat"), axis=1)
        return Feature(value, sum(f.channels for f in features))

    def _op(self, op_type: str, x: Feature, *others: str, **attributes: Any) -> Feature:
        """A node that keeps the channels of ``x`` and has no arrays of its own."""
        return Feature(self.graph.op(op_type, x.name, *others, name=_inner(x, op_type), **attributes), x.channels)


def checked_size(options: BuildOptions, default: Pair, stride: int = 32) -> Pair:
    """(height, width) of the network input.

    Raises
    ------
    ArchitectureError
        If the size asked for is no positive multiple of the network's stride.
    """
    height, width = options.input_size or default
    if min(height, width) < stride or height % stride or width % stride:
        raise ArchitectureError(
            f"The input size {height} x {width} does not fit: height and width must be multiples of {stride}.",
            hint=f"This network was trained with --input-size {default[0]}x{default[1]}.",
        )
    return height, width


class _NoGraph(GraphBuilder):
    """Builds nothing, so that an architecture can be asked for its arrays at no cost."""

    def constant(self, array: npt.ArrayLike, name: str | None = None) -> str:
        return name or "constant"

    def op(self, op_type: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes: Any) -> Any:
        return op_type if outputs == 1 else tuple(f"{op_type}:{i}" for i in range(outputs))

    def build(self) -> onnx.ModelProto:
        return onnx.ModelProto()


def _pair(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def _inner(x: Feature, op_type: str) -> str:
    """Name of a node without arrays: the last layer that has some, then the operator."""
    return f"{x.name.partition('/')[0]}/{op_type}"
