"""Lightweight OpenPose (Osokin, 2018): a dilated MobileNet, one initial and one or more refinement stages.

Facts from Daniil-Osokin/lightweight-human-pose-estimation.pytorch, models/with_mobilenet.py and modules/conv.py.  Each
stage gives 19 heatmaps (the last one is the background) and 38 channels of part affinity fields at stride 8; those of
the last stage are the network's outputs.
"""

from __future__ import annotations

from .base import Arrays, BuildOptions, Network
from .blocks import conv_norm
from .layers import Feature, Layers
from .openpose_contract import HEATMAP_COUNT, PAF_COUNT, OpenPoseContract
from .shapes import find_prefix

#: The backbone after its first convolution: channels, stride and dilation of each depthwise-separable pair.
BACKBONE = (
    (64, 1, 1),
    (128, 2, 1),
    (128, 1, 1),
    (256, 2, 1),
    (256, 1, 1),
    (512, 1, 1),
    (512, 1, 2),
    (512, 1, 1),
    (512, 1, 1),
    (512, 1, 1),
    (512, 1, 1),
)
FIRST = 32
WIDTH = 128
#: Between the trunk of the initial stage and its maps.
INITIAL_HIDDEN = 512

#: Architecture -> refinement stages.  One is what the authors run, also with weights that were trained with three.
STAGES = {"lightweight_openpose": 1, "lightweight_openpose_2": 2, "lightweight_openpose_3": 3}

#: 368 pixels high and at least as wide, as in the authors' validation: their demo's 256 loses a quarter of the AP.
#: Bilinear on grey levels as in the demo: bicubic after normalising, as they validate, gains nothing.
_CONTRACT = OpenPoseContract(
    variant="lightweight", color="BGR", height=368, min_width=368, anchor="center", interpolation="linear"
)


class LightweightOpenPose:
    """``lightweight_openpose`` with one refinement stage, ``_2`` and ``_3`` with more."""

    name = "lightweight_openpose"
    description = "Lightweight OpenPose, 1 to 3 refinement stages (PyTorch)"
    architectures = tuple(STAGES)

    def recognise(self, arrays: Arrays) -> str | None:
        """By the names of the stages; as many refinement stages as there are, at most three."""
        prefix = _prefix(arrays)
        if prefix is None or not any(name.startswith(f"{prefix}cpm.") for name in arrays):
            return None
        stages = sum(
            any(name.startswith(_refinement(prefix, i)) for name in arrays) for i in range(max(STAGES.values()))
        )
        return next((name for name, count in STAGES.items() if count == stages), self.architectures[0])

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Backbone and stages; refinement stages beyond those of the architecture are left aside."""
        prefix = _prefix(arrays) or ""
        net = Layers(architecture, arrays, options, prefix=prefix)
        features = _features(net, _CONTRACT.input(net, options))
        heatmaps, pafs = _initial_stage(net, features)
        stages = STAGES[architecture]
        for stage in range(stages):
            heatmaps, pafs = _refinement_stage(net, stage, features, heatmaps, pafs)
        used = tuple(_refinement(prefix, stage) for stage in range(stages))
        deeper = (n for n in arrays if n.startswith(_refinement(prefix)) and not n.startswith(used))
        net.weights.leave(deeper, f"refinement stage beyond those of '{architecture}'")
        return _CONTRACT.finish(net, heatmaps, pafs, options)


FAMILIES = (LightweightOpenPose(),)


def _prefix(arrays: Arrays) -> str | None:
    return find_prefix(arrays, r"(?:initial_stage|refinement_stages\.\d+)\.trunk\.")


def _refinement(prefix: str, stage: int | None = None) -> str:
    return f"{prefix}refinement_stages." + ("" if stage is None else f"{stage}.")


def _features(net: Layers, x: Feature) -> Feature:
    """Backbone and the layers that narrow it to 128 channels."""
    x = conv_norm(net, x, "model.0.0", "model.0.1", FIRST, 3, stride=2)
    for index, (out, stride, dilation) in enumerate(BACKBONE, start=1):
        name = f"model.{index}"
        x = conv_norm(
            net, x, f"{name}.0", f"{name}.1", x.channels, 3, stride=stride, dilation=dilation, groups=x.channels
        )
        x = conv_norm(net, x, f"{name}.3", f"{name}.4", out)
    x = net.relu(net.conv(x, "cpm.align.0", WIDTH, bias=True))
    y = x
    for index in range(3):
        y = net.elu(net.conv(y, f"cpm.trunk.{index}.0", WIDTH, 3, groups=WIDTH))
        y = net.elu(net.conv(y, f"cpm.trunk.{index}.2", WIDTH))
    return net.relu(net.conv(net.add(x, y), "cpm.conv.0", WIDTH, 3, bias=True))


def _initial_stage(net: Layers, x: Feature) -> tuple[Feature, Feature]:
    for index in range(3):
        x = net.relu(net.conv(x, f"initial_stage.trunk.{index}.0", WIDTH, 3, bias=True))
    return _maps(net, x, "initial_stage", INITIAL_HIDDEN)


def _refinement_stage(
    net: Layers, stage: int, features: Feature, heatmaps: Feature, pafs: Feature
) -> tuple[Feature, Feature]:
    name = f"refinement_stages.{stage}"
    x = net.concat([features, heatmaps, pafs])
    for index in range(5):
        block = f"{name}.trunk.{index}"
        x = net.relu(net.conv(x, f"{block}.initial.0", WIDTH, bias=True))
        # These convolutions have a bias although batch normalisation follows.
        y = conv_norm(net, x, f"{block}.trunk.0.0", f"{block}.trunk.0.1", WIDTH, 3, bias=True)
        y = conv_norm(net, y, f"{block}.trunk.1.0", f"{block}.trunk.1.1", WIDTH, 3, dilation=2, bias=True)
        x = net.add(x, y)
    return _maps(net, x, name, WIDTH)


def _maps(net: Layers, x: Feature, name: str, hidden: int) -> tuple[Feature, Feature]:
    """Heatmaps and part affinity fields."""
    maps = []
    for kind, count in (("heatmaps", HEATMAP_COUNT), ("pafs", PAF_COUNT)):
        y = net.relu(net.conv(x, f"{name}.{kind}.0.0", hidden, bias=True))
        maps.append(net.conv(y, f"{name}.{kind}.1.0", count, bias=True))
    return maps[0], maps[1]
