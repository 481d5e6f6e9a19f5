"""Simple baselines: a ResNet, a few transposed convolutions, heatmaps (Xiao et al., ECCV 2018).

One network, which many projects trained under names of their own and with habits of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from .base import Arrays, BuildOptions, Network
from .contract import HEATMAPS, PERSON_CROP, HeatmapContract
from .fit import closest
from .layers import Feature, Layers, NormNames, checked_size
from .resnet import ResNet
from .shapes import Shapes, find_prefix

DECONV_KERNELS = (2, 3, 4)
USUAL_DECONVS = ((256, 4, False),) * 3


@dataclass(frozen=True)
class HeadNames:
    """What a checkpoint calls the layers of the head.

    Attributes
    ----------
    deconv
        Transposed convolution and its normalisation; ``{i}`` is the number of the pair, ``{conv}`` and ``{norm}``
        the places of the two in a flat sequence of convolution, normalisation, ReLU.
    final
        The convolution to the heatmaps.
    """

    deconv: tuple[str, str] = ("deconv_layers.{conv}", "deconv_layers.{norm}")
    final: str = "final_layer"

    def pair(self, index: int) -> tuple[str, str]:
        """Names of transposed convolution and normalisation number ``index``."""
        conv, norm = (name.format(i=index, conv=3 * index, norm=3 * index + 1) for name in self.deconv)
        return conv, norm


@dataclass(frozen=True)
class Head:
    """The head as the shapes tell it: (width, kernel, bias) of each transposed convolution, then the last layer."""

    deconvs: tuple[tuple[int, int, bool], ...]
    kernel: int
    joints: int


@dataclass(frozen=True)
class DeconvPose:
    """One project's simple baselines.

    Attributes
    ----------
    name, description
        As in :class:`.base.Family`.
    backbones
        Architecture -> its ResNet.  Where two have the same names and shapes, the first one is recognised.
    heads
        Names of the head, the first one that is found.
    norm
        Names of the arrays of a batch normalisation.
    contract
        How the project trained them.
    """

    name: str
    description: str
    backbones: Mapping[str, ResNet]
    heads: tuple[HeadNames, ...]
    norm: NormNames
    contract: HeatmapContract

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names that ``--architecture`` takes."""
        return tuple(self.backbones)

    def recognise(self, arrays: Arrays) -> str | None:
        """The backbone that fits best, if the head is there under one of its names."""
        shapes = self._shapes(arrays)
        if shapes is None or not any(self._is_head(shapes, head) for head in self.heads):
            return None
        return closest(self, self.architectures, arrays)

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone, transposed convolutions, heatmaps."""
        backbone = self.backbones[architecture]
        shapes = self._shapes(arrays) or Shapes(arrays)
        names = next((h for h in self.heads if self._is_head(shapes, h)), self.heads[0])
        head = _read_head(shapes, names, self.norm)
        height, width = checked_size(options, PERSON_CROP)

        net = Layers(architecture, arrays, options, self.norm, shapes.prefix)
        x = backbone.build(net, net.input(height, width), backbone.widths(shapes, self.norm))
        x = _build_head(net, x, names, head)
        upscale = 2 ** len(head.deconvs)
        net.output(x, HEATMAPS, height // 32 * upscale, width // 32 * upscale)
        return net.finish(self.contract.spec((height, width), head.joints))

    def _shapes(self, arrays: Arrays) -> Shapes | None:
        """The arrays under this family's prefix; None if it has no backbone of this naming."""
        names = next(iter(self.backbones.values())).names
        stages = "|".join(map(re.escape, names.stages))
        leaves = f"{self.norm.scale}|{self.norm.mean}"
        prefix = find_prefix(arrays, rf"(?:{stages})\.\d+\.bn\d\.(?:{leaves})$")
        return None if prefix is None else Shapes(arrays, prefix)

    def _is_head(self, shapes: Shapes, head: HeadNames) -> bool:
        conv, norm = head.pair(0)
        return f"{conv}.weight" in shapes or f"{norm}.{self.norm.mean}" in shapes


def _read_head(shapes: Shapes, names: HeadNames, norm: NormNames) -> Head:
    deconvs: list[tuple[int, int, bool]] = []
    while True:
        conv, bn = names.pair(len(deconvs))
        places = [*((f"{bn}.{leaf}", 0) for leaf in (norm.mean, norm.variance, norm.scale, norm.shift))]
        places.append((f"{conv}.weight", 1))
        width = shapes.majority(places, 0)
        if not width:
            break
        kernel = shapes.length(f"{conv}.weight", 2)
        deconvs.append((width, kernel if kernel in DECONV_KERNELS else 4, f"{conv}.bias" in shapes))
    final_kernel = 3 if shapes.length(f"{names.final}.weight", 2) == 3 else 1
    return Head(tuple(deconvs) or USUAL_DECONVS, final_kernel, shapes.keypoints(names.final))


def _build_head(net: Layers, x: Feature, names: HeadNames, head: Head) -> Feature:
    for index, (width, kernel, bias) in enumerate(head.deconvs):
        conv, norm = names.pair(index)
        x = net.relu(net.norm(net.deconv(x, conv, width, kernel, bias=bias), norm))
    return net.conv(x, names.final, head.joints, head.kernel, bias=True)
