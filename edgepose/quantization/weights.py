"""Int8 weights and int32 biases: their scales and their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError

Float = npt.NDArray[np.float32]

#: Largest magnitude of a weight; -128 is left out, so that the negative of each weight is a weight too.
LARGEST = 127
#: Scales below 2**-62 are raised to it: the product of two of them is still a normal float32, and what is so small is
#: zero beside everything else.
SMALLEST_SCALE = 2.0**-62
#: Biases stay below 2**30, so that adding the sum of products does not overflow int32.
LARGEST_BIAS = 2.0**30


@dataclass(frozen=True)
class IntWeights:
    """Weights of a layer as integers.

    Attributes
    ----------
    values
        int8, of the shape of the float weights.
    scales
        float32; one number, or one for each channel along ``axis``.
    axis
        Axis of the output channels; None if there is one scale for all.
    """

    values: npt.NDArray[np.int8]
    scales: Float
    axis: int | None

    def dequantised(self) -> Float:
        """The weights that a runtime computes with, float32."""
        return np.asarray(self.values * along(self.scales, self.axis, self.values.ndim), np.float32)


def channel_axis(op_type: str, *, transposed: bool = False, groups: int = 1, shape: tuple[int, ...] = ()) -> int | None:
    """Axis of the output channels of a layer's weights; None if they have none of their own.

    Parameters
    ----------
    op_type
        ``Conv``, ``ConvTranspose``, ``Gemm`` or ``MatMul``.
    transposed
        Attribute ``transB`` of Gemm.
    groups
        Attribute ``group`` of ConvTranspose.
    shape
        Of the weights of a ConvTranspose with groups: where each group makes one channel of one, its inputs' axis is
        its outputs' as well.
    """
    if op_type == "Conv" or (op_type == "Gemm" and transposed):
        return 0
    if op_type == "ConvTranspose" and groups > 1:
        return 0 if shape[:2] == (groups, 1) else None
    return 1


def weight_scales(weights: npt.NDArray[Any], axis: int | None) -> Float:
    """Scales that express the largest weight as 127.

    Parameters
    ----------
    weights
        Float weights of a layer.
    axis
        Axis of the output channels, as :func:`channel_axis` gives it; None for one scale for all.

    Returns
    -------
    ndarray of float32
        Of shape (), or (channels,); channels of zeros have the scale 1 / 127.

    Raises
    ------
    InputError
        If a weight is not finite.
    """
    others = None if axis is None else tuple(a for a in range(weights.ndim) if a != axis)
    largest = np.abs(weights).max(axis=others, initial=0.0)
    if not np.isfinite(largest).all():
        raise InputError("Weights of the network are not finite; it cannot be quantised.")
    scales = np.where(largest == 0, 1.0, largest).astype(np.float64) / LARGEST
    return np.asarray(np.maximum(scales, SMALLEST_SCALE), np.float32)


def quantise_weights(
    weights: npt.NDArray[Any], axis: int | None, scales: Float | None = None, rounding: npt.NDArray[Any] | None = None
) -> IntWeights:
    """Weights as int8.

    Parameters
    ----------
    weights
        Float weights of a layer.
    axis
        Axis of the output channels; None for one scale for all.
    scales
        Scales to use; those of :func:`weight_scales` by default.
    rounding
        Integers for these scales to use instead of the nearest.

    Raises
    ------
    InputError
        If ``rounding`` has another shape, or is no array of integers from -127 to 127.
    """
    scales = weight_scales(weights, axis) if scales is None else scales
    if rounding is None:
        values = np.rint(weights.astype(np.float64) / along(scales, axis, weights.ndim))
    else:
        check_rounding(rounding, weights.shape)
        values = rounding.astype(np.float64)
    return IntWeights(np.clip(values, -LARGEST, LARGEST).astype(np.int8), scales, axis)


def check_rounding(rounding: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Refuse what are no int8 weights of this shape.

    Raises
    ------
    InputError
        If it has another shape, or is no array of integers from -127 to 127.
    """
    if rounding.shape != shape:
        raise InputError(f"The rounded weights have the shape {list(rounding.shape)}, not {list(shape)}.")
    if not np.issubdtype(rounding.dtype, np.integer) or np.abs(rounding.astype(np.int64)).max(initial=0) > LARGEST:
        raise InputError(f"The rounded weights must be integers from -{LARGEST} to {LARGEST}.")


def scales_for_bias(scales: Float, bias: npt.NDArray[Any] | None, input_scale: float) -> Float:
    """Weight scales, raised where the bias in units of input scale x weight scale would not fit into int32."""
    if bias is None:
        return scales
    needed = np.abs(bias.astype(np.float64)) / (input_scale * LARGEST_BIAS)
    needed = np.broadcast_to(needed, scales.shape) if scales.ndim else needed.max(initial=0.0)
    return np.asarray(np.where(needed > scales, needed * (1 + 2.0**-20), scales), np.float32)


def quantise_bias(bias: npt.NDArray[Any], scales: Float, input_scale: float) -> tuple[npt.NDArray[np.int32], Float]:
    """Bias as int32, and its scales: the input's x the weights', as runtimes demand it."""
    units = (np.float32(input_scale) * scales).astype(np.float32)
    values = np.rint(bias.astype(np.float64) / units)
    limit = np.iinfo(np.int32).max
    return np.clip(values, -limit, limit).astype(np.int32), units


def along(scales: npt.NDArray[Any], axis: int | None, rank: int) -> npt.NDArray[Any]:
    """Per-channel numbers, shaped to multiply an array of this rank."""
    return scales if axis is None else scales.reshape([-1 if a == axis else 1 for a in range(rank)])
