"""ResNet backbones, in the naming of each framework.

Deep residual learning (He et al., 2016) with the stride on the 3x3 convolution ("v1b"); "v1d" is the bag-of-tricks
variant (He et al., 2019) with three 3x3 convolutions as stem and an average pool in the shortcuts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .blocks import BOTTLENECK_EXPANSION, basic_block, bottleneck, conv_norm
from .layers import Feature, Layers, NormNames
from .shapes import Shapes

#: Blocks in each of the four stages.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

Pads = tuple[int, int, int, int]
TORCH_POOL: Pads = (1, 1, 1, 1)
#: ``pad_mode='same'`` of MindSpore on an even size: the odd pixel of padding is at the bottom and right.
MINDSPORE_POOL: Pads = (0, 0, 1, 1)

#: Applied to the last convolution's output of the block that is named, before the shortcut is added.
Attend = Callable[[Feature, str], Feature]


@dataclass(frozen=True)
class Widths:
    """Channels of the stem, and planes of the four stages."""

    stem: int = 64
    planes: tuple[int, ...] = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetNames:
    """What a checkpoint calls the layers of a ResNet.

    Attributes
    ----------
    stem
        Convolution and normalisation at the start; the convolutions of a deep stem are numbered below its name.
    stages
        Prefixes of the four stages.
    shortcut
        Sequence of a block's shortcut: convolution 0 and normalisation 1, or 1 and 2 behind an average pool.
    """

    stem: tuple[str, str]
    stages: tuple[str, ...]
    shortcut: str = "downsample"


def torch_names(prefix: str = "", shortcut: str = "downsample") -> ResNetNames:
    """The naming of torchvision, which most frameworks took over."""
    return ResNetNames((f"{prefix}conv1", f"{prefix}bn1"), tuple(f"{prefix}layer{i}" for i in range(1, 5)), shortcut)


def gluon_names(prefix: str) -> ResNetNames:
    """The naming of GluonCV's pose networks, where the backbone is one flat sequence."""
    return ResNetNames((f"{prefix}0", f"{prefix}1"), tuple(f"{prefix}{i}" for i in range(4, 8)))


@dataclass(frozen=True)
class ResNet:
    """One ResNet without its classifier; stride 32.

    Attributes
    ----------
    depth
        18 and 34 have basic blocks, 50, 101 and 152 bottlenecks.
    names
        What the checkpoint calls its layers.
    deep_stem
        Three 3x3 convolutions instead of one 7x7, and average-pooled shortcuts (v1d).
    stride_first
        The stride of a bottleneck is on its first 1x1 convolution, as in Caffe.
    pool
        Padding of the max pool.
    """

    depth: int
    names: ResNetNames
    deep_stem: bool = False
    stride_first: bool = False
    pool: Pads = TORCH_POOL

    def build(self, net: Layers, x: Feature, widths: Widths | None = None, attend: Attend | None = None) -> Feature:
        """Add the backbone; ``attend`` is called in the blocks that have a shortcut convolution."""
        widths = widths or Widths()
        x = net.max_pool(self._stem(net, x, widths.stem), pads=self.pool)
        for stage, (prefix, planes) in enumerate(zip(self.names.stages, widths.planes, strict=True)):
            for index in range(BLOCKS[self.depth][stage]):
                first = index == 0
                x = self._block(net, x, f"{prefix}.{index}", planes, 2 if first and stage else 1, first, attend)
        return x

    def widths(self, shapes: Shapes, norm: NormNames) -> Widths:
        """Widths by the shapes of the normalisations.

        Each is read from many arrays, so that one mis-shaped array is found out instead of being believed.
        """
        leaves = (norm.scale, norm.shift, norm.mean, norm.variance)
        default = Widths()
        stem = shapes.majority(((f"{self.names.stem[1]}.{leaf}", 0) for leaf in leaves), default.stem)
        planes = tuple(
            shapes.majority(((f"{stage}.{i}.bn1.{leaf}", 0) for i in range(blocks) for leaf in leaves), usual)
            for stage, blocks, usual in zip(self.names.stages, BLOCKS[self.depth], default.planes, strict=True)
        )
        return Widths(stem, planes)

    def _stem(self, net: Layers, x: Feature, width: int) -> Feature:
        conv, norm = self.names.stem
        if not self.deep_stem:
            return conv_norm(net, x, conv, norm, width, 7, stride=2)
        x = conv_norm(net, x, f"{conv}.0", f"{conv}.1", width // 2, 3, stride=2)
        x = conv_norm(net, x, f"{conv}.3", f"{conv}.4", width // 2, 3)
        return conv_norm(net, x, f"{conv}.6", norm, width, 3)

    def _block(
        self, net: Layers, x: Feature, prefix: str, planes: int, stride: int, first: bool, attend: Attend | None
    ) -> Feature:
        basic = self.depth < 50
        out = planes if basic else planes * BOTTLENECK_EXPANSION
        changes = first and (stride != 1 or x.channels != out)
        shortcut = self._shortcut(net, x, prefix, out, stride) if changes else x
        if basic:
            return basic_block(net, x, prefix, planes, stride=stride, shortcut=shortcut)
        return bottleneck(
            net,
            x,
            prefix,
            planes,
            stride=stride,
            shortcut=shortcut,
            stride_first=self.stride_first,
            attend=(lambda y: attend(y, prefix)) if attend is not None and changes else None,
        )

    def _shortcut(self, net: Layers, x: Feature, prefix: str, out: int, stride: int) -> Feature:
        sequence = f"{prefix}.{self.names.shortcut}"
        if not self.deep_stem:
            return conv_norm(net, x, f"{sequence}.0", f"{sequence}.1", out, stride=stride, activation=None)
        if stride != 1:
            x = net.avg_pool(x, stride, stride)
        return conv_norm(net, x, f"{sequence}.1", f"{sequence}.2", out, activation=None)
