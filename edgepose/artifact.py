"""What a user means by a model: an embedded one's name, a bundle, an edgepose ``.onnx``, a foreign engine and spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .bundle import Bundle, Manifest, read_bundle
from .errors import InputError, SpecError
from .model import PoseModel
from .plugins import runtime, runtimes
from .spec import PoseSpec


@dataclass(frozen=True)
class Embedded:
    """A model inside the package.

    Attributes
    ----------
    folder
        Folder of its bundle.
    stages
        How many of the bundle's stages it runs.  A detector that finds keypoints as well is a model by itself.
    description
        What it is.
    """

    folder: str
    stages: int
    description: str


#: The embedded models by name.
EMBEDDED = {
    "accurate": Embedded("movenet", 2, "MoveNet MultiPose finds the people, MoveNet Thunder looks at each of them"),
    "fast": Embedded("movenet", 1, "MoveNet MultiPose Lightning: up to twenty people in one run of the network"),
}
#: Chosen by the measured table in docs/accuracy.md.
DEFAULT_MODEL = "accurate"
#: Finds the person boxes for top-down models that have no detector of their own.
EMBEDDED_DETECTOR = "fast"


@dataclass(frozen=True)
class StageSource:
    """One network: where its engine is, of which kind, and its contract."""

    engine: Path
    target: str
    precision: str
    spec: PoseSpec


@dataclass(frozen=True)
class Artifact:
    """A model that can be loaded: its stages in the order in which they run.

    Attributes
    ----------
    name
        How to call it in messages.
    stages
        One network, or a detector and a top-down network.
    bundle
        The bundle that it came from, or None.
    """

    name: str
    stages: Sequence[StageSource]
    bundle: Bundle | None = None

    @property
    def manifest(self) -> Manifest | None:
        """The manifest if it came from a bundle, else None."""
        return None if self.bundle is None else self.bundle.manifest


def embedded_folder(name: str) -> Path:
    """Folder of the bundle of the embedded model ``name``."""
    return Path(__file__).parent / "models" / EMBEDDED[name].folder


def resolve(model: str | Path | Bundle | Artifact | None, spec: str | Path | PoseSpec | None = None) -> Artifact:
    """Find out what a user means by a model.

    Parameters
    ----------
    model
        Name of an embedded model, a bundle's folder, an engine file, or None for the default model.  A folder that has
        the name of an embedded model is reached as ``./name``.
    spec
        The contract of a foreign engine, or the JSON file that holds it.

    Raises
    ------
    InputError
        If there is no such model or it cannot be read.
    """
    if isinstance(model, Artifact):
        return model
    if isinstance(model, Bundle):
        return _from_bundle(model)
    if model is None or (isinstance(model, str) and model in EMBEDDED):
        _refuse_spec(spec, "an embedded model")
        name = model or DEFAULT_MODEL
        whole = _from_bundle(read_bundle(embedded_folder(name)))
        return Artifact(name, whole.stages[: EMBEDDED[name].stages], whole.bundle)
    path = Path(model)
    if path.is_dir():
        _refuse_spec(spec, f"the bundle '{path}'")
        return _from_bundle(read_bundle(path))
    if not path.exists():
        raise InputError(
            f"There is no model '{model}'.",
            hint=f"Give a bundle, an engine file, or one of the embedded models: {', '.join(EMBEDDED)}.",
        )
    if not path.is_file():
        raise InputError(f"'{path}' is not a regular file.")
    return _from_engine(path, spec)


def read_spec(spec: str | Path | PoseSpec) -> PoseSpec:
    """A spec, or the JSON file that holds one.

    Raises
    ------
    SpecError
        If the file cannot be read or is not a spec.
    """
    if isinstance(spec, PoseSpec):
        return spec
    try:
        return PoseSpec.from_json(Path(spec).read_bytes())
    except OSError as error:
        raise SpecError(f"Cannot read the spec '{spec}': {error.strerror or error}.") from error
    except SpecError as error:
        raise SpecError(f"'{spec}': {error.message}", hint=error.hint) from error


def _refuse_spec(spec: object, what: str) -> None:
    if spec is not None:
        raise SpecError(f"A spec was given for {what}, which has its own.", hint="Leave --spec out.")


def _from_bundle(bundle: Bundle) -> Artifact:
    manifest = bundle.manifest
    stages = [StageSource(bundle.path(s.engine), s.target, s.precision, s.spec) for s in manifest.stages]
    return Artifact(manifest.name, stages, bundle)


def _from_engine(path: Path, spec: str | Path | PoseSpec | None) -> Artifact:
    endings = {
        ending: target for r in map(runtime, runtimes()) for target, all_ in r.targets.items() for ending in all_
    }
    target = endings.get(path.suffix.lower())
    if target is None:
        raise InputError(
            f"'{path}' is no engine file that an installed runtime opens.",
            hint=f"Known endings: {', '.join(endings)}. A checkpoint is first converted: edgepose convert.",
        )
    if target == "onnx":
        model = PoseModel.from_onnx(path, None if spec is None else read_spec(spec))
        return Artifact(path.name, [StageSource(path, target, "fp32", model.spec)])
    if spec is None:
        raise SpecError(f"'{path}' carries no PoseSpec.", hint="Give one with --spec FILE.json, or use its bundle.")
    return Artifact(path.name, [StageSource(path, target, "unknown", read_spec(spec))])
