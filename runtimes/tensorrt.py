"""TensorRT on Jetson and on PCs with an NVIDIA GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from .tensorrt_base import PlanRuntime

_JETPACK = (
    "TensorRT comes with JetPack (sudo apt install python3-libnvinfer); make the virtual environment with"
    " python3 -m venv --system-site-packages, so that it sees it."
)
_PC = (
    "Install TensorRT as NVIDIA's installation guide says (its libraries are in NVIDIA's own package index and apt"
    " repository, not on PyPI)."
)


class TensorRt(PlanRuntime):
    """Opens plans of TensorRT 8.5 and newer, and recipes for them."""

    name = "tensorrt"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"tensorrt": (".engine", ".plan", ".trt")})
    devices: Sequence[str] = ("jetson", "cuda")
    title = "TensorRT"
    modules: Sequence[str] = ("tensorrt",)
    remedies: Mapping[str, str] = MappingProxyType(
        {"jetson": _JETPACK, "cuda": _PC, "": f"On a Jetson: {_JETPACK} {_PC}"}
    )
