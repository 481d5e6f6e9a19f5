"""Bundles: what is deployed.

A bundle is a folder with ``manifest.json``, the engine files exactly as the vendor's own tools expect them, and
``golden.npz`` (see :mod:`edgepose.golden`).  The manifest lists every file with size and SHA-256, so a bundle is
checked completely before anything in it is trusted.  It has one stage (a model that finds everything by itself, or
that is given person boxes) or two (a detector of person boxes, then a model that looks at each person).
"""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from .errors import BundleError, SpecError
from .files import sha256_of
from .folders import whole_folder
from .spec import PoseSpec

FORMAT = "edgepose-bundle"
VERSION = 1
MANIFEST = "manifest.json"
#: A manifest is text written by edgepose; one larger than this is not.
MAX_MANIFEST_BYTES = 16 << 20

Role = Literal["detector", "pose"]


@dataclass(frozen=True)
class BundleStage:
    """One network of a bundle.

    Attributes
    ----------
    role
        ``detector`` finds person boxes for the stage after it, ``pose`` finds keypoints.
    target
        Kind of engine: ``onnx``, ``openvino``, ``tensorrt``, ...
    precision
        ``fp32``, ``fp16`` or ``int8``.
    engine
        Name of the file that the runtime opens, inside the bundle.
    spec
        Its contract.
    """

    role: Role
    target: str
    precision: str
    engine: str
    spec: PoseSpec


@dataclass(frozen=True)
class Manifest:
    """What a bundle says about itself.

    Attributes
    ----------
    name
        Name of the model.
    stages
        Its networks, in the order in which they run.
    files
        Name inside the folder -> (size in bytes, SHA-256).
    created
        When it was written, ISO 8601 in UTC.
    source
        Where the weights came from (``checkpoint``, ``sha256``, ``url``, ``architecture``).
    license
        ``name`` of the weights' licence and ``notice``.
    tools
        Name -> version of what took part in the conversion.
    calibration
        Data set hash and method, for INT8.
    measured
        Parity and accuracy with their protocol.
    notes
        What the converter wants the user to know, a sentence each.
    """

    name: str
    stages: Sequence[BundleStage]
    files: Mapping[str, tuple[int, str]]
    created: str
    source: Mapping[str, Any] = field(default_factory=dict)
    license: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def to_json(self) -> str:
        """The text of ``manifest.json``."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "created": self.created,
            "stages": [
                {
                    "role": s.role,
                    "target": s.target,
                    "precision": s.precision,
                    "engine": s.engine,
                    "spec": s.spec.to_dict(),
                }
                for s in self.stages
            ],
            "files": {n: {"size": size, "sha256": digest} for n, (size, digest) in sorted(self.files.items())},
            "source": self.source,
            "license": self.license,
            "tools": self.tools,
            "calibration": self.calibration,
            "measured": self.measured,
            "notes": list(self.notes),
        }
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose every file was checked."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check all of it.

    Raises
    ------
    BundleError
        If the manifest is missing, damaged or of an unknown version, or if a file is missing, has another size or
        hash than the manifest says, or lies outside the folder.
    """
    folder = Path(folder)
    manifest = _read_manifest(folder)
    for name, (size, digest) in manifest.files.items():
        _check_file(folder, name, size, digest)
    return Bundle(folder, manifest)


