"""PoseModel of the AIMET model zoo: an OpenPose network of separable filters, without batch normalisation.

Each k x k convolution of the CMU network is a pair of k x 1 and 1 x k convolutions with few channels in between and no
activation; the first of the pair has no bias.  Facts from quic/aimet-model-zoo,
aimet_zoo_torch/poseestimation/evaluators/pose_estimation_quanteval.py.

The contract is that project's "normal" size mode, 368 pixels high.  Its "fast" mode resizes without keeping the aspect
to 496 x 384 pixels (384 x 496 upright): that is the same graph with the fit ``Stretch(long_side=496, short_side=384)``.
"""

from __future__ import annotations

from dataclasses import dataclass

from .base import Arrays, BuildOptions, Network
from .layers import Feature, Layers
from .openpose_contract import HEATMAP_COUNT, PAF_COUNT, OpenPoseContract
from .shapes import find_prefix


@dataclass(frozen=True)
class Separable:
    """k x 1 convolution to ``middle`` channels, 1 x k convolution to ``out`` with bias, ReLU."""

    middle: int
    out: int
    kernel: int = 3


@dataclass(frozen=True)
class Plain:
    """Convolution with bias, and ReLU unless it is a head."""

    out: int
    kernel: int = 3
    relu: bool = True


class Pool:
    """Max pool that halves the size."""


Layer = Separable | Plain | Pool

BASE: tuple[Layer, ...] = (
    Plain(32),
    Separable(16, 32),
    Pool(),
    Separable(32, 64),
    Separable(32, 96),
    Pool(),
    Separable(80, 256),
    Separable(80, 256),
    Separable(48, 128),
    Separable(48, 256),
    Pool(),
    Separable(96, 512),
    Separable(192, 512),
)
PRE: tuple[Layer, ...] = (Separable(256, 256), Plain(128))
SHARED_1: tuple[Layer, ...] = (Separable(112, 128, 7), Separable(112, 128, 7))
SHARED_2: tuple[Layer, ...] = (Separable(128, 128, 7), Separable(112, 128, 7))


def _head(middles: tuple[int, int, int], out: int) -> tuple[Layer, ...]:
    return (*(Separable(middle, 128) for middle in middles), Plain(128, 1), Plain(out, 1, relu=False))


#: PAF branch, then heatmap branch, of both stages.
STAGE_1 = (_head((32, 32, 32), PAF_COUNT), _head((32, 32, 48), HEATMAP_COUNT))
STAGE_2 = (_head((32, 32, 32), PAF_COUNT), _head((32, 48, 48), HEATMAP_COUNT))

_CONTRACT = OpenPoseContract(
    variant="aimet", color="RGB", height=368, min_width=None, anchor="top-left", interpolation="cubic"
)


class AimetPose:
    """``aimet_pose``."""

    name = "aimet_pose"
    description = "PoseModel of the AIMET model zoo's pose_estimation (PyTorch)"
    architectures = ("aimet_pose",)

    def recognise(self, arrays: Arrays) -> str | None:
        """By the names of base and stages."""
        prefix = _prefix(arrays)
        if prefix is None or not any(name.startswith(f"{prefix}basemodel.") for name in arrays):
            return None
        return self.architectures[0]

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Base and two stages; the outputs are those of the second one."""
        net = Layers(architecture, arrays, options, prefix=_prefix(arrays) or "")
        x = _sequence(net, _CONTRACT.input(net, options), "basemodel", BASE)
        features = _sequence(net, x, "pre_stage", PRE)
        shared = _sequence(net, features, "stage1_shared", SHARED_1)
        pafs, heatmaps = (_sequence(net, shared, f"stage1_{i}", head) for i, head in enumerate(STAGE_1, start=1))
        shared = _sequence(net, net.concat([pafs, heatmaps, features]), "stage2_shared", SHARED_2)
        pafs, heatmaps = (_sequence(net, shared, f"stage2_{i}", head) for i, head in enumerate(STAGE_2, start=1))
        return _CONTRACT.finish(net, heatmaps, pafs, options)


FAMILIES = (AimetPose(),)


def _prefix(arrays: Arrays) -> str | None:
    return find_prefix(arrays, r"stage[12]_(?:shared|[12])\.")


def _sequence(net: Layers, x: Feature, name: str, layers: tuple[Layer, ...]) -> Feature:
    """The layers one after the other; in the names each activation counts as one."""
    index = 0
    for layer in layers:
        at = f"{name}.{index}"
        index += 1 if isinstance(layer, Pool) else 2
        if isinstance(layer, Pool):
            x = net.max_pool(x, kernel=2, stride=2, pads=(0, 0, 0, 0))
        elif isinstance(layer, Separable):
            x = net.conv(x, f"{at}.0", layer.middle, (layer.kernel, 1))
            x = net.relu(net.conv(x, f"{at}.1", layer.out, (1, layer.kernel), bias=True))
        else:
            x = net.conv(x, at, layer.out, layer.kernel, bias=True)
            x = net.relu(x) if layer.relu else x
    return x
