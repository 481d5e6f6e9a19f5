"""From a checkpoint to a bundle."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import __version__
from .artifact import Artifact, StageSource
from .bundle import Bundle, BundleStage, finish_bundle, read_bundle, writing_bundle
from .decoding import build_decoder
from .devices import Device
from .errors import ConversionError
from .estimator import Stage
from .evaluation.parity_run import REFERENCE_RUNTIME, measure_conversion
from .file_bundle import write_file_bundle
from .fitting import fit
from .golden import GOLDEN, GoldenFrame, write_golden
from .graph.embed import default_embedding, embeddable
from .graph.embed import embed as embed_graph
from .importing import Imported, ImportOptions, Report, import_model
from .model import PoseModel
from .plugins import Converter, converter, needs_tools, runtime, takes_file
from .sample import sample_picture
from .spec import PoseSpec

if TYPE_CHECKING:
    from .quantization.options import Int8Options

#: What goes into the graph; None for what was measured to be fastest on the target.
Embed = Collection[Literal["pre", "post"]] | None


@dataclass(frozen=True)
class TargetOptions:
    """How imported networks become a target's bundle.

    Attributes
    ----------
    embed
        What goes into the graph: ``pre`` for colour, normalisation and layout, ``post`` for the decoder; None for what
        was measured to be fastest on the target.
    own
        Options of the target's converter.
    int8
        How to quantise, for the precision ``int8``.
    """

    embed: Embed = None
    own: Mapping[str, Any] = field(default_factory=dict)
    int8: Int8Options | None = None


def convert(
    checkpoint: str | Path,
    to: str = "onnx",
    *,
    output: str | Path | None = None,
    precision: str = "fp32",
    calibration: str | Path | None = None,
    int8: Int8Options | None = None,
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
        What :func:`edgepose.importing.import_model` reads: a checkpoint, a bundle of FP32 ONNX graphs, or the name of
        an embedded model.
    to
        Target: the name of an installed converter.
    output
        Folder of the bundle; by default ``<checkpoint>-<target>-<precision>`` in the current folder.
    precision
        ``fp32``, or another that the target has.
    calibration
        For ``int8``: a folder of pictures, a COCO JSON, a video, or a saved file of ranges; short for
        ``int8=Int8Options(calibration=...)``.
    int8
        For ``int8``: calibration, budget and the rest; see :class:`edgepose.quantization.options.Int8Options`.
    architecture, spec, opset, batch, input_size, simplify
        How the checkpoint becomes a graph: see :class:`edgepose.importing.ImportOptions`.
    embed, target_options
        See :class:`TargetOptions`.
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
    if calibration is not None:
        from .quantization.options import Int8Options

        if int8 is not None:
            raise ConversionError("Calibration was given twice, as 'calibration' and as 'int8'.")
        int8 = Int8Options(calibration)
    own = target_options or {}
    target = check_target(to, precision, int8, own)
    folder = Path(output) if output is not None else Path(f"{Path(checkpoint).stem}-{to}-{precision}")
    as_it_is = takes_file(target, checkpoint)
    if as_it_is is not None:
        report(f"writing {folder}")
        return write_file_bundle(as_it_is, Path(checkpoint), spec, folder, precision, own, report)
    imported = import_model(checkpoint, ImportOptions(architecture, spec, opset, batch, input_size, simplify), report)
    report(f"writing {folder}")
    write_model_bundle(imported, folder, to, precision, TargetOptions(embed, own, int8), report)
    return read_bundle(folder)


def check_target(to: str, precision: str, int8: Int8Options | None, own: Mapping[str, Any] | None = None) -> Converter:
    """The converter for a target, if it can work here with these options of its own and has this precision.

    Raises
    ------
    ConversionError
        If it cannot or has not, or calibration and precision do not go together.
    PluginError
        If there is none.
    """
    target = converter(to)
    probe = target.probe()
    if not probe.available and needs_tools(target, own or {}):
        raise ConversionError(f"The target '{to}' needs {probe.looked_for}, which is not here.", hint=probe.remedy)
    if precision not in target.precisions:
        raise ConversionError(
            f"The target '{to}' has no precision '{precision}'.", hint=f"It has: {', '.join(target.precisions)}."
        )
    if precision != "int8" and int8 is not None:
        raise ConversionError(f"Calibration is for INT8, not for {precision}.", hint="Use --precision int8.")
    if target.scheme is None and int8 is not None and int8.promises:
        raise ConversionError(
            f"'{to}' quantises weights by itself and keeps no budget, so {', '.join(int8.promises)} cannot be had.",
            hint="Leave them out, or convert to another target.",
        )
    if precision == "int8" and target.scheme is not None and int8 is None:
        raise ConversionError(
            f"INT8 for '{to}' needs calibration.",
            hint="Give --calibration FOLDER with some hundred typical pictures, or a COCO JSON with --images.",
        )
    return target


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
    imported: Imported,
    folder: Path,
    to: str,
    precision: str,
    options: TargetOptions | None = None,
    report: Report = lambda line: None,
) -> None:
    """Convert networks and write their bundle with golden frames, whole or not at all."""
    options = options or TargetOptions()
    target = converter(to)
    floats = [model for _, model in imported.stages]
    with writing_bundle(folder) as inside:
        engines, calibration = floats, {}
        if options.int8 is not None and target.scheme is None:
            report(f"'{to}' quantises weights by itself; the calibration is not used")
        if precision == "int8" and target.scheme is not None:
            from .quantization.flow import quantise

            assert options.int8 is not None

            def build(models: Sequence[PoseModel], wanted: str, place: Path) -> Artifact:
                stages = engines_of(imported, models, place, to, wanted, options).stages
                return Artifact(imported.name, [StageSource(place / s.engine, to, s.precision, s.spec) for s in stages])

            roles = [role for role, _ in imported.stages]
            result = quantise(floats, roles, build, target.precisions, target.scheme, options.int8, inside, report)
            engines, calibration = result.models, result.record
        reference = [embedded_for(model, to, options.embed) for model in floats]
        written = engines_of(imported, engines, inside, to, precision, options)
        for note in written.notes:
            report(note)
        frames = [golden_frame(model, inside, index) for index, model in enumerate(reference)]
        write_golden(inside / GOLDEN, frames)
        finish_bundle(
            inside,
            imported.name,
            written.stages,
            source=imported.source,
            license=imported.license,
            tools={"edgepose": __version__, **written.tools},
            calibration=calibration,
            measured={"parity": measure_conversion(reference, inside, written.stages)},
            notes=written.notes,
        )


@dataclass(frozen=True)
class Written:
    """What a converter wrote for all networks of a bundle."""

    stages: Sequence[BundleStage]
    tools: Mapping[str, str]
    notes: Sequence[str]


def engines_of(
    imported: Imported, models: Sequence[PoseModel], folder: Path, to: str, precision: str, options: TargetOptions
) -> Written:
    """Write the engines of networks into ``folder``: one lies there, two each in a folder of its role.

    Beside a quantised network, one of which the search for INT8 kept every layer in float is written as FP32.
    """
    quantised = [any(n.op_type == "DequantizeLinear" for n in model.graph.graph.node) for model in models]
    mixed = precision == "int8" and any(quantised)
    stages: list[BundleStage] = []
    tools: dict[str, str] = {}
    notes: list[str] = []
    for (role, _), model, has_scales in zip(imported.stages, models, quantised, strict=True):
        written_as = "fp32" if mixed and not has_scales else precision
        inside = folder if len(models) == 1 else folder / role
        inside.mkdir(exist_ok=True)
        ready = embedded_for(model, to, options.embed)
        result = converter(to).convert(ready, inside, written_as, options.own)
        engine = (inside / result.engine).relative_to(folder).as_posix()
        stages.append(BundleStage(role, to, written_as, engine, result.spec or ready.spec))
        tools.update(result.tools)
        notes += result.notes
    return Written(stages, tools, list(dict.fromkeys(notes)))


def golden_frame(model: PoseModel, folder: Path, stage: int = 0) -> GoldenFrame:
    """A real picture through the reference runtime.

    Parameters
    ----------
    model
        The FP32 graph.
    folder
        Where a temporary copy of the graph may lie.
    stage
        Place of the network in its bundle.
    """
    picture, boxes = sample_picture()
    fitted = fit(picture, model.spec.input, boxes if model.spec.is_top_down else None)
    pixels = np.clip(np.rint(fitted.pixels), 0, 255).astype(np.uint8)
    graph = folder / ".reference.onnx"
    graph.write_bytes(model.to_bytes())
    try:
        session = runtime(REFERENCE_RUNTIME).open(graph, Device("cpu"), {})
        loaded = Stage(model.spec, session, build_decoder(model.spec))
        outputs = {model.spec.decoder.outputs[role]: a for role, a in loaded.infer(pixels).items()}
        session.close()
    finally:
        graph.unlink()
    return GoldenFrame(stage, pixels, outputs, fitted.to_image)
