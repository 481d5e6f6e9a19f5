"""GluonCV's AlphaPose: FastPose on a squeeze-and-excite ResNet-101."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..spec import Crop
from .base import Arrays, BuildOptions, Network
from .blocks import upsample_block
from .contract import HEATMAPS, HeatmapContract
from .layers import GLUON_NORM, Feature, Layers, checked_size
from .resnet import ResNet, torch_names
from .shapes import Shapes, find_prefix

#: (height, width) that the published weights were evaluated with.
INPUT_SIZE = (320, 256)


def _contract() -> HeatmapContract:
    # These read like the ImageNet means in reverse order, and nothing is divided by a deviation: GluonCV applies them
    # to R, G, B exactly so (data/transforms/presets/alpha_pose.py), on the scale 0..1.
    return HeatmapContract(
        mean=(0.406 * 255, 0.457 * 255, 0.480 * 255), std=(255.0, 255.0, 255.0), fit=Crop(convention="alphapose")
    )


@dataclass(frozen=True)
class AlphaPose:
    """See :class:`.base.Family`."""

    name: str = "gluoncv_alpha_pose"
    description: str = "GluonCV AlphaPose FastPose (MXNet .params)"
    architectures: tuple[str, ...] = ("alpha_pose_resnet101_v1b_coco",)
    contract: HeatmapContract = field(default_factory=_contract)

    def recognise(self, arrays: Arrays) -> str | None:
        """The one architecture, if both the backbone and the upsampling blocks are there."""
        return self.architectures[0] if _prefix(arrays) is not None else None

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone, pixel shuffle, two upsampling blocks, heatmaps."""
        shapes = Shapes(arrays, _prefix(arrays) or "")
        joints = shapes.keypoints("conv_out")
        height, width = checked_size(options, INPUT_SIZE)

        net = Layers(architecture, arrays, options, GLUON_NORM, shapes.prefix)
        backbone = ResNet(101, torch_names("preact."))
        x = backbone.build(net, net.input(height, width), attend=lambda y, block: _squeeze_excite(net, y, block))
        x = net.pixel_shuffle(x)
        x = upsample_block(net, x, "duc1", 1024)
        x = upsample_block(net, x, "duc2", 512)
        net.output(net.conv(x, "conv_out", joints, 3, bias=True), HEATMAPS, height // 4, width // 4)
        return net.finish(self.contract.spec((height, width), joints))


def _squeeze_excite(net: Layers, x: Feature, block: str) -> Feature:
    y = net.relu(net.conv_dense(net.global_avg_pool(x), f"{block}.se.fc.0", x.channels))
    return net.mul(x, net.sigmoid(net.conv_dense(y, f"{block}.se.fc.2", x.channels)))


def _prefix(arrays: Arrays) -> str | None:
    """What stands before this family's names; None without backbone or upsampling blocks in MXNet's naming."""
    if find_prefix(arrays, r"preact\.layer\d\.\d+\.bn\d\.gamma$") is None:
        return None
    return find_prefix(arrays, r"duc[12]\.bn\.(?:gamma|running_mean)$")


FAMILIES = (AlphaPose(),)
