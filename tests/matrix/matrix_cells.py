"""One cell of the table: a network converted to a target in a precision, and run there on pictures."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matrix_networks import Network, pictures

from edgepose import plugins
from edgepose.conversion import convert
from edgepose.errors import EdgePoseError
from edgepose.evaluation.parity import Parity, compare, tensor_errors
from edgepose.evaluation.parity_people import Readout, look
from edgepose.evaluation.parity_run import Picture
from edgepose.loading import load

#: Target -> runtimes that run its engines on a CPU.
RUNTIMES = {
    "onnx": ("onnxruntime",),
    "openvino": ("openvino",),
    "tflite": ("tflite",),
    "mindir": ("mindspore-lite", "mindspore"),
}
PRECISIONS = ("fp32", "fp16")
#: At most this many pixels of the picture for 99 of 100 joints.
PIXELS = {"fp32": 0.05, "fp16": 0.5}
#: At most this part of the largest output, where people say nothing: another order of sums; rounding of each weight by
#: 2^-11, through up to a hundred layers.
TENSORS = {"fp32": 1e-4, "fp16": 5e-3}
#: The 99th percentile of fewer joints would say little.
_JOINTS = 20


@dataclass(frozen=True)
class Reference:
    """A network's FP32 graph, and what ONNX Runtime makes of the pictures with it."""

    network: Network
    graph: Path
    pictures: Sequence[Picture]
    answers: Sequence[Readout]


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes
    ----------
    shift
        The 99th percentile of the joints' distances in pixels, or for a chaotic network the largest difference of an
        output as a part of its largest value; None if there is none.
    problem
        Why the cell is no support; None if it is.
    """

    shift: float | None
    problem: str | None


def missing(target: str, runtime: str) -> str | None:
    """What is not installed for these cells; None if nothing is."""
    for probe in (plugins.converter(target).probe(), plugins.runtime(runtime).probe()):
        if not probe.available:
            return f"{probe.looked_for} needed: {probe.remedy}"
    return None


def prepare(network: Network, reference: Path | None, folder: Path) -> Reference:
    """Build the graph, and run it in ONNX Runtime."""
    graph = folder / f"{re.sub('[^a-z0-9]+', '-', network.name.lower())}.onnx"
    network.make(Path() if reference is None else reference).save(graph)
    shown = pictures(reference)
    return Reference(network, graph, shown, _looks(graph, "onnxruntime", shown))


def measure(reference: Reference, target: str, runtime: str, precision: str) -> Outcome:
    """Convert with edgepose's public function, load, run, compare."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            bundle = convert(reference.graph, target, output=Path(folder, "bundle"), precision=precision)
            found = _looks(bundle.folder, runtime, reference.pictures)
    except EdgePoseError as error:
        return Outcome(None, f"{type(error).__name__}: {error.message}")
    pairs = list(zip(reference.answers, found, strict=True))
    if reference.network.chaotic:
        errors = [error for a, b in pairs for error in tensor_errors(a.outputs, b.outputs).values()]
        shift = max((error.relative for error in errors), default=np.inf)
        return Outcome(shift, None if shift <= TENSORS[precision] else f"an output differs by {shift:.1e} of its size")
    parity = Parity([compare(a, b, p.name) for (a, b), p in zip(pairs, reference.pictures, strict=True)])
    problems = parity.failures()
    if not parity.p99 <= PIXELS[precision]:
        problems.append(f"one joint in a hundred moved by more than {parity.p99:.3f} px")
    if len(parity.shifts) < _JOINTS:
        problems.append(f"only {len(parity.shifts)} joints could be compared")
    return Outcome(parity.p99, "; ".join(problems) or None)


def _looks(model: Path, runtime: str, shown: Sequence[Picture]) -> list[Readout]:
    with load(model, device="cpu", runtime=runtime, detector=None) as estimator:
        stage = estimator.stages[-1]
        return [look(stage, p.image, p.boxes if stage.spec.is_top_down else None) for p in shown]
