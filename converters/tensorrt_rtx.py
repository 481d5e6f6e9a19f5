"""TensorRT for RTX: engines that are built on any machine, without a GPU, and finished by the GPU that loads them."""

from __future__ import annotations

from collections.abc import Sequence

from .tensorrt_base import PlanConverter


class TensorRtRtxConverter(PlanConverter):
    """Writes engines of TensorRT-RTX; the element types are those of the graph.

    It takes options that it then ignores (timing cache, DLA) or cannot carry out (other versions, other GPUs: every
    engine runs on any RTX GPU anyway); it has none of them here.
    """

    name = "tensorrt-rtx"
    title = "TensorRT-RTX"
    engine = "model.rtx"
    options: Sequence[str] = (
        "min_batch", "opt_batch", "max_batch", "min_size", "opt_size", "max_size", "workspace",
    )  # fmt: skip
    late = False
