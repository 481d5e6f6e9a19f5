"""Proving that a graph still computes what it computed before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..errors import GraphError
from .draft import Draft
from .feeds import random_feeds, trials
from .running import Runner, Tensor

#: Largest difference allowed, as a part of the largest reference value of the output.  float32 has a relative
#: precision of 6e-8; rewriting changes the order of roundings, which in networks of 100 and more layers was seen to
#: add up to 3e-5 (FastPose with a ResNet-101).  A real mistake (a wrong epsilon, a lost bias) is above 1e-3.
RELATIVE_TOLERANCE = 1e-4
#: Differences up to this are rounding even where the output is near zero everywhere: inputs are of the order of 1.
ABSOLUTE_FLOOR = 1e-6

SEEDS = (0, 1)


@dataclass(frozen=True)
class Difference:
    """How far an output moved.

    Attributes
    ----------
    output
        Its name.
    largest
        Largest absolute difference of an element over all inputs that were tried.
    scale
        Largest absolute reference value over the same inputs.
    """

    output: str
    largest: float
    scale: float

    @property
    def relative(self) -> float:
        """Largest difference as a part of the largest reference value."""
        return self.largest / self.scale if self.scale else self.largest


@dataclass(frozen=True)
class Observation:
    """What a graph gave for some inputs: for each, the inputs and the outputs by name."""

    runs: tuple[tuple[Mapping[str, Tensor], Mapping[str, Tensor]], ...]


def observe(
    model: onnx.ModelProto | Draft,
    *,
    feeds: Sequence[Mapping[str, Tensor]] | None = None,
    seeds: tuple[int, ...] = SEEDS,
    what: str = "graph",
) -> Observation:
    """Run a graph and keep what it gave, to compare with :func:`agree` after the graph was changed.

    Parameters
    ----------
    model
        The graph.
    feeds
        Inputs; random ones, one for each of ``seeds``, if None.  Where batch and size are dynamic, random inputs have
        another batch and size for each seed.
    what
        What the graph is called in errors.

    Raises
    ------
    GraphError
        If it does not run.
    """
    message = model.model if isinstance(model, Draft) else model
    if feeds is None:
        feeds = [random_feeds(message, trial) for trial in trials(seeds)]
    runner = Runner(model, what)
    return Observation(tuple((feed, runner.run(feed)) for feed in feeds))


def agree(
    reference: Observation, model: onnx.ModelProto | Draft, what: str = "changed graph"
) -> tuple[Difference, ...]:
    """Run a graph on the same inputs and compare.

    Returns
    -------
    tuple of Difference
        One for each output.

    Raises
    ------
    GraphError
        If an output is missing, has another shape or type, or differs by more than :data:`RELATIVE_TOLERANCE` of the
        largest reference value.
    """
    found = observe(model, feeds=[feed for feed, _ in reference.runs], what=what)
    names = list(reference.runs[0][1])
    missing = [name for name in names if name not in found.runs[0][1]]
    if missing:
        raise GraphError(f"The {what} has lost the output {', '.join(map(repr, missing))}.")
    return tuple(
        difference(
            name, [(outs[name], now[name]) for (_, outs), (_, now) in zip(reference.runs, found.runs, strict=True)]
        )
        for name in names
    )


def compare(
    before: onnx.ModelProto | Draft,
    after: onnx.ModelProto | Draft,
    *,
    feeds: Sequence[Mapping[str, Tensor]] | None = None,
    seeds: tuple[int, ...] = SEEDS,
) -> tuple[Difference, ...]:
    """Run two graphs on the same inputs and compare what they give.

    Parameters
    ----------
    before, after
        The graphs; ``before`` is the reference.
    feeds, seeds
        As for :func:`observe`.

    Returns
    -------
    tuple of Difference
        One for each output of ``before``.

    Raises
    ------
    GraphError
        If one of them does not run, or they differ; the message names the output and says by how much.
    """
    return agree(observe(before, feeds=feeds, seeds=seeds, what="original graph"), after)


def difference(name: str, pairs: Sequence[tuple[Tensor, Tensor]]) -> Difference:
    """Compare pairs (reference, value) of one output.

    Raises
    ------
    GraphError
        If they differ by more than rounding.
    """
    largest = scale = 0.0
    for before, after in pairs:
        if before.shape != after.shape or before.dtype != after.dtype:
            raise GraphError(
                f"The output '{name}' was {before.dtype} {list(before.shape)}"
                f" and is now {after.dtype} {list(after.shape)}."
            )
        if before.dtype == np.bool_ or not np.issubdtype(before.dtype, np.number):
            if not np.array_equal(before, after):
                raise GraphError(f"The output '{name}' is not the same as before.")
            continue
        reference, value = before.astype(np.float64), after.astype(np.float64)
        finite = np.isfinite(reference)
        if (
            not np.array_equal(reference[~finite], value[~finite], equal_nan=True)
            or not np.isfinite(value[finite]).all()
        ):
            raise GraphError(f"The output '{name}' has other infinite values or NaNs than before.")
        if finite.any():
            largest = max(largest, float(np.abs(value[finite] - reference[finite]).max()))
            scale = max(scale, float(np.abs(reference[finite]).max()))
    allowed = max(RELATIVE_TOLERANCE * scale, ABSOLUTE_FLOOR)
    if largest > allowed:
        raise GraphError(
            f"The output '{name}' changed by up to {largest:.3g} (largest reference value {scale:.3g}); at most"
            f" {allowed:.3g} is rounding."
        )
    return Difference(name, largest, scale)
