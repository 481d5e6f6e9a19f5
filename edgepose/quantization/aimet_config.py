"""What AIMET's configuration files say: which tensors are quantised, and on what kind of grid.

A file has AIMET's own form (``defaults``, ``params``, ``op_type``, ``supergroups``, ``model_input``,
``model_output``).  What AIMET takes as arguments beside the file may stand in it under the arguments' names:
``quant_scheme`` (``tf``, ``tf_enhanced``, ``percentile``), ``default_output_bw``, ``default_param_bw``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from .aimet_encodings import BITS, Grid

SCHEMES = ("tf", "tf_enhanced", "percentile")
#: A configuration is a page of text.
_MAX_BYTES = 1 << 20
#: Operators of ONNX that AIMET calls otherwise.
_ALIASES = {"ReduceMean": "Mean"}


@dataclass(frozen=True)
class OpRule:
    """What is different for one kind of operator; None where it is as by default."""

    input: bool | None = None
    output: bool | None = None
    symmetric: bool | None = None
    per_channel: bool | None = None
    parameters: Mapping[str, tuple[bool | None, bool | None]] = field(default_factory=dict)
    kernels: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class SimulationConfig:
    """How a network is simulated.

    Attributes
    ----------
    scheme
        How grids are found: ``tf``, ``tf_enhanced`` or ``percentile``.
    output_bits, parameter_bits
        Bit widths.
    outputs, outputs_symmetric
        Whether outputs of operators are quantised, and on a symmetric grid.
    parameters, parameters_symmetric
        The same for weights.
    strict, unsigned
        Kind of symmetric grids; see :class:`~edgepose.quantization.aimet_encodings.Grid`.
    per_channel
        Whether each output channel of a weight has its own grid.
    parameter_rules
        ``weight`` or ``bias`` -> (quantised, symmetric) where it differs.
    op_rules
        Operator -> what differs.
    supergroups
        Chains of operators that count as one: nothing is quantised inside.
    model_input, model_output
        Whether the picture, and the outputs, are quantised.
    shrinking
        Search as AIMET did up to release 1.30; see
        :func:`~edgepose.quantization.aimet_encodings.tf_enhanced_encoding`.
    """

    scheme: str = "tf_enhanced"
    output_bits: int = 8
    parameter_bits: int = 8
    outputs: bool = False
    outputs_symmetric: bool = False
    parameters: bool = False
    parameters_symmetric: bool = False
    strict: bool = False
    unsigned: bool = False
    per_channel: bool = False
    parameter_rules: Mapping[str, tuple[bool | None, bool | None]] = field(default_factory=dict)
    op_rules: Mapping[str, OpRule] = field(default_factory=dict)
    supergroups: tuple[tuple[str, ...], ...] = ()
    model_input: bool = False
    model_output: bool | None = None
    shrinking: bool = False

    def output_grid(self, op_type: str) -> Grid | None:
        """The kind of grid for what an operator gives; None if that is not quantised."""
        rule = self._rule(op_type)
        if not _first(rule.output, self.outputs):
            return None
        return self._grid(_first(rule.symmetric, self.outputs_symmetric), self._bits(rule)[0])

    def input_grid(self, op_type: str = "") -> Grid:
        """The kind of grid for what an operator is fed."""
        rule = self._rule(op_type)
        return self._grid(_first(rule.symmetric, self.outputs_symmetric), self._bits(rule)[0])

    def quantises_input(self, op_type: str) -> bool:
        """Whether the inputs of an operator are quantised, whatever makes them."""
        return bool(self._rule(op_type).input)

    def parameter_grid(self, op_type: str, name: str) -> tuple[Grid | None, bool]:
        """The kind of grid for ``weight`` or ``bias`` of an operator, None if none; whether it is by channel."""
        rule = self._rule(op_type)
        quantised, symmetric = self.parameters, self.parameters_symmetric
        for found in (self.parameter_rules.get(name), rule.parameters.get(name)):
            if found is not None:
                quantised, symmetric = _first(found[0], quantised), _first(found[1], symmetric)
        per_channel = _first(rule.per_channel, self.per_channel)
        return (self._grid(symmetric, self._bits(rule)[1]) if quantised else None), per_channel

    def _rule(self, op_type: str) -> OpRule:
        return self.op_rules.get(_ALIASES.get(op_type, op_type), OpRule())

    def _grid(self, symmetric: bool, bits: int) -> Grid:
        return Grid(bits, symmetric, self.strict, self.unsigned)

    def _bits(self, rule: OpRule) -> tuple[int, int]:
        """The default widths where the operator has such a kernel, else those of the first kernel that it has."""
        wanted = self.output_bits, self.parameter_bits
        return wanted if not rule.kernels or wanted in rule.kernels else rule.kernels[0]


def _first(value: bool | None, otherwise: bool) -> bool:
    return otherwise if value is None else value


def read_config(name: str | Path) -> SimulationConfig:
    """A preset by its name, or a configuration file.

    Raises
    ------
    InputError
        If there is neither, or the file is not well formed.
    """
    if str(name) in PRESETS:
        return parse_config(PRESETS[str(name)])
    path = Path(name)
    try:
        text = path.read_bytes() if path.stat().st_size <= _MAX_BYTES else b""
    except OSError as error:
        raise InputError(
            f"Cannot read the configuration '{name}': {error.strerror or error}.",
            hint=f"Give a file in AIMET's form, or one of: {', '.join(PRESETS)}.",
        ) from error
    if not text:
        raise InputError(f"'{path}' is empty, or too large for a configuration of the simulation.")
    try:
        return parse_config(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not JSON.") from error
    except InputError as error:
        raise InputError(f"'{path}': {error.message}", hint=error.hint) from error


def parse_config(data: Any) -> SimulationConfig:
    """A configuration from the data of its JSON.

    Raises
    ------
    InputError
        If it is not well formed, or has a field that is not known.
    """
    try:
        return _parse(data)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            f"This is no configuration of AIMET's quantisation: {error}.",
            hint="Its parts are: defaults, params, op_type, supergroups, model_input, model_output.",
        ) from error


def _parse(data: Any) -> SimulationConfig:
    own = {"quant_scheme", "default_output_bw", "default_param_bw"}
    _known("", data, {"defaults", "params", "op_type", "supergroups", "model_input", "model_output", *own})
    defaults = data["defaults"]
    switches = {"strict_symmetric", "unsigned_symmetric", "per_channel_quantization"}
    _known("defaults", defaults, {"ops", "params", "supported_kernels", "hw_version", *switches})
    ops, params = defaults.get("ops", {}), defaults.get("params", {})
    _known("defaults.ops", ops, {"is_output_quantized", "is_symmetric"})
    _known("defaults.params", params, {"is_quantized", "is_symmetric"})
    scheme = str(data.get("quant_scheme", "tf_enhanced")).removeprefix("post_training_")
    if scheme not in SCHEMES:
        raise InputError(f"There is no quant_scheme '{scheme}'.", hint=f"It is one of: {', '.join(SCHEMES)}.")
    model_input, model_output = data.get("model_input", {}), data.get("model_output", {})
    _known("model_input", model_input, {"is_input_quantized"})
    _known("model_output", model_output, {"is_output_quantized"})
    return SimulationConfig(
        scheme=scheme,
        output_bits=_bits(data.get("default_output_bw", 8)),
        parameter_bits=_bits(data.get("default_param_bw", 8)),
        outputs=bool(_flag(ops, "is_output_quantized")),
        outputs_symmetric=bool(_flag(ops, "is_symmetric")),
        parameters=bool(_flag(params, "is_quantized")),
        parameters_symmetric=bool(_flag(params, "is_symmetric")),
        strict=bool(_flag(defaults, "strict_symmetric")),
        unsigned=bool(_flag(defaults, "unsigned_symmetric")),
        per_channel=bool(_flag(defaults, "per_channel_quantization")),
        parameter_rules=_parameters(data.get("params", {})),
        op_rules={str(op): _op_rule(str(op), rule) for op, rule in data.get("op_type", {}).items()},
        supergroups=tuple(tuple(map(str, group["op_list"])) for group in data.get("supergroups", [])),
        model_input=bool(_flag(model_input, "is_input_quantized")),
        model_output=_flag(model_output, "is_output_quantized"),
    )


def _op_rule(op: str, data: Any) -> OpRule:
    switches = {"is_input_quantized", "is_output_quantized", "is_symmetric", "per_channel_quantization"}
    _known(f"op_type.{op}", data, {*switches, "params", "supported_kernels"})
    kernels = tuple(
        (_bits(k["activation"]["bitwidth"]), _bits(k["param"]["bitwidth"])) for k in data.get("supported_kernels", [])
    )
    return OpRule(
        _flag(data, "is_input_quantized"),
        _flag(data, "is_output_quantized"),
        _flag(data, "is_symmetric"),
        _flag(data, "per_channel_quantization"),
        _parameters(data.get("params", {})),
        kernels,
    )


def _parameters(data: Any) -> dict[str, tuple[bool | None, bool | None]]:
    for name, rule in data.items():
        _known(f"params.{name}", rule, {"is_quantized", "is_symmetric"})
    return {str(name): (_flag(rule, "is_quantized"), _flag(rule, "is_symmetric")) for name, rule in data.items()}


def _known(where: str, data: Any, allowed: set[str]) -> None:
    unknown = sorted(set(data.keys()) - allowed)
    if unknown:
        raise InputError(
            f"Unknown field{'' if not where else f' in {where}'}: {', '.join(map(repr, unknown))}.",
            hint=f"Known: {', '.join(sorted(allowed))}.",
        )


def _flag(data: Any, name: str) -> bool | None:
    """AIMET writes "True" and "False" as strings."""
    value = data.get(name)
    if value is None:
        return None
    if str(value) not in ("True", "False"):
        raise InputError(f'\'{name}\' is {value!r}; it must be "True" or "False".')
    return str(value) == "True"


def _bits(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in BITS:
        raise InputError(f"{value!r} is no bit width; it is {BITS[0]} to {BITS[-1]}.")
    return value


def _preset(bits: int, *, symmetric: bool = False, per_channel: bool = False) -> dict[str, Any]:
    """AIMET 1.19's default_config.json; symmetric and per channel those of 1.22."""
    supergroups = [["Conv", "Relu"], ["Conv", "Clip"], ["Add", "Relu"], ["Gemm", "Relu"]]
    if symmetric:
        supergroups.append(["Conv", "BatchNormalization", "Relu"])
    unquantised = ("Squeeze", "Pad", "Mean") if symmetric else ()
    return {
        "defaults": {
            "ops": {"is_output_quantized": "True"},
            "params": {"is_quantized": "True", **({"is_symmetric": "True"} if symmetric else {})},
            "strict_symmetric": "False",
            "unsigned_symmetric": "True",
            "per_channel_quantization": str(per_channel),
        },
        "params": {"bias": {"is_quantized": "False"}},
        "op_type": {op: {"is_output_quantized": "False"} for op in unquantised},
        "supergroups": [{"op_list": group} for group in supergroups],
        "model_input": {"is_input_quantized": "True"},
        "model_output": {},
        "quant_scheme": "tf_enhanced",
        "default_param_bw": bits,
    }


#: Configurations by name.  ``aimet-w8a8`` is what AIMET's model zoo used for its pose_estimation (release 1.19); the
#: symmetric ones, per channel or not, have the default files of release 1.22.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "aimet-w8a8": _preset(8),
    "w4a8": _preset(4),
    "w8a8-symmetric": _preset(8, symmetric=True),
    "w4a8-symmetric": _preset(4, symmetric=True),
    "w8a8-per-channel": _preset(8, symmetric=True, per_channel=True),
    "w4a8-per-channel": _preset(4, symmetric=True, per_channel=True),
}
