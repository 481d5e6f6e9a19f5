"""Changing batch and size, with the proof that the graph still computes the same."""

from __future__ import annotations

import numpy as np

from ...errors import GraphError
from ..check import Observation, agree, difference, observe
from ..draft import Draft
from ..feeds import Trial, random_feeds, real_inputs
from ..inference import shape_of
from ..running import Runner
from .size import change_batch, change_input_size, has_batch, has_input_size, picture_input

_SEED = 7


def rebatch(draft: Draft, batch: int | None) -> int:
    """As :func:`~edgepose.graph.passes.size.change_batch`; then every sample must give what it gave alone.

    Raises
    ------
    GraphError
        If the graph does not take the batch, or its samples influence each other.
    """
    if has_batch(draft.graph, batch):
        return 0
    sizes = {(shape_of(value) or (None,))[0] for value in real_inputs(draft.graph)}
    fixed = [size for size in sizes if isinstance(size, int)]
    if len(fixed) > 1:
        raise GraphError(f"The inputs have different batch sizes: {', '.join(map(str, sorted(fixed)))}.")
    old, new = fixed[0] if fixed else 1, batch or 2
    # Two different pictures, in turn: enough to see samples that are mixed up.
    samples = [
        {name: array[:1] for name, array in random_feeds(draft.model, Trial(_SEED + i, old, (64, 96))).items()}
        for i in range(min(2, new))
    ]
    order = [i % 2 for i in range(new)]
    runner = Runner(draft, "original graph")
    alone = [runner.run({name: np.repeat(array, old, axis=0) for name, array in sample.items()}) for sample in samples]
    change_batch(draft, batch)
    runner = Runner(draft, "graph with another batch")
    together = runner.run({name: np.concatenate([samples[i][name] for i in order]) for name in samples[0]})
    for name, value in together.items():
        single = [alone[i][name] for i in order]
        if not value.ndim or not single[0].ndim or len(value) * old != len(single[0]) * new:
            raise GraphError(f"The output '{name}' of shape {list(value.shape)} does not grow with the batch.")
        difference(name, [(s[: len(s) // old], v) for s, v in zip(single, np.split(value, new), strict=True)])
    return 1


def resize_input(draft: Draft, size: tuple[int, int] | None) -> int:
    """As :func:`~edgepose.graph.passes.size.change_input_size`; the results are compared wherever both graphs run.

    Between two fixed sizes there is nothing to compare; then heatmap-like outputs (rank 4) must grow with the input.

    Raises
    ------
    GraphError
        If the graph works for its own size only.
    """
    if has_input_size(draft.graph, size):
        return 0
    value, axes = picture_input(draft.graph)
    shape = shape_of(value) or ()
    old = tuple(shape[axis] for axis in axes)
    was_fixed = all(isinstance(length, int) for length in old)
    before = observe(draft, feeds=[random_feeds(draft.model, Trial(_SEED, 1, size or (64, 96)))], what="original graph")
    change_input_size(draft, size)
    if size is None or not was_fixed:
        agree(before, draft, "graph with another input size")
    if size is not None and was_fixed:
        _check_growth(before, observe(draft, seeds=(_SEED,), what="graph with another input size"), old, size, axes)
    if size is None:
        observe(draft, what="graph with a dynamic input size")
    return 1


def _check_growth(
    before: Observation,
    after: Observation,
    old: tuple[int | str | None, ...],
    new: tuple[int, int],
    axes: tuple[int, int],
) -> None:
    for name, value in after.runs[0][1].items():
        was = before.runs[0][1][name]
        if value.ndim != 4 or was.ndim != 4:
            continue
        for axis, old_length, new_length in zip(axes, old, new, strict=True):
            assert isinstance(old_length, int)
            if was.shape[axis] != 1 and value.shape[axis] * old_length != was.shape[axis] * new_length:
                raise GraphError(
                    f"The output '{name}' is {list(value.shape)} for an input of {new[0]} x {new[1]} and was"
                    f" {list(was.shape)} before: it does not grow with the input."
                )
