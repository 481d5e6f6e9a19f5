"""Named arrays -> ONNX graph and PoseSpec.  One file a family; :mod:`.registry` knows them all."""

from .base import BuildOptions, Family, Network
from .fit import Fit
from .registry import architectures, build_network, examine, families, identify

__all__ = [
    "BuildOptions",
    "Family",
    "Fit",
    "Network",
    "architectures",
    "build_network",
    "examine",
    "families",
    "identify",
]
