"""GluonCV's MobilePose: a small backbone and three dense upsampling convolutions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from . import mobilenet
from .base import Arrays, BuildOptions, Network
from .blocks import upsample_block
from .contract import HEATMAPS, PERSON_CROP, HeatmapContract
from .fit import closest
from .layers import GLUON_NORM, Feature, Layers, checked_size
from .resnet import ResNet, gluon_names
from .shapes import Shapes, find_prefix

Backbone = Callable[[Layers, Feature], Feature]

# A slice of a classification network is itself a sequence, so its names have one more number than those of a ResNet,
# whose parts were added one by one.
_SLICE = "features.0."


def _resnet(depth: int) -> Backbone:
    return ResNet(depth, gluon_names("features.")).build


def _backbones() -> dict[str, Backbone]:
    return {
        "mobile_pose_resnet18_v1b": _resnet(18),
        "mobile_pose_resnet50_v1b": _resnet(50),
        "mobile_pose_mobilenet1.0": lambda net, x: mobilenet.mobilenet_v1(net, x, _SLICE),
        "mobile_pose_mobilenetv2_1.0": lambda net, x: mobilenet.mobilenet_v2(net, x, _SLICE),
        "mobile_pose_mobilenetv3_large": lambda net, x: mobilenet.mobilenet_v3_large(net, x, _SLICE),
        "mobile_pose_mobilenetv3_small": lambda net, x: mobilenet.mobilenet_v3_small(net, x, _SLICE),
    }


@dataclass(frozen=True)
class MobilePose:
    """See :class:`.base.Family`."""

    name: str = "gluoncv_mobile_pose"
    description: str = "GluonCV MobilePose (MXNet .params)"
    backbones: Mapping[str, Backbone] = field(default_factory=_backbones)
    contract: HeatmapContract = field(default_factory=HeatmapContract)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names that ``--architecture`` takes."""
        return tuple(self.backbones)

    def recognise(self, arrays: Arrays) -> str | None:
        """The backbone that fits best, if the head is there."""
        if _prefix(arrays) is None:
            return None
        return closest(self, self.architectures, arrays)

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone, 1x1 convolution, three upsampling blocks, heatmaps."""
        shapes = Shapes(arrays, _prefix(arrays) or "")
        joints = shapes.keypoints("upsampling.4")
        height, width = checked_size(options, PERSON_CROP)

        net = Layers(architecture, arrays, options, GLUON_NORM, shapes.prefix)
        x = self.backbones[architecture](net, net.input(height, width))
        x = net.conv(x, "upsampling.0", 256)
        for index, planes in enumerate((512, 256, 128), start=1):
            x = upsample_block(net, x, f"upsampling.{index}", planes)
        net.output(net.conv(x, "upsampling.4", joints), HEATMAPS, height // 4, width // 4)
        return net.finish(self.contract.spec((height, width), joints))


def _prefix(arrays: Arrays) -> str | None:
    return find_prefix(arrays, r"upsampling\.[123]\.(?:conv|bn)\.")


FAMILIES = (MobilePose(),)
