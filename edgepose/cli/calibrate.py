"""``edgepose calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .convert import _size

if TYPE_CHECKING:
    from ..model import PoseModel
    from ..quantization.ranges import Ranges

#: Stands for the ranges that the checkpoint brought along.
IMPORTED = "imported"


@click.command()
@click.argument("checkpoint", metavar="MODEL")
@click.argument("source", metavar="SOURCE")
@click.option("--images", metavar="DIR", help="Folder of the pictures of a COCO JSON.")
@click.option(
    "--method",
    metavar="M",
    help="naive (smallest and largest value), entropy (as MXNet), percentile, mse or sqnr (AIMET's tf_enhanced).",
)
@click.option("--percentile", type=float, metavar="P", help="For percentile: per cent of the values that is kept.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N samples, evenly spread.")
@click.option("--merge", multiple=True, metavar="FILE", help="Widen by these ranges or AIMET encodings.")
@click.option("--encodings", metavar="FILE", help="Write AIMET encodings as well.")
@click.option("--architecture", metavar="A", help="Network, if it cannot be told; 'edgepose models' lists them.")
@click.option("--spec", metavar="FILE.json", help="Contract of a graph that edgepose did not build.")
@click.option("--input-size", callback=_size, metavar="HxW", help="Input height and width in pixels.")
@click.option("-o", "--output", required=True, metavar="FILE.json", help="Where the ranges are written.")
def command(
    checkpoint: str,
    source: str,
    images: str | None,
    method: str | None,
    percentile: float | None,
    limit: int | None,
    merge: tuple[str, ...],
    encodings: str | None,
    architecture: str | None,
    spec: str | None,
    input_size: tuple[int, int] | None,
    output: str,
) -> int:
    """Find the ranges of MODEL's activations for INT8.

    MODEL is a checkpoint, or what else 'edgepose convert' takes; give the same --architecture, --spec and --input-size
    there.  SOURCE is a folder of pictures, a COCO JSON, a video, or a bundle with golden frames; or 'imported' for the
    ranges that a quantised GluonCV symbol file brings along.

    The ranges are used with: edgepose convert MODEL --precision int8 --calibration FILE.json
    """
    from ..errors import InputError
    from ..files import refuse_unwritable
    from ..importing import ImportOptions, import_model
    from ..quantization.aimet_files import encodings_of, write_encodings
    from ..quantization.gluoncv_ranges import ranges_of

    if percentile is not None and method != "percentile":
        raise click.UsageError("--percentile belongs to --method percentile.")
    for path in filter(None, (output, encodings)):
        refuse_unwritable(path)
    options = ImportOptions(architecture=architecture, spec=spec, input_size=input_size)
    stages = import_model(checkpoint, options, lambda line: click.echo(f"edgepose: {line}", err=True)).stages
    if len(stages) > 1:
        raise InputError(
            f"'{checkpoint}' has two networks, and a file of ranges is of one.",
            hint="Both are calibrated by: edgepose convert MODEL --precision int8 --calibration SOURCE",
        )
    ((_, model),) = stages
    others = [_read(path, model) for path in merge]
    unreadable = False
    if source == IMPORTED:
        ranges = ranges_of(model)
    else:
        ranges, unreadable = _calibrated(model, source, images, method, percentile, limit)
    for other in others:
        ranges = ranges.merge(other)
    if encodings is not None:
        write_encodings(encodings, encodings_of(ranges))
    ranges.save(output)
    click.echo(f"{output}: {len(ranges.tensors)} ranges, {ranges.method}{_told(ranges)}")
    return 1 if unreadable else 0


def _calibrated(
    model: PoseModel, source: str, images: str | None, method: str | None, percentile: float | None, limit: int | None
) -> tuple[Ranges, bool]:
    """Ranges found on pictures, and whether some pictures could not be read."""
    from ..quantization.calibration import DEFAULT_METHOD, calibrate
    from ..quantization.data import LIMIT, calibration_set
    from ..quantization.observers import PERCENTILE
    from .progress import ProgressBar

    samples = calibration_set(source, model.spec, images=images, limit=LIMIT if limit is None else limit)
    with ProgressBar("calibrating", len(samples)) as bar:
        ranges = calibrate(
            model,
            samples,
            method or DEFAULT_METHOD,
            percentile=PERCENTILE if percentile is None else percentile,
            on_sample=bar.advance,
        )
    for reason in samples.unreadable.values():
        click.echo(f"edgepose: left out: {reason}", err=True)
    return ranges, bool(samples.unreadable)


def _read(path: str, model: PoseModel) -> Ranges:
    """A file of ranges or of AIMET encodings, of this network."""
    from ..errors import InputError
    from ..quantization.aimet_files import read_encodings
    from ..quantization.ranges import FORMAT, Ranges

    try:
        with Path(path).open("rb") as stream:
            own = FORMAT.encode() in stream.read(200)
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    ranges = Ranges.load(path) if own else read_encodings(path).ranges()
    ranges.check(model.graph, f"ranges of '{path}'")
    return ranges


def _told(ranges: Ranges) -> str:
    data = ranges.data
    return f", {data['images']} pictures, {data['samples']} samples" if "samples" in data else ""
