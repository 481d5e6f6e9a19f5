"""Passes: an ONNX graph becomes a simpler one that computes the same.

A pass is a function that takes a :class:`~edgepose.graph.draft.Draft`, edits it in place and returns how many things it
changed.  :func:`optimise` runs them in the usual order; :func:`apply` runs any.  Both leave the model they are given as
it is, and end by running the graph before and after in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import onnx

from ..check import Observation, agree, observe
from ..draft import Draft
from ..inference import check_and_infer
from .batch_norm import fold_batch_norm
from .constants import fold_constants
from .dead_code import merge_duplicates, remove_dead
from .fusing import fuse_hard_sigmoid, fuse_pixel_shuffle, remove_expands
from .identities import remove_identities
from .opset import OLDEST_OPSET, OLDEST_READ, change_opset, newest_opset
from .preparing import prepare
from .resizing import rebatch, resize_input
from .simplify import simplify as run_onnxsim
from .size import has_batch, has_input_size

__all__ = [
    "OLDEST_OPSET",
    "OLDEST_READ",
    "TIDY",
    "Pass",
    "apply",
    "fold_batch_norm",
    "fold_constants",
    "fuse_hard_sigmoid",
    "fuse_pixel_shuffle",
    "merge_duplicates",
    "newest_opset",
    "optimise",
    "prepare",
    "remove_dead",
    "remove_expands",
    "remove_identities",
    "set_batch",
    "set_input_size",
    "set_opset",
]

Pass = Callable[[Draft], int]

#: The passes that simplify, in the order in which they help each other.
TIDY: tuple[Pass, ...] = (
    prepare,
    remove_identities,
    fold_constants,
    fold_batch_norm,
    fuse_pixel_shuffle,
    fuse_hard_sigmoid,
    remove_expands,
    merge_duplicates,
    remove_dead,
)
#: Passes make work for each other a few times at most; each round removes something, so this only bounds the time.
_ROUNDS = 20


def optimise(
    model: onnx.ModelProto,
    *,
    opset: int | None = None,
    batch: int | Literal["dynamic"] | None = None,
    input_size: tuple[int, int] | Literal["dynamic"] | None = None,
    simplify: bool = False,
) -> onnx.ModelProto:
    """Simplify a graph and fix its opset, batch and input size.

    Parameters
    ----------
    model
        The graph; it is not changed.
    opset
        Version of the default operator set, 11 to :func:`newest_opset`; None keeps it.
    batch
        Batch size; None keeps it.
    input_size
        Height and width in pixels of the picture input; None keeps them.
    simplify
        Run onnxsim as well.

    Returns
    -------
    onnx.ModelProto
        The checked graph, with inferred shapes.

    Raises
    ------
    GraphError
        If it is no valid graph, cannot be changed as asked, or does not compute the same afterwards.
    DependencyError
        If onnxsim is asked for and not installed.
    """
    draft = Draft(model)
    check_and_infer(draft)
    prepare(draft)
    before = observe(draft, what="original graph")
    _tidy(draft)
    size = None if input_size == "dynamic" else input_size
    count = None if batch == "dynamic" else batch
    other_size = input_size is not None and not has_input_size(draft.graph, size)
    other_batch = batch is not None and not has_batch(draft.graph, count)
    if other_size or other_batch:
        # After simplifying: a pixel shuffle that is written out names its sizes, as one node it does not.
        agree(before, draft)
        if other_size:
            resize_input(draft, size)
        if other_batch:
            rebatch(draft, count)
        before = observe(draft, what="resized graph")
        _tidy(draft)
    if simplify:
        draft = Draft(run_onnxsim(draft.finish()))
        _tidy(draft)
    if opset is not None:
        change_opset(draft, opset)
        _tidy(draft)
    return _proven(draft, before)


def apply(model: onnx.ModelProto, *passes: Pass) -> onnx.ModelProto:
    """Run passes over a graph, in the order given.

    Raises
    ------
    GraphError
        If the graph does not compute the same afterwards.
    """
    draft = Draft(model)
    check_and_infer(draft)
    prepare(draft)
    before = observe(draft, what="original graph")
    for step in passes:
        step(draft)
    return _proven(draft, before)


def set_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Bring a graph to another version of the operator set.

    Raises
    ------
    GraphError
        If the version is out of range, or the graph has an operator that it cannot express.
    """
    return apply(model, lambda draft: change_opset(draft, opset))


def set_batch(model: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    """Give a graph another batch size; None for a dynamic one.

    Raises
    ------
    GraphError
        If the graph does not take it, or a sample then gives something else than alone.
    """
    draft = Draft(model)
    prepare(draft)
    rebatch(draft, batch)
    return draft.finish()


def set_input_size(model: onnx.ModelProto, height: int | None, width: int | None) -> onnx.ModelProto:
    """Give a graph another input size in pixels; None, None for a dynamic one.

    Raises
    ------
    GraphError
        If the graph works for its own size only.
    """
    draft = Draft(model)
    prepare(draft)
    resize_input(draft, None if height is None or width is None else (height, width))
    return draft.finish()


def _tidy(draft: Draft) -> None:
    for _ in range(_ROUNDS):
        if not sum(step(draft) for step in TIDY):
            return


def _proven(draft: Draft, before: Observation) -> onnx.ModelProto:
    check_and_infer(draft)
    agree(before, draft)
    return draft.finish()
