"""ONNX: the hub itself, with the spec in its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepose.errors import ConversionError
from edgepose.graph.half import store_half
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe
from edgepose.quantization.scheme import Scheme

from .quantised import check_quantised

ENGINE = "model.onnx"


class OnnxConverter:
    """Writes the graph.

    FP16 is how the weights of convolutions and matrix products are stored; they are computed with as float32.  ONNX
    Runtime is not faster on a CPU in float16, and a graph that computes in it loses accuracy for nothing.  INT8 is a
    calibrated graph with Q/DQ nodes in the form in which ONNX Runtime is fast, written as it comes.
    """

    name = "onnx"
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
    #: ONNX Runtime has no int8 deconvolution, fuses a layer with nothing but bounds, and only if it gives int8.
    scheme = Scheme(deconvolution="subpixel", fused=("Relu", "Clip"))

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`."""
        return Probe(True, "Python module onnx", f"onnx {version('onnx')}")

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`.  There are no options."""
        if options:
            raise ConversionError(f"The target 'onnx' has no option {', '.join(sorted(options))}.")
        if precision not in self.precisions:
            raise ConversionError(
                f"ONNX is written in {', '.join(self.precisions)}, not in {precision}.", hint="Use --precision fp32."
            )
        if precision == "int8":
            check_quantised(model.graph)
        notes: tuple[str, ...] = ()
        if precision == "fp16":
            model = PoseModel(store_half(model.graph), model.spec, model.provenance)
            notes = ("Weights are stored as float16 and computed with as float32.",)
        model.save(folder / ENGINE)
        return Conversion(ENGINE, (ENGINE,), {"onnx": version("onnx")}, notes)
