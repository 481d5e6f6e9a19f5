"""Migration: moving outliers of activations into weights, for attention heads whose products have no channels of one
size.

An activation that a product with constant weights reads is divided by a factor for each channel, and the rows of the
weights are multiplied by it: the product stays what it was, and both become easier to quantise (Xiao et al.,
SmoothQuant, 2022).  The division itself costs nothing: it goes into constants that the activation is made with, the
gain of a normalisation or the weights of the product before.  Queries and keys are balanced in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..errors import InputError
from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.inference import check_and_infer, known_values, shape_of
from ..graph.passes.wiring import Wiring, attributes_of
from ..model import PoseModel
from .tapping import batches, channel_magnitudes, float_draft

Floats = npt.NDArray[np.float64]

#: Natural logarithm of the largest factor: beyond it a channel is as good as unused.
_LIMIT = 20.0


@dataclass(frozen=True)
class _Change:
    """A constant to be divided by the factors, along its last axis."""

    node: onnx.NodeProto
    position: int


@dataclass(frozen=True)
class _Move:
    """Where factors go in and out.

    Attributes
    ----------
    value
        The activation.
    divided
        Constants that it is made with.
    weights
        Constants [channels, ...] whose rows are multiplied.
    partner
        An activation that is multiplied instead, by way of ``partner_divided``.
    """

    value: str
    divided: tuple[_Change, ...]
    weights: tuple[_Change, ...] = ()
    partner: str = ""
    partner_divided: tuple[_Change, ...] = ()


@dataclass
class _Graph:
    draft: Draft
    wiring: Wiring = field(init=False)
    widths: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        check_and_infer(self.draft)
        self.wiring = Wiring(self.draft.graph)
        shapes = {name: shape_of(value) for name, value in known_values(self.draft).items()}
        self.widths = {n: s[-1] for n, s in shapes.items() if s and isinstance(s[-1], int)}

    def constant(self, node: onnx.NodeProto, position: int) -> npt.NDArray[Any] | None:
        """A float32 constant that this node alone reads."""
        name = node.input[position] if position < len(node.input) else ""
        array = self.draft.constant(name) if name and self.wiring.uses.get(name) == 1 else None
        return array if array is not None and array.dtype == np.float32 else None

    def divisible(self, name: str, width: int) -> tuple[_Change, ...] | None:
        """What must be divided by factors [width] so that a value is; None if that cannot be done."""
        node = self.wiring.producers.get(name)
        if node is None or node.domain:
            return None
        if node.op_type == "MatMul":
            weight = self.constant(node, 1)
            return (_Change(node, 1),) if weight is not None and weight.shape[1:] == (width,) else None
        if node.op_type == "LayerNormalization" and attributes_of(node).get("axis", -1) == -1:
            parts = [i for i in (1, 2) if i < len(node.input) and node.input[i]]
            whole = all(self._fits(node, i, width) for i in parts)
            return tuple(_Change(node, i) for i in parts) if whole else None
        if node.op_type == "Mul":
            return next((((_Change(node, i)),) for i in (0, 1) if self._fits(node, i, width)), None)
        return self._sum(node, width) if node.op_type == "Add" else None

    def _sum(self, node: onnx.NodeProto, width: int) -> tuple[_Change, ...] | None:
        changes: list[_Change] = []
        for i, name in enumerate(node.input):
            if self._fits(node, i, width):
                changes.append(_Change(node, i))
                continue
            inner = self.divisible(name, width) if self.wiring.uses.get(name) == 1 else None
            if inner is None or self.widths.get(name) != width:
                return None
            changes += inner
        return tuple(changes)

    def _fits(self, node: onnx.NodeProto, position: int, width: int) -> bool:
        """Whether an input is a constant for all channels, or one for each."""
        array = self.constant(node, position)
        return array is not None and array.size in (1, width) and array.shape[-1:] in ((), (1,), (width,))


def migrate(
    model: PoseModel, samples: Iterable[Pixels], *, alpha: float = 0.5, on_sample: Callable[[], object] = lambda: None
) -> PoseModel:
    """Move outliers of activations into the weights that multiply them.

    Parameters
    ----------
    model
        A float network.  It is not changed.
    samples
        Calibration pictures.
    alpha
        How much is moved, 0 to 1: factors are ``max|x| ** alpha / max|w| ** (1 - alpha)`` by channel.
    on_sample
        Called after each sample.

    Returns
    -------
    PoseModel
        It computes the same, but for rounding; the model itself if there is nothing to move.

    Raises
    ------
    InputError
        If there are no samples, or ``alpha`` is out of range.
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}; it must be 0 to 1.")
    draft = float_draft(model)
    moves = _moves(_Graph(draft))
    if not moves:
        return model
    names = [name for m in moves for name in (m.value, m.partner) if name]
    largest = channel_magnitudes(draft, names, batches(model, samples, on_sample), -1)
    for move in moves:
        if move.partner:
            factors = balancing_factors(largest[move.value], largest[move.partner])
            _divide(draft, move.partner_divided, 1 / factors)
        else:
            rows = [np.abs(_read(draft, w)).max(axis=tuple(range(1, _read(draft, w).ndim))) for w in move.weights]
            factors = migration_factors(largest[move.value], np.max(rows, axis=0), alpha)
            for weight in move.weights:
                array = _read(draft, weight)
                _write(draft, weight, array * factors.reshape(-1, *[1] * (array.ndim - 1)))
        _divide(draft, move.divided, factors)
    check_and_infer(draft)
    return PoseModel(draft.finish(), model.spec, model.provenance)


