"""From a prepared ONNX graph to the bytes of a TFLite file."""

from __future__ import annotations

import numpy as np
import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import infer_shapes

from . import tflite_pointwise, tflite_shapes, tflite_spatial
from .tflite_file import Operation, TfliteFile
from .tflite_integers import plan_integers, refuse_unquantised
from .tflite_lowering import Lowering, nodes_of

_RULES = {**tflite_pointwise.RULES, **tflite_shapes.RULES, **tflite_spatial.RULES}
#: Operators whose second input are weights that may be stored as float16.
_WEIGHTED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED"})


def supported_operators() -> tuple[str, ...]:
    """The ONNX operators that can be translated, at least in some of their forms."""
    return tuple(sorted(_RULES))


def write(model: onnx.ModelProto, *, half: bool = False, integers: bool = False) -> bytes:
    """Translate a graph of fixed sizes.

    Parameters
    ----------
    model
        The graph.
    half
        Store weights as float16; they must be representable as such.
    integers
        Compute in int8 what the graph's Q/DQ nodes allow.

    Raises
    ------
    ConversionError
        If an operator cannot be translated; it is named.
    OverflowError
        If the file would be too large for its format.
    """
    draft = Draft(model)
    infer_shapes(draft)
    nodes = nodes_of(draft.graph)
    plan = plan_integers(draft, nodes) if integers else None
    low = Lowering(draft)
    if plan is not None:
        refuse_unquantised(plan)
        nodes = plan.nodes
        low.quantise(plan.grids, nodes)
    unknown = sorted({n.op for n in nodes} - set(_RULES))
    if unknown:
        raise ConversionError(
            f"TFLite: there is no translation of the operators {', '.join(unknown)}.",
            hint="docs/support.md lists what each target takes; --to onnx and --to openvino take any operator.",
        )
    for value in real_inputs(draft.graph):
        low.input(value.name)
    for node in nodes:
        _RULES[node.op](low, node)
    for output in draft.graph.output:
        low.output(output.name)
    _drop_unused(low.file)
    if half:
        _store_half(low.file)
    return low.file.to_bytes()


def _drop_unused(file: TfliteFile) -> None:
    """Leave out tensors that nothing uses any more."""
    used = {*file.inputs, *file.outputs}
    for operation in file.operations:
        used.update(operation.inputs, operation.outputs)
    kept = [i for i in range(len(file.tensors)) if i in used]
    new = {old: place for place, old in enumerate(kept)} | {-1: -1}
    file.tensors = [file.tensors[i] for i in kept]
    for operation in file.operations:
        operation.inputs = [new[i] for i in operation.inputs]
        operation.outputs = [new[i] for i in operation.outputs]
    file.inputs, file.outputs = [new[i] for i in file.inputs], [new[i] for i in file.outputs]


def _store_half(file: TfliteFile) -> None:
    """Store weights as float16 with a DEQUANTIZE behind each."""
    widened: dict[int, int] = {}
    operations: list[Operation] = []
    for operation in file.operations:
        if operation.code in _WEIGHTED:
            place = operation.inputs[1]
            weights = file.tensors[place].data
            assert weights is not None
            stored = weights.astype(np.float16)
            if place not in widened and np.array_equal(stored.astype(np.float32), weights):
                name, shape = file.tensors[place].name, weights.shape
                widened[place] = file.tensor(f"{name}:float", shape, "float32")
                file.tensors[place].data, file.tensors[place].kind = stored, "float16"
                operations.append(Operation("DEQUANTIZE", [place], [widened[place]]))
            operation.inputs[1] = widened.get(place, place)
        operations.append(operation)
    file.operations = operations
