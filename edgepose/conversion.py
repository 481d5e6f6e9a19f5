"""From a checkpoint to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import __version__
from .artifact import DEFAULT_MODEL, embedded_folder
from .bundle import Bundle, BundleStage, finish_bundle, read_bundle, writing_bundle
from .decoding import build_decoder
from .devices import Device
from .errors import ConversionError
from .estimator import Stage
from .fitting import fit
from .golden import GOLDEN, GoldenFrame, read_golden, write_golden
from .importing import ImportOptions, Report, import_checkpoint
from .model import PoseModel
from .plugins import converter, runtime
from .spec import PoseSpec

#: The runtime whose outputs are the reference of every conversion.
REFERENCE_RUNTIME = "onnxruntime"


def convert(
    checkpoint: str | Path,
    to: str = "onnx",
    *,
    output: str | Path | None = None,
    precision: str = "fp32",
    architecture: str | None = None,
    spec: str | Path | PoseSpec | None = None,
    opset: int | None = None,
    batch: int | Literal["dynamic"] | None = None,
    input_size: tuple[int, int] | None = None,
    simplify: bool = False,
    target_options: Mapping[str, Any] | None = None,
    report: Report = lambda line: None,
) -> Bundle:
    """Convert a checkpoint to a target's bundle.

    Parameters
    ----------
    checkpoint
        A file that :func:`edgepose.importing.import_checkpoint` reads.
    to
        Target: the name of an installed converter.
    output
        Folder of the bundle; by default ``<checkpoint>-<target>-<precision>`` in the current folder.
    precision
        ``fp32``, or another that the target has.
    architecture, spec, opset, batch, input_size, simplify
        How the checkpoint becomes a graph: see :class:`edgepose.importing.ImportOptions`.
    target_options
        Options of the target's converter.
    report
        Told what is being done.

    Returns
    -------
    Bundle
        As it stands on disk, whole.

    Raises
    ------
    EdgePoseError
        If it cannot be done; nothing was written then.
    """
    target = converter(to)
    probe = target.probe()
    if not probe.available:
        raise ConversionError(f"The target '{to}' needs {probe.looked_for}, which is not here.", hint=probe.remedy)
    if precision not in target.precisions:
        raise ConversionError(
            f"The target '{to}' has no precision '{precision}'.", hint=f"It has: {', '.join(target.precisions)}."
        )
    folder = Path(output) if output is not None else Path(f"{Path(checkpoint).stem}-{to}-{precision}")
    options = ImportOptions(architecture, spec, opset, batch, input_size, simplify)
    model = import_checkpoint(checkpoint, options, report)
    report(f"writing {folder}")
    write_model_bundle(model, folder, to, precision, target_options or {})
    return read_bundle(folder)


def write_model_bundle(
    model: PoseModel, folder: Path, to: str, precision: str, target_options: Mapping[str, Any]
) -> None:
    """Convert a model and write its bundle with golden frames, whole or not at all."""
    with writing_bundle(folder) as inside:
        result = converter(to).convert(model, inside, precision, target_options)
        write_golden(inside / GOLDEN, [golden_frame(model, inside)])
        finish_bundle(
            inside,
            str(model.provenance.get("architecture") or model.graph.graph.name or folder.name),
            [BundleStage("pose", to, precision, result.engine, model.spec)],
            source=model.provenance,
            license={"name": "not stated by the checkpoint"},
            tools={"edgepose": __version__, **result.tools},
            measured={},
        )


def golden_frame(model: PoseModel, folder: Path) -> GoldenFrame:
    """A real picture through the reference runtime.

    Parameters
    ----------
    model
        The FP32 graph.
    folder
        Where a temporary copy of the graph may lie.
    """
    picture, boxes = _golden_picture()
    fitted = fit(picture, model.spec.input, boxes if model.spec.is_top_down else None)
    pixels = np.clip(np.rint(fitted.pixels), 0, 255).astype(np.uint8)
    graph = folder / ".reference.onnx"
    graph.write_bytes(model.to_bytes())
    try:
        session = runtime(REFERENCE_RUNTIME).open(graph, Device("cpu"), {})
        stage = Stage(model.spec, session, build_decoder(model.spec))
        outputs = {model.spec.decoder.outputs[role]: a for role, a in stage.infer(pixels).items()}
        session.close()
    finally:
        graph.unlink()
    return GoldenFrame(0, pixels, outputs)


def _golden_picture() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The picture that the embedded model was tested with, and the boxes of the people that it found there."""
    folder = embedded_folder(DEFAULT_MODEL)
    frame = read_golden(folder / GOLDEN)[0]
    spec: PoseSpec = read_bundle(folder).manifest.stages[0].spec
    outputs = {role: frame.outputs[name] for role, name in spec.decoder.outputs.items()}
    size = int(frame.pixels.shape[1]), int(frame.pixels.shape[2])
    found = build_decoder(spec).decode(outputs, size)[0]
    boxes = np.zeros((0, 4), np.float32) if found.boxes is None else found.boxes[:2]
    return frame.pixels[0], boxes
