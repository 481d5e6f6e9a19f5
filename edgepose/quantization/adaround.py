"""Learned rounding: each weight goes up or down so that its layer computes what it does in float.

The aim is AdaRound's (Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, 2020): the squared
error of a layer's outputs, its input being what the rounded layers before give, over all choices of the lower or the
upper neighbour.  It is a quadratic form in the weights, whose matrix is the second moment of what the outputs see of
the input; so instead of ten thousand steps of gradient descent, weights are turned over one after the other as long as
that lowers it, a few times through all of them.  The error on the samples never rises.  Activation and rounding of
activations are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..fitting.base import Pixels
from ..graph.draft import Draft
from ..graph.passes.wiring import Wiring, attributes_of
from ..model import PoseModel
from .patches import MatrixForm, matrix_form
from .scheme import LAYERS, Scheme
from .stepping import Stepper
from .tapping import batches, float_draft
from .weights import LARGEST, along, channel_axis, weight_scales

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

#: Output positions of a layer that are looked at, over all samples.
_POSITIONS = 4096
#: How often all weights of a layer are gone through, at most; most turn over the first time.
_ROUNDS = 4
#: Of the mean second moment, added to all: what the samples do not determine stays with the nearest neighbour.
_DAMPING = 0.01


def adaround(
    model: PoseModel,
    samples: Iterable[Pixels],
    scheme: Scheme,
    layers: Collection[str] | None = None,
    *,
    seed: int = 0,
    on_layer: Callable[[], object] = lambda: None,
) -> dict[str, npt.NDArray[np.int8]]:
    """Learn the rounding of int8 weights.

    All samples' values between two layers are in memory: a few dozen samples are enough.

    Parameters
    ----------
    model
        The float network.
    samples
        Calibration pictures.
    scheme
        Whether weights have a scale for each output channel.
    layers
        Names of the layers' outputs; None for all with constant weights.
    seed
        Of the choice of positions.
    on_layer
        Called after each layer.

    Returns
    -------
    dict
        Layer -> int8 weights, in the shape of the float ones, for the scales of
        :func:`~edgepose.quantization.weights.weight_scales`: ``rounding`` of
        :func:`~edgepose.quantization.emit.quantize_model`.  Without layers of a form that is not known (padded by rule,
        weights that several layers share).

    Raises
    ------
    InputError
        If there are no samples.
    """
    exact, rounded = float_draft(model), float_draft(model)
    uses = Wiring(exact.graph).uses
    feeds = list(batches(model, samples))
    reference, current = Stepper(exact, feeds), Stepper(rounded, feeds)
    rng = np.random.default_rng(seed)
    found = {}
    for node in list(exact.graph.node):
        name = node.output[0]
        form = _form(exact, node, uses) if layers is None or name in layers else None
        if form is None:
            continue
        weight = np.asarray(exact.constant(node.input[1]), np.float64)
        scales = _scales(node, weight, scheme)
        (wanted,), (given,) = reference.advance(node.input[0]), current.advance(node.input[0])
        matrix, steps = form.matrix(weight), form.matrix(np.broadcast_to(scales, weight.shape))
        moments, target = _statistics(form, matrix, wanted, given, rng)
        values = form.weight(round_matrix(matrix, steps[:, :, 0], moments, target))
        found[name] = values.astype(np.int8)
        rounded.put_constant(node.input[1], (values * scales).astype(np.float32))
        on_layer()
    return found


def round_matrix(matrix: Floats, steps: Floats, moments: Floats, target: Floats) -> Floats:
    """Integers whose multiples of the step give nearly the wanted products.

    Minimises ``tr(Q G Q') - 2 tr(Q T')`` for each group, Q being the rounded weights, over the two neighbours of each.

    Parameters
    ----------
    matrix
        Weights [groups, out, in].
    steps
        Scale [groups, out] of each row.
    moments
        Second moments G [groups, in, in] of the rounded network's input.
    target
        T [groups, out, in]: mean product of the float layer's output and the rounded network's input.

    Returns
    -------
    ndarray
        Whole numbers from -127 to 127 [groups, out, in], as float64.
    """
    groups, out, size = matrix.shape
    damping = _DAMPING * np.trace(moments, axis1=1, axis2=2) / size
    moments = moments + damping[:, None, None] * np.eye(size)
    exact = (matrix / steps[:, :, None]).reshape(-1, size)
    low = np.clip(np.floor(exact), -LARGEST, LARGEST - 1)
    values = np.clip(np.rint(exact), low, low + 1)
    flat = np.repeat(np.arange(groups), out)
    step = steps.reshape(-1)
    # Half the derivative of the error, for each weight.
    slope = np.matmul((values * step[:, None]).reshape(matrix.shape), moments)
    slope = (slope - target - damping[:, None, None] * matrix).reshape(-1, size)
    diagonal = np.diagonal(moments, axis1=1, axis2=2)[flat]
    for _ in range(_ROUNDS):
        turned = 0
        for i in range(size):
            change = (2 * low[:, i] + 1 - 2 * values[:, i]) * step
            rows = np.flatnonzero(2 * change * slope[:, i] + change**2 * diagonal[:, i] < 0)
            if len(rows):
                values[rows, i] = 2 * low[rows, i] + 1 - values[rows, i]
                slope[rows] += change[rows, None] * moments[flat[rows], i]
                turned += len(rows)
        if not turned:
            break
    return values.reshape(matrix.shape)


def _form(draft: Draft, node: onnx.NodeProto, uses: dict[str, int]) -> MatrixForm | None:
    if node.op_type not in LAYERS or node.domain or uses.get(node.input[1]) != 1:
        return None
    weight = draft.constant(node.input[1])
    return None if weight is None or weight.dtype != np.float32 else matrix_form(node, weight)


def _scales(node: onnx.NodeProto, weight: Floats, scheme: Scheme) -> Floats:
    axis = None
    if scheme.per_channel:
        attributes: dict[str, Any] = attributes_of(node)
        groups, transposed = int(attributes.get("group", 1)), bool(attributes.get("transB", 0))
        axis = channel_axis(node.op_type, transposed=transposed, groups=groups, shape=weight.shape)
    return np.asarray(along(weight_scales(weight, axis), axis, weight.ndim), np.float64)


def _statistics(
    form: MatrixForm, matrix: Floats, wanted: list[Array], given: list[Array], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Second moments [groups, in, in] of the input as it is, and products [groups, out, in] with the wanted outputs."""
    share = max(1, _POSITIONS // len(given))
    groups, out, size = matrix.shape
    moments, target = np.zeros((groups, size, size)), np.zeros((groups, out, size))
    count = 0
    for exact, value in zip(wanted, given, strict=True):
        positions = form.positions(value)
        chosen = rng.choice(positions, min(share, positions), replace=False)
        seen = form.patches(value, chosen).astype(np.float64)
        outputs = np.matmul(form.patches(exact, chosen).astype(np.float64), matrix.swapaxes(1, 2))
        moments += np.matmul(seen.swapaxes(1, 2), seen)
        target += np.matmul(outputs.swapaxes(1, 2), seen)
        count += len(chosen)
    return moments / count, target / count
