"""``edgepose eval``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..evaluation.coco import CocoAnnotations
    from ..evaluation.runner import BoxSource, Evaluation
    from ..quantization.simulated_model import SimulationOptions


@click.command()
@click.argument("model", metavar="[M]", required=False)
@click.option("--annotations", required=True, metavar="JSON", help="COCO person keypoint annotations.")
@click.option("--images", required=True, metavar="DIR", help="Folder of the annotated pictures.")
@click.option(
    "--boxes",
    metavar="gt|FILE",
    help="Person boxes for a top-down model: the annotated ones, or a COCO detections file; else its own detector.",
)
@click.option(
    "--detector",
    default="auto",
    metavar="M",
    help="Finds the person boxes for a top-down model; by default the embedded model.",
)
@click.option("--flip", is_flag=True, help="Flip test: average with the mirrored input.")
@click.option(
    "--min-score",
    type=float,
    default=0.02,
    show_default=True,
    metavar="S",
    help="Leave out people (or boxes) of a lower score; AP counts the weak ones as well.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N images.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="Device to run on.")
@click.option("--runtime", metavar="NAME", help="Engine API, where a device has several.")
@click.option("--spec", metavar="FILE.json", help="Contract of a foreign engine.")
@click.option(
    "--simulate",
    metavar="NAME|FILE",
    help="Measure also with simulated quantisation: aimet-w8a8, w4a8, ... or a file in AIMET's form.",
)
@click.option(
    "--calibration",
    metavar="PATH",
    help="For --simulate: a folder of pictures, a COCO JSON (with --calibration-images), a video or a bundle.",
)
@click.option("--calibration-images", metavar="DIR", help="Folder of the pictures of a COCO JSON for calibration.")
@click.option(
    "--calibrate-on",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    metavar="N",
    help="Calibration samples, at most.",
)
@click.option("--settle-dead-channels", is_flag=True, help="Simulate without constant channels (not in AIMET).")
@click.option("--equalise", is_flag=True, help="Simulate with cross-layer equalisation.")
@click.option("--fold-high-biases", is_flag=True, help="Simulate with high biases folded into the next layers.")
@click.option("--correct-biases", is_flag=True, help="Simulate with bias correction.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write statistics and protocol as JSON.")
@click.option("--results", metavar="FILE", help="Write the (simulated) results as COCO's evaluation server takes them.")
def command(
    model: str | None,
    annotations: str,
    images: str,
    boxes: str | None,
    detector: str,
    flip: bool,
    min_score: float,
    limit: int | None,
    device: str,
    runtime: str | None,
    spec: str | None,
    simulate: str | None,
    calibration: str | None,
    calibration_images: str | None,
    calibrate_on: int,
    settle_dead_channels: bool,
    equalise: bool,
    fold_high_biases: bool,
    correct_biases: bool,
    json_path: str | None,
    results: str | None,
) -> int:
    """Measure the COCO keypoint accuracy of M, the artifact that is deployed.

    M is a bundle, an .onnx that edgepose wrote, a foreign engine with --spec, or the name of an embedded model.

    With --simulate, measure also what M would reach with quantisation as AIMET simulates it, on ONNX Runtime.
    """
    from ..artifact import resolve
    from ..evaluation.coco import CocoAnnotations, read_detections
    from ..files import write_whole

    truth = CocoAnnotations(annotations)
    source: BoxSource = "gt" if boxes == "gt" else None if boxes is None else read_detections(boxes)
    artifact = resolve(model, spec)
    repairs = {
        "settle_dead_channels": settle_dead_channels,
        "equalise": equalise,
        "fold_high_biases": fold_high_biases,
        "correct_biases": correct_biases,
    }
    options = None
    if simulate is not None:
        device, runtime = _simulating(device, runtime)
        options = _options(simulate, calibration, calibration_images, calibrate_on, repairs)
    elif calibration is not None or calibration_images or any(repairs.values()):
        raise click.UsageError("Calibration, equalisation and corrections are for --simulate.")
    asked = {"boxes": boxes, "detector": detector, "flip": flip, "min_score": min_score}
    data = truth, source, images, limit
    outcome, protocol = _measure(artifact, data, asked, device, runtime)
    report: dict[str, Any] = {**outcome.statistics, "protocol": protocol}
    simulated = None
    if options is not None:
        with tempfile.TemporaryDirectory(prefix="edgepose-simulation-") as folder:
            other, record = _simulated(artifact, Path(folder), options, simulate)
            simulated, _ = _measure(other, data, asked, device, runtime)
        report["simulated"] = {**simulated.statistics, "simulation": record}
    for name, reason in outcome.unreadable.items():
        click.echo(f"edgepose: {name}: {reason}", err=True)
    if results is not None:
        write_whole(results, json.dumps((simulated or outcome).results).encode())
    if json_path is not None:
        text = json.dumps(report, indent=2) + "\n"
        if json_path == "-":
            click.echo(text, nl=False)
        else:
            write_whole(json_path, text.encode())
    if json_path != "-":
        _print(outcome, protocol, simulated)
    return 1 if outcome.unreadable else 0


def _simulating(device: str, runtime: str | None) -> tuple[str, str]:
    if device not in ("auto", "cpu") or runtime not in (None, "onnxruntime"):
        raise click.UsageError("--simulate runs on ONNX Runtime on the CPU.")
    return "cpu", "onnxruntime"


def _options(
    simulate: str, calibration: str | None, images: str | None, limit: int, repairs: Mapping[str, bool]
) -> SimulationOptions:
    from ..quantization.aimet_config import read_config
    from ..quantization.simulated_model import SimulationOptions

    if calibration is None:
        raise click.UsageError("--simulate needs pictures to calibrate with: --calibration PATH.")
    return SimulationOptions(read_config(simulate), calibration, images, limit, **repairs)


def _simulated(
    artifact: Artifact, folder: Path, options: SimulationOptions, name: str | None
) -> tuple[Artifact, dict[str, Any]]:
    from ..quantization.simulated_model import simulated_artifact
    from .progress import ProgressBar

    with ProgressBar("calibrating", None) as bar:
        simulated, records = simulated_artifact(artifact, folder, options, bar.advance)
    return simulated, {
        "configuration": Path(str(name)).name,
        "calibration": records,
        "dead_channels_settled": options.settle_dead_channels,
        "equalised": options.equalise,
        "high_biases_folded": options.fold_high_biases,
        "biases_corrected": options.correct_biases,
    }


def _measure(
    artifact: Artifact,
    data: tuple[CocoAnnotations, BoxSource, str, int | None],
    asked: Mapping[str, Any],
    device: str,
    runtime: str | None,
) -> tuple[Evaluation, dict[str, Any]]:
    """Run a model over the data set: what it reached, and under which protocol."""
    from ..evaluation.runner import evaluate
    from ..loading import load
    from .progress import ProgressBar

    truth, source, images, limit = data
    boxes, flip, min_score = asked["boxes"], asked["flip"], asked["min_score"]
    finder = asked["detector"] if boxes is None else None
    with load(artifact, device=device, runtime=runtime, detector=finder, flip=flip, min_score=min_score) as estimator:
        total = len(truth.images) if limit is None else min(limit, len(truth.images))
        with ProgressBar("evaluating", total) as bar:
            outcome = evaluate(estimator, truth, images, boxes=source, limit=limit, on_image=bar.advance)
        protocol = {
            "model": estimator.name,
            "annotations": truth.path.name,
            "images": outcome.images,
            "unreadable": len(outcome.unreadable),
            "boxes": boxes if boxes in ("gt", None) else "detections file",
            "detector": finder if len(estimator.stages) > len(artifact.stages) else None,
            "flip": flip,
            "min_score": min_score,
            "device": str(estimator.device),
            "runtime": estimator.placement,
            "precision": [s.precision for s in artifact.stages],
            "max_detections": 20,
        }
        if boxes is None:
            protocol["boxes"] = "model" if len(estimator.stages) == 1 else "detector"
    return outcome, protocol


def _print(outcome: Evaluation, protocol: dict[str, Any], simulated: Evaluation | None) -> None:
    if simulated is not None:
        click.echo(f"{'':<5} {'float':>6} {'simulated':>9}")
    for name, value in outcome.statistics.items():
        more = "" if simulated is None else f" {simulated.statistics[name]:9.3f}"
        click.echo(f"{name:<5} {value:6.3f}{more}")
    flip = "with flip test" if protocol["flip"] else "no flip test"
    where = f"{protocol['runtime']} on {protocol['device']}"
    click.echo(f"{protocol['images']} images, boxes: {protocol['boxes']}, {flip}, {where}")
