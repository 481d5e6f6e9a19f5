"""MXNet operators that work element by element."""

from __future__ import annotations

import math

from onnx import TensorProto

from .translation import Call, Translation, Translator

_WHOLE_TYPES = {
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


def _identity(call: Call, tr: Translation) -> str:
    """The value itself, without a node: nothing happens to it in inference."""
    return call.inputs[0]


def _dropout(call: Call, tr: Translation) -> str:
    if call.text("mode", "training") == "always":
        raise call.refuse("its mode is 'always', so the network is random")
    return call.inputs[0]


def _unary(op_type: str) -> Translator:
    return lambda call, tr: str(tr.op(op_type, call.inputs[0], name=call.name))


def _binary(op_type: str) -> Translator:
    return lambda call, tr: str(tr.op(op_type, *call.inputs[:2], name=call.name))


def _scalar(op_type: str, *, reverse: bool = False) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        x, scalar = call.inputs[0], tr.scalar(call.number("scalar", 1.0))
        return str(tr.op(op_type, *((scalar, x) if reverse else (x, scalar)), name=call.name))

    return translate


def _comparison(op_type: str, *, scalar: bool = False, negate: bool = False) -> Translator:
    """MXNet gives 1.0 and 0.0 where ONNX gives truth values."""

    def translate(call: Call, tr: Translation) -> str:
        other = tr.scalar(call.number("scalar", 0.0)) if scalar else call.inputs[1]
        truth = tr.op(op_type, call.inputs[0], other, name=f"{call.name}_truth")
        if negate:
            truth = tr.op("Not", truth, name=f"{call.name}_negated")
        return _as_float(call, tr, truth)

    return translate


def _or_equal(strict: str, *, scalar: bool = False) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        x, y = call.inputs[0], tr.scalar(call.number("scalar", 0.0)) if scalar else call.inputs[1]
        sides = [tr.op(op_type, x, y, name=f"{call.name}_{op_type}") for op_type in (strict, "Equal")]
        return _as_float(call, tr, tr.op("Or", *sides, name=f"{call.name}_truth"))

    return translate


def _logical(op_type: str, *, unary: bool = False) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        truths = [_as_truth(call, tr, value, i) for i, value in enumerate(call.inputs[: 1 if unary else 2])]
        return _as_float(call, tr, tr.op(op_type, *truths, name=f"{call.name}_truth"))

    return translate


def _where(call: Call, tr: Translation) -> str:
    condition, x, y = call.inputs[:3]
    return str(tr.op("Where", _as_truth(call, tr, condition, 0), x, y, name=call.name))


def _as_truth(call: Call, tr: Translation, value: str, position: int) -> str:
    return str(tr.op("Cast", value, to=TensorProto.BOOL, name=f"{call.name}_condition{position}"))


def _as_float(call: Call, tr: Translation, truth: str) -> str:
    return str(tr.op("Cast", truth, to=TensorProto.FLOAT, name=call.name))


def _add_n(call: Call, tr: Translation) -> str:
    return str(tr.op("Sum", *call.inputs, name=call.name)) if len(call.inputs) > 1 else call.inputs[0]


def _cast(call: Call, tr: Translation) -> str | tuple[str, ...]:
    """Between float types nothing is done: the network is imported in float32, whatever it was run in."""
    dtype = call.text("dtype", "float32")
    if dtype in ("float16", "float32", "float64", "bfloat16"):
        return call.inputs[0] if tr.is_float(call.inputs[0]) else _as_float(call, tr, call.inputs[0])
    if dtype not in _WHOLE_TYPES:
        raise call.refuse(f"its dtype is {dtype!r:.80}")
    return str(tr.op("Cast", call.inputs[0], to=_WHOLE_TYPES[dtype], name=call.name))


def _multi_cast(call: Call, tr: Translation) -> tuple[str, ...]:
    return call.inputs


def _clip(call: Call, tr: Translation) -> str:
    bounds = [tr.scalar(call.node.number(key)) for key in ("a_min", "a_max")]
    return str(tr.op("Clip", call.inputs[0], *bounds, name=call.name))


def _hard_sigmoid(call: Call, tr: Translation) -> str:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return str(tr.op("HardSigmoid", call.inputs[0], alpha=alpha, beta=beta, name=call.name))


def _square(call: Call, tr: Translation) -> str:
    return str(tr.op("Mul", call.inputs[0], call.inputs[0], name=call.name))


def _rsqrt(call: Call, tr: Translation) -> str:
    return str(tr.op("Reciprocal", tr.op("Sqrt", call.inputs[0], name=f"{call.name}_sqrt"), name=call.name))


def _expm1(call: Call, tr: Translation) -> str:
    return str(tr.op("Sub", tr.op("Exp", call.inputs[0], name=f"{call.name}_exp"), tr.scalar(1), name=call.name))


def _log1p(call: Call, tr: Translation) -> str:
    return str(tr.op("Log", tr.op("Add", call.inputs[0], tr.scalar(1), name=f"{call.name}_plus"), name=call.name))


def _log_base(base: float) -> Translator:
    def translate(call: Call, tr: Translation) -> str:
        natural = tr.op("Log", call.inputs[0], name=f"{call.name}_log")
        return str(tr.op("Mul", natural, tr.scalar(1 / math.log(base)), name=call.name))

    return translate


def _truncate(call: Call, tr: Translation) -> str:
    """Towards zero."""
    return _away(call, tr, 0.0)


def _round(call: Call, tr: Translation) -> str:
    """Halves away from zero; ONNX's Round takes them to the even number."""
    return _away(call, tr, 0.5)


def _away(call: Call, tr: Translation, half: float) -> str:
    size = tr.op("Abs", call.inputs[0], name=f"{call.name}_abs")
    if half:
        size = tr.op("Add", size, tr.scalar(half), name=f"{call.name}_half")
    whole = tr.op("Floor", size, name=f"{call.name}_floor")
    return str(tr.op("Mul", whole, tr.op("Sign", call.inputs[0], name=f"{call.name}_sign"), name=call.name))


def _smooth_l1(call: Call, tr: Translation) -> str:
    """|x| - 1 / (2 s^2) beyond 1 / s^2, (s x)^2 / 2 within."""
    square = call.number("scalar", 1.0) ** 2
    size = tr.op("Abs", call.inputs[0], name=f"{call.name}_abs")
    line = tr.op("Sub", size, tr.scalar(0.5 / square), name=f"{call.name}_line")
    bowl = tr.op(
        "Mul", tr.op("Mul", size, size, name=f"{call.name}_square"), tr.scalar(square / 2), name=f"{call.name}_bowl"
    )
    far = tr.op("Greater", size, tr.scalar(1 / square), name=f"{call.name}_far")
    return str(tr.op("Where", far, line, bowl, name=call.name))


def _filled(value: float) -> Translator:
    """An array of one value with the shape of the input."""

    def translate(call: Call, tr: Translation) -> str:
        shape = tr.op("Shape", call.inputs[0], name=f"{call.name}_shape")
        return str(tr.op("Expand", tr.scalar(value), shape, name=call.name))

    return translate


#: Operators that hand their first input on in inference.
_UNCHANGED = (
    "_copy",
    "identity",
    "BlockGrad",
    "stop_gradient",
    "MakeLoss",
    "make_loss",
    "_identity_with_attr_like_rhs",
    "IdentityAttachKLSparseReg",
    "LinearRegressionOutput",
    "MAERegressionOutput",
)
_ARITHMETIC = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "power": "Pow",
}
_OLD_NAMES = {
    "_plus": "Add",
    "_Plus": "Add",
    "_add": "Add",
    "_grad_add": "Add",
    "_minus": "Sub",
    "_Minus": "Sub",
    "_sub": "Sub",
    "_mul": "Mul",
    "_Mul": "Mul",
    "_div": "Div",
    "_Div": "Div",
    "_maximum": "Max",
    "_Maximum": "Max",
    "_minimum": "Min",
    "_Minimum": "Min",
    "_power": "Pow",
    "_Power": "Pow",
    "broadcast_plus": "Add",
    "broadcast_minus": "Sub",
}
_UNARY = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softsign": "Softsign",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "negative": "Neg",
    "_np_negative": "Neg",
    "reciprocal": "Reciprocal",
    "floor": "Floor",
    "ceil": "Ceil",
    "sign": "Sign",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "arcsin": "Asin",
    "arccos": "Acos",
    "arctan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
}
_SCALAR = {
    "plus": ("Add", False),
    "minus": ("Sub", False),
    "rminus": ("Sub", True),
    "mul": ("Mul", False),
    "div": ("Div", False),
    "rdiv": ("Div", True),
    "power": ("Pow", False),
    "rpower": ("Pow", True),
    "maximum": ("Max", False),
    "minimum": ("Min", False),
}