@contextlib.contextmanager
def writing_bundle(folder: str | Path) -> Iterator[Path]:
    """Give a temporary folder; on success it takes the place of ``folder``, on any error nothing is left.

    The block writes the engine files and finishes with :func:`finish_bundle`.  A bundle that stood there before is
    replaced; anything else is not.  A process that is killed leaves a hidden folder (:mod:`edgepose.folders`), which
    the next writing to the same place removes.

    Raises
    ------
    BundleError
        If ``folder`` exists and is no bundle, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise BundleError(
            f"Cannot write a bundle to '{folder}': it exists and is not a bundle.",
            hint="Give another name with -o, or remove it first.",
        )
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise BundleError(f"Cannot write a bundle to '{folder}': the folder '{parent}' does not exist.")
    try:
        with whole_folder(folder) as temporary:
            yield temporary
            if not (temporary / MANIFEST).is_file():
                raise BundleError(f"The bundle '{folder}' was not finished.")
    except OSError as error:
        raise BundleError(f"Cannot write the bundle '{folder}': {error.strerror or error}.") from error


def finish_bundle(
    folder: Path,
    name: str,
    stages: Sequence[BundleStage],
    *,
    source: Mapping[str, Any] | None = None,
    license: Mapping[str, Any] | None = None,  # noqa: A002 - the manifest's own word
    tools: Mapping[str, str] | None = None,
    calibration: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
    created: str | None = None,
) -> Manifest:
    """Hash every file in ``folder`` and write its manifest; see :class:`Manifest` for the parameters."""
    files = {
        p.relative_to(folder).as_posix(): (p.stat().st_size, sha256_of(p))
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != MANIFEST
    }
    manifest = Manifest(
        name=name,
        stages=tuple(stages),
        files=files,
        created=created or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        source=source or {},
        license=license or {},
        tools=tools or {},
        calibration=calibration or {},
        measured=measured or {},
        notes=tuple(notes),
    )
    _check_stages(folder, manifest)
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _read_manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(f"'{folder}' is not a bundle: a bundle is a folder.")
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):
            raise BundleError(f"'{path}' is not a regular file.")
        if info.st_size > MAX_MANIFEST_BYTES:
            raise BundleError(f"'{path}' has {info.st_size} bytes; a manifest has at most {MAX_MANIFEST_BYTES}.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"'{folder}' is not a bundle: it has no {MANIFEST}.") from error
    except OSError as error:
        raise BundleError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"'{path}' is damaged: {error}.", hint="Copy the bundle again, or convert the checkpoint again."
        ) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise BundleError(f"'{path}' is not the manifest of an edgepose bundle.")
    if data.get("version") != VERSION:
        raise BundleError(
            f"'{path}' has version {data.get('version')!r}; this edgepose reads version {VERSION}.",
            hint="Upgrade with: pip install --upgrade edgepose",
        )
    try:
        manifest = _manifest_from_dict(data)
        _check_stages(folder, manifest)
    except SpecError as error:
        raise BundleError(f"'{path}': {error.message}", hint=error.hint) from error
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else str(error)
        raise BundleError(f"'{path}' is not well formed: {reason}.") from error
    return manifest


def _manifest_from_dict(data: Mapping[str, Any]) -> Manifest:
    stages = tuple(
        BundleStage(
            role=s["role"],
            target=_text(s["target"]),
            precision=_text(s["precision"]),
            engine=_text(s["engine"]),
            spec=PoseSpec.from_dict(s["spec"]),
        )
        for s in data["stages"]
    )
    return Manifest(
        name=_text(data["name"]),
        stages=stages,
        files={_text(n): (_size(f["size"]), _text(f["sha256"])) for n, f in data["files"].items()},
        created=_text(data["created"]),
        **{k: dict(data.get(k) or {}) for k in ("source", "license", "tools", "calibration", "measured")},
        notes=tuple(_text(note) for note in data.get("notes") or ()),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} should be a text")
    return value


def _size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} should be a size in bytes")
    return value


def _check_stages(folder: Path, manifest: Manifest) -> None:
    roles = [s.role for s in manifest.stages]
    if roles not in (["pose"], ["detector", "pose"]):
        raise BundleError(f"'{folder}': the stages are {roles}; a bundle has a pose stage, or a detector and a pose.")
    for stage in manifest.stages:
        if stage.engine not in manifest.files:
            raise BundleError(f"'{folder}': the engine '{stage.engine}' is not among the files of the manifest.")
        if stage.role == "pose" and stage.spec.keypoints is None:
            raise BundleError(f"'{folder}': the spec of the pose stage has no keypoints.")
        if stage.role == "detector" and stage.spec.is_top_down:
            raise BundleError(f"'{folder}': the detector itself needs person boxes.")
    if len(roles) == 1 and manifest.stages[0].spec.is_top_down:
        return
    if len(roles) == 2 and not manifest.stages[1].spec.is_top_down:
        raise BundleError(f"'{folder}': the pose stage looks at whole pictures and needs no detector.")


def _check_file(folder: Path, name: str, size: int, digest: str) -> None:
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or "\\" in name or "\0" in name or name == MANIFEST:
        raise BundleError(f"'{folder}': the manifest names '{name}', which is not a file inside the bundle.")
    path = folder / name
    try:
        if not path.resolve(strict=True).is_relative_to(folder.resolve(strict=True)):
            raise BundleError(f"'{path}' is a link that leaves the bundle.")
        info = path.stat()
    except FileNotFoundError as error:
        raise BundleError(
            f"'{path}' is missing, though the manifest lists it.", hint="Copy the bundle again."
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise BundleError(f"Cannot read '{path}': {error}.") from error
    if not stat.S_ISREG(info.st_mode):
        raise BundleError(f"'{path}' is not a regular file.")
    if info.st_size != size:
        raise BundleError(
            f"'{path}' has {info.st_size} bytes, the manifest says {size}.", hint="Copy the bundle again."
        )
    if sha256_of(path) != digest:
        raise BundleError(
            f"'{path}' has another SHA-256 than the manifest says: it was changed or damaged.",
            hint="Copy the bundle again, or convert the checkpoint again.",
        )
