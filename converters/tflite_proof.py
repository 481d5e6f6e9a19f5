"""Running a written TFLite file, where that can be done, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepose import plugins
from edgepose.devices import Device
from edgepose.errors import ConversionError, DeviceError, GraphError
from edgepose.graph.check import difference, observe
from edgepose.graph.feeds import random_feeds, trials
from edgepose.graph.running import Runner, Tensor
from edgepose.model import PoseModel

from .sample_feeds import sample_feeds

_SEEDS = (0, 1)
_RUNTIME = "tflite"
#: Operators of decoders: on noise, peaks are so alike that a rounding decides which of them is taken.
_CHOOSING = frozenset({"ArgMax", "TopK", "Equal"})
#: Two runtimes round sums that lie between two integers to different ones, and deep networks carry that on: on those of
#: the families about as far as another rounding of the picture does.  They may differ by this many times that.
_TIMES = 2.0
#: What they may differ by besides, as a part of the size of the output.
_FLOOR = 5e-3


def proven(engine: Path, model: PoseModel) -> str:
    """Run the file on a real picture and random input, if that can be done here; returns what to tell the user.

    Raises
    ------
    ConversionError
        If it does not run, or gives something else than the graph in ONNX Runtime.
    """
    feeds = [sample_feeds(model)]
    if not _chooses(model):
        feeds += [random_feeds(model.graph, trial) for trial in trials(_SEEDS)]
    try:
        reference = observe(model.graph, feeds=feeds)
    except GraphError as error:
        raise ConversionError(f"ONNX Runtime does not run the graph: {error.message}") from error
    ran = _run(engine, feeds)
    if isinstance(ran, str):
        return ran
    found, placement = ran
    worst = 0.0
    try:
        for name in reference.runs[0][1]:
            pairs = [(expected[name], now[name]) for (_, expected), now in zip(reference.runs, found, strict=True)]
            worst = max(worst, difference(name, pairs).relative)
    except GraphError as error:
        raise ConversionError(f"The TFLite file gives something else than ONNX Runtime: {error.message}") from error
    return f"Executed by {placement}: differs from ONNX Runtime by {worst:.1e} of the largest output."


def proven_int8(engine: Path, model: PoseModel) -> str:
    """Run a file of int8 on a real picture, if that can be done here; returns what to tell the user.

    Raises
    ------
    ConversionError
        If it does not run, or is farther from the Q/DQ graph in ONNX Runtime than rounding explains: the root mean
        square of an output's difference is compared with how far it moves when the picture is rounded otherwise.
    """
    feeds = [sample_feeds(model)]
    ran = _run(engine, feeds)
    if isinstance(ran, str):
        return ran
    (found,), placement = ran
    runner = Runner(model.graph, "quantised graph")
    expected = runner.run(feeds[0])
    moved = runner.run(nudged(feeds[0]))
    worst = 0.0
    for name, wanted in expected.items():
        now = found.get(name)
        if now is None or now.shape != wanted.shape or now.dtype != wanted.dtype or not np.isfinite(now).all():
            raise ConversionError(f"The TFLite file gives another shape or type for '{name}', or what is not finite.")
        size, noise, off = _rms(wanted), _rms(moved[name] - wanted), _rms(now - wanted)
        if off > _TIMES * noise + _FLOOR * size and not _chooses(model):
            raise ConversionError(
                f"The TFLite file gives something else than ONNX Runtime: '{name}' is {off:.3g} off in the mean, of"
                f" {size:.3g}, and rounding explains {_TIMES * noise:.3g}."
            )
        worst = max(worst, off / size if size else off)
    why = "; its decoder takes the largest of values, which a rounding can change" if _chooses(model) else ""
    return (
        f"Executed by {placement}: differs from the int8 graph in ONNX Runtime by {worst:.1e} of the size of an output"
        f" (root mean squares){why}."
    )


def nudged(feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same picture with noise of at most one step of eight bits, which moves half of its pixels to the next one."""
    rng = np.random.default_rng(0)
    made = {}
    for name, array in feeds.items():
        if array.dtype == np.uint8:
            made[name] = np.clip(array + rng.integers(-1, 2, array.shape), 0, 255).astype(np.uint8)
        else:
            step = float(array.max() - array.min()) / 255
            made[name] = (array + step * rng.uniform(-1, 1, array.shape)).astype(array.dtype)
    return made


def _run(engine: Path, feeds: Sequence[Mapping[str, Tensor]]) -> tuple[list[dict[str, Tensor]], str] | str:
    """What the file gives and what ran it, or why it was not run."""
    if _RUNTIME not in plugins.runtimes():
        return "Not executed: the runtime 'tflite' is not installed."
    runtime = plugins.runtime(_RUNTIME)
    probe = runtime.probe()
    if not probe.available:
        return f"Not executed here: {probe.looked_for} was not found."
    try:
        session = runtime.open(engine, Device("cpu"), {})
        found = [session.run(fed) for fed in feeds]
        placement = session.placement
        session.close()
    except DeviceError as error:
        raise ConversionError(f"The TFLite file does not run: {error.message}", hint=error.hint) from error
    return found, placement


def _chooses(model: PoseModel) -> bool:
    return any(n.op_type in _CHOOSING for n in model.graph.graph.node)


def _rms(values: Tensor) -> float:
    return float(np.sqrt(np.mean(np.square(values.astype(np.float64))))) if values.size else 0.0
