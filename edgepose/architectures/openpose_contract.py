"""The PoseSpec of networks that find everybody at once, as heatmaps and part affinity fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ArchitectureError
from ..keypoints import OPENPOSE_18
from ..spec import Anchor, Color, DecoderSpec, FixedHeight, InputSpec, Interpolation, PoseSpec
from .base import BuildOptions, Network
from .contract import HEATMAPS, INPUT
from .layers import Feature, Layers

PAFS = "pafs"
#: 18 keypoints and the background.
HEATMAP_COUNT = len(OPENPOSE_18) + 1
#: x and y of 19 limbs.
PAF_COUNT = 38
STRIDE = 8
#: Both networks see (pixel - 128) / 256, and padding of this grey, which then is zero.
GREY = 128.0
RANGE = 256.0


@dataclass(frozen=True)
class OpenPoseContract:
    """How a family was trained to see a picture, and how its maps are read.

    Attributes
    ----------
    variant
        Whose decoding rules the network goes with.
    color
        Channel order.
    height, min_width, anchor, interpolation
        As in :class:`~edgepose.spec.FixedHeight`.
    """

    variant: Literal["lightweight", "aimet"]
    color: Color
    height: int
    min_width: int | None
    anchor: Anchor
    interpolation: Interpolation

    def input(self, net: Layers, options: BuildOptions) -> Feature:
        """The picture input: of dynamic size unless one is asked for.

        Raises
        ------
        ArchitectureError
            If a side of the size asked for is no multiple of the stride.
        """
        if options.input_size is None:
            return net.input("height", "width", INPUT)
        height, width = options.input_size
        if min(height, width) < STRIDE or height % STRIDE or width % STRIDE:
            raise ArchitectureError(
                f"The input size {height} x {width} does not fit: height and width must be multiples of {STRIDE}.",
                hint="Without --input-size the network takes any such size.",
            )
        return net.input(height, width, INPUT)

    def finish(self, net: Layers, heatmaps: Feature, pafs: Feature, options: BuildOptions) -> Network:
        """Declare the two outputs and close the network."""
        for maps, name in ((heatmaps, HEATMAPS), (pafs, PAFS)):
            if options.input_size is None:
                net.output(maps, name, "map_height", "map_width")
            else:
                net.output(maps, name, *(side // STRIDE for side in options.input_size))
        return net.finish(self._spec(options.input_size))

    def _spec(self, size: tuple[int, int] | None) -> PoseSpec:
        height, width = size or (None, None)
        # With a fixed size the picture fills the network's height, or its width if that is the tighter limit.
        least = self.min_width if width is None else None
        fit = FixedHeight(height or self.height, STRIDE, least, self.anchor, GREY, self.interpolation)
        return PoseSpec(
            input=InputSpec(
                name=INPUT,
                height=height,
                width=width,
                fit=fit,
                color=self.color,
                mean=(GREY, GREY, GREY),
                std=(RANGE, RANGE, RANGE),
            ),
            decoder=DecoderSpec("openpose", {HEATMAPS: HEATMAPS, PAFS: PAFS}, {"variant": self.variant}),
            keypoints=OPENPOSE_18,
        )
