"""Removing nodes that hand their input on unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx

from ..draft import Draft
from ..inference import known_values
from .wiring import Wiring, attributes_of, rename_uses

Attributes = Mapping[str, object]


def remove_identities(draft: Draft) -> int:
    """Remove nodes that change nothing in inference.

    Identity, Dropout, Cast to the type at hand, Transpose that keeps the order, padding by zero, pooling over single
    elements, and Concat, Sum, Mean, Max and Min of one value.  One that gives a graph input or output a second name
    becomes an Identity.

    Returns
    -------
    int
        How many were removed or made plain.
    """
    graph = draft.graph
    wiring = Wiring(graph)
    outputs = {o.name for o in graph.output}
    types = {name: v.type.tensor_type.elem_type for name, v in known_values(draft).items()}
    types.update({name: header.data_type for name, header in draft.constants().items()})
    removed: set[int] = set()
    changed = 0
    forward: dict[str, str] = {}
    for i, node in enumerate(graph.node):
        if not _changes_nothing(node, draft, types) or any(wiring.uses.get(name) for name in node.output[1:]):
            continue
        source, result = forward.get(node.input[0], node.input[0]), node.output[0]
        if result not in outputs:
            forward[result] = source
        elif not _take_over(wiring, source, result, outputs, graph, forward):
            changed += _make_plain(node)
            continue
        removed.add(i)
    rename_uses(graph, forward)
    for i in sorted(removed, reverse=True):
        del graph.node[i]
    return len(removed) + changed


def _make_plain(node: onnx.NodeProto) -> int:
    """Turn a node that has to stay into an Identity, which every target takes."""
    if node.op_type == "Identity":
        return 0
    node.op_type = "Identity"
    del node.attribute[:]
    del node.input[1:]
    del node.output[1:]
    return 1


def _take_over(
    wiring: Wiring, source: str, result: str, outputs: set[str], graph: onnx.GraphProto, forward: dict[str, str]
) -> bool:
    """Let the producer of ``source`` make the graph output ``result`` itself."""
    producer = wiring.producers.get(source)
    if producer is None or source in outputs:
        return False  # an input, a constant, or an output of its own: the node is what makes the second name
    for i, name in enumerate(producer.output):
        if name == source:
            producer.output[i] = result
    for key, value in forward.items():
        if value == source:
            forward[key] = result
    forward[source] = result
    wiring.producers[result] = producer
    for i, value_info in enumerate(graph.value_info):
        if value_info.name == source:
            del graph.value_info[i]
            break
    return True


def _changes_nothing(node: onnx.NodeProto, draft: Draft, types: Mapping[str, int]) -> bool:
    test = _TESTS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    return test is not None and bool(node.input) and test(node, attributes_of(node), draft, types)


def _always(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    return True


def _single(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    return len(node.input) == 1


def _dropout(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return True
    training = draft.constant(node.input[2])
    return training is not None and not training.any()


def _cast(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    return types.get(node.input[0], 0) == attributes.get("to")


def _transpose(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    order = attributes.get("perm")
    return isinstance(order, list) and order == sorted(order)


def _pad(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    pads = attributes.get("pads")
    if len(node.input) > 1:
        pads = draft.constant(node.input[1])
    return pads is not None and not np.any(np.asarray(pads))


def _pooling(node: onnx.NodeProto, attributes: Attributes, draft: Draft, types: Mapping[str, int]) -> bool:
    ones = (attributes.get(name, 1) for name in ("kernel_shape", "strides"))
    return (
        all(np.all(np.asarray(value) == 1) for value in ones)
        and not np.any(np.asarray(attributes.get("pads", 0)))
        and attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
    )


_TESTS: dict[str, Callable[[onnx.NodeProto, Attributes, Draft, Mapping[str, int]], bool]] = {
    "Identity": _always,
    "Dropout": _dropout,
    "Cast": _cast,
    "Transpose": _transpose,
    "Pad": _pad,
    "AveragePool": _pooling,
    "MaxPool": _pooling,
    "Concat": _single,
    "Sum": _single,
    "Mean": _single,
    "Max": _single,
    "Min": _single,
}
