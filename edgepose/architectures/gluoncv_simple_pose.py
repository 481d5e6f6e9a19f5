"""GluonCV's SimplePose: simple baselines in MXNet."""

from __future__ import annotations

from .contract import HeatmapContract
from .deconv_pose import DeconvPose, HeadNames
from .layers import GLUON_NORM
from .resnet import ResNet, gluon_names

_NAMES = gluon_names("resnet.")

FAMILIES = (
    DeconvPose(
        name="gluoncv_simple_pose",
        description="GluonCV SimplePose (MXNet .params)",
        backbones={
            **{f"simple_pose_resnet{depth}_v1b": ResNet(depth, _NAMES) for depth in (18, 50, 101, 152)},
            **{f"simple_pose_resnet{depth}_v1d": ResNet(depth, _NAMES, deep_stem=True) for depth in (50, 101, 152)},
        },
        heads=(HeadNames(),),
        norm=GLUON_NORM,
        contract=HeatmapContract(),
    ),
)
