"""TFLite, written directly: no TensorFlow takes part."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from edgepose.errors import ConversionError, GraphError
from edgepose.graph.feeds import real_inputs
from edgepose.graph.half import round_weights, widen_stored
from edgepose.graph.inference import shape_of
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe
from edgepose.quantization.scheme import LAYERS, Scheme

from .quantised import check_quantised
from .tflite_proof import proven, proven_int8

ENGINE = "model.tflite"
#: The form in which the translation reads operators.
_OPSET = 17
#: Activations that have int8 kernels, or are so small as gates that int8 pays for what they are multiplied with.
_GATES = frozenset({"Sigmoid", "HardSigmoid", "HardSwish", "Elu", "LeakyRelu"})


class TfliteConverter:
    """Writes TFLite files, channels last inside; inputs and outputs keep the layout that the spec says.

    FP16 is how the weights of convolutions and matrix products are stored; runtimes widen them once, when they load the
    file.  INT8 is a calibrated graph with Q/DQ nodes, computed in integers wherever TFLite has operators for it; inputs
    and outputs stay float32.
    """

    name = "tflite"
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
    #: XNNPACK has no deconvolution with a scale for each channel; everything else named here it computes in int8.
    scheme = Scheme(
        activations="int8",
        deconvolution="subpixel",
        operators=LAYERS | {"Add", "Concat", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool"} | _GATES,
        fused=("Relu", "Clip"),
    )

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`."""
        if importlib.util.find_spec("flatbuffers") is None:
            return Probe(False, "Python module flatbuffers", remedy='pip install "edgepose[tflite]"')
        return Probe(True, "Python module flatbuffers", f"flatbuffers {version('flatbuffers')}")

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`.  There are no options."""
        if options:
            raise ConversionError(f"The target 'tflite' has no option {', '.join(sorted(options))}.")
        if precision not in self.precisions:
            raise ConversionError(f"TFLite is written in {', '.join(self.precisions)}, not in {precision}.")
        from .tflite_writing import write

        integers = precision == "int8"
        if integers:
            check_quantised(model.graph)
        graph, notes = _prepared(model.graph, half=precision == "fp16")
        try:
            data = write(graph, half=precision == "fp16", integers=integers)
        except OverflowError as error:
            raise ConversionError(str(error)) from error
        (folder / ENGINE).write_bytes(data)
        prove = proven_int8 if integers else proven
        notes.append(prove(folder / ENGINE, PoseModel(graph, model.spec)))
        return Conversion(ENGINE, (ENGINE,), {"flatbuffers": version("flatbuffers")}, notes)


def _prepared(graph: onnx.ModelProto, *, half: bool) -> tuple[onnx.ModelProto, list[str]]:
    """The graph as it is translated: fixed batch, known opset, weights rounded; and what the user should know."""
    notes = []
    for value in real_inputs(graph.graph):
        shape = shape_of(value) or ()
        if any(not isinstance(d, int) for d in shape[1:]):
            raise ConversionError(
                f"TFLite needs a fixed input size; '{value.name}' is {list(shape)}.",
                hint="Give it with --input-size HxW.",
            )
        if shape and not isinstance(shape[0], int):
            notes.append("The batch size is 1.")
    try:
        graph = optimise(widen_stored(graph), opset=_OPSET, batch=1 if notes else None)
        if half:
            graph = round_weights(graph)
    except GraphError as error:
        raise ConversionError(f"TFLite: {error.message}", hint=error.hint) from error
    return graph, notes
