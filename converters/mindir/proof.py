"""Running a written file wherever it can be run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgepose import plugins
from edgepose.devices import Device
from edgepose.errors import ConversionError, DeviceError
from edgepose.graph.feeds import Trial, random_feeds
from edgepose.graph.running import Runner

Tensor = npt.NDArray[Any]

#: What engines differ by that compute the same in another order, as a share of the largest output.
_RELATIVE, _ABSOLUTE = 1e-4, 1e-5
#: Where elements are selected, two that are almost equal may change places; this share of the outputs may be others.
_SELECTED = 0.1
_SELECTING = frozenset(("ArgMax", "TopK", "Where"))
_SEED = 11


@dataclass(frozen=True)
class Run:
    """How a file ran.

    Attributes
    ----------
    placement
        What ran it.
    difference
        Largest difference from the reference.
    largest
        Largest absolute value of the reference.
    """

    placement: str
    difference: float
    largest: float

    def __str__(self) -> str:
        return f"Executed by {self.placement}: largest difference {self.difference:.1e} of {self.largest:.3g}."


def prove(engine: Path, reference: onnx.ModelProto, runtimes: tuple[str, ...]) -> list[Run]:
    """Run a file in those of the runtimes that are here, and compare it with ONNX Runtime on random inputs.

    Parameters
    ----------
    engine
        The file.
    reference
        The graph that it was made of.
    runtimes
        Names of the runtimes that must be able to run it.

    Raises
    ------
    ConversionError
        If one that is here refuses it, or gives something else.
    """
    feeds = random_feeds(reference, Trial(_SEED, 1, (0, 0)))
    wanted: dict[str, Tensor] | None = None
    runs = []
    for name in runtimes:
        if name not in plugins.runtimes():
            continue
        runtime = plugins.runtime(name)
        if not runtime.probe().available:
            continue
        wanted = wanted or Runner(reference, "graph").run(feeds)
        try:
            session = runtime.open(engine, Device("cpu"), {})
            try:
                placement, given = session.placement, session.run(feeds)
            finally:
                session.close()
        except DeviceError as error:
            raise ConversionError(f"{name} does not run the file: {error.message}", hint=error.hint) from error
        runs.append(_compare(placement, wanted, given, any(n.op_type in _SELECTING for n in reference.graph.node)))
    return runs


def _compare(placement: str, wanted: dict[str, Tensor], given: dict[str, Tensor], selects: bool) -> Run:
    worst = largest = 0.0
    for name, expected in wanted.items():
        actual = given.get(name)
        if actual is None or actual.shape != expected.shape or actual.dtype != expected.dtype:
            found = "nothing" if actual is None else f"{actual.dtype.name} {list(actual.shape)}"
            raise ConversionError(
                f"{placement} gives {found} for '{name}', which is {expected.dtype.name} {list(expected.shape)}."
            )
        reference = expected.astype(np.float64)
        difference = np.abs(actual.astype(np.float64) - reference)
        size = float(np.abs(reference).max(initial=0))
        wrong = ~(difference <= _ABSOLUTE + _RELATIVE * size)
        if wrong.mean() > (_SELECTED if selects else 0):
            raise ConversionError(
                f"{placement} computes something else: '{name}' differs by {difference.max():.3g} of {size:.3g},"
                f" in {wrong.mean():.1%} of its elements."
            )
        worst, largest = max(worst, float(difference.max(initial=0))), max(largest, size)
    return Run(placement, worst, largest)
