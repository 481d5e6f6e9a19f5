"""Loading a model: which runtime, which device, and whether engine and spec fit together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .artifact import EMBEDDED_DETECTOR, Artifact, StageSource, resolve
from .bundle import Bundle
from .decoding import WITH_THRESHOLD, build_decoder
from .devices import AUTO, Device, detect, device_names, parse_device
from .errors import DeviceError, InputError, SpecError
from .estimator import Estimator, Stage
from .golden import GOLDEN
from .plugins import Choosing, Runtime, Session, runtimes
from .plugins import runtime as load_runtime
from .selftest import self_test as run_self_test
from .spec import PoseSpec


def load(
    model: str | Path | Bundle | Artifact | None = None,
    *,
    device: str = AUTO,
    runtime: str | None = None,
    detector: str | Path | Bundle | Artifact | None = AUTO,
    spec: str | Path | PoseSpec | None = None,
    flip: bool = False,
    min_score: float | None = None,
    self_test: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Estimator:
    """Load a model on a device.

    Parameters
    ----------
    model
        A bundle, an ``.onnx`` that edgepose wrote, a foreign engine (with ``spec``), the name of an embedded model, or
        None for the default embedded model.
    device
        ``auto`` takes the first device here that an installed runtime can use; anything else is that device or an
        error.
    runtime
        Engine API by name, where a device has several.
    detector
        Finds the person boxes for a top-down model that has no detector of its own: a model as above, ``auto`` for the
        embedded one, which runs on the CPU, or None if every call brings its boxes.
    spec
        Contract of a foreign engine, or the JSON file that holds it.
    flip
        Run every input mirrored as well and average (flip test); twice the work.
    min_score
        People of a lower score are left out, or boxes of a lower score if there is a detector; None for what the
        model's spec says.
    self_test
        Run the bundle's golden frames first and refuse to serve if the outputs are not those of the reference; None
        does so on every device but the CPU.
    options
        Options of the runtime, ``threads`` for instance.

    Raises
    ------
    EdgePoseError
        If the model, device or runtime is not there or they do not fit together.
    """
    artifact = resolve(model, spec)
    sources = list(artifact.stages)
    alone = len(sources) == 1 and sources[0].spec.is_top_down
    if detector is not None and detector != AUTO and not alone:
        raise InputError(f"'{artifact.name}' takes no detector: it finds the people by itself.")
    if alone and detector is not None:
        sources.insert(0, resolve(EMBEDDED_DETECTOR if detector == AUTO else detector).stages[0])
    if min_score is not None and sources[0].spec.decoder.type in WITH_THRESHOLD:
        sources[0] = _with_threshold(sources[0], min_score)
    asked = parse_device(device)
    placed = [_place(source, asked, runtime) for source in sources[-1:]]
    if len(sources) > 1:
        # The embedded detector is an ONNX graph, whatever device the model itself is for.
        own = alone and detector == AUTO
        placed.insert(0, _place(sources[0], Device("cpu") if own else asked, None if own else runtime))
    stages: list[Stage] = []
    try:
        for source, (engine_api, where) in zip(sources, placed, strict=True):
            stages.append(_open(source, engine_api, where, options))
        if self_test or (self_test is None and placed[-1][1].name != "cpu" and _has_golden(artifact)):
            _test(artifact, stages[-len(artifact.stages) :])
        return Estimator(artifact.name, placed[-1][1], stages, flip=flip, min_score=min_score)
    except BaseException:
        for stage in stages:
            stage.session.close()
        raise


def place(source: StageSource, *, device: str = AUTO, runtime: str | None = None) -> tuple[Runtime, Device]:
    """What :func:`load` would run a network on, without loading it.

    Raises
    ------
    DeviceError
        If nothing here runs such engines on that device.
    PluginError
        If there is no such runtime.
    """
    return _place(source, parse_device(device), runtime)


def open_stage(source: StageSource, engine_api: Runtime, where: Device) -> Stage:
    """Load one network by itself, a detector as well; the caller closes its session.

    Raises
    ------
    EdgePoseError
        If the engine cannot be loaded, or has other inputs and outputs than its spec says.
    """
    return _open(source, engine_api, where, None)


def _open(source: StageSource, engine_api: Runtime, where: Device, options: Mapping[str, Any] | None) -> Stage:
    session = engine_api.open(source.engine, where, options or {})
    try:
        _check_interface(source, session)
        return Stage(source.spec, session, build_decoder(source.spec))
    except BaseException:
        session.close()
        raise


def _has_golden(artifact: Artifact) -> bool:
    """Whether there is something to be tested with: files that were compiled as they are have no reference."""
    return artifact.manifest is not None and GOLDEN in artifact.manifest.files


def _test(artifact: Artifact, stages: Sequence[Stage]) -> None:
    if artifact.bundle is None:
        raise InputError(f"'{artifact.name}' has no golden frames to be tested with.", hint="Load its bundle.")
    run_self_test(stages, artifact.bundle)


def _with_threshold(source: StageSource, min_score: float) -> StageSource:
    decoder = source.spec.decoder
    options = {**decoder.options, "score_threshold": float(min_score)}
    changed = dataclasses.replace(source.spec, decoder=dataclasses.replace(decoder, options=options))
    return dataclasses.replace(source, spec=changed)


def _place(source: StageSource, asked: Device, name: str | None) -> tuple[Runtime, Device]:
    """The runtime and device for an engine: what was asked for, or an error that says what is missing."""
    known = [load_runtime(name)] if name else [load_runtime(n) for n in runtimes()]
    fitting = [r for r in known if source.target in r.targets]
    if not fitting:
        raise DeviceError(
            f"No installed runtime opens '{source.target}' engines."
            if name is None
            else f"The runtime '{name}' does not open '{source.target}' engines.",
            hint="See what is installed with: edgepose doctor",
        )
    wanted = device_names() if asked.name == AUTO else (asked.name,)
    obstacles: list[str] = []
    absent: list[str] = []
    for kind in wanted:
        for candidate in fitting:
            if kind not in candidate.devices:
                continue
            seen = detect(kind)
            if not seen.found:
                absent.append(f"No {kind} here (looked for {seen.looked_for}). {seen.remedy}")
                continue
            probe = candidate.probe(kind)
            refusal = candidate.refuses(source.engine) if probe.available and isinstance(candidate, Choosing) else ""
            if refusal:
                obstacles.append(refusal)
                continue
            if probe.available:
                return candidate, Device(kind, asked.index)
            obstacles.append(f"{candidate.name} is not available (looked for {probe.looked_for}). {probe.remedy}")
    if not obstacles and not absent:
        where = sorted({d for r in fitting for d in r.devices})
        targets = sorted(
            {t for n in runtimes() for r in [load_runtime(n)] if asked.name in r.devices for t in r.targets}
        )
        raise DeviceError(
            f"A '{source.target}' engine does not run on the device '{asked}'.",
            hint=f"It runs on: {', '.join(where)}. Convert the model for {asked.name} with: edgepose convert CHECKPOINT"
            f" --to {' | '.join(targets)}",
        )
    raise DeviceError(f"Cannot run on '{asked}'.", hint=" ".join(dict.fromkeys(obstacles or absent)))


def _check_interface(source: StageSource, session: Session) -> None:
    inputs, outputs = [i.name for i in session.inputs], [o.name for o in session.outputs]
    if inputs != [source.spec.input.name]:
        raise SpecError(
            f"'{source.engine.name}' has the inputs {inputs}; its spec says '{source.spec.input.name}'.",
            hint="Correct input.name in the spec.",
        )
    missing = [n for n in source.spec.decoder.outputs.values() if n not in outputs]
    if missing:
        raise SpecError(
            f"'{source.engine.name}' has no output {', '.join(map(repr, missing))}; it has {', '.join(outputs)}.",
            hint="Correct decoder.outputs in the spec.",
        )
