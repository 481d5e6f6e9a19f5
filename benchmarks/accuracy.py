"""Accuracy and time of the embedded models at several settings, on COCO keypoints.

    python benchmarks/accuracy.py ANNOTATIONS.json IMAGES/ [sizes|models]

``sizes``: the single-stage model at several long sides.  ``models``: the embedded models as they are.  AP and AP50 on
all images and, where the annotations carry ``area_source``, on the images whose people all have official areas; the
median time of one picture from uint8 BGR to poses, with two threads.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from pathlib import Path

from edgepose.artifact import Artifact, StageSource, resolve
from edgepose.estimator import Estimator
from edgepose.evaluation.coco import CocoAnnotations
from edgepose.evaluation.runner import evaluate
from edgepose.loading import load
from edgepose.media.pictures import read_picture
from edgepose.spec import Letterbox

SIZES = (256, 320, 384, 448, 512, 640)
THREADS = 2
#: As ``edgepose eval`` does by default: AP counts weak people as well.
MIN_SCORE = 0.02


def at_size(artifact: Artifact, long_side: int) -> Artifact:
    """The same model with pictures of another long side."""

    def change(stage: StageSource) -> StageSource:
        entry = stage.spec.input
        if not isinstance(entry.fit, Letterbox):
            return stage
        fit = dataclasses.replace(entry.fit, long_side=long_side)
        return dataclasses.replace(stage, spec=stage.spec.replace(input=dataclasses.replace(entry, fit=fit)))

    return Artifact(f"{artifact.name} at {long_side}", [change(s) for s in artifact.stages])


def official(truth: CocoAnnotations) -> list[int]:
    """Images whose people all have COCO's own areas."""
    records = truth.coco.dataset["annotations"]
    other = {a["image_id"] for a in records if a.get("area_source", "official") != "official"}
    return [image["id"] for image in truth.images if image["id"] not in other]


def milliseconds(pose: Estimator, pictures: list[Path]) -> float:
    """Median time of one picture."""
    times = []
    for path in pictures:
        image = read_picture(path)
        start = time.perf_counter()
        pose(image)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    """Measure and print a table."""
    truth, images = CocoAnnotations(sys.argv[1]), Path(sys.argv[2])
    what = sys.argv[3] if len(sys.argv) > 3 else "models"
    pictures = [images / str(r["file_name"]) for r in truth.images]
    sized = [at_size(resolve("fast"), size) for size in SIZES]
    artifacts = sized if what == "sizes" else [resolve("fast"), resolve("accurate")]
    print(f"| model | ms | AP all ({len(pictures)}) | AP50 | AP official ({len(official(truth))}) | AP50 |")
    print("|---|---|---|---|---|---|")
    for artifact in artifacts:
        with load(artifact, options={"threads": THREADS}) as pose:
            took = milliseconds(pose, pictures)
        with load(artifact, options={"threads": THREADS}, min_score=MIN_SCORE) as pose:
            whole = evaluate(pose, truth, images).statistics
            part = evaluate(pose, truth, images, image_ids=official(truth)).statistics
        cells = (whole["AP"], whole["AP50"], part["AP"], part["AP50"])
        print(f"| {artifact.name} | {took:.0f} | " + " | ".join(f"{c:.3f}" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()