def _old_spelling(name: str) -> str:
    """``plus`` -> ``Plus``, ``rminus`` -> ``RMinus``: how operators were called before MXNet 0.9."""
    return "R" + name[1:].capitalize() if name in ("rminus", "rdiv", "rpower") else name.capitalize()


OPERATORS: dict[str, Translator] = {
    **dict.fromkeys(_UNCHANGED, _identity),
    **{name: _unary(op_type) for name, op_type in _UNARY.items()},
    **{f"elemwise_{name}": _binary(op_type) for name, op_type in _ARITHMETIC.items()},
    **{f"broadcast_{name}": _binary(op_type) for name, op_type in _ARITHMETIC.items()},
    **{name: _binary(op_type) for name, op_type in _OLD_NAMES.items()},
    **{f"_{name}_scalar": _scalar(op_type, reverse=reverse) for name, (op_type, reverse) in _SCALAR.items()},
    **{
        f"_{_old_spelling(name)}Scalar": _scalar(op_type, reverse=reverse)
        for name, (op_type, reverse) in _SCALAR.items()
    },
    **{
        f"broadcast_{name}": _comparison(op_type)
        for name, op_type in (("equal", "Equal"), ("greater", "Greater"), ("lesser", "Less"))
    },
    **{
        f"_{name}_scalar": _comparison(op_type, scalar=True)
        for name, op_type in (("equal", "Equal"), ("greater", "Greater"), ("lesser", "Less"))
    },
    "broadcast_not_equal": _comparison("Equal", negate=True),
    "_not_equal_scalar": _comparison("Equal", scalar=True, negate=True),
    "broadcast_greater_equal": _or_equal("Greater"),
    "broadcast_lesser_equal": _or_equal("Less"),
    "_greater_equal_scalar": _or_equal("Greater", scalar=True),
    "_lesser_equal_scalar": _or_equal("Less", scalar=True),
    "broadcast_logical_and": _logical("And"),
    "broadcast_logical_or": _logical("Or"),
    "broadcast_logical_xor": _logical("Xor"),
    "logical_not": _logical("Not", unary=True),
    "where": _where,
    "add_n": _add_n,
    "ElementWiseSum": _add_n,
    "_sum": _add_n,
    "Dropout": _dropout,
    "LogisticRegressionOutput": _unary("Sigmoid"),
    "Cast": _cast,
    "cast": _cast,
    "amp_cast": _cast,
    "amp_multicast": _multi_cast,
    "clip": _clip,
    "hard_sigmoid": _hard_sigmoid,
    "square": _square,
    "rsqrt": _rsqrt,
    "expm1": _expm1,
    "log1p": _log1p,
    "log2": _log_base(2),
    "log10": _log_base(10),
    "rint": _unary("Round"),
    "round": _round,
    "fix": _truncate,
    "trunc": _truncate,
    "smooth_l1": _smooth_l1,
    "zeros_like": _filled(0),
    "ones_like": _filled(1),
}
