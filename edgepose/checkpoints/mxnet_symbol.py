"""MXNet's network description, the ``-symbol.json`` of a deploy pair, as plain checked data.

Facts about the format: a flat list of nodes in topological order; ``op`` is ``null`` for variables (inputs and
arrays of the ``.params`` file, joined by name); attribute values are strings; the key that holds them was ``param``
before MXNet 0.9, then ``attr``, and is ``attrs`` since 1.0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from .json_document import parse_json

#: Fused operators hold their parts as subgraphs; MXNet itself nests one level.
MAX_SUBGRAPH_DEPTH = 8
_ATTRIBUTE_KEYS = ("param", "attr", "attrs")
_TRUE, _FALSE = ("true", "1"), ("false", "0")
#: One number, or numbers in brackets with an optional last comma; Python 2 wrote long integers as "1L".
_NUMBER = r"\s*[+-]?[0-9]{1,18}L?\s*"
_INTEGER = re.compile(_NUMBER)
_INTEGERS = re.compile(rf"\s*[(\[](?:{_NUMBER}(?:,{_NUMBER})*,?)?\s*[)\]]\s*")


@dataclass(frozen=True, slots=True)
class SymbolOutput:
    """Output ``index`` of the node at position ``node`` in :attr:`SymbolGraph.nodes`."""

    node: int
    index: int = 0


@dataclass(frozen=True, slots=True)
class SymbolNode:
    """An operator or a variable.

    Attributes
    ----------
    op
        MXNet's operator name; ``null`` for a variable.
    name
        Name of the node; of a variable, the name of its array in the ``.params`` file.
    attrs
        Attribute -> value as it stands in the file, always text; whichever key the MXNet version used.
    inputs
        The outputs that it takes, in the operator's order; all of earlier nodes.
    subgraphs
        The parts of a fused operator.
    """

    op: str
    name: str
    attrs: Mapping[str, str]
    inputs: tuple[SymbolOutput, ...]
    subgraphs: tuple[SymbolGraph, ...] = ()

    @property
    def is_variable(self) -> bool:
        """Whether this is an input or an array, not an operator."""
        return self.op == "null"

    def text(self, key: str, default: str | None = None) -> str:
        """The attribute as it stands in the file.

        Raises
        ------
        CheckpointError
            If it is missing and ``default`` is None; so for the other getters.
        """
        value = self.attrs.get(key, default)
        if value is None:
            raise CheckpointError(f"Node '{self.name}' ({self.op}) has no attribute '{key}'.")
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """A truth value: ``True``, ``true`` and ``1`` are the spellings in use."""
        if key not in self.attrs and default is not None:
            return default
        value = self.text(key).lower()
        if value not in (*_TRUE, *_FALSE):
            raise self._wrong(key, "neither true nor false")
        return value in _TRUE

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        if key not in self.attrs and default is not None:
            return default
        try:
            value = float(self.text(key))
        except ValueError:
            raise self._wrong(key, "not a number") from None
        if not math.isfinite(value):
            raise self._wrong(key, "not a finite number")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number."""
        if key not in self.attrs and default is not None:
            return default
        value = self.text(key)
        if not _INTEGER.fullmatch(value):
            raise self._wrong(key, "not a whole number")
        return int(value.replace("L", ""))

    def integers(self, key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """A tuple of whole numbers, ``(1, 1)`` or ``[1, 1]``; a single number gives a tuple of one."""
        if key not in self.attrs and default is not None:
            return default
        value = self.text(key)
        if not _INTEGERS.fullmatch(value) and not _INTEGER.fullmatch(value):
            raise self._wrong(key, "not a tuple of whole numbers")
        return tuple(int(number) for number in re.findall(r"[+-]?[0-9]+", value))

    def _wrong(self, key: str, what: str) -> CheckpointError:
        return CheckpointError(
            f"Node '{self.name}' ({self.op}): attribute '{key}' is {self.attrs[key][:80]!r}, {what}."
        )


@dataclass(frozen=True, slots=True)
class SymbolGraph:
    """A network.

    Attributes
    ----------
    nodes
        Operators and variables, each after all of its inputs.
    heads
        The outputs of the network.
    arguments
        Positions of the variables, inputs and arrays alike; parameters of a subgraph in its caller's order.
    mxnet_version
        Version that wrote the file, ``1.9.1``; None where it does not say.
    """

    nodes: tuple[SymbolNode, ...]
    heads: tuple[SymbolOutput, ...]
    arguments: tuple[int, ...]
    mxnet_version: str | None = None

    @property
    def variables(self) -> tuple[SymbolNode, ...]:
        """The inputs and arrays, in the order of the file."""
        return tuple(node for node in self.nodes if node.is_variable)


def looks_like_symbol(document: object) -> bool:
    """Whether parsed JSON has the keys of an MXNet network."""
    return isinstance(document, dict) and isinstance(document.get("nodes"), list) and "heads" in document


def parse_symbol(text: bytes, name: str, allowed: int) -> SymbolGraph:
    """Parse and check a symbol file.

    Parameters
    ----------
    text
        The content of the file.
    name
        Its name, for errors.
    allowed
        Most bytes of memory that the parsed form may take.

    Raises
    ------
    CheckpointError
        If it is no JSON, no MXNet network, or not a graph in topological order.
    """
    document = parse_json(text, f"'{name}'", allowed)
    if not looks_like_symbol(document):
        raise CheckpointError(f"'{name}' is no MXNet network: the keys 'nodes' and 'heads' are missing.")
    return _graph(document, f"'{name}'", 0)


def _graph(document: Any, where: str, depth: int) -> SymbolGraph:
    if depth > MAX_SUBGRAPH_DEPTH:
        raise CheckpointError(f"{where}: subgraphs are nested deeper than {MAX_SUBGRAPH_DEPTH}.")
    if not looks_like_symbol(document):
        raise CheckpointError(f"{where}: a subgraph has no 'nodes' and 'heads'.")
    entries = document["nodes"]
    nodes = tuple(_node(entry, position, where, depth) for position, entry in enumerate(entries))
    heads = _outputs(document["heads"], len(nodes), f"{where}: heads")
    if not heads:
        raise CheckpointError(f"{where}: the network has no output.")
    arguments = _indices(document.get("arg_nodes", []), len(nodes), f"{where}: arg_nodes")
    for position in arguments:
        if not nodes[position].is_variable:
            raise CheckpointError(f"{where}: arg_nodes names node {position}, which is no variable.")
    if not arguments:
        arguments = tuple(position for position, node in enumerate(nodes) if node.is_variable)
    return SymbolGraph(nodes, heads, arguments, _version(document.get("attrs")))


def _node(entry: Any, position: int, where: str, depth: int) -> SymbolNode:
    where = f"{where}: node {position}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{where} is no object.")
    op, name, subgraphs = entry.get("op"), entry.get("name"), entry.get("subgraphs", [])
    if not isinstance(op, str) or not isinstance(name, str) or not isinstance(subgraphs, list):
        raise CheckpointError(f"{where} has no operator or no name.")
    attributes: dict[str, str] = {}
    for key in _ATTRIBUTE_KEYS:
        values = entry.get(key, {})
        if not isinstance(values, dict):
            raise CheckpointError(f"{where}: '{key}' is no object.")
        for attribute, value in values.items():
            if isinstance(value, dict | list) or value is None:
                raise CheckpointError(f"{where}: attribute '{attribute:.80}' is not text.")
            attributes[attribute] = value if isinstance(value, str) else str(value)
    inputs = _outputs(entry.get("inputs", []), position, f"{where}: inputs")
    if op == "null" and inputs:
        raise CheckpointError(f"{where} is a variable and has inputs.")
    parts = tuple(_graph(part, where, depth + 1) for part in subgraphs)
    return SymbolNode(op, name, attributes, inputs, parts)


