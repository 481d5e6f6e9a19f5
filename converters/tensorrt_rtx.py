"""TensorRT for RTX: engines that are built on any machine, without a GPU, and finished by the GPU that loads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepose.model import PoseModel
from edgepose.plugins import Conversion

from .tensorrt_base import PlanConverter

_NOT_RUN = "Built by NVIDIA's own builder, not run on hardware; check it there: edgepose verify."


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

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`; for the options :class:`.tensorrt_options.BuildOptions`."""
        done = super().convert(model, folder, precision, options)
        return dataclasses.replace(done, notes=(*done.notes, _NOT_RUN))
