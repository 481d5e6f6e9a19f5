"""What every architecture family gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from ..graph.builder import DEFAULT_OPSET
from ..spec import PoseSpec
from .weights import Weights

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class BuildOptions:
    """How the graph is to be built.

    Attributes
    ----------
    input_size
        (height, width) in pixels; None for what the architecture was trained with.
    batch
        Batch size; None for a dynamic one.
    opset
        Version of the default operator set.
    """

    input_size: tuple[int, int] | None = None
    batch: int | None = None
    opset: int = DEFAULT_OPSET


@dataclass(frozen=True, eq=False)
class Network:
    """A built graph, its contract, and the books about the arrays it took."""

    graph: onnx.ModelProto
    spec: PoseSpec
    weights: Weights


class Family(Protocol):
    """Networks that differ in depth, width or head size only, and share their naming of arrays."""

    name: str
    #: Names that ``--architecture`` takes, each a fully determined network.
    architectures: Sequence[str]

    def recognise(self, arrays: Arrays) -> str | None:
        """The architecture that these arrays look like, by their names and shapes; None if not of this family."""
        ...

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Build the graph; arrays that do not fit are noted in ``Network.weights``, not raised."""
        ...
