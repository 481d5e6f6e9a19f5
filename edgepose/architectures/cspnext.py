"""CSPNeXt, the backbone of RTMDet and RTMPose, in the naming of mmpose and mmdet.

RTMDet (Lyu et al., 2022), arch "P5": a stem of three 3x3 convolutions and four stages, each a strided convolution and a
cross-stage-partial layer; the last stage pools at three sizes in between.  Every convolution has no bias, batch
normalisation and SiLU, the depthwise ones included.  Facts from mmpose/models/backbones/cspnext.py and csp_darknet.py,
mmpose/models/backbones/utils/csp_layer.py and mmdet/models/layers/se_layer.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from .blocks import conv_norm
from .layers import Feature, Layers

#: Channels of the stem and of the four stages, and blocks of the stages, both at factor 1.
CHANNELS = (64, 128, 256, 512, 1024)
BLOCKS = (3, 6, 6, 3)
STRIDE = 32


@dataclass(frozen=True)
class CSPNeXt:
    """One CSPNeXt.

    Attributes
    ----------
    deepen, widen
        Factors on the number of blocks and on the channels.
    """

    deepen: float
    widen: float

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the stem and of the four stages."""
        return tuple(int(c * self.widen) for c in CHANNELS)

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks of the four stages."""
        return tuple(max(round(b * self.deepen), 1) for b in BLOCKS)

    def build(self, net: Layers, x: Feature, prefix: str) -> Feature:
        """The last stage's features, at stride 32; ``prefix`` stands before all names."""
        stem, *widths = self.channels
        x = _conv(net, x, f"{prefix}stem.0", stem // 2, 3, stride=2)
        x = _conv(net, x, f"{prefix}stem.1", stem // 2, 3)
        x = _conv(net, x, f"{prefix}stem.2", stem, 3)
        for stage, (width, blocks) in enumerate(zip(widths, self.blocks, strict=True), start=1):
            name = f"{prefix}stage{stage}"
            last = stage == len(widths)
            x = _conv(net, x, f"{name}.0", width, 3, stride=2)
            if last:
                x = _pyramid_pool(net, x, f"{name}.1")
            x = _partial(net, x, f"{name}.{2 if last else 1}", blocks, identity=not last)
        return x


def _conv(
    net: Layers, x: Feature, name: str, out: int, kernel: int = 1, *, stride: int = 1, groups: int = 1
) -> Feature:
    """Convolution ``name.conv``, batch normalisation ``name.bn``, SiLU."""
    return conv_norm(net, x, f"{name}.conv", f"{name}.bn", out, kernel, stride=stride, groups=groups, activation="silu")


def _pyramid_pool(net: Layers, x: Feature, name: str) -> Feature:
    """Max pools of 5, 9 and 13 pixels beside the features themselves.

    Pooling 5 pixels twice is pooling 9 once, and three times 13: the same numbers for less work, and no window that is
    too large for a small accelerator.
    """
    out = x.channels
    levels = [_conv(net, x, f"{name}.conv1", out // 2)]
    for _ in range(3):
        levels.append(net.max_pool(levels[-1], kernel=5, stride=1, pads=(2, 2, 2, 2)))
    return _conv(net, net.concat(levels), f"{name}.conv2", out)


def _partial(net: Layers, x: Feature, name: str, blocks: int, *, identity: bool) -> Feature:
    """Half of the channels goes through the blocks, half around them; then channel attention on both together."""
    half = x.channels // 2
    around = _conv(net, x, f"{name}.short_conv", half)
    main = _conv(net, x, f"{name}.main_conv", half)
    for block in range(blocks):
        main = _block(net, main, f"{name}.blocks.{block}", identity=identity)
    joined = net.concat([main, around])
    attention = net.conv(net.global_avg_pool(joined), f"{name}.attention.fc", joined.channels, bias=True)
    # torch's Hardsigmoid: slope 1/6.
    return _conv(net, net.mul(joined, net.hard_sigmoid(attention)), f"{name}.final_conv", x.channels)


def _block(net: Layers, x: Feature, name: str, *, identity: bool) -> Feature:
    """3x3 convolution, then 5x5 depthwise and pointwise; nothing comes after the addition."""
    y = _conv(net, x, f"{name}.conv1", x.channels, 3)
    y = _conv(net, y, f"{name}.conv2.depthwise_conv", x.channels, 5, groups=x.channels)
    y = _conv(net, y, f"{name}.conv2.pointwise_conv", x.channels)
    return net.add(x, y) if identity else y
