"""MobileNet backbones in GluonCV's naming, without their classifiers; stride 32.

V1 (Howard et al., 2017), V2 (Sandler et al., 2018), V3 (Howard et al., 2019), all at width 1.0.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from .blocks import Activation, conv_norm
from .layers import Feature, Layers


def mobilenet_v1(net: Layers, x: Feature, prefix: str) -> Feature:
    """Thirteen pairs of depthwise and pointwise convolution; 1024 channels leave."""
    plan = (
        (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
        (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1),
    )  # fmt: skip
    x = conv_norm(net, x, f"{prefix}0", f"{prefix}1", 32, 3, stride=2)
    for block, (out, stride) in enumerate(plan):
        # A block is six entries of the sequence: convolution, normalisation and ReLU, twice.
        first = 3 + 6 * block
        x = conv_norm(
            net, x, f"{prefix}{first}", f"{prefix}{first + 1}", x.channels, 3, stride=stride, groups=x.channels
        )
        x = conv_norm(net, x, f"{prefix}{first + 3}", f"{prefix}{first + 4}", out)
    return x


def mobilenet_v2(net: Layers, x: Feature, prefix: str) -> Feature:
    """Seventeen inverted residuals; 1280 channels leave."""
    # Expansion, channels, repeats, stride of the first one.
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    x = conv_norm(net, x, f"{prefix}0", f"{prefix}1", 32, 3, stride=2, activation="relu6")
    index = 3
    for expansion, out, repeats, stride in plan:
        for repeat in range(repeats):
            x = _inverted_residual(net, x, f"{prefix}{index}.out", expansion, out, stride if repeat == 0 else 1)
            index += 1
    return conv_norm(net, x, f"{prefix}{index}", f"{prefix}{index + 1}", 1280, activation="relu6")


class _Unit(NamedTuple):
    kernel: int
    hidden: int
    out: int
    excite: bool
    activation: Literal["relu", "hard_swish"]
    stride: int


_LARGE = (
    _Unit(3, 16, 16, False, "relu", 1),
    _Unit(3, 64, 24, False, "relu", 2),
    _Unit(3, 72, 24, False, "relu", 1),
    _Unit(5, 72, 40, True, "relu", 2),
    _Unit(5, 120, 40, True, "relu", 1),
    _Unit(5, 120, 40, True, "relu", 1),
    _Unit(3, 240, 80, False, "hard_swish", 2),
    _Unit(3, 200, 80, False, "hard_swish", 1),
    _Unit(3, 184, 80, False, "hard_swish", 1),
    _Unit(3, 184, 80, False, "hard_swish", 1),
    _Unit(3, 480, 112, True, "hard_swish", 1),
    _Unit(3, 672, 112, True, "hard_swish", 1),
    _Unit(5, 672, 160, True, "hard_swish", 2),
    _Unit(5, 960, 160, True, "hard_swish", 1),
    _Unit(5, 960, 160, True, "hard_swish", 1),
)
_SMALL = (
    _Unit(3, 16, 16, True, "relu", 2),
    _Unit(3, 72, 24, False, "relu", 2),
    _Unit(3, 88, 24, False, "relu", 1),
    _Unit(5, 96, 40, True, "hard_swish", 2),
    _Unit(5, 240, 40, True, "hard_swish", 1),
    _Unit(5, 240, 40, True, "hard_swish", 1),
    _Unit(5, 120, 48, True, "hard_swish", 1),
    _Unit(5, 144, 48, True, "hard_swish", 1),
    _Unit(5, 288, 96, True, "hard_swish", 2),
    _Unit(5, 576, 96, True, "hard_swish", 1),
    _Unit(5, 576, 96, True, "hard_swish", 1),
)


def mobilenet_v3_large(net: Layers, x: Feature, prefix: str) -> Feature:
    """Fifteen units; 960 channels leave."""
    return _mobilenet_v3(net, x, prefix, _LARGE, 960)


def mobilenet_v3_small(net: Layers, x: Feature, prefix: str) -> Feature:
    """Eleven units; 576 channels leave."""
    return _mobilenet_v3(net, x, prefix, _SMALL, 576)


def _mobilenet_v3(net: Layers, x: Feature, prefix: str, units: tuple[_Unit, ...], out: int) -> Feature:
    x = conv_norm(net, x, f"{prefix}0", f"{prefix}1", 16, 3, stride=2, activation="hard_swish")
    for index, unit in enumerate(units, start=3):
        x = _unit(net, x, f"{prefix}{index}", unit)
    last = 3 + len(units)
    return conv_norm(net, x, f"{prefix}{last}", f"{prefix}{last + 1}", out, activation="hard_swish")


def _inverted_residual(net: Layers, x: Feature, prefix: str, expansion: int, out: int, stride: int) -> Feature:
    y, index, hidden = x, 0, x.channels * expansion
    if expansion != 1:
        y = conv_norm(net, y, f"{prefix}.0", f"{prefix}.1", hidden, activation="relu6")
        index = 3
    y = conv_norm(
        net,
        y,
        f"{prefix}.{index}",
        f"{prefix}.{index + 1}",
        hidden,
        3,
        stride=stride,
        groups=hidden,
        activation="relu6",
    )
    y = conv_norm(net, y, f"{prefix}.{index + 3}", f"{prefix}.{index + 4}", out, activation=None)
    return net.add(y, x) if stride == 1 and x.channels == out else y


def _unit(net: Layers, x: Feature, prefix: str, unit: _Unit) -> Feature:
    y = x
    if unit.hidden != unit.out:
        y = _named_conv(net, y, f"{prefix}.expand", unit.hidden, activation=unit.activation)
    y = _named_conv(
        net, y, f"{prefix}.conv1", unit.hidden, unit.kernel, unit.stride, unit.hidden, activation=unit.activation
    )
    if unit.excite:
        y = _squeeze_excite(net, y, f"{prefix}.se")
    y = _named_conv(net, y, f"{prefix}.conv2", unit.out, activation=None)
    return net.add(y, x) if unit.stride == 1 and x.channels == unit.out else y


def _named_conv(
    net: Layers,
    x: Feature,
    prefix: str,
    out: int,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    activation: Activation | None,
) -> Feature:
    return conv_norm(
        net, x, f"{prefix}.conv", f"{prefix}.bn", out, kernel, stride=stride, groups=groups, activation=activation
    )


def _squeeze_excite(net: Layers, x: Feature, prefix: str) -> Feature:
    # A quarter of the channels, rounded up to a multiple of eight.
    squeezed = -(-(x.channels // 4) // 8) * 8
    y = net.relu(net.conv(net.global_avg_pool(x), f"{prefix}.conv1", squeezed, bias=True))
    y = net.hard_sigmoid(net.conv(y, f"{prefix}.conv2", x.channels, bias=True))
    return net.mul(x, y)
