"""The ONNX graph as ``atc`` reads it: an opset that it knows, one domain, shapes that it is told."""

from __future__ import annotations

import onnx

from edgepose.errors import ConversionError, GraphError
from edgepose.graph.draft import opset_of
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import shape_of
from edgepose.graph.passes import optimise, set_batch, set_opset

from .settings import QUANTISED_OPSET, SAFE_OPSET, Settings, opsets_of

_QUANTISING = ("QuantizeLinear", "DequantizeLinear")


def prepared(
    graph: onnx.ModelProto, precision: str, settings: Settings, release: tuple[int, int] | None
) -> onnx.ModelProto:
    """The graph for the compiler.

    Parameters
    ----------
    graph
        The graph; with Q/DQ nodes for int8.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    settings
        What the user has chosen.
    release
        Version of CANN that will read it; None if it is not known.

    Raises
    ------
    ConversionError
        If this CANN cannot take it.
    """
    _check_domains(graph)
    oldest, newest = opsets_of(release)
    quantised = any(node.op_type in _QUANTISING for node in graph.graph.node)
    if precision == "int8":
        _check_quantised(quantised, newest, release)
    elif quantised:
        raise ConversionError(f"The graph is quantised and was to be compiled in {precision}.")
    batch = _batch(graph, settings)
    if quantised:
        return _quantised(graph, settings.opset or min(max(opset_of(graph), QUANTISED_OPSET), newest), batch)
    # The version that all releases read; a newer one only where the graph needs it and this release reads it.
    wanted = settings.opset or SAFE_OPSET
    if settings.opset and not oldest <= wanted <= newest:
        raise ConversionError(
            f"CANN {_called(release)} reads opset {_span(oldest, newest)}, not {wanted}.",
            hint="Leave the option 'opset' out, or name the release that compiles with --option cann=MAJOR.MINOR.",
        )
    try:
        return optimise(graph, opset=wanted, batch=batch)
    except GraphError as error:
        if settings.opset or newest == wanted:
            raise ConversionError(
                f"The graph cannot be written in opset {wanted}, which CANN {_called(release)} reads: {error.message}",
                hint="Use a newer CANN; name the one that compiles with --option cann=MAJOR.MINOR.",
            ) from error
    return optimise(graph, opset=min(max(opset_of(graph), oldest), newest), batch=batch)


def shapes_of(graph: onnx.ModelProto, settings: Settings, layout: str) -> dict[str, list[int]]:
    """Input -> shape, with -1 where a profile says; ``layout`` is that of the pictures.

    Raises
    ------
    ConversionError
        If a dimension is open and no profile is for it, or the other way round.
    """
    if settings.sizes and layout != "NCHW":
        raise ConversionError(
            f"atc takes sizes to choose from for pictures in NCHW; this network's are {layout}.",
            hint="Leave 'pre' out of --embed, or the option 'dynamic_image_size'.",
        )
    shapes = {}
    for value in real_inputs(graph.graph):
        shape = [d if isinstance(d, int) else -1 for d in shape_of(value) or ()]
        spatial = shape[2:] if len(shape) == 4 else []
        if settings.sizes:
            if spatial != [-1, -1]:
                raise ConversionError(
                    f"The input '{value.name}' has a fixed height and width.",
                    hint="Leave the option 'dynamic_image_size' out, or convert a network that takes any size.",
                )
        elif -1 in shape[1:]:
            raise ConversionError(
                f"The input '{value.name}' has no fixed height and width.",
                hint="Give it with --input-size HxW, or several with --option dynamic_image_size.",
            )
        if settings.batches and shape[0] != -1:
            raise ConversionError(
                f"The input '{value.name}' has a fixed batch of {shape[0]}.", hint="Use --batch dynamic."
            )
        shapes[value.name] = shape
    return shapes


def is_dynamic_batch(graph: onnx.ModelProto) -> bool:
    """Whether an input leaves its batch open."""
    return any(not isinstance((shape_of(value) or (None,))[0], int) for value in real_inputs(graph.graph))


def _batch(graph: onnx.ModelProto, settings: Settings) -> int | None:
    """The batch to write the graph for; None to leave it."""
    return 1 if is_dynamic_batch(graph) and not settings.batches else None


def _quantised(graph: onnx.ModelProto, opset: int, batch: int | None) -> onnx.ModelProto:
    """Without simplifying, which would undo the quantisation of constants."""
    if opset < QUANTISED_OPSET:
        raise ConversionError(f"Scales per channel need opset {QUANTISED_OPSET}; opset {opset} was chosen.")
    if batch is not None:
        graph = set_batch(graph, batch)
    return graph if opset_of(graph) == opset else set_opset(graph, opset)


def _check_quantised(quantised: bool, newest: int, release: tuple[int, int] | None) -> None:
    if not quantised:
        raise ConversionError(
            "atc quantises nothing by itself: for int8 it needs a calibrated graph.",
            hint="Convert with --precision int8 --calibration FOLDER.",
        )
    if newest < QUANTISED_OPSET:
        known = f"CANN {_called(release)} reads opset {newest} only" if release else "No version of CANN was found"
        raise ConversionError(
            f"{known}, and a graph quantised per channel needs opset {QUANTISED_OPSET}: CANN 7.0 or newer.",
            hint="Install CANN 7.0 or newer, or name the one that compiles with --option cann=7.0; or quantise with"
            " MindSpore Lite on a machine with CANN: edgepose convert --to mindir --precision int8 writes its"
            " configuration.",
        )


def _check_domains(graph: onnx.ModelProto) -> None:
    foreign = sorted({n.domain for n in graph.graph.node} - {"", "ai.onnx"})
    if foreign:
        raise ConversionError(
            f"The graph has operators of {', '.join(foreign)}, and atc reads those of ONNX itself only.",
            hint="Convert the checkpoint that it was made from.",
        )


def _called(release: tuple[int, int] | None) -> str:
    return ".".join(map(str, release)) if release else "of unknown version"


def _span(oldest: int, newest: int) -> str:
    return str(oldest) if oldest == newest else f"{oldest} to {newest}"
