"""TensorRT plans: built here where TensorRT and a GPU are, else on the device when they are loaded first."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepose.model import PoseModel
from edgepose.plugins import Conversion

from .tensorrt_base import PlanConverter

_NOT_RUN = "Not run on hardware: no GPU has run what this version of edgepose builds; check it there: edgepose verify."


class TensorRtConverter(PlanConverter):
    """Writes plans as TensorRT's own tools read them, or recipes for them."""

    name = "tensorrt"
    title = "TensorRT"
    options: Sequence[str] = (
        "min_batch", "opt_batch", "max_batch", "min_size", "opt_size", "max_size", "workspace", "timing_cache",
        "dla_core", "version_compatible", "hardware_compatible", "build",
    )  # fmt: skip

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`; for the options :class:`.tensorrt_options.BuildOptions`."""
        done = super().convert(model, folder, precision, options)
        return dataclasses.replace(done, notes=(*done.notes, _NOT_RUN))
