"""Recognising what exporters write in many nodes and ONNX says in one.

Targets have kernels for these operators, and limits that the long forms exceed: a pixel shuffle written out transposes
six axes.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from ..draft import Draft
from ..inference import known_values, shape_of
from .wiring import Wiring, attributes_of, rename_uses

Shape = tuple[int | str | None, ...]

#: Order of the axes of a transpose between two reshapes -> which form of DepthToSpace it is.
_SHUFFLES = {(0, 1, 4, 2, 5, 3): "CRD", (0, 3, 4, 1, 5, 2): "DCR"}
_ELEMENTWISE = frozenset(("Add", "Sub", "Mul", "Div"))


def fuse_pixel_shuffle(draft: Draft) -> int:
    """Reshape, Transpose of six axes, Reshape -> DepthToSpace.

    Returns
    -------
    int
        How many were recognised.
    """
    wiring, shapes = Wiring(draft.graph), _shapes(draft)
    outputs = {o.name for o in draft.graph.output}
    readers = _readers(draft.graph)
    fused = 0
    for node in [n for n in draft.graph.node if n.op_type == "Transpose"]:
        order = attributes_of(node).get("perm")
        mode = _SHUFFLES.get(tuple(order)) if isinstance(order, list) else None
        if mode is None:
            continue
        first, last = node.input[0], node.output[0]
        while (made := wiring.producers.get(first)) is not None and made.op_type == "Reshape":
            if wiring.uses[first] != 1:
                break
            first = made.input[0]
        while last not in outputs and len(readers.get(last, ())) == 1 == wiring.uses.get(last):
            (reader,) = readers[last]
            if reader.op_type != "Reshape" or reader.input[0] != last:
                break
            last = reader.output[0]
        block = _block(shapes.get(first), shapes.get(node.input[0]), shapes.get(last), mode)
        if block is None:
            continue
        shuffle = helper.make_node("DepthToSpace", [first], [last], name=last, blocksize=block, mode=mode)
        # In place of the last node; what only it needed is dead now.
        wiring.producers[last].CopyFrom(shuffle)
        fused += 1
    return fused


def fuse_hard_sigmoid(draft: Draft) -> int:
    """clip(x + b, 0, h) / h -> HardSigmoid.

    Returns
    -------
    int
        How many were recognised.
    """
    wiring = Wiring(draft.graph)
    outputs = {o.name for o in draft.graph.output}
    fused = 0
    for node in [n for n in draft.graph.node if n.op_type in ("Div", "Mul")]:
        factor = _scalar(draft, node.input[1])
        clip = wiring.producers.get(node.input[0])
        if factor is None or factor <= 0 or clip is None or clip.op_type != "Clip" or len(clip.input) != 3:
            continue
        shifted = wiring.producers.get(clip.input[0])
        if shifted is None or shifted.op_type != "Add":
            continue
        top = factor if node.op_type == "Div" else 1 / factor
        shift, bounds = _scalar(draft, shifted.input[1]), [_scalar(draft, name) for name in clip.input[1:]]
        inner = (node.input[0], clip.input[0])
        if shift is None or any(wiring.uses[name] != 1 or name in outputs for name in inner):
            continue
        if bounds[0] != 0 or bounds[1] is None or not np.isclose(bounds[1], top, rtol=1e-6):
            continue
        alpha, beta = 1 / bounds[1], shift / bounds[1]
        gate = helper.make_node("HardSigmoid", [shifted.input[0]], [node.output[0]], node.name, alpha=alpha, beta=beta)
        node.CopyFrom(gate)
        fused += 1
    return fused


def remove_expands(draft: Draft) -> int:
    """Expand before an element-by-element operator that would broadcast by itself.

    Returns
    -------
    int
        How many were removed.
    """
    shapes, readers, uses = _shapes(draft), _readers(draft.graph), Wiring(draft.graph).uses
    forward: dict[str, str] = {}
    for node in draft.graph.node:
        if node.op_type != "Expand":
            continue
        value = node.output[0]
        shape, users = shapes.get(value), readers.get(value, [])
        if shape is None or None in shape or not users or len(users) != uses[value]:
            continue
        if all(u.op_type in _ELEMENTWISE and _others_have(u, value, shape, shapes) for u in users):
            forward[value] = forward.get(node.input[0], node.input[0])
    rename_uses(draft.graph, forward)
    return len(forward)


def _others_have(node: onnx.NodeProto, value: str, shape: Shape, shapes: dict[str, Shape]) -> bool:
    others = [name for name in node.input if name != value]
    return len(others) == 1 and shapes.get(others[0]) == shape


def _block(source: Shape | None, parted: Shape | None, result: Shape | None, mode: str) -> int | None:
    """Block size, if the three shapes are those of a pixel shuffle of pictures of known size."""
    if source is None or parted is None or result is None or (len(source), len(parted), len(result)) != (4, 6, 4):
        return None
    numbers = [n for n in (*source[1:], *parted[1:], *result[1:]) if isinstance(n, int)]
    if len(numbers) != 11 or source[0] is None or not source[0] == parted[0] == result[0]:
        return None
    depth, height, width = numbers[:3]
    if mode == "CRD":
        channels, block, other, rows, columns = numbers[3:8]
    else:
        block, other, channels, rows, columns = numbers[3:8]
    if block != other or (rows, columns) != (height, width) or depth != channels * block * block:
        return None
    return block if numbers[8:] == [channels, height * block, width * block] else None


def _shapes(draft: Draft) -> dict[str, Shape]:
    shapes = {name: shape_of(value) for name, value in known_values(draft).items()}
    return {name: shape for name, shape in shapes.items() if shape is not None}


def _readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Value -> the nodes of the main graph that read it."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in set(node.input):
            readers.setdefault(name, []).append(node)
    return readers


def _scalar(draft: Draft, name: str) -> float | None:
    header = draft.constants().get(name)
    array = draft.constant(name) if header is not None and list(header.dims) in ([], [1]) else None
    return None if array is None or array.dtype.kind != "f" else float(array.reshape(-1)[0])
