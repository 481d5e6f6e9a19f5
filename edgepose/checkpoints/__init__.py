"""Checkpoint files of every seed family as named arrays.

:func:`read_checkpoint` is the way in.  Files are hostile until they are read: nothing in them is executed, and reading
one takes time in proportion to its size and at most four times its size plus 64 MiB of memory.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from .base import Checkpoint

__all__ = ["Checkpoint", "read_checkpoint"]


def read_checkpoint(path: str | Path, *, symbol: str | Path | None = None) -> Checkpoint:
    """Read a checkpoint; its format is told from the content, not from the name.

    Parameters
    ----------
    path
        MXNet ``.params`` or the ``-symbol.json`` of a deploy pair, MindSpore ``.ckpt``, PyTorch ``.pth``,
        ``.safetensors`` or ``.onnx``.
    symbol
        MXNet's network file, where it does not stand beside ``path`` under the usual name.

    Returns
    -------
    Checkpoint
        Arrays under the names that the network has for them: MXNet's ``arg:`` and ``aux:`` and PyTorch's ``module.``
        are taken off, and the metadata say so.

    Raises
    ------
    UnsafeCheckpointError
        If loading the file as its framework does would run code.
    CheckpointError
        If it is missing, damaged or of no known format.
    DependencyError
        If a library that reads the format is not installed.
    """
    from . import mxnet_pair, mxnet_params
    from .formats import read_by_content
    from .json_document import looks_like_json
    from .mapped_file import map_file

    path = Path(path)
    file = map_file(path)
    if symbol is None and looks_like_json(file):
        symbol, path = path, mxnet_pair.params_beside(path)
        file = map_file(path)
    checkpoint = read_by_content(file)
    asked = symbol is not None
    if checkpoint.format != mxnet_params.FORMAT:
        if asked:
            raise CheckpointError(
                f"'{path}' is no MXNet file ({checkpoint.format}), so '{symbol}' does not go with it."
            )
        return checkpoint
    found = Path(symbol) if symbol is not None else mxnet_pair.symbol_beside(path)
    return mxnet_pair.with_symbol(checkpoint, found, asked=asked) if found else checkpoint