def migration_factors(activation: Floats, weight: Floats, alpha: float = 0.5) -> Floats:
    """SmoothQuant's factors [C], of which the geometric mean is 1: what is moved, not how large it all is.

    Parameters
    ----------
    activation, weight
        Largest magnitude [C] of each channel of the activation, and of the weights that multiply it.
    alpha
        How much is moved.
    """
    used = (activation > 0) & (weight > 0)
    logs = np.zeros(len(activation))
    logs[used] = alpha * np.log(activation[used]) - (1 - alpha) * np.log(weight[used])
    if used.any():
        logs[used] -= logs[used].mean()
    return np.asarray(np.exp(np.clip(logs, -_LIMIT, _LIMIT)))


def balancing_factors(first: Floats, second: Floats) -> Floats:
    """Factors [C] that give two activations the same range in each channel, when one is divided, one multiplied."""
    used = (first > 0) & (second > 0)
    logs = np.zeros(len(first))
    logs[used] = 0.5 * (np.log(first[used]) - np.log(second[used]))
    return np.asarray(np.exp(np.clip(logs, -_LIMIT, _LIMIT)))


def _moves(graph: _Graph) -> list[_Move]:
    """What can be moved; no constant takes part in two moves."""
    found: list[_Move] = []
    taken: set[str] = set()
    values = dict.fromkeys(n.input[0] for n in graph.draft.graph.node if n.op_type == "MatMul")
    for value in values:
        move = _into_weights(graph, value) or _between_activations(graph, value)
        if move is None:
            continue
        changes = (*move.divided, *move.partner_divided, *move.weights)
        names = [c.node.input[c.position] for c in changes]
        # A weight may take rows of one move and columns of another: they do not meet.
        keys = [f"{n}/{'in' if c in move.weights else 'out'}" for n, c in zip(names, changes, strict=True)]
        if not taken.intersection(keys):
            taken.update(keys)
            found.append(move)
    return found


def _into_weights(graph: _Graph, value: str) -> _Move | None:
    readers = [n for n in graph.draft.graph.node if value in n.input]
    arrays = [graph.constant(n, 1) if n.op_type == "MatMul" and n.input[0] == value else None for n in readers]
    if len(readers) != graph.wiring.uses.get(value) or any(a is None or a.ndim != 2 for a in arrays):
        return None
    assert arrays[0] is not None
    divided = graph.divisible(value, len(arrays[0]))
    return None if divided is None else _Move(value, divided, tuple(_Change(n, 1) for n in readers))


def _between_activations(graph: _Graph, value: str) -> _Move | None:
    """Queries and transposed keys."""
    (product, *more) = [n for n in graph.draft.graph.node if value in n.input]
    width = graph.widths.get(value)
    turned = graph.wiring.producers.get(product.input[1]) if product.op_type == "MatMul" else None
    if more or width is None or turned is None or turned.op_type != "Transpose" or not _turns_last(turned):
        return None
    key = turned.input[0]
    alone = all(graph.wiring.uses.get(n) == 1 for n in (value, product.input[1], key))
    first, second = graph.divisible(value, width), graph.divisible(key, width)
    if not alone or first is None or second is None:
        return None
    return _Move(value, first, (), key, second)


def _turns_last(node: onnx.NodeProto) -> bool:
    order: Any = attributes_of(node).get("perm", [])
    return len(order) > 1 and list(order) == [*range(len(order) - 2), len(order) - 1, len(order) - 2]


def _read(draft: Draft, change: _Change) -> Floats:
    return np.asarray(draft.constant(change.node.input[change.position]), np.float64)


def _write(draft: Draft, change: _Change, array: Floats) -> None:
    draft.put_constant(change.node.input[change.position], array.astype(np.float32))


def _divide(draft: Draft, changes: Iterable[_Change], factors: Floats) -> None:
    for change in changes:
        _write(draft, change, _read(draft, change) / factors)
