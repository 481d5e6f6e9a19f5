"""The layers of a network that a target can compute in int8, and how much work each is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from ..graph.draft import Draft
from ..graph.feeds import real_inputs
from ..graph.half import widen_stored
from ..graph.inference import check_and_infer, infer_shapes, known_values, shape_of
from ..graph.passes.opset import change_opset
from ..graph.passes.wiring import attributes_of
from ..model import PoseModel
from .int8_plan import Placement, place
from .scheme import LAYERS, Scheme
from .subpixel import Rewritten, rewrite_deconvolutions

#: QuantizeLinear has an axis since this version of the operator set.
OLDEST_OPSET = 13
#: Height and width in pixels to count work at where a network takes any.
NOMINAL_SIZE = (256, 256)


@dataclass(frozen=True)
class Layer:
    """A layer that can compute in int8.

    Attributes
    ----------
    name
        Its output in the float graph.
    op_type
        ``Conv``, ``ConvTranspose``, ``Gemm`` or ``MatMul``.
    macs
        Multiplications with following addition for one sample at the network's input size.
    parameters
        Number of its weights, without biases.
    """

    name: str
    op_type: str
    macs: int
    parameters: int


def quantisable(model: PoseModel, scheme: Scheme) -> tuple[Layer, ...]:
    """The layers that :func:`quantize_model` turns to int8 unless told otherwise, in the order of the graph.

    Parameters
    ----------
    model
        The float model.
    scheme
        What the target wants.
    """
    draft = prepared(model)
    float_nodes = {n.output[0]: n for n in draft.graph.node if n.op_type in LAYERS}
    shapes = _shapes(draft, model)
    arrays = {name: draft.constant(n.input[1]) for name, n in float_nodes.items()}
    rewritten, placement = placed(draft, scheme, ())
    found = []
    names = (draft.graph.node[i].output[0] for i in sorted(placement.layers))
    for name in dict.fromkeys(rewritten.layers.get(name, name) for name in names):
        node, weights = float_nodes[name], arrays[name]
        assert weights is not None  # placement has looked
        found.append(Layer(name, node.op_type, _macs(node, weights.shape, shapes), weights.size))
    return tuple(found)


def prepared(model: PoseModel) -> Draft:
    """The float graph, ready to be changed: weights as float32, an opset that knows Q/DQ with an axis."""
    draft = Draft(widen_stored(model.graph))
    if draft.opset < OLDEST_OPSET:
        change_opset(draft, OLDEST_OPSET)
    return draft


def placed(draft: Draft, scheme: Scheme, keep_float: Collection[str]) -> tuple[Rewritten, Placement]:
    """Rewrite deconvolutions where the target wants that, and decide what is quantised."""
    rewritten = Rewritten({}, {}, {}, {})
    keep = set(keep_float)
    if scheme.deconvolution == "subpixel":
        rewritten = rewrite_deconvolutions(draft, keep)
        check_and_infer(draft)
    return rewritten, place(draft, scheme, keep, rewritten.refused)


def _shapes(draft: Draft, model: PoseModel) -> dict[str, tuple[int | str | None, ...]]:
    """Shapes of all values for one sample of the network's own size."""
    spec = model.spec.input
    size = (spec.height or NOMINAL_SIZE[0], spec.width or NOMINAL_SIZE[1])
    sized = Draft(draft.finish())
    for value in real_inputs(sized.graph):
        dims = value.type.tensor_type.shape.dim
        spatial = (1, 2) if spec.layout == "NHWC" else (2, 3)
        for axis, dim in enumerate(dims):
            if not dim.HasField("dim_value"):
                dim.dim_value = size[spatial.index(axis)] if len(dims) == 4 and axis in spatial else 1
    for output in sized.graph.output:
        output.type.tensor_type.ClearField("shape")
    infer_shapes(sized)
    return {name: shape_of(v) or () for name, v in known_values(sized).items()}


def _macs(node: onnx.NodeProto, weights: Sequence[int], shapes: Mapping[str, tuple[int | str | None, ...]]) -> int:
    """Multiplications of a layer; 0 where its size is not known."""
    shape = shapes.get(node.input[0] if node.op_type == "ConvTranspose" else node.output[0], ())
    if not shape or not all(isinstance(d, int) for d in shape):
        return 0
    size = int(np.prod([int(d or 0) for d in shape], dtype=np.int64))
    if node.op_type in ("Conv", "ConvTranspose"):
        return size * int(np.prod(weights[1:], dtype=np.int64))
    transposed = node.op_type == "Gemm" and bool(attributes_of(node).get("transB"))
    return size * int(weights[1] if transposed else weights[0])
