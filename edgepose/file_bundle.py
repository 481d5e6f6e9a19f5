"""Bundles of files that a target's compiler takes as they are.

Such a file never is an ONNX graph, so that there is nothing to run beside the engine: its bundle has no golden frames,
and no parity was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import __version__
from .artifact import read_spec
from .bundle import Bundle, BundleStage, finish_bundle, read_bundle, writing_bundle
from .errors import InputError, SpecError
from .files import sha256_of
from .plugins import FileConverter
from .spec import PoseSpec


def write_file_bundle(
    target: FileConverter,
    source: Path,
    spec: str | Path | PoseSpec | None,
    folder: Path,
    precision: str,
    options: Mapping[str, Any],
    report: Callable[[str], object],
) -> Bundle:
    """Compile a file as it is and write its bundle, whole or not at all.

    Parameters
    ----------
    target
        The converter.
    source
        The file.
    spec
        Its contract, or the JSON file that holds it.
    folder
        Of the bundle.
    precision, options
        As for :meth:`edgepose.plugins.Converter.convert`.
    report
        Told the converter's notes.

    Raises
    ------
    SpecError
        If there is no contract.
    EdgePoseError
        If the file cannot be read or compiled.
    """
    if spec is None:
        raise SpecError(
            f"'{source}' carries no PoseSpec, so its input and outputs cannot be interpreted.",
            hint="Give one with --spec FILE.json (docs/spec.md describes it).",
        )
    contract = read_spec(spec)
    if not source.is_file():
        raise InputError(f"There is no file '{source}'.")
    with writing_bundle(folder) as inside:
        result = target.convert_file(source, contract, inside, precision, options)
        for note in result.notes:
            report(note)
        finish_bundle(
            inside,
            source.stem,
            [BundleStage("pose", target.name, precision, result.engine, result.spec or contract)],
            source={"checkpoint": source.name, "sha256": sha256_of(source), "edgepose": __version__},
            license={"name": "not stated by the checkpoint"},
            tools={"edgepose": __version__, **result.tools},
            measured={"parity": {"status": "not executed", "reason": "the file has no reference to compare with"}},
            notes=list(result.notes),
        )
    return read_bundle(folder)
