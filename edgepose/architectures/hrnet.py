"""HRNet for top-down pose estimation: the original repository, mmpose and MindPose.

Deep High-Resolution Representation Learning (Sun et al., CVPR 2019).  Four parallel branches of strides 4, 8, 16 and 32
with widths W, 2W, 4W and 8W exchange features after every module; the heatmaps come from the finest branch.  All three
projects train the same network and number its layers alike; they differ in prefixes, in the head's name and, in
MindSpore, in what batch normalisations and shortcuts are called.  Input sizes are multiples of 32.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .base import Arrays, BuildOptions, Network
from .blocks import basic_block, bottleneck, conv_norm, downsample
from .contract import HEATMAPS, IMAGENET_MEAN, PERSON_CROP, HeatmapContract
from .layers import MINDSPORE_NORM, TORCH_NORM, Feature, Layers, NormNames, checked_size
from .shapes import Shapes, find_prefix

#: Modules in stages 2, 3 and 4, and blocks of every branch of a module.
MODULES = (1, 4, 3)
BLOCKS = 4
#: Channels of the two strided convolutions at the start, also the planes of the four bottlenecks after them.
STEM = 64

_WIDTHS = (32, 48)
_LEAVES = ("weight", "bias")


@dataclass(frozen=True)
class HRNet:
    """One project's HRNets.

    Attributes
    ----------
    name, description
        As in :class:`.base.Family`.
    stem
        Architectures are this with the width behind it.
    backbone
        Prefix of all layers but the head.
    heads
        Names of the last convolution, the first one that is found.
    contract
        How the project trained them.
    shortcut
        Name of the shortcut in the first bottleneck, below the block's name.
    norm
        Names of the arrays of a batch normalisation.
    """

    name: str
    description: str
    stem: str
    backbone: str
    heads: tuple[str, ...]
    contract: HeatmapContract
    shortcut: str = "downsample"
    norm: NormNames = TORCH_NORM

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names that ``--architecture`` takes."""
        return tuple(f"{self.stem}_w{width}" for width in _WIDTHS)

    def recognise(self, arrays: Arrays) -> str | None:
        """By the names of branches and head; the width is that of the finest branch."""
        shapes = self._shapes(arrays)
        if shapes is None or not any(self._is_head(shapes, head) for head in self.heads):
            return None
        first = (f"{self.backbone}stage{s}.0.branches.0.{b}.conv1.weight" for s in (2, 3, 4) for b in range(BLOCKS))
        width = shapes.majority(((name, 0) for name in first), 0)
        return f"{self.stem}_w{width}" if width in _WIDTHS else None

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone and heatmaps; the number of keypoints is read from the head."""
        shapes = self._shapes(arrays) or Shapes(arrays)
        head = next((h for h in self.heads if self._is_head(shapes, h)), self.heads[0])
        joints = shapes.keypoints(head)
        height, width = checked_size(options, PERSON_CROP)

        net = Layers(architecture, arrays, options, self.norm, shapes.prefix)
        x = _features(net, net.input(height, width), self, _WIDTHS[self.architectures.index(architecture)])
        net.output(net.conv(x, head, joints, bias=True), HEATMAPS, height // 4, width // 4)
        return net.finish(self.contract.spec((height, width), joints))

    def _shapes(self, arrays: Arrays) -> Shapes | None:
        """The arrays under the prefix of a wrapper; None if there is no backbone of this naming."""
        prefix = find_prefix(arrays, rf"{re.escape(self.backbone)}stage[234]\.\d+\.branches\.")
        return None if prefix is None else Shapes(arrays, prefix)

    def _is_head(self, shapes: Shapes, head: str) -> bool:
        return any(f"{head}.{leaf}" in shapes for leaf in _LEAVES)


FAMILIES = (
    HRNet(
        name="pose_hrnet",
        description="HRNet of the authors' own repository (PyTorch)",
        stem="pose_hrnet",
        backbone="",
        heads=("final_layer",),
        # Unlike the pose_resnet configurations of the same repository, these turn OpenCV's BGR into RGB.
        contract=HeatmapContract(),
    ),
    HRNet(
        name="mmpose_hrnet",
        description="mmpose's HRNet, names of versions 0.x and 1.x (PyTorch)",
        stem="mmpose_hrnet",
        backbone="backbone.",
        heads=("head.final_layer", "keypoint_head.final_layer"),
        contract=HeatmapContract(decoding={"quarter_rule": "mmpose"}),
    ),
    HRNet(
        name="mindpose_hrnet",
        description="mindpose HRNet (MindSpore)",
        stem="mindpose_hrnet",
        backbone="backbone.",
        heads=("head.head",),
        # The third standard deviation really is 0.255 x 255 in mindpose's configurations.
        contract=HeatmapContract(
            mean=IMAGENET_MEAN, std=(58.395, 57.12, 65.025), decoding={"quarter_rule": "mindpose"}
        ),
        shortcut="down_sample",
        norm=MINDSPORE_NORM,
    ),
)


def _features(net: Layers, x: Feature, names: HRNet, width: int) -> Feature:
    """The finest branch after the last module: stride 4, ``width`` channels."""
    at = names.backbone
    x = conv_norm(net, x, f"{at}conv1", f"{at}bn1", STEM, 3, stride=2)
    x = conv_norm(net, x, f"{at}conv2", f"{at}bn2", STEM, 3, stride=2)
    for block in range(BLOCKS):
        prefix = f"{at}layer1.{block}"
        shortcut = None
        if block == 0:
            short = f"{prefix}.{names.shortcut}"
            shortcut = downsample(net, x, f"{short}.0", f"{short}.1", 4 * STEM)
        x = bottleneck(net, x, prefix, STEM, shortcut=shortcut)

    branches = [x]
    for stage, modules in enumerate(MODULES, start=2):
        branches = _transition(net, branches, f"{at}transition{stage - 1}", width)
        for module in range(modules):
            prefix = f"{at}stage{stage}.{module}"
            branches = [_branch(net, b, f"{prefix}.branches.{i}") for i, b in enumerate(branches)]
            last = stage == len(MODULES) + 1 and module == modules - 1
            rows = 1 if last else len(branches)
            branches = [_fuse(net, branches, f"{prefix}.fuse_layers", row) for row in range(rows)]
    return branches[0]


def _transition(net: Layers, branches: list[Feature], prefix: str, width: int) -> list[Feature]:
    """One branch more, at half the size of the coarsest; a branch that already has its channels goes through."""
    result = []
    for i in range(len(branches) + 1):
        channels = width << i
        if i >= len(branches):
            name = f"{prefix}.{i}.0"
            result.append(conv_norm(net, branches[-1], f"{name}.0", f"{name}.1", channels, 3, stride=2))
        elif branches[i].channels != channels:
            name = f"{prefix}.{i}"
            result.append(conv_norm(net, branches[i], f"{name}.0", f"{name}.1", channels, 3))
        else:
            result.append(branches[i])
    return result


def _branch(net: Layers, x: Feature, prefix: str) -> Feature:
    for block in range(BLOCKS):
        x = basic_block(net, x, f"{prefix}.{block}", x.channels)
    return x


def _fuse(net: Layers, branches: list[Feature], prefix: str, row: int) -> Feature:
    """The sum of all branches at the size of branch ``row``, then ReLU."""
    target = branches[row].channels
    terms = []
    for column, branch in enumerate(branches):
        name = f"{prefix}.{row}.{column}"
        if column > row:  # coarser: fewer channels, then enlarged
            x = conv_norm(net, branch, f"{name}.0", f"{name}.1", target, activation=None)
            terms.append(net.upsample(x, 1 << (column - row)))
        elif column == row:
            terms.append(branch)
        else:  # finer: halved step by step; the last step widens and has no ReLU
            x = branch
            for step in range(row - column):
                last = step == row - column - 1
                out = target if last else branch.channels
                x = conv_norm(
                    net,
                    x,
                    f"{name}.{step}.0",
                    f"{name}.{step}.1",
                    out,
                    3,
                    stride=2,
                    activation=None if last else "relu",
                )
            terms.append(x)
    total = terms[0]
    for term in terms[1:]:
        total = net.add(total, term)
    return net.relu(total)
