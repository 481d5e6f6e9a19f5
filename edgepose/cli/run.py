"""``edgepose run``."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..estimator import Estimator
    from ..media.boxes import BoxFile
    from ..media.frames import Source
    from ..media.sinks import Sink
    from .progress import ProgressBar


@click.command()
@click.argument("sources", nargs=-1, metavar="SOURCE...", required=True)
@click.option("--model", metavar="M", help="Bundle, .onnx or embedded model; by default the embedded one.")
@click.option(
    "--detector",
    default="auto",
    metavar="M",
    help="Finds the person boxes for a top-down model; by default the embedded model.",
)
@click.option("--boxes", metavar="FILE", help="Person boxes for a top-down model, as --json writes them.")
@click.option("--spec", metavar="FILE.json", help="Contract of a foreign engine.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="Device to run on.")
@click.option("--runtime", metavar="NAME", help="Engine API, where a device has several.")
@click.option("--min-score", type=float, metavar="S", help="Leave out people (or boxes) of a lower score.")
@click.option("--flip", is_flag=True, help="Flip test: average with the mirrored input; twice the work.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write JSON Lines, one object a picture or frame.")
@click.option("--save", metavar="PATH", help="Write drawn pictures or video: a file, or a folder for several.")
def command(
    sources: tuple[str, ...],
    model: str | None,
    detector: str,
    boxes: str | None,
    spec: str | None,
    device: str,
    runtime: str | None,
    min_score: float | None,
    flip: bool,
    json_path: str | None,
    save: str | None,
) -> int:
    """Find the people in pictures and videos.

    A SOURCE is a picture, a video, a folder of pictures, or a pattern in quotes such as 'clips/*.mp4'.
    """
    from ..errors import InputError
    from ..loading import load
    from ..media.boxes import BoxFile
    from ..media.sinks import JsonLinesSink, open_save
    from ..media.source import SequenceSource, open_source
    from .progress import ProgressBar

    opened: list[Source] = []
    absent: list[InputError] = []
    for text in sources:
        try:
            opened.append(open_source(text))
        except InputError as problem:
            absent.append(problem)
    if not opened:
        for error in absent[:-1]:
            click.echo(f"edgepose: {error}", err=True)
        raise absent[-1]
    box_file = None if boxes is None else BoxFile(boxes)
    source = opened[0] if len(opened) == 1 else SequenceSource(opened, " ".join(sources))
    with ExitStack() as stack:
        estimator = stack.enter_context(
            load(
                model,
                device=device,
                runtime=runtime,
                detector=detector if boxes is None else None,
                spec=spec,
                flip=flip,
                min_score=min_score,
            )
        )
        sinks: list[Sink] = []
        if json_path is not None:
            sinks.append(stack.enter_context(JsonLinesSink(json_path)))
        if save is not None:
            sinks.append(stack.enter_context(open_save(save, opened)))
        bar = stack.enter_context(ProgressBar("finding people", source.total))
        for error in absent:
            bar.note(f"edgepose: {error}")
        report = _run(estimator, source, box_file, sinks, bar)
    failures = report.failures + len(absent)
    summary = (
        f"{report.people} people in {report.frames} {'frames' if report.frames > 1 else 'frame'},"
        f" {report.seconds:.1f} s ({1000 * report.busy / max(report.frames, 1):.0f} ms each for {estimator.name},"
        f" {estimator.placement} on {estimator.device})"
    )
    if failures:
        summary += f"; {failures} could not be read"
    click.echo(summary, err=json_path == "-")
    return 1 if failures else 0


class _Report:
    """Counts of a run."""

    def __init__(self) -> None:
        self.frames = self.people = self.failures = 0
        self.busy = self.seconds = 0.0


def _run(estimator: Estimator, source: Source, boxes: BoxFile | None, sinks: list[Sink], bar: ProgressBar) -> _Report:
    from ..media.frames import Failure

    report = _Report()
    start = time.perf_counter()
    for item in source:
        if isinstance(item, Failure):
            bar.note(f"edgepose: {item.reason}")
            report.failures += 1
        else:
            began = time.perf_counter()
            poses = estimator(item.image, None if boxes is None else boxes.of(item))
            report.busy += time.perf_counter() - began
            report.frames += 1
            report.people += len(poses)
            for sink in sinks:
                sink.write(item, poses)
            if not sinks and not item.is_video:
                click.echo(f"{item.source}: {len(poses)} people")
        bar.advance()
    report.seconds = time.perf_counter() - start
    return report
