"""Simple baselines in MindSpore, in three dialects.

They differ in names, in the padding of the max pool after the stem, in channel order and statistics.  Sources:
mindspore-ai/models research/cv/simple_pose and research/cv/simple_baselines; mindspore-lab/mindpose.
"""

from __future__ import annotations

from .contract import IMAGENET_MEAN, HeatmapContract
from .deconv_pose import DeconvPose, HeadNames
from .layers import MINDSPORE_NORM
from .resnet import MINDSPORE_POOL, ResNet, torch_names

_DEPTHS = (50, 101, 152)
_SIMPLE_POSE = torch_names(shortcut="down_sample_layer")
_SIMPLE_BASELINES = torch_names()
_MINDPOSE = torch_names("backbone.", shortcut="down_sample")

#: Both older projects feed OpenCV's BGR with the statistics of R, G, B by position.
_OPENCV = HeatmapContract(color="BGR")

FAMILIES = (
    DeconvPose(
        name="mindspore_simple_pose",
        description="MindSpore model zoo simple_pose (max pool padded as MindSpore does)",
        backbones={
            f"mindspore_simple_pose_resnet{depth}": ResNet(depth, _SIMPLE_POSE, pool=MINDSPORE_POOL)
            for depth in _DEPTHS
        }
        | {
            # Trained with pytorch_mode=True: same names and shapes, only --architecture can ask for it.
            f"mindspore_simple_pose_resnet{depth}_torch_pool": ResNet(depth, _SIMPLE_POSE)
            for depth in _DEPTHS
        },
        heads=(HeadNames(("deconv_layers.deconv_{i}.deconv", "deconv_layers.deconv_{i}.bn")),),
        norm=MINDSPORE_NORM,
        contract=_OPENCV,
    ),
    DeconvPose(
        name="mindspore_simple_baselines",
        description="MindSpore model zoo simple_baselines (max pool padded as PyTorch does)",
        backbones={f"mindspore_simple_baselines_resnet{depth}": ResNet(depth, _SIMPLE_BASELINES) for depth in _DEPTHS},
        heads=(HeadNames(),),
        norm=MINDSPORE_NORM,
        contract=_OPENCV,
    ),
    DeconvPose(
        name="mindpose_simple_baseline",
        description="mindpose simple baseline (MindSpore)",
        backbones={f"mindpose_resnet{depth}": ResNet(depth, _MINDPOSE, pool=MINDSPORE_POOL) for depth in _DEPTHS},
        heads=(HeadNames(("head.deconv_layer.{conv}", "head.deconv_layer.{norm}"), "head.final_layer"),),
        norm=MINDSPORE_NORM,
        # The third standard deviation really is 0.255 x 255 in mindpose's configurations.
        contract=HeatmapContract(
            mean=IMAGENET_MEAN, std=(58.395, 57.12, 65.025), decoding={"quarter_rule": "mindpose"}
        ),
    ),
)
