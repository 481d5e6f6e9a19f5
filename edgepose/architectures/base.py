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
    books_only
        Only note which arrays are taken: the graph stays empty, at no cost in memory.
    """

    input_size: tuple[int, int] | None = None
    batch: int | None = None
    opset: int = DEFAULT_OPSET
    books_only: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """A built graph, its contract, and the books about the arrays it took."""

    graph: onnx.ModelProto
    spec: PoseSpec
    weights: Weights


class Family(Protocol):
    """Networks that differ in depth, width or head size only, and share their naming of arrays.

    A module of this package lists its families in a tuple ``FAMILIES``.
    """

    @property
    def name(self) -> str:
        """Short name, ``hrnet`` for instance."""
        ...

    @property
    def description(self) -> str:
        """One line that says where checkpoints of this family come from."""
        ...

    @property
    def architectures(self) -> Sequence[str]:
        """Names that ``--architecture`` takes, each a fully determined network."""
        ...

    def recognise(self, arrays: Arrays) -> str | None:
        """The architecture that these arrays look like, by their names and shapes; None if not of this family.

        A few missing or mis-shaped arrays do not matter: building tells which they are.
        """
        ...

    def build(self, architecture: str, arrays: Arrays, options: BuildOptions) -> Network:
        """Build the graph; arrays that do not fit are noted in ``Network.weights``, not raised.

        Building through :class:`.layers.Layers` keeps to ``options.books_only``.
        """
        ...
