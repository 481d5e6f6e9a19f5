"""From a checkpoint to a bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import __version__
from .bundle import Bundle, BundleStage, finish_bundle, read_bundle, writing_bundle
from .decoding import build_decoder
from .devices import Device
from .errors import ConversionError
from .estimator import Stage
from .evaluation.parity_run import REFERENCE_RUNTIME, measure_conversion
from .fitting import fit
from .golden import GOLDEN, GoldenFrame, write_golden
from .graph.embed import default_embedding, embeddable
from .graph.embed import embed as embed_graph
from .importing import ImportOptions, Report, import_checkpoint
from .model import PoseModel
from .plugins import converter, runtime
from .sample import sample_picture
from .spec import PoseSpec

#: What goes into the graph; None for what was measured to be fastest on the target.
Embed = Collection[Literal["pre", "post"]] | None


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
    embed: Embed = None,
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
    embed
        What goes into the graph: ``pre`` for colour, normalisation and layout, ``post`` for the decoder; None for what
        was measured to be fastest on the target.
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
    model = embedded_for(import_checkpoint(checkpoint, options, report), to, embed)
    report(f"writing {folder}")
    write_model_bundle(model, folder, to, precision, target_options or {})
    return read_bundle(folder)


def embedded_for(model: PoseModel, to: str, parts: Embed) -> PoseModel:
    """The model with the input side, the decoder, both or neither in its graph; None for the target's default.

    Raises
    ------
    GraphError
        If a part was asked for that this model cannot have inside.
    """
    if parts is not None:
        return embed_graph(model, pre="pre" in parts, post="post" in parts)
    pre, post = (
        wanted and possible for wanted, possible in zip(default_embedding(to), embeddable(model.spec), strict=True)
    )
    return embed_graph(model, pre=pre, post=post)


def write_model_bundle(
    model: PoseModel, folder: Path, to: str, precision: str, target_options: Mapping[str, Any]
) -> None:
    """Convert a model and write its bundle with golden frames, whole or not at all."""
    with writing_bundle(folder) as inside:
        result = converter(to).convert(model, inside, precision, target_options)
        write_golden(inside / GOLDEN, [golden_frame(model, inside)])
        stages = [BundleStage("pose", to, precision, result.engine, model.spec)]
        finish_bundle(
            inside,
            str(model.provenance.get("architecture") or model.graph.graph.name or folder.name),
            stages,
            source=model.provenance,
            license={"name": "not stated by the checkpoint"},
            tools={"edgepose": __version__, **result.tools},
            measured={"parity": measure_conversion(model, inside, stages)},
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
    picture, boxes = sample_picture()
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
    return GoldenFrame(0, pixels, outputs, fitted.to_image)
