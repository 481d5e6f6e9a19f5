"""Simple baselines in PyTorch: the authors' own code (also in the HRNet repository) and mmpose."""

from __future__ import annotations

from .contract import HeatmapContract
from .deconv_pose import DeconvPose, HeadNames
from .layers import TORCH_NORM
from .resnet import ResNet, torch_names

_BARE = torch_names()
_MMPOSE = torch_names("backbone.")

FAMILIES = (
    DeconvPose(
        name="pose_resnet",
        description="Simple baselines of Microsoft's human-pose-estimation and of the HRNet repository (PyTorch)",
        backbones={
            **{f"pose_resnet{depth}": ResNet(depth, _BARE) for depth in (18, 34, 50, 101, 152)},
            # The authors' "caffe" style has the same names and shapes: only --architecture can ask for it.
            **{f"pose_resnet{depth}_caffe": ResNet(depth, _BARE, stride_first=True) for depth in (50, 101, 152)},
        },
        heads=(HeadNames(),),
        norm=TORCH_NORM,
        # OpenCV's BGR goes in as it is, and the statistics of R, G, B are applied to it by position.
        contract=HeatmapContract(color="BGR"),
    ),
    DeconvPose(
        name="mmpose_pose_resnet",
        description="mmpose's simple baselines, names of versions 0.x and 1.x (PyTorch)",
        backbones={f"mmpose_resnet{depth}": ResNet(depth, _MMPOSE) for depth in (18, 34, 50, 101, 152)},
        heads=tuple(
            HeadNames((f"{head}.deconv_layers.{{conv}}", f"{head}.deconv_layers.{{norm}}"), f"{head}.final_layer")
            for head in ("head", "keypoint_head")
        ),
        norm=TORCH_NORM,
        contract=HeatmapContract(decoding={"quarter_rule": "mmpose"}),
    ),
)
