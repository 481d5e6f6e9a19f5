"""MXNet's quantised operators, as the float network that they stand for.

A quantised MXNet graph computes in int8 what the float graph computes in float32; its ``.params`` keeps the float
weights, or int8 weights with their ranges.  The float network is imported, and the calibrated ranges of the activations
are kept under the names that these have in ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from . import activations, elementwise, layers, pooling, reshaping
from .translation import Array, Call, Translation, Translator

#: int8 weights are symmetric: the largest magnitude of the range is 127.
_INT8_LEVELS = 127.0


def float_arrays(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays with int8 weights brought back to float32.

    Tools that quantise weights ahead of time store ``X`` as int8 with its range in ``X_min`` and ``X_max``.
    """
    result = dict(arrays)
    for name, array in arrays.items():
        low, high = arrays.get(f"{name}_min"), arrays.get(f"{name}_max")
        if array.dtype == np.int8 and low is not None and high is not None and low.size == high.size == 1:
            largest = max(abs(float(low.reshape(-1)[0])), abs(float(high.reshape(-1)[0])))
            result[name] = (array.astype(np.float64) * (largest / _INT8_LEVELS)).astype(np.float32)
    return result


def _with_range(call: Call, tr: Translation, value: str) -> tuple[str, str, str]:
    """The value and, in place of its run-time range, nothing; the calibrated range is noted."""
    if call.has("min_calib_range") and call.has("max_calib_range"):
        tr.note_range(value, call.number("min_calib_range", 0), call.number("max_calib_range", 0))
    return value, "", ""


def _boundary(call: Call, tr: Translation) -> tuple[str, ...]:
    """quantize, dequantize and requantize: the value itself."""
    return _with_range(call, tr, call.inputs[0])


def _fused(call: Call, tr: Translation) -> tuple[str, ...]:
    """A fused operator: its subgraph says what it computes."""
    (value,) = tr.subgraph(call)
    return _with_range(call, tr, value)


def _as_float(translator: Translator, inputs: int) -> Translator:
    """An operator with a float twin that takes its first ``inputs`` inputs; the others are ranges."""

    def translate(call: Call, tr: Translation) -> tuple[str, ...]:
        value = translator(Call(call.node, call.inputs[:inputs], call.name), tr)
        assert isinstance(value, str)
        return _with_range(call, tr, value)

    return translate


def _layer(translator: Translator) -> Translator:
    """A convolution or fully connected layer: data, weight, bias unless it has none, then ranges."""

    def translate(call: Call, tr: Translation) -> tuple[str, ...]:
        return _as_float(translator, 2 if call.flag("no_bias") else 3)(call, tr)  # type: ignore[return-value]

    return translate


def _concat(call: Call, tr: Translation) -> tuple[str, ...]:
    return _as_float(reshaping.OPERATORS["Concat"], call.node.integer("num_args"))(call, tr)  # type: ignore[return-value]


OPERATORS: dict[str, Translator] = {
    **{f"_contrib_{name}": _boundary for name in ("quantize", "quantize_v2", "dequantize", "requantize")},
    **{f"_sg_{library}_{layer}": _fused for library in ("mkldnn", "onednn") for layer in ("conv", "fully_connected")},
    "_contrib_quantized_conv": _layer(layers.OPERATORS["Convolution"]),
    "_contrib_quantized_fully_connected": _layer(layers.OPERATORS["FullyConnected"]),
    "_contrib_quantized_batch_norm": _as_float(layers.OPERATORS["BatchNorm"], 5),
    "_contrib_quantized_pooling": _as_float(pooling.OPERATORS["Pooling"], 1),
    "_contrib_quantized_act": _as_float(activations.OPERATORS["Activation"], 1),
    "_contrib_quantized_flatten": _as_float(reshaping.OPERATORS["Flatten"], 1),
    "_contrib_quantized_concat": _concat,
    "_contrib_quantized_elemwise_add": _as_float(elementwise.OPERATORS["elemwise_add"], 2),
    "_contrib_quantized_elemwise_mul": _as_float(elementwise.OPERATORS["elemwise_mul"], 2),
}
