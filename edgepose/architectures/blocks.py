"""Blocks that several families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from .layers import Feature, Layers

Activation = Literal["relu", "relu6", "hard_swish", "elu", "silu"]

#: Channels that leave a bottleneck, as a multiple of its planes.
BOTTLENECK_EXPANSION = 4


def activate(net: Layers, x: Feature, activation: Activation | None) -> Feature:
    """Apply an activation by name; None leaves ``x`` as it is."""
    if activation is None:
        return x
    function: Callable[[Feature], Feature] = getattr(net, activation)
    return function(x)


def conv_norm(
    net: Layers,
    x: Feature,
    conv: str,
    norm: str,
    out: int,
    kernel: int = 1,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
    activation: Activation | None = "relu",
) -> Feature:
    """Convolution, batch normalisation, activation; ``conv`` and ``norm`` are the full names of the two layers."""
    x = net.conv(x, conv, out, kernel, stride=stride, dilation=dilation, groups=groups, bias=bias)
    return activate(net, net.norm(x, norm), activation)


def basic_block(
    net: Layers, x: Feature, prefix: str, planes: int, *, stride: int = 1, shortcut: Feature | None = None
) -> Feature:
    """ResNet basic block: two 3x3 convolutions, the first with the stride.

    Parameters
    ----------
    prefix
        Name of the block; the layers are ``prefix.conv1``, ``prefix.bn1``, ``prefix.conv2``, ``prefix.bn2``.
    shortcut
        What is added before the last ReLU; ``x`` if None.
    """
    y = conv_norm(net, x, f"{prefix}.conv1", f"{prefix}.bn1", planes, 3, stride=stride)
    y = conv_norm(net, y, f"{prefix}.conv2", f"{prefix}.bn2", planes, 3, activation=None)
    return net.relu(net.add(y, x if shortcut is None else shortcut))


def bottleneck(
    net: Layers,
    x: Feature,
    prefix: str,
    planes: int,
    *,
    stride: int = 1,
    shortcut: Feature | None = None,
    stride_first: bool = False,
    attend: Callable[[Feature], Feature] | None = None,
) -> Feature:
    """ResNet bottleneck: 1x1, 3x3, 1x1 to four times the planes.

    Parameters
    ----------
    prefix
        Name of the block; the layers are ``prefix.conv1``, ``prefix.bn1`` ... ``prefix.bn3``.
    shortcut
        What is added before the last ReLU; ``x`` if None.
    stride_first
        The stride is on the first 1x1 convolution (Caffe) instead of the 3x3 one.
    attend
        Applied to the last convolution's output before the shortcut is added (squeeze and excite).
    """
    first, middle = (stride, 1) if stride_first else (1, stride)
    y = conv_norm(net, x, f"{prefix}.conv1", f"{prefix}.bn1", planes, stride=first)
    y = conv_norm(net, y, f"{prefix}.conv2", f"{prefix}.bn2", planes, 3, stride=middle)
    y = conv_norm(net, y, f"{prefix}.conv3", f"{prefix}.bn3", planes * BOTTLENECK_EXPANSION, activation=None)
    if attend is not None:
        y = attend(y)
    return net.relu(net.add(y, x if shortcut is None else shortcut))


def downsample(net: Layers, x: Feature, conv: str, norm: str, out: int, stride: int = 1) -> Feature:
    """The shortcut of a block that changes size or channels: strided 1x1 convolution and batch normalisation."""
    return conv_norm(net, x, conv, norm, out, stride=stride, activation=None)


def upsample_block(net: Layers, x: Feature, prefix: str, planes: int) -> Feature:
    """Dense upsampling convolution: 3x3 to ``planes`` channels, shuffled to a quarter of them at twice the size.

    The layers are ``prefix.conv`` and ``prefix.bn``.
    """
    return net.pixel_shuffle(conv_norm(net, x, f"{prefix}.conv", f"{prefix}.bn", planes, 3))
