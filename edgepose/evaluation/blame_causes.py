"""Likely causes of a difference, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..artifact import StageSource
from ..decoding import Decoder, build_decoder
from ..errors import SpecError
from ..estimator import Stage
from ..spec import InputSpec

#: Largest relative difference of a tensor that a precision explains: float32 as :mod:`edgepose.graph.check` measured
#: it; the others with room for the errors that add up over a hundred layers.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.3}
#: The same between engines of two kinds.
OTHER_ENGINE = 1e-3

#: What stands before the nodes that :mod:`edgepose.graph.embed` adds at the input.
_INPUT_SIDE = "edgepose.input/"

_WORDS: dict[str, dict[object, str]] = {
    "convention": {
        "msra": "centres and widths, as SimpleBaseline",
        "udp": "unit intervals between pixel centres: (size - 1) where others use size",
        "alphapose": "whole-pixel boxes with their own padding",
    },
    "flip_shift": {
        True: "the mirrored maps move one cell to the right",
        False: "the mirrored maps stay where they are",
        None: "which moves the mirrored maps one cell unless the outermost cells stand for the outermost pixels",
    },
    "refine": {
        "quarter": "a quarter of a cell towards the higher neighbour",
        "none": "no quarter step: the centre of the cell",
        "dark": "DARK",
        "udp-dark": "DARK as UDP does it",
        None: "which is the quarter step",
    },
    "quarter_rule": {
        "msra": "columns and rows 2 to n - 2, both or neither",
        "mmpose": "2 to n - 2, each axis by itself",
        "mindpose": "1 to n - 2, each axis by itself",
    },
    "align": {
        None: "which is 'corners' for a UDP crop, 'stride' for others",
        "stride": "cell i stands for pixel i * size / n",
        "corners": "the outermost cells stand for the outermost pixels",
    },
}


def fit_causes(reference: InputSpec, model: InputSpec) -> str:
    """What differs in how a picture is fitted; empty if nothing does."""
    causes = []
    if (reference.height, reference.width) != (model.height, model.width):
        sizes = [f"{s.height} x {s.width}" for s in (model, reference)]
        causes.append(f"the input size differs: {sizes[0]} in the model, {sizes[1]} in the reference")
    if reference.fit.kind != model.fit.kind:
        causes.append(f"the fit differs: '{model.fit.kind}' in the model, '{reference.fit.kind}' in the reference")
    else:
        for field in dataclasses.fields(reference.fit):
            true, ours = getattr(reference.fit, field.name), getattr(model.fit, field.name)
            if true != ours:
                causes.append(_differ(f"the {reference.fit.kind}'s {field.name}", field.name, true, ours))
    return "; ".join(causes)


def statistics_cause(reference: InputSpec, model: InputSpec) -> str:
    """What differs in mean and std."""
    causes = []
    for name in ("mean", "std"):
        true, ours = getattr(reference, name), getattr(model, name)
        if true == ours:
            continue
        remark = ""
        if true == ours[::-1]:
            remark = " (the same numbers in reverse order)"
        elif all(abs(255 * b - a) < 0.01 * a or abs(255 * a - b) < 0.01 * b for a, b in zip(true, ours, strict=True)):
            remark = " (one of them is for pixels from 0 to 1)"
        causes.append(f"{name} differs: {_triple(ours)} in the model, {_triple(true)} in the reference{remark}")
    return "; ".join(causes)


def option_causes(reference: Stage, model: Stage, distance: Callable[[Decoder], float]) -> str:
    """Which options of the decoder make a difference.

    Parameters
    ----------
    distance
        How far a decoder's results lie from the reference's; a decoder that has the reference's value of an option
        and then comes nearer than the model's tells that the option takes part.
    """
    kinds = [s.spec.decoder.type for s in (model, reference)]
    if kinds[0] != kinds[1]:
        return f"the decoder differs: '{kinds[0]}' in the model, '{kinds[1]}' in the reference"
    before = distance(model.decoder)
    guilty: list[str] = []
    others: list[str] = []
    true_options, our_options = (_options(s.decoder) for s in (reference, model))
    for name in sorted(set(true_options) | set(our_options)):
        true, ours = true_options.get(name), our_options.get(name)
        if true == ours:
            continue
        words = _differ(f"the decoder's {name}", name, true, ours)
        (guilty if _mended(model, name, true, distance) < before else others).append(words)
    causes = guilty or others
    if not causes:
        return fit_causes(reference.spec.input, model.spec.input) or "the cause is not in the specs"
    return "; ".join(causes)


def graph_has_input_side(source: StageSource) -> bool:
    """Whether edgepose has put colour order and normalisation into the graph of an ONNX file."""
    if source.target != "onnx":
        return False
    import onnx

    graph = onnx.load(source.engine, load_external_data=False).graph
    return any(node.name.startswith(_INPUT_SIDE) for node in graph.node)


def _mended(model: Stage, name: str, value: Any, distance: Callable[[Decoder], float]) -> float:
    decoder = model.spec.decoder
    options = {**decoder.options, name: list(value) if isinstance(value, tuple) else value}
    try:
        changed = dataclasses.replace(decoder, options=options)
        return distance(build_decoder(model.spec.replace(decoder=changed)))
    except SpecError:
        return float("inf")  # the options do not go together


def _options(decoder: Decoder) -> dict[str, Any]:
    """All options of a decoder, those included that its spec leaves out."""
    options = getattr(decoder, "options", None)
    return dataclasses.asdict(options) if dataclasses.is_dataclass(options) and not isinstance(options, type) else {}


def _differ(what: str, name: str, true: Any, ours: Any) -> str:
    return f"{what} differs: {_value(name, ours)} in the model, {_value(name, true)} in the reference"


def _value(name: str, value: Any) -> str:
    written = "the default" if value is None else repr(value)
    words = _WORDS.get(name, {}).get(value) if value is None or isinstance(value, (str, bool)) else None
    return f"{written} ({words})" if words else written


def _triple(values: tuple[float, float, float]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"
