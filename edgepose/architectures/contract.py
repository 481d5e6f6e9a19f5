"""The PoseSpec of networks that find one person's keypoints as heatmaps in a crop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..keypoints import COCO_17, COCO_WHOLEBODY_133, HALPE_26, KeypointSet
from ..spec import Color, Crop, DecoderSpec, InputSpec, PoseSpec

#: Statistics of the ImageNet pictures in R, G, B on the scale 0..255 (torchvision, MXNet, mmpose).
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

#: Input size (height, width) of the COCO person crop in the SimpleBaseline lineage.
PERSON_CROP = (256, 192)

INPUT = "input"
HEATMAPS = "heatmaps"

_KNOWN_SETS = {len(s): s for s in (COCO_17, HALPE_26, COCO_WHOLEBODY_133)}


@dataclass(frozen=True)
class HeatmapContract:
    """How a family was trained to see a person, and how its heatmaps are read.

    Attributes
    ----------
    color, mean, std, fit
        As in :class:`~edgepose.spec.InputSpec`.
    decoding
        Options of the heatmap decoder where they differ from its defaults.
    """

    color: Color = "RGB"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fit: Crop = field(default_factory=Crop)
    decoding: dict[str, Any] = field(default_factory=dict)

    def spec(self, size: tuple[int, int], joints: int) -> PoseSpec:
        """The PoseSpec for an input size (height, width) in pixels and a number of keypoints."""
        height, width = size
        return PoseSpec(
            input=InputSpec(
                name=INPUT, height=height, width=width, fit=self.fit, color=self.color, mean=self.mean, std=self.std
            ),
            decoder=DecoderSpec("heatmap", {HEATMAPS: HEATMAPS}, self.decoding),
            keypoints=keypoint_set(joints),
        )


def keypoint_set(count: int) -> KeypointSet:
    """The known set with this many keypoints, or a nameless one.

    Arrays tell how many keypoints there are, not which: a set that was retrained in another order needs its own spec.
    """
    if count in _KNOWN_SETS:
        return _KNOWN_SETS[count]
    return KeypointSet(name=f"unnamed{count}", names=tuple(f"keypoint_{i}" for i in range(count)))
