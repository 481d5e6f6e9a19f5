"""Words for arrays that belong to no known architecture."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from .base import Arrays
from .resnet import BLOCKS


class _Kind(NamedTuple):
    #: Regular expressions; each must match one name at least.
    names: tuple[str, ...]
    words: str


_CLASSIFIER = r"(?:^|\.)(?:fc|classifier|head\.fc|output|head)(?:\.\d+)?\.(?:weight|bias)$"
_RESNET = r"layer[1-4]\.\d+\.(?:conv|bn)\d\."
_HRNET = r"stage[234]\.\d+\.branches\."
_DEPTHWISE = r"depthwise(?:_conv)?\.(?:conv\.)?weight$"
_POINTWISE = r"pointwise(?:_conv)?\.(?:conv\.)?weight$"
_EXPORTED = r"^(?:arg|aux):|^\w[\w-]*_(?:gamma|running_mean|moving_mean)$"

# The first that fits is what the arrays look like.
_KINDS = (
    _Kind((_EXPORTED,), "an exported MXNet network, whose graph is in its -symbol.json"),
    _Kind((r"(?:^|\.)incre_modules\.",), "an HRNet image classifier: a backbone only, without a pose head"),
    _Kind((_RESNET, _CLASSIFIER), "a ResNet{depth} image classifier: a backbone only, without a pose head"),
    _Kind((r"displacement_(?:fwd|bwd)\.", _DEPTHWISE), "PoseNet on MobileNet v1"),
    _Kind((_HRNET, r"(?:^|\.)final_layers\.\d"), "HigherHRNet, which finds all people at once"),
    _Kind((_HRNET,), "an HRNet"),
    _Kind((_DEPTHWISE, _POINTWISE), "a MobileNet v1"),
    _Kind((r"attn\.qkv\.weight$", r"blocks\.\d+\."), "a vision transformer"),
    _Kind((r"(?:^|\.)model\.\d+\.(?:cv|m\.)", r"\.dfl\.conv\.weight$"), "an Ultralytics YOLO"),
    _Kind((_RESNET,), "a ResNet{depth}"),
    _Kind((_CLASSIFIER,), "an image classifier"),
)


def looks_like(arrays: Arrays) -> str | None:
    """What kind of network has such names, in a few words; None if that cannot be told."""
    for kind in _KINDS:
        patterns = [re.compile(p) for p in kind.names]
        if all(any(p.search(name) for name in arrays) for p in patterns):
            return kind.words.replace("{depth}", _resnet_depth(arrays))
    return None


def _resnet_depth(arrays: Arrays) -> str:
    """``-50`` for a ResNet-50; empty if the number of blocks belongs to none."""
    blocks: dict[str, set[str]] = {}
    for name in arrays:
        if found := re.search(r"(layer\d+)\.(\d+)\.(?:conv|bn)\d\.", name):
            blocks.setdefault(found[1], set()).add(found[2])
    counts = Counter(len(b) for b in blocks.values())
    deep = any(re.search(r"\.conv3\.", name) for name in arrays)
    for depth, stages in BLOCKS.items():
        if counts == Counter(stages) and (depth >= 50) == deep:
            return f"-{depth}"
    return ""
