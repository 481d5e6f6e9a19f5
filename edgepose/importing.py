"""From a checkpoint to one checked ONNX graph with its contract."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import __version__
from .architectures import BuildOptions, build_network
from .artifact import EMBEDDED, Artifact, read_spec, resolve
from .bundle import MANIFEST, Role
from .checkpoints import Checkpoint, read_checkpoint
from .errors import ArchitectureError, InputError, SpecError
from .files import sha256_of
from .graph.builder import DEFAULT_OPSET
from .graph.foreign import adopt
from .graph.mxnet import import_mxnet
from .graph.passes import optimise
from .model import SPEC_KEY, PoseModel
from .spec import PoseSpec

#: Called with a line for each step of longer work.
Report = Callable[[str], object]


@dataclass(frozen=True)
class ImportOptions:
    """How a checkpoint becomes a graph.

    Attributes
    ----------
    architecture
        Name of the architecture; None to tell it from the arrays.
    spec
        Contract of a graph that edgepose did not build, or the JSON file that holds it.
    opset
        Version of the default operator set; None for edgepose's own, or what the graph has.
    batch
        Fixed batch size, or ``"dynamic"``; None for dynamic, or what the graph has.
    input_size
        (height, width) in pixels; None for what the network was trained with.
    simplify
        Run onnxsim after edgepose's own passes.
    """

    architecture: str | None = None
    spec: str | Path | PoseSpec | None = None
    opset: int | None = None
    batch: int | Literal["dynamic"] | None = None
    input_size: tuple[int, int] | None = None
    simplify: bool = False


@dataclass(frozen=True)
class Imported:
    """Networks that go into one bundle.

    Attributes
    ----------
    name
        Name of the model.
    stages
        Role and graph of each, in the order in which they run.
    source, license
        Where the weights came from, as the manifest tells it.
    """

    name: str
    stages: tuple[tuple[Role, PoseModel], ...]
    source: Mapping[str, Any]
    license: Mapping[str, Any]


def import_model(
    model: str | Path, options: ImportOptions | None = None, report: Report = lambda line: None
) -> Imported:
    """Read a checkpoint, a bundle of FP32 ONNX graphs, or an embedded model by its name.

    Parameters
    ----------
    model
        As for :func:`import_checkpoint`; or the folder of a bundle; or the name of an embedded model (a file or folder
        of that name is reached as ``./name``).
    options
        See :class:`ImportOptions`.  Of a bundle with two networks, ``input_size`` goes to the one that leaves its size
        open.
    report
        Told what is being done.

    Raises
    ------
    EdgePoseError
        If it cannot be read, or the bundle holds something else than FP32 ONNX graphs.
    """
    options = options or ImportOptions()
    if not ((isinstance(model, str) and model in EMBEDDED) or (Path(model) / MANIFEST).is_file()):
        single = import_checkpoint(model, options, report)
        name = str(single.provenance.get("architecture") or single.graph.graph.name or Path(model).stem)
        return Imported(name, (("pose", single),), single.provenance, {"name": "not stated by the checkpoint"})
    report(f"reading {model}")
    artifact = resolve(model, options.spec)
    if options.architecture is not None:
        raise ArchitectureError(f"'{model}' brings its own graphs; no architecture is built.")
    assert artifact.manifest is not None
    roles: tuple[Role, ...] = ("pose",) if len(artifact.stages) == 1 else ("detector", "pose")
    stages = tuple((role, _of_bundle(artifact, i, options)) for i, role in enumerate(roles))
    return Imported(artifact.name, stages, artifact.manifest.source, artifact.manifest.license)


def _of_bundle(artifact: Artifact, index: int, options: ImportOptions) -> PoseModel:
    stage = artifact.stages[index]
    if stage.target != "onnx" or stage.precision != "fp32":
        raise InputError(
            f"'{artifact.name}' holds a {stage.target} engine in {stage.precision}; only ONNX in FP32 goes further.",
            hint="Convert the checkpoint that it was made from.",
        )
    model = PoseModel.from_onnx(stage.engine, stage.spec)
    adopted = adopt(model.graph, stage.spec, model.provenance)
    size = options.input_size
    if len(artifact.stages) > 1 and _static_size(stage.spec) is not None:
        size = None
    graph = optimise(
        adopted.graph, opset=options.opset, batch=options.batch, input_size=size, simplify=options.simplify
    )
    return PoseModel(graph, _resized(adopted.spec, size), adopted.provenance)


def import_checkpoint(
    path: str | Path, options: ImportOptions | None = None, report: Report = lambda line: None
) -> PoseModel:
    """Read a checkpoint and build its graph, simplified and proved equal to what it was before.

    Parameters
    ----------
    path
        MXNet ``.params`` or ``-symbol.json``, MindSpore ``.ckpt``, PyTorch ``.pth``, ``.safetensors`` or ``.onnx``.
    options
        See :class:`ImportOptions`.
    report
        Told what is being done.

    Raises
    ------
    EdgePoseError
        If the file cannot be read, its network is unknown or incomplete, or the graph does not compute what it should.
    """
    options = options or ImportOptions()
    report(f"reading {path}")
    checkpoint = read_checkpoint(path)
    report(f"{checkpoint.format}, {len(checkpoint.arrays)} arrays")
    model = _build(checkpoint, options, report)
    report("simplifying, and comparing with the graph before")
    graph = optimise(
        model.graph,
        opset=options.opset,
        batch=options.batch,
        input_size=options.input_size if checkpoint.graph is not None else None,
        simplify=options.simplify,
    )
    spec = _resized(model.spec, options.input_size) if checkpoint.graph is not None else model.spec
    return PoseModel(graph, spec, model.provenance)


def _resized(spec: PoseSpec, size: tuple[int, int] | None) -> PoseSpec:
    """The contract of the same graph for another input size (height, width)."""
    if size is None:
        return spec
    return spec.replace(input=dataclasses.replace(spec.input, height=size[0], width=size[1]))


def _build(checkpoint: Checkpoint, options: ImportOptions, report: Report) -> PoseModel:
    provenance: dict[str, Any] = {
        "checkpoint": checkpoint.path.name,
        "format": checkpoint.format,
        "sha256": sha256_of(checkpoint.path),
        "edgepose": __version__,
    }
    if checkpoint.graph is None:
        if options.spec is not None:
            raise SpecError(
                f"'{checkpoint.path}' holds arrays without a graph; its architecture states the spec.",
                hint="Leave --spec out; --architecture NAME chooses the architecture.",
            )
        return _build_known(checkpoint, options, provenance, report)
    if options.architecture is not None:
        raise ArchitectureError(
            f"'{checkpoint.path}' brings its own graph; no architecture is built.", hint="Leave --architecture out."
        )
    if checkpoint.format == "onnx":
        return _adopt_onnx(checkpoint, options, provenance)
    report("translating the MXNet graph")
    spec = _required_spec(checkpoint, options)
    size = options.input_size or _static_size(spec)
    if size is None:
        raise SpecError(
            f"'{checkpoint.path}' is translated for one input size, and the spec leaves it open.",
            hint="Give it with --input-size HxW.",
        )
    batch = options.batch if isinstance(options.batch, int) else None
    graph, ranges = import_mxnet(
        checkpoint.graph, checkpoint.arrays, input_size=size, batch=batch, opset=options.opset or DEFAULT_OPSET
    )
    spec = _resized(spec, options.input_size)
    return adopt(graph, spec.replace(calibration={**ranges, **spec.calibration}), provenance)


def _build_known(
    checkpoint: Checkpoint, options: ImportOptions, provenance: dict[str, Any], report: Report
) -> PoseModel:
    build = BuildOptions(
        input_size=options.input_size,
        batch=options.batch if isinstance(options.batch, int) else None,
        opset=options.opset or DEFAULT_OPSET,
    )
    network = build_network(checkpoint.arrays, options.architecture, build)
    report(f"built {network.graph.graph.name}")
    return PoseModel(network.graph, network.spec, {**provenance, "architecture": network.graph.graph.name})


def _adopt_onnx(checkpoint: Checkpoint, options: ImportOptions, provenance: dict[str, Any]) -> PoseModel:
    metadata = {p.key: p.value for p in checkpoint.graph.metadata_props}
    if options.spec is None and SPEC_KEY in metadata:
        own = PoseModel.from_onnx(checkpoint.path)
        return adopt(own.graph, own.spec, {**own.provenance, "onnx": checkpoint.path.name})
    return adopt(checkpoint.graph, _required_spec(checkpoint, options), provenance)


def _required_spec(checkpoint: Checkpoint, options: ImportOptions) -> PoseSpec:
    if options.spec is None:
        raise SpecError(
            f"'{checkpoint.path}' carries no PoseSpec, so its input and outputs cannot be interpreted.",
            hint="Give one with --spec FILE.json (docs/spec.md describes it).",
        )
    return read_spec(options.spec)


def _static_size(spec: PoseSpec) -> tuple[int, int] | None:
    entry = spec.input
    return None if entry.height is None or entry.width is None else (entry.height, entry.width)
