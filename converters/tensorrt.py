"""TensorRT plans: built here where TensorRT and a GPU are, else on the device when they are loaded first."""

from __future__ import annotations

from collections.abc import Sequence

from .tensorrt_base import PlanConverter


class TensorRtConverter(PlanConverter):
    """Writes plans as TensorRT's own tools read them, or recipes for them."""

    name = "tensorrt"
    title = "TensorRT"
    options: Sequence[str] = (
        "min_batch", "opt_batch", "max_batch", "min_size", "opt_size", "max_size", "workspace", "timing_cache",
        "dla_core", "version_compatible", "hardware_compatible", "build",
    )  # fmt: skip
