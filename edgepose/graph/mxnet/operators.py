"""All MXNet operators that can be translated."""

from __future__ import annotations

from . import activations, elementwise, layers, pooling, quantised, reductions, reshaping
from .translation import Translator

OPERATORS: dict[str, Translator] = {
    **layers.OPERATORS,
    **pooling.OPERATORS,
    **activations.OPERATORS,
    **elementwise.OPERATORS,
    **reshaping.OPERATORS,
    **reductions.OPERATORS,
    **quantised.OPERATORS,
}
