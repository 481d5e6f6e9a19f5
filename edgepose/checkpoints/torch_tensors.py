"""Tensor records of a PyTorch checkpoint as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .elements import Array, array_of, count_of
from .mapped_file import BYTES_PER_ARRAY, MappedFile
from .pickle_records import ElementType, Storage, Tensor


class TensorReader:
    """Gives tensors as views of their storages.

    Tensors that share a storage share its memory here too; a bfloat16 storage is widened once.

    Parameters
    ----------
    file
        The checkpoint.
    fetch
        Gives the bytes of the storage with this key.
    big_endian
        Whether the checkpoint was written on a big-endian machine.
    """

    def __init__(self, file: MappedFile, fetch: Callable[[str], memoryview], *, big_endian: bool) -> None:
        self._file = file
        self._fetch = fetch
        self._big_endian = big_endian
        self._contents: dict[str, memoryview] = {}
        self._flat: dict[tuple[str, int, int, str], Array] = {}

    def read(self, tensor: Tensor, name: str) -> Array | str:
        """The tensor as a read-only array, or the reason why there is no array that equals it.

        Raises
        ------
        CheckpointError
            If it reaches outside of its storage, or the storage outside of the file.
        """
        element = tensor.type.element
        if element is None:
            return f"of the type {tensor.type.name}, which no array type equals"
        what = f"'{name:.200}'"
        file, shape, strides = self._file, tensor.shape, tensor.strides
        file.memory.take(BYTES_PER_ARRAY, what)
        flat = self._elements(tensor.storage, tensor.type, element, what)
        count = count_of(file, shape, what)
        if tensor.offset < 0 or min(strides, default=0) < 0:
            raise file.error(f"is damaged: {what} has a negative offset or stride.")
        if count == 0:
            return flat[:0].reshape(shape)
        # The stride of a dimension of one element says nothing, and may be any number.
        strides = tuple(stride if size > 1 else 0 for size, stride in zip(shape, strides, strict=True))
        last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if last >= flat.size:
            raise file.error(f"is damaged: {what} reaches outside of its storage of {flat.size} elements.")
        if _is_contiguous(shape, strides):
            return flat[tensor.offset : tensor.offset + count].reshape(shape)
        if count > flat.size:  # a view that repeats its elements; whoever copies it needs the whole
            file.memory.take(count * flat.itemsize, f"{what}, which repeats its elements,")
        steps = tuple(stride * flat.itemsize for stride in strides)
        return np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, steps, writeable=False)

    def _elements(self, storage: Storage, kind: ElementType, element: str, what: str) -> Array:
        """The whole storage as a flat array of ``kind``, which is another than its own where it is untyped."""
        start = storage.offset * storage.type.size
        end = start + storage.count * storage.type.size
        key = (storage.key, start, end, element)
        if key not in self._flat:
            if storage.key not in self._contents:
                self._file.memory.take(BYTES_PER_ARRAY, what)
                self._contents[storage.key] = self._fetch(storage.key)
            content = self._contents[storage.key]
            if not 0 <= start <= end <= len(content):
                raise self._file.error(
                    f"is damaged: the storage of {what} reaches outside of its {len(content)} bytes."
                )
            self._file.memory.take(BYTES_PER_ARRAY, what)
            count = (end - start) // kind.size
            content = content[start : start + count * kind.size]
            self._flat[key] = array_of(self._file, content, element, (count,), what, big_endian=self._big_endian)
        return self._flat[key]


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether the elements lie one after another in C order."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True
