"""Removing what no output needs, and weights that are there twice."""

from __future__ import annotations

import hashlib

from ..draft import Draft
from .wiring import Wiring, rename_uses


def remove_dead(draft: Draft) -> int:
    """Remove nodes, weights and notes on values that no graph output needs; graph inputs stay, they are the interface.

    Returns
    -------
    int
        How many nodes and weights were removed.
    """
    graph = draft.graph
    uses = Wiring(graph).uses
    removed = 0
    for i in reversed(range(len(graph.node))):
        node = graph.node[i]
        if any(uses.get(name) for name in node.output if name) or _has_graph(node):
            continue
        for name in node.input:
            if name:
                uses[name] -= 1
        del graph.node[i]
        removed += 1
    unused = {name for name in draft.constants() if not uses.get(name)}
    draft.drop_constants(unused)
    alive = {name for node in graph.node for name in node.output}
    for i in reversed(range(len(graph.value_info))):
        if graph.value_info[i].name not in alive:
            del graph.value_info[i]
    return removed + len(unused)


def merge_duplicates(draft: Draft) -> int:
    """Let equal initialisers be one.

    Returns
    -------
    int
        How many were given up.
    """
    outputs = {o.name for o in draft.graph.output}
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, header in draft.constants().items():
        if name not in outputs:
            groups.setdefault((header.data_type, tuple(header.dims)), []).append(name)
    renamed: dict[str, str] = {}
    for names in groups.values():
        if len(names) == 1:
            continue
        first: dict[bytes, str] = {}
        for name in names:
            array = draft.constant(name)
            assert array is not None
            if array.dtype.kind not in "fiub":
                continue
            # By bytes, not by value: 0.0 and -0.0 differ in a division, and a NaN equals itself.
            digest = hashlib.blake2b(array.tobytes()).digest()
            if first.setdefault(digest, name) != name:
                renamed[name] = first[digest]
    rename_uses(draft.graph, renamed)
    draft.drop_constants(set(renamed))
    return len(renamed)


def _has_graph(node: object) -> bool:
    """Whether the node holds control flow, whose inner reads were counted and would have to be given back."""
    return any(a.HasField("g") or a.graphs for a in node.attribute)  # type: ignore[attr-defined]
