"""Sparse arrays of MXNet, made dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .elements import Array, count_of
from .mapped_file import MappedFile


@dataclass(frozen=True, eq=False)
class SparseRecord:
    """A sparse array as it stands in the file.

    Attributes
    ----------
    shape
        Shape of the dense form.
    data
        The stored values: rows [k, ...] of ``row_sparse``, values [k] of ``csr``.
    indices
        ``row_sparse``: row numbers [k].  ``csr``: row starts [rows + 1], then column numbers [k].
    """

    shape: tuple[int, ...]
    data: Array
    indices: tuple[Array, ...]


def dense_of(file: MappedFile, record: SparseRecord, what: str) -> Array:
    """The dense form, read-only.

    Raises
    ------
    CheckpointError
        If the indices do not fit the shape.
    """
    count = count_of(file, record.shape, what)
    entries = sum(part.size for part in (record.data, *record.indices))
    file.memory.take(record.data.itemsize * count + 32 * entries, f"the dense form of {what}")
    dense = np.zeros(record.shape, record.data.dtype)
    if len(record.indices) == 1:
        dense[_rows(file, record, what)] = record.data
    else:
        dense[_cells(file, record, what)] = record.data
    dense.flags.writeable = False
    return dense


def _rows(file: MappedFile, record: SparseRecord, what: str) -> Array:
    (rows,) = record.indices
    if record.data.shape != (*rows.shape, *record.shape[1:]) or rows.ndim != 1:
        raise file.error(f"is damaged: the rows of {what} do not fit its shape {list(record.shape)}.")
    if rows.size and (rows.min() < 0 or rows.max() >= record.shape[0]):
        raise file.error(f"is damaged: {what} has rows outside of its shape {list(record.shape)}.")
    return rows


def _cells(file: MappedFile, record: SparseRecord, what: str) -> tuple[Array, Array]:
    starts, columns = record.indices
    if len(record.shape) != 2 or starts.shape != (record.shape[0] + 1,) or columns.shape != record.data.shape:
        raise file.error(f"is damaged: the cells of {what} do not fit its shape {list(record.shape)}.")
    # The range comes first: differences of larger numbers may wrap around and look right.
    if starts[0] != 0 or starts[-1] != columns.size or starts.min() < 0 or starts.max() > columns.size:
        raise file.error(f"is damaged: the rows of {what} do not cover its {columns.size} cells.")
    counts = np.diff(starts)
    if (counts < 0).any():
        raise file.error(f"is damaged: the rows of {what} do not cover its {columns.size} cells.")
    if columns.ndim != 1 or (columns.size and (columns.min() < 0 or columns.max() >= record.shape[1])):
        raise file.error(f"is damaged: {what} has columns outside of its shape {list(record.shape)}.")
    return np.repeat(np.arange(record.shape[0]), counts), columns
