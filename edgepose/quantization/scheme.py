"""How a target wants an INT8 graph, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Activations that a target may compute together with the layer before them.
ACTIVATIONS = (
    *("Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu"),
    *("Relu", "Sigmoid", "Softplus", "Tanh"),
)
#: Operators that carry the arithmetic; the ones between them follow their inputs.
LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Scheme:
    """The form of Q/DQ graph in which a target is right and fast.

    No single form is both everywhere, so each converter names its own in its attribute ``scheme``; the ranges behind
    them are the same.  Weights are always signed and symmetric: a zero point in the weights sends OpenVINO to float
    kernels, or to wrong numbers.

    Attributes
    ----------
    activations
        Element type of activations.
    symmetric
        Whether activations have the zero point 0; else only those that are never negative have it (``uint8``).
    per_channel
        Whether weights have one scale per output channel; else one per tensor.
    bias
        ``int32`` for a Q/DQ bias with scale input x weight, ``float`` where the target wants it left alone.
    deconvolution
        ``native`` quantises ConvTranspose; ``subpixel`` first rewrites it, exactly, as convolution and depth-to-space;
        ``float`` leaves it alone.
    operators
        Operators that may be computed in int8.
    fused
        Activations (and their products with their own input, as in SiLU) that are computed together with the layer
        before them, so that its result is quantised after them; behind others it is quantised before them as well.
    open_end
        Whether a layer may compute in int8 and give float, so that the last ones, whose results are outputs or are
        decoded, are quantised too; else these stay float.
    """

    activations: Literal["uint8", "int8"] = "uint8"
    symmetric: bool = False
    per_channel: bool = True
    bias: Literal["int32", "float"] = "int32"
    deconvolution: Literal["native", "subpixel", "float"] = "native"
    operators: frozenset[str] = field(default=LAYERS | {"Add", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"})
    fused: tuple[str, ...] = ACTIVATIONS
    open_end: bool = False
