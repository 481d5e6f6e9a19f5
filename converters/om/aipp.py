"""AIPP: the image unit in front of a network swaps channels and normalises, so that the engine takes raw pixels."""

from __future__ import annotations

import dataclasses

from edgepose.errors import ConversionError
from edgepose.graph.embed_input import check_input
from edgepose.spec import InputSpec

#: Largest value of its parameters, which are of half precision.
_LARGEST = 65504.0


def configuration(spec: InputSpec) -> str:
    """The file for ``--insert_op_conf``: uint8 N x H x W x BGR in, what the network wants out.

    The unit computes ``(pixel - mean_chn - min_chn) * var_reci_chn``, channel by channel and after swapping them, in
    half precision.  ``mean_chn`` are whole numbers, so that the mean goes into ``min_chn``.

    Raises
    ------
    ConversionError
        If this network's input cannot be made of raw pixels in this way.
    GraphError
        If its pixels are no whole grey levels.
    """
    check_input(spec)
    if (spec.layout, spec.dtype) != ("NCHW", "float32"):
        raise ConversionError(
            f"The image unit gives float NCHW, and '{spec.name}' is {spec.dtype} {spec.layout}.",
            hint="Leave 'pre' out of --embed, or leave the option 'aipp' out.",
        )
    if spec.height is None or spec.width is None:
        raise ConversionError(
            "The image unit is set up for one size, and the network's input has none.",
            hint="Give it with --input-size HxW, or leave the option 'aipp' out.",
        )
    scales = [1 / s for s in spec.std]
    if not all(0 <= m <= 255 for m in spec.mean) or max(scales) > _LARGEST:
        raise ConversionError(
            f"The image unit takes means of 0 to 255; those of '{spec.name}' are {spec.mean}.",
            hint="Leave the option 'aipp' out.",
        )
    lines = [
        "aipp_mode: static",
        "related_input_rank: 0",
        "input_format: RGB888_U8",
        f"src_image_size_w: {spec.width}",
        f"src_image_size_h: {spec.height}",
        "csc_switch: false",
        # What is fed is BGR, whatever the format is called; swapping makes it RGB.
        f"rbuv_swap_switch: {'true' if spec.color == 'RGB' else 'false'}",
        *(f"mean_chn_{i}: 0" for i in range(3)),
        *(f"min_chn_{i}: {mean:.9g}" for i, mean in enumerate(spec.mean)),
        *(f"var_reci_chn_{i}: {scale:.9g}" for i, scale in enumerate(scales)),
    ]
    return "aipp_op {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def raw(spec: InputSpec) -> InputSpec:
    """The contract of the engine: pixels as they are."""
    return dataclasses.replace(
        spec, layout="NHWC", dtype="uint8", color="BGR", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)
    )
