"""An MXNet deploy pair as one ONNX graph."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence

import onnx

from ...checkpoints.mxnet_symbol import SymbolGraph, SymbolNode
from ...errors import GraphError
from ..builder import DEFAULT_OPSET
from .operators import OPERATORS
from .quantised import float_arrays
from .translation import Array, Call, Shape, Translation

#: What MXNet's own tools call the input.
_USUAL_INPUT = "data"
_PICTURE_CHANNELS = 3
#: Operators whose inputs after the first are labels, which only training has.
_LOSSES = frozenset(
    (
        "SoftmaxOutput",
        "Softmax",
        "LinearRegressionOutput",
        "LogisticRegressionOutput",
        "MAERegressionOutput",
    )
)
#: Operators of which the second input is a convolution's weight.
_CONVOLUTIONS = frozenset(
    ("Convolution", "Convolution_v1", "_sg_mkldnn_conv", "_sg_onednn_conv", "_contrib_quantized_conv")
)
#: MXNet puts this before the name of an operator that it quantised.
_QUANTISED_PREFIX = "quantized_"


def import_mxnet(
    symbol: SymbolGraph,
    arrays: Mapping[str, Array],
    *,
    input_size: tuple[int, int],
    batch: int | None = None,
    opset: int = DEFAULT_OPSET,
) -> tuple[onnx.ModelProto, dict[str, tuple[float, float]]]:
    """Translate an MXNet network to ONNX.

    The network is imported in float32: float16 weights are widened, which is exact, and a quantised graph becomes the
    float network that it was made from.  Values keep MXNet's node names, initialisers those of the arrays.

    Parameters
    ----------
    symbol
        The network.
    arrays
        Name -> array, with or without the prefixes ``arg:`` and ``aux:``.
    input_size
        Height and width in pixels.
    batch
        Batch size; None for a dynamic one.
    opset
        Version of the operator set.

    Returns
    -------
    onnx.ModelProto
        The graph, with one input, N x C x H x W float32, and the network's outputs.
    dict
        Value of the graph -> (least, largest), where the network is quantised and calibrated; else empty.

    Raises
    ------
    GraphError
        If an operator or one of its forms cannot be translated, or arrays are missing.
    """
    plain = {_plain_name(name): array for name, array in arrays.items()}
    data = _find_input(symbol, plain)
    shape = (batch, _input_channels(symbol, plain), *input_size)
    return translate(symbol, plain, {data: shape}, opset=opset)


def translate(
    symbol: SymbolGraph, arrays: Mapping[str, Array], inputs: Mapping[str, Shape], *, opset: int = DEFAULT_OPSET
) -> tuple[onnx.ModelProto, dict[str, tuple[float, float]]]:
    """As :func:`import_mxnet`, for inputs of any name, number and shape; None in a shape is the dynamic batch.

    Raises
    ------
    GraphError
        If an operator or one of its forms cannot be translated.
    """
    tr = Translation("mxnet", opset, float_arrays(arrays), _walk)
    for name, shape in inputs.items():
        tr.input(name, shape)
    _declare_outputs(tr, _walk(symbol, tr, {}), inputs)
    return tr.builder.build(), tr.ranges


def _walk(graph: SymbolGraph, tr: Translation, given: Mapping[int, str]) -> tuple[str, ...]:
    """Translate all nodes that the heads need; ``given`` are the values of variables by position."""
    needed = _reachable(graph)
    made: dict[int, tuple[str, ...]] = {}
    for position, node in enumerate(graph.nodes):
        if position not in needed:
            continue
        if node.is_variable:
            made[position] = (given.get(position, node.name),)
            continue
        inputs = tuple(
            _output(made[entry.node], entry.index, graph.nodes[entry.node], node) if entry.node in made else ""
            for entry in node.inputs
        )
        translate = OPERATORS.get(node.op)
        if translate is None:
            raise _unknown(node)
        name = node.name.removeprefix(_QUANTISED_PREFIX) if node.op.startswith("_contrib_quantized_") else node.name
        try:
            result = translate(Call(node, inputs, name), tr)
        except (IndexError, ValueError, TypeError, ZeroDivisionError, OverflowError, KeyError) as error:
            # Attributes that contradict each other or the inputs; what exactly, only MXNet's own checks would say.
            raise GraphError(
                f"The MXNet node '{node.name}' ({node.op}) has attributes or inputs that do not fit together: {error}"
            ) from error
        made[position] = (result,) if isinstance(result, str) else result
    return tuple(_output(made[head.node], head.index, graph.nodes[head.node], None) for head in graph.heads)


def _output(values: Sequence[str], index: int, producer: SymbolNode, user: SymbolNode | None) -> str:
    if index < len(values):
        return values[index]
    where = "the network" if user is None else f"'{user.name}' ({user.op})"
    raise GraphError(
        f"Output {index} of the MXNet operator {producer.op} '{producer.name}', which {where} uses, is not supported."
    )


def _unknown(node: SymbolNode) -> GraphError:
    close = difflib.get_close_matches(node.op, OPERATORS, 3)
    return GraphError(
        f"The MXNet operator {node.op} of node '{node.name}' is not supported.",
        hint=f"Similar ones that are: {', '.join(close)}." if close else None,
    )


def _plain_name(name: str) -> str:
    return name.partition(":")[2] if name.startswith(("arg:", "aux:")) else name


def _reachable(graph: SymbolGraph) -> set[int]:
    """Positions of the nodes that the heads need in inference."""
    needed = {head.node for head in graph.heads}
    for position in reversed(range(len(graph.nodes))):
        node = graph.nodes[position]
        if position in needed:
            entries = node.inputs[:1] if node.op in _LOSSES else node.inputs
            needed.update(entry.node for entry in entries)
    return needed


def _find_input(graph: SymbolGraph, arrays: Mapping[str, Array]) -> str:
    """The variable that is the picture: the one that has no array."""
    needed = _reachable(graph)
    missing = [
        graph.nodes[i].name for i in sorted(needed) if graph.nodes[i].is_variable and graph.nodes[i].name not in arrays
    ]
    optional = _ignored_gammas(graph)
    missing = [name for name in missing if name not in optional]
    if not missing:
        raise GraphError("The MXNet network has no input: every one of its variables has an array.")
    first = {graph.nodes[node.inputs[0].node].name for node in graph.nodes if node.inputs}
    if _USUAL_INPUT in missing:
        data = _USUAL_INPUT
    else:
        candidates = [name for name in missing if name in first] or missing
        data = candidates[0]
    others = [name for name in missing if name != data]
    if others:
        more = f" and {len(others) - 8} more" if len(others) > 8 else ""
        raise GraphError(
            f"{len(others)} arrays that the MXNet network needs are missing: {', '.join(others[:8])}{more}.",
            hint="The .params file must be the one that was exported together with the -symbol.json.",
        )
    return data


def _ignored_gammas(graph: SymbolGraph) -> set[str]:
    """Scales of batch normalisations with fix_gamma, which need not be stored."""
    return {
        graph.nodes[node.inputs[1].node].name
        for node in graph.nodes
        if node.op.startswith("BatchNorm") and len(node.inputs) > 1 and node.flag("fix_gamma", True)
    }


def _input_channels(graph: SymbolGraph, arrays: Mapping[str, Array]) -> int:
    """Channels of the picture, from the weight of the first convolution."""
    for node in graph.nodes:
        if node.op not in _CONVOLUTIONS or len(node.inputs) < 2:
            continue
        weight = arrays.get(graph.nodes[node.inputs[1].node].name)
        inner = [n for part in node.subgraphs for n in part.nodes if n.op in _CONVOLUTIONS]
        groups = (inner or [node])[0].integer("num_group", 1)
        if weight is not None and weight.ndim >= 3:
            return int(weight.shape[1]) * groups
    return _PICTURE_CHANNELS


def _declare_outputs(tr: Translation, values: Sequence[str], inputs: Collection[str]) -> None:
    declared: set[str] = set()
    for value in values:
        name = value
        if value in declared or value in inputs or tr.array(value) is not None:
            name = str(tr.op("Identity", value, name=f"{value}_output"))
        declared.add(name)
        if tr.shape(name) is None:
            raise GraphError(f"The shape of the MXNet output '{name}' cannot be told.")
        tr.output(name)
