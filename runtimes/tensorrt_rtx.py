"""TensorRT for RTX: NVIDIA's GPUs for PCs and workstations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .tensorrt_base import PlanRuntime


class TensorRtRtx(PlanRuntime):
    """Opens engines of TensorRT-RTX, which any RTX GPU finishes for itself when they are loaded."""

    name = "tensorrt-rtx"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"tensorrt-rtx": (".rtx",)})
    devices: Sequence[str] = ("cuda",)
    title = "TensorRT-RTX"
    modules: Sequence[str] = ("tensorrt_rtx",)
    remedies: Mapping[str, str] = MappingProxyType({"": 'pip install "edgepose[tensorrt-rtx]"'})
    portable = True
