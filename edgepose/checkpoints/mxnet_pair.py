"""MXNet deploy pairs: ``PREFIX-symbol.json`` with the network, ``PREFIX-0000.params`` with its arrays."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from ..errors import CheckpointError
from .base import Checkpoint
from .mapped_file import map_file
from .mxnet_symbol import SymbolGraph, parse_symbol

_EPOCH = re.compile(r"-[0-9]{4}$")
_SYMBOL_SUFFIX = "-symbol.json"


def symbol_beside(params: Path) -> Path | None:
    """The network file that goes with a ``.params`` file, if there is one.

    That is ``PREFIX-symbol.json``, the prefix taken with and without the epoch, or a JSON of the same name that holds
    a network.
    """
    prefixes = dict.fromkeys((_EPOCH.sub("", params.stem), params.stem))
    for prefix in prefixes:
        candidate = params.with_name(prefix + _SYMBOL_SUFFIX)
        if _is_file(candidate):
            return candidate
    for prefix in prefixes:
        candidate = params.with_name(f"{prefix}.json")
        if _is_file(candidate) and _holds_network(candidate):
            return candidate
    return None


def params_beside(symbol: Path) -> Path:
    """The ``.params`` file that goes with a network file.

    Raises
    ------
    CheckpointError
        If there is none, or several epochs.
    """
    prefix = symbol.name.removesuffix(_SYMBOL_SUFFIX).removesuffix(".json")
    form = re.compile(re.escape(prefix) + r"(-[0-9]{4})?\.params")
    try:
        found = sorted(path for path in symbol.absolute().parent.iterdir() if form.fullmatch(path.name))
    except OSError as error:
        raise CheckpointError(f"Cannot look for the weights of '{symbol}': {error.strerror or error}.") from error
    if not found:
        raise CheckpointError(
            f"'{symbol}' is an MXNet network, and there are no weights beside it.",
            hint=f"Put '{prefix}-0000.params' into the same folder.",
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found[:5])
        raise CheckpointError(
            f"'{symbol}' is an MXNet network with several files of weights: {names}.",
            hint="Give the .params file that you want; the network is found from it.",
        )
    return found[0]


def with_symbol(checkpoint: Checkpoint, symbol: Path, *, asked: bool) -> Checkpoint:
    """The checkpoint with its network.

    Parameters
    ----------
    checkpoint
        The arrays.
    symbol
        The network file.
    asked
        Whether the user named it. A file that was only found beside the arrays, and knows none of them by name, is
        left out: training code saves arrays under other names than those of the network.

    Raises
    ------
    CheckpointError
        If it is damaged, or was asked for and does not fit.
    """
    graph = _graph(symbol)
    if not any(node.name in checkpoint.arrays for node in graph.variables):
        if asked:
            raise CheckpointError(
                f"'{symbol}' does not fit '{checkpoint.path}': none of its variables is among the arrays.",
                hint="Give the pair that HybridBlock.export or save_checkpoint wrote together.",
            )
        return replace(checkpoint, metadata={**checkpoint.metadata, "symbol_not_used": symbol.name})
    return replace(checkpoint, graph=graph, metadata={**checkpoint.metadata, "symbol": symbol.name})


def _graph(symbol: Path) -> SymbolGraph:
    file = map_file(symbol)
    file.memory.take(file.size, "the network")
    return parse_symbol(bytes(file.data), file.name, file.memory.left)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the name is too long with its new ending
        return False


def _holds_network(path: Path) -> bool:
    try:
        file = map_file(path)
        file.memory.take(file.size, "the file")
    except CheckpointError:
        return False
    text = bytes(file.data)
    return b'"nodes"' in text and b'"heads"' in text
