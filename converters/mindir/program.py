"""A network as calls of MindSpore's primitives: what an ONNX graph is lowered to, and what the emitters write.

A primitive is called by its name with the keyword arguments of its class in ``mindspore.ops.operations``.  Both
emitters know how to write these down: as attributes in MindIR of version 1, or as a constructor call in a generated
cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

#: What a primitive takes besides tensors: whole numbers, or the name of an element type.
Plain = int | str | tuple[int, ...]
#: A keyword argument of a primitive's constructor.
Setting = int | float | bool | str | tuple[int, ...] | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Value:
    """A tensor: its name, static shape and NumPy dtype name."""

    name: str
    shape: Shape
    dtype: str


@dataclass(frozen=True)
class Call:
    """One primitive applied to operands.

    Attributes
    ----------
    primitive
        Name of the class in ``mindspore.ops.operations``.
    settings
        Keyword arguments of its constructor.
    operands
        Tensors, tuples of tensors (for primitives that take one, such as ``Concat``) and plain numbers.
    results
        The tensor it gives, or the members of the tuple it gives.
    is_tuple
        Whether it gives a tuple.
    node
        Name of the ONNX node that it comes from.
    """

    primitive: str
    settings: Mapping[str, Setting]
    operands: Sequence[Value | tuple[Value, ...] | Plain]
    results: tuple[Value, ...]
    is_tuple: bool
    node: str


@dataclass
class Program:
    """A network.

    Attributes
    ----------
    name
        Name of the network.
    inputs
        What it must be fed.
    outputs
        Names that the outputs have outside -> tensors inside.
    calls
        In the order of execution.
    parameters
        Weights and other constants by the name of their value.
    """

    name: str
    inputs: Sequence[Value] = ()
    outputs: dict[str, Value] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    parameters: dict[str, Array] = field(default_factory=dict)


def value_of(name: str, array: Array) -> Value:
    """The value that holds ``array``."""
    return Value(name, tuple(int(d) for d in array.shape), np.dtype(array.dtype).name)
