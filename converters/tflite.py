"""TFLite, written directly: no TensorFlow takes part."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from edgepose import plugins
from edgepose.devices import Device
from edgepose.errors import ConversionError, DeviceError, GraphError
from edgepose.graph.check import difference, observe
from edgepose.graph.feeds import random_feeds, real_inputs, trials
from edgepose.graph.half import round_weights, widen_stored
from edgepose.graph.inference import shape_of
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe

from .sample_feeds import sample_feeds

ENGINE = "model.tflite"
#: The form in which the translation reads operators.
_OPSET = 17
_SEEDS = (0, 1)
_RUNTIME = "tflite"
#: Operators of decoders: on noise, peaks are so alike that a rounding decides which of them is taken.
_CHOOSING = frozenset({"ArgMax", "TopK", "Equal"})


class TfliteConverter:
    """Writes TFLite files, channels last inside; inputs and outputs keep the layout that the spec says.

    FP16 is how the weights of convolutions and matrix products are stored; runtimes widen them once, when they load the
    file.
    """

    name = "tflite"
    precisions: Sequence[str] = ("fp32", "fp16")
    scheme = None

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

        half = precision == "fp16"
        graph, notes = _prepared(model.graph, half=half)
        try:
            data = write(graph, half=half)
        except OverflowError as error:
            raise ConversionError(str(error)) from error
        (folder / ENGINE).write_bytes(data)
        notes.append(_proven(folder / ENGINE, PoseModel(graph, model.spec)))
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


def _proven(engine: Path, model: PoseModel) -> str:
    """Run the file on a real picture and random input, if that can be done here; returns what to tell the user.

    Raises
    ------
    ConversionError
        If it gives something else than the graph in ONNX Runtime.
    """
    if _RUNTIME not in plugins.runtimes():
        return "Not executed: the runtime 'tflite' is not installed."
    runtime = plugins.runtime(_RUNTIME)
    probe = runtime.probe()
    if not probe.available:
        return f"Not executed here: {probe.looked_for} was not found."
    try:
        feeds = [sample_feeds(model)]
        if not _CHOOSING & {n.op_type for n in model.graph.graph.node}:
            feeds += [random_feeds(model.graph, trial) for trial in trials(_SEEDS)]
        reference = observe(model.graph, feeds=feeds)
        session = runtime.open(engine, Device("cpu"), {})
        found = [session.run(fed) for fed, _ in reference.runs]
        placement = session.placement
        session.close()
        worst = 0.0
        for name in reference.runs[0][1]:
            pairs = [(expected[name], now[name]) for (_, expected), now in zip(reference.runs, found, strict=True)]
            worst = max(worst, difference(name, pairs).relative)
    except DeviceError as error:
        raise ConversionError(f"The TFLite file does not run: {error.message}", hint=error.hint) from error
    except GraphError as error:
        raise ConversionError(f"The TFLite file gives something else than ONNX Runtime: {error.message}") from error
    return f"Executed by {placement}: differs from ONNX Runtime by {worst:.1e} of the largest output."
