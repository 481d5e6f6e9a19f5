"""Layers as products of matrices: what each output number of a layer sees of its input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ..graph.passes.wiring import attributes_of

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class MatrixForm:
    """A layer ``y = W x`` for each of its groups, for Conv and ConvTranspose of pictures, Gemm and MatMul.

    Attributes
    ----------
    kind
        The operator.
    shape
        Shape of its weight.
    groups
        Number of groups.
    transposed
        Whether the weight of Gemm is [out, in].
    strides, begins, ends, dilations
        Of a convolution (y, x); a transposed one is the plain one over its input with zeros put in between.
    """

    kind: str
    shape: tuple[int, ...]
    groups: int = 1
    transposed: bool = False
    strides: tuple[int, int] = (1, 1)
    begins: tuple[int, int] = (0, 0)
    ends: tuple[int, int] = (0, 0)
    dilations: tuple[int, int] = (1, 1)

    def matrix(self, weight: Array) -> Array:
        """The weight as [groups, out, in]."""
        if self.kind == "Conv":
            return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)
        if self.kind == "ConvTranspose":
            inner, out = self.shape[0] // self.groups, self.shape[1]
            split = weight.reshape(self.groups, inner, out, *self.shape[2:])[..., ::-1, ::-1]
            return split.swapaxes(1, 2).reshape(self.groups, out, -1)
        return np.asarray(weight if self.transposed else weight.T)[None]

    def weight(self, matrix: Array) -> Array:
        """The inverse of :meth:`matrix`."""
        if self.kind == "Conv":
            return matrix.reshape(self.shape)
        if self.kind == "ConvTranspose":
            inner, out = self.shape[0] // self.groups, self.shape[1]
            split = matrix.reshape(self.groups, out, inner, *self.shape[2:]).swapaxes(1, 2)
            return split[..., ::-1, ::-1].reshape(self.shape)
        return np.asarray(matrix[0] if self.transposed else matrix[0].T)

    def positions(self, value: Array) -> int:
        """How many output positions there are for an input."""
        if self.kind in ("Gemm", "MatMul"):
            return int(value.size // value.shape[-1])
        height, width = self._output_size(value)
        return int(value.shape[0] * height * width)

    def patches(self, value: Array, chosen: npt.NDArray[np.int64]) -> Array:
        """What the outputs at chosen positions see: [groups, positions, in]."""
        if self.kind in ("Gemm", "MatMul"):
            return value.reshape(-1, value.shape[-1])[chosen][None]
        height, width = self._output_size(value)
        value = self._spread(value)
        sample, place = np.divmod(chosen, height * width)
        row, column = np.divmod(place, width)
        kernel = self.shape[2:]
        step = self.strides if self.kind == "Conv" else (1, 1)
        rows = (row * step[0])[:, None, None] + (np.arange(kernel[0]) * self.dilations[0])[:, None]
        columns = (column * step[1])[:, None, None] + (np.arange(kernel[1]) * self.dilations[1])[None, :]
        taken = value[sample[:, None, None], :, rows, columns]  # [positions, ky, kx, channels]
        taken = taken.transpose(0, 3, 1, 2).reshape(len(chosen), self.groups, -1)
        return taken.swapaxes(0, 1)

    def _output_size(self, value: Array) -> tuple[int, int]:
        if self.kind == "Conv":
            return (self._length(value, 0), self._length(value, 1))
        return (
            (value.shape[2] - 1) * self.strides[0] + 1 + self.begins[0] + self.ends[0] - self._reach(0),
            (value.shape[3] - 1) * self.strides[1] + 1 + self.begins[1] + self.ends[1] - self._reach(1),
        )

    def _length(self, value: Array, axis: int) -> int:
        whole = value.shape[2 + axis] + self.begins[axis] + self.ends[axis]
        return int((whole - self._reach(axis) - 1) // self.strides[axis] + 1)

    def _reach(self, axis: int) -> int:
        return int(self.dilations[axis] * (self.shape[2 + axis] - 1))

    def _spread(self, value: Array) -> Array:
        """The padded input, for a transposed convolution with zeros in between."""
        if self.kind == "ConvTranspose":
            sizes = [(n - 1) * s + 1 for n, s in zip(value.shape[2:], self.strides, strict=True)]
            wide = np.zeros((*value.shape[:2], *sizes), value.dtype)
            wide[:, :, :: self.strides[0], :: self.strides[1]] = value
            value = wide
        return np.pad(value, ((0, 0), (0, 0), *zip(self.begins, self.ends, strict=True)))


def matrix_form(node: onnx.NodeProto, weight: Array) -> MatrixForm | None:
    """The form of a layer; None for one that has another: not over pictures, padded by rule, scaled."""
    attributes: dict[str, Any] = attributes_of(node)
    if node.op_type == "MatMul":
        return MatrixForm("MatMul", weight.shape) if weight.ndim == 2 else None
    if node.op_type == "Gemm":
        plain = attributes.get("alpha", 1.0) == 1.0 and not attributes.get("transA", 0)
        return MatrixForm("Gemm", weight.shape, transposed=bool(attributes.get("transB", 0))) if plain else None
    if weight.ndim != 4 or attributes.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in attributes:
        return None
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    dilations = tuple(attributes.get("dilations", [1, 1]))
    strides = tuple(attributes.get("strides", [1, 1]))
    begins, ends = (top, left), (bottom, right)
    if node.op_type == "ConvTranspose":
        reach = [d * (k - 1) for d, k in zip(dilations, weight.shape[2:], strict=True)]
        more = attributes.get("output_padding", [0, 0])
        begins = (reach[0] - top, reach[1] - left)
        ends = (reach[0] - bottom + more[0], reach[1] - right + more[1])
        if min(*begins, *ends) < 0:
            return None
    groups = int(attributes.get("group", 1))
    return MatrixForm(node.op_type, weight.shape, groups, False, strides, begins, ends, dilations)
