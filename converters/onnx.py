"""ONNX: the hub itself, with the spec in its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepose.errors import ConversionError
from edgepose.graph.half import compute_half
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe

from .sample_feeds import sample_feeds

ENGINE = "model.onnx"


class OnnxConverter:
    """Writes the graph: as it is, or computing in float16 where that does no harm."""

    name = "onnx"
    precisions: Sequence[str] = ("fp32", "fp16")
    scheme = None

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
        notes: tuple[str, ...] = ()
        if precision == "fp16":
            half = compute_half(model.graph, sample_feeds(model))
            model = PoseModel(half.graph, model.spec, model.provenance)
            notes = tuple(f"Stays float32: {line}." for line in half.kept)
        model.save(folder / ENGINE)
        return Conversion(ENGINE, (ENGINE,), {"onnx": version("onnx")}, notes)
