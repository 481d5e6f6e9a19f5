"""Reading a decoder's options and outputs."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import DecoderSpec

T = TypeVar("T")
Array = npt.NDArray[np.float32]


def read_options(spec: DecoderSpec, options: type[T]) -> T:
    """Fill the dataclass ``options`` from the spec; names and types must be those of its fields.

    Fields may be bool, int, float, str, ``X | None`` or ``Literal[...]``; tuples take JSON lists.

    Raises
    ------
    SpecError
        If an option is unknown or of the wrong type.
    """
    fields = {f.name for f in dataclasses.fields(options)}  # type: ignore[arg-type]
    unknown = sorted(set(spec.options) - fields)
    if unknown:
        raise SpecError(
            f"Decoder '{spec.type}': unknown option {', '.join(map(repr, unknown))}.",
            hint=f"Known options: {', '.join(sorted(fields)) or 'none'}.",
        )
    kinds = typing.get_type_hints(options)
    values = {
        name: _read(f"Decoder '{spec.type}': option '{name}'", v, kinds[name]) for name, v in spec.options.items()
    }
    return options(**values)


def require_outputs(spec: DecoderSpec, roles: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Check that the spec names exactly the outputs that the decoder reads.

    Raises
    ------
    SpecError
        If one is missing or unknown.
    """
    missing = [r for r in roles if r not in spec.outputs]
    unknown = [r for r in spec.outputs if r not in (*roles, *optional)]
    if missing or unknown:
        raise SpecError(
            f"Decoder '{spec.type}' reads the outputs {', '.join((*roles, *optional))};"
            f" the spec names {', '.join(spec.outputs)}."
        )


def take_output(outputs: Mapping[str, Array], role: str, shape: tuple[int | None, ...]) -> Array:
    """The output ``role`` as float32, which must have ``shape`` (None: any length).

    Raises
    ------
    DecodeError
        If it is missing or of another shape.
    """
    if role not in outputs:
        raise DecodeError(f"The network gave no output '{role}'.")
    array = np.asarray(outputs[role], np.float32)
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise DecodeError(
            f"Output '{role}' has the shape {list(array.shape)}, the decoder reads [{wanted}].",
            hint="The spec may belong to another model: compare with 'edgepose info'.",
        )
    return array


def _read(where: str, value: Any, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        if value not in arguments:
            raise SpecError(f"{where} is {value!r}, must be one of {', '.join(map(repr, arguments))}.")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _read(where, value, next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise SpecError(f"{where} is {value!r}, must be a list.")
        inner = arguments[0] if arguments[-1] is ... else None
        if inner is None and len(value) != len(arguments):
            raise SpecError(f"{where} must have {len(arguments)} elements.")
        return tuple(_read(where, v, inner or arguments[i]) for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SpecError(f"{where} is {value!r}, must be {kind.__name__}.")
    if kind is float and not math.isfinite(value):
        raise SpecError(f"{where} must be finite.")
    return value
