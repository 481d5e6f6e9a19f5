"""One checkpoint to several targets: imported once, a bundle for each target and precision."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .bundle import read_bundle
from .conversion import TargetOptions, check_target, write_model_bundle
from .errors import EdgePoseError, InputError, PluginError
from .evaluation.timing import median_ms
from .golden import GOLDEN, read_golden
from .importing import ImportOptions, Report, import_model
from .loading import load
from .plugins import converter, converters

#: Stands for every target whose converter can work here.
ALL_INSTALLED = "all-installed"


@dataclass(frozen=True)
class Row:
    """One line of the summary.

    Attributes
    ----------
    target, precision
        What was asked for.
    folder
        The bundle; None if it could not be made.
    size
        Bytes of the engine and its data, without golden frames and manifest.
    ms
        Median milliseconds of one golden frame, of each network one, on the target's runtime; None if nothing here
        runs it.
    device
        What it ran on, as read back from the engine; empty if it did not run.
    pixels
        99th percentile of the joints' distance from the FP32 graph's, in pixels of the picture.
    note
        Why there is no bundle, or why it was not executed.
    """

    target: str
    precision: str
    folder: Path | None = None
    size: int | None = None
    ms: float | None = None
    device: str = ""
    pixels: float | None = None
    note: str = ""


def installed_targets() -> list[str]:
    """Targets whose converter finds what it needs; one that cannot even be loaded (``doctor`` says why) is none."""
    names = []
    for name in converters():
        with contextlib.suppress(PluginError):
            if converter(name).probe().available:
                names.append(name)
    return names


def convert_all(
    checkpoint: str | Path,
    targets: Sequence[str],
    precisions: Sequence[str] = ("fp32",),
    *,
    output: str | Path | None = None,
    options: ImportOptions | None = None,
    target: TargetOptions | None = None,
    target_options: Mapping[str, Mapping[str, Any]] | None = None,
    report: Report = lambda line: None,
) -> list[Row]:
    """Convert a checkpoint to several targets.

    A target that fails does not stop the others: its row says why.

    Parameters
    ----------
    checkpoint
        What :func:`edgepose.importing.import_model` reads.
    targets
        Names of converters; :data:`ALL_INSTALLED` stands for all that can work here.
    precisions
        Each target gets a bundle for each of them.
    output
        Folder in which the bundles are written, as ``<checkpoint>-<target>-<precision>``; made if it is not there; by
        default the current folder.
    options
        How the checkpoint becomes a graph.
    target
        What holds for all targets; calibration is used for ``int8`` alone.
    target_options
        Target -> options of its converter, beside those in ``target``.
    report
        Told what is being done.

    Returns
    -------
    list of Row
        In the order of targets and precisions.

    Raises
    ------
    EdgePoseError
        If the checkpoint cannot be imported, a target is unknown, or no target is left.
    """
    names = [n for t in targets for n in (installed_targets() if t == ALL_INSTALLED else [t])]
    names = list(dict.fromkeys(names))
    if not names or not precisions:
        raise InputError("There is no target or no precision to convert to.")
    for name in names:
        converter(name)
    if len(names) > 1 and target is not None and target.int8 is not None and target.int8.picture is not None:
        raise InputError(
            "The picture of what INT8 tried is of one target, and each would write over the one before.",
            hint="Leave it out (--pareto), or convert to one target at a time.",
        )
    parent = Path(output) if output is not None else Path()
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot write into '{parent}': {error.strerror or error}.") from error
    imported = import_model(checkpoint, options, report)
    common = target or TargetOptions()
    rows = []
    for name in names:
        for precision in dict.fromkeys(precisions):
            folder = parent / f"{Path(checkpoint).stem}-{name}-{precision}"
            report(f"writing {folder}")
            own = {**common.own, **(target_options or {}).get(name, {})}
            chosen = TargetOptions(common.embed, own, common.int8 if precision == "int8" else None)
            try:
                check_target(name, precision, chosen.int8, chosen.own)
                write_model_bundle(imported, folder, name, precision, chosen, report)
                rows.append(_row(folder, name, precision))
            except EdgePoseError as error:
                rows.append(Row(name, precision, note=str(error).replace("\n", " ")))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text: target, precision, size, ms and pixel error, then the notes."""
    head = ("target", "precision", "MB", "ms", "error px (p99)", "runs on")
    cells = [
        (
            r.target,
            r.precision,
            "-" if r.size is None else f"{r.size / 1e6:.1f}",
            "-" if r.ms is None else f"{r.ms:.1f}",
            "-" if r.pixels is None else f"{r.pixels:.3f}",
            r.device or "-",
        )
        for r in rows
    ]
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *cells)]
    return "\n".join([*lines, *(f"{r.target} {r.precision}: {r.note}" for r in rows if r.note)])


def _row(folder: Path, to: str, precision: str) -> Row:
    bundle = read_bundle(folder)
    size = sum(length for name, (length, _) in bundle.manifest.files.items() if name != GOLDEN)
    parity = bundle.manifest.measured["parity"]
    if parity["status"] != "executed":
        return Row(to, precision, folder, size, note=f"not executed: {parity['reason']}")
    frames = read_golden(bundle.path(GOLDEN))
    with load(bundle, detector=None) as estimator:
        ms = sum(median_ms(estimator.stages[f.stage], f.pixels) for f in frames)
        return Row(to, precision, folder, size, ms, estimator.placement, parity["pixels"]["p99"])
