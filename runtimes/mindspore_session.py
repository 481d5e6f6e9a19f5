"""Sessions of MindSpore and MindSpore Lite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from edgepose.errors import DeviceError
from edgepose.plugins import Tensor, TensorInfo

from .feeds import check_feeds
from .mindir_ports import Ports


class Engine(Protocol):
    """A loaded MindIR file, here or in another process."""

    def run(self, arrays: list[Tensor]) -> list[Tensor]:
        """Run once; raises DeviceError."""
        ...

    def close(self) -> None:
        """Release it; may be called twice."""
        ...


class MindSporeSession:
    """A loaded MindIR file.

    It is run once when it is opened, with zeros: that compiles it, and tells the shapes of its outputs.

    Parameters
    ----------
    engine
        What runs it.
    path
        The file, for errors.
    ports
        What the file calls its inputs and outputs.
    placement
        See :class:`edgepose.plugins.Session`.

    Raises
    ------
    DeviceError
        If it does not run.
    """

    def __init__(self, engine: Engine, path: str, ports: Ports, placement: str) -> None:
        self._engine: Engine | None = engine
        self._path = path
        self.placement = placement
        self.inputs: Sequence[TensorInfo] = ports.inputs
        first = engine.run([np.zeros([d or 1 for d in i.shape], i.dtype) for i in ports.inputs])
        names = ports.outputs if len(ports.outputs) == len(first) else [f"output{i}" for i in range(len(first))]
        self.outputs: Sequence[TensorInfo] = tuple(
            TensorInfo(name, a.shape, a.dtype.name) for name, a in zip(names, first, strict=True)
        )

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        if self._engine is None:
            raise DeviceError(f"The session of '{self._path}' is closed.")
        check_feeds(self._path, self.inputs, feeds)
        results = self._engine.run([feeds[i.name] for i in self.inputs])
        shapes = [(a.shape, a.dtype.name) for a in results]
        if shapes != [(o.shape, o.dtype) for o in self.outputs]:
            raise DeviceError(f"'{self._path}' gave outputs of other shapes than before: {shapes}.")
        return {o.name: a for o, a in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def fixed_inputs(path: str, ports: Ports) -> list[dict[str, Any]]:
    """The inputs of a file, as plain data.

    Raises
    ------
    DeviceError
        If one has no fixed size or an unknown element type.
    """
    for info in ports.inputs:
        if info.dtype == "unknown" or not all(info.shape):
            raise DeviceError(f"The input '{info.name}' of '{path}' has no fixed size or an unknown element type.")
    return [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in ports.inputs]
