"""MXNet reductions and products."""

from __future__ import annotations

from onnx import TensorProto

from .translation import Call, Translation, Translator


def _axes(call: Call, rank: int) -> list[int]:
    axes = {axis % rank for axis in call.integers("axis", tuple(range(rank)))}
    if call.flag("exclude"):
        axes = set(range(rank)) - axes if call.has("axis") else set()
    return sorted(axes)


def _reduction(kind: str) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        rank = len(tr.known_shape(call))
        axes = _axes(call, rank)
        keepdims = call.flag("keepdims")
        if len(axes) == rank and not keepdims:
            # MXNet has no arrays without dimensions: a single number is an array of one.
            total = tr.reduce(kind, call.inputs[0], axes, keepdims=False, name=f"{call.name}_number")
            return tr.reshape(total, [1], call.name)
        return tr.reduce(kind, call.inputs[0], axes, keepdims=keepdims, name=call.name)

    return translate


def _norm(call: Call, tr: Translation) -> str:
    order = call.integer("ord", 2)
    if order not in (1, 2):
        raise call.refuse(f"its ord is {order}")
    return str(_reduction(f"L{order}")(call, tr))


def _position(op_type: str) -> Translator:
    """MXNet gives the position as a float."""

    def translate(call: Call, tr: Translation) -> str:
        if not call.has("axis"):
            raise call.refuse("it has no axis")
        axis = call.integer("axis", 0) % len(tr.known_shape(call))
        keepdims = int(call.flag("keepdims"))
        index = tr.op(op_type, call.inputs[0], axis=axis, keepdims=keepdims, name=f"{call.name}_index")
        return str(tr.op("Cast", index, to=TensorProto.FLOAT, name=call.name))

    return translate


def _argmax_channel(call: Call, tr: Translation) -> str:
    index = tr.op("ArgMax", call.inputs[0], axis=1, keepdims=0, name=f"{call.name}_index")
    return str(tr.op("Cast", index, to=TensorProto.FLOAT, name=call.name))


def _product(rank: int | None) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        sides = []
        for position, key in enumerate(("transpose_a", "transpose_b")):
            found = len(tr.known_shape(call, position))
            if found < 2 or (rank is not None and found != rank):
                raise call.refuse(f"it multiplies arrays of rank {found}")
            value = call.inputs[position]
            if call.flag(key):
                order = [*range(found - 2), found - 1, found - 2]
                value = tr.op("Transpose", value, perm=order, name=f"{call.name}_{key}")
            sides.append(value)
        alpha = call.number("alpha", 1.0)
        if alpha == 1:
            return str(tr.op("MatMul", *sides, name=call.name))
        return str(tr.op("Mul", tr.op("MatMul", *sides, name=f"{call.name}_product"), tr.scalar(alpha), name=call.name))

    return translate


OPERATORS: dict[str, Translator] = {
    "mean": _reduction("Mean"),
    "sum": _reduction("Sum"),
    "sum_axis": _reduction("Sum"),
    "max": _reduction("Max"),
    "max_axis": _reduction("Max"),
    "min": _reduction("Min"),
    "min_axis": _reduction("Min"),
    "prod": _reduction("Prod"),
    "norm": _norm,
    "argmax": _position("ArgMax"),
    "argmin": _position("ArgMin"),
    "argmax_channel": _argmax_channel,
    "dot": _product(2),
    "batch_dot": _product(3),
    "linalg_gemm2": _product(None),
    "_linalg_gemm2": _product(None),
}