def _outputs(entries: Any, count: int, where: str) -> tuple[SymbolOutput, ...]:
    """Pairs (node, output); a third number, the version of an array, means nothing in a saved graph."""
    if not isinstance(entries, list):
        raise CheckpointError(f"{where} is no list.")
    outputs = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) not in (2, 3) or not all(type(v) is int for v in entry):
            raise CheckpointError(f"{where}: an entry is not [node, output] or [node, output, version].")
        node, index = entry[:2]
        if not 0 <= node < count or not 0 <= index < 1 << 16:
            raise CheckpointError(f"{where}: [{node}, {index}] is no output of one of the {count} nodes before it.")
        outputs.append(SymbolOutput(node, index))
    return tuple(outputs)


def _indices(entries: Any, count: int, where: str) -> tuple[int, ...]:
    if not isinstance(entries, list) or not all(type(v) is int and 0 <= v < count for v in entries):
        raise CheckpointError(f"{where} is not a list of node positions.")
    return tuple(entries)


def _version(attributes: Any) -> str | None:
    """``{"mxnet_version": ["int", 10901]}`` -> ``1.9.1``."""
    value = attributes.get("mxnet_version") if isinstance(attributes, dict) else None
    if not (isinstance(value, list) and len(value) == 2 and type(value[1]) is int and 0 < value[1] < 10**6):
        return None
    number = value[1]
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
