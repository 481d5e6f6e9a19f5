"""``edgepose eval``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..evaluation.runner import BoxSource, Evaluation


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
@click.option("--json", "json_path", metavar="FILE|-", help="Write statistics and protocol as JSON.")
@click.option("--results", metavar="FILE", help="Write the results as COCO's evaluation server takes them.")
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
    json_path: str | None,
    results: str | None,
) -> int:
    """Measure the COCO keypoint accuracy of M, the artifact that is deployed.

    M is a bundle, an .onnx that edgepose wrote, a foreign engine with --spec, or the name of an embedded model.
    """
    from ..artifact import resolve
    from ..evaluation.coco import CocoAnnotations, read_detections
    from ..evaluation.runner import evaluate
    from ..files import write_whole
    from ..loading import load
    from .progress import ProgressBar

    truth = CocoAnnotations(annotations)
    source: BoxSource = "gt" if boxes == "gt" else None if boxes is None else read_detections(boxes)
    artifact = resolve(model, spec)
    finder = detector if boxes is None else None
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
    for name, reason in outcome.unreadable.items():
        click.echo(f"edgepose: {name}: {reason}", err=True)
    if results is not None:
        write_whole(results, json.dumps(outcome.results).encode())
    if json_path is not None:
        text = json.dumps({**outcome.statistics, "protocol": protocol}, indent=2) + "\n"
        if json_path == "-":
            click.echo(text, nl=False)
        else:
            write_whole(json_path, text.encode())
    if json_path != "-":
        _print(outcome, protocol)
    return 1 if outcome.unreadable else 0


def _print(outcome: Evaluation, protocol: dict[str, Any]) -> None:
    for name, value in outcome.statistics.items():
        click.echo(f"{name:<5} {value:6.3f}")
    flip = "with flip test" if protocol["flip"] else "no flip test"
    where = f"{protocol['runtime']} on {protocol['device']}"
    click.echo(f"{protocol['images']} images, boxes: {protocol['boxes']}, {flip}, {where}")
