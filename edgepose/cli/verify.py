"""``edgepose verify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..evaluation.blame import Blame
    from ..evaluation.parity import Parity


@click.command()
@click.argument("model", metavar="[M]", required=False)
@click.option("--against", metavar="REF", help="Reference model; by default the outputs that M's bundle holds.")
@click.option("--images", multiple=True, metavar="PATH", help="Picture, folder, pattern or video; may be repeated.")
@click.option("--boxes", metavar="FILE", help="Person boxes for --images, as 'edgepose run --json' writes them.")
@click.option(
    "--max-shift", type=click.FloatRange(min=0), metavar="PX", help="Fail if a joint moves by more than this."
)
@click.option("--blame", is_flag=True, help="Name the first step at which M and REF differ.")
@click.option("--device", default="auto", show_default=True, metavar="D", help="Device to run M on.")
@click.option("--runtime", metavar="NAME", help="Engine API, where a device has several.")
@click.option("--spec", metavar="FILE.json", help="Contract of M, a foreign engine.")
@click.option("--against-spec", metavar="FILE.json", help="Contract of REF, a foreign engine.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write the result as JSON.")
def command(
    model: str | None,
    against: str | None,
    images: tuple[str, ...],
    boxes: str | None,
    max_shift: float | None,
    blame: bool,
    device: str,
    runtime: str | None,
    spec: str | None,
    against_spec: str | None,
    json_path: str | None,
) -> int:
    """Measure how far M lies from its reference, in pixels of the picture.

    M and REF are bundles, .onnx files that edgepose wrote, foreign engines with their specs, or embedded models.

    Joints that the reference scores below a twentieth of its best joint, or that rounding its outputs to half
    precision would move, are counted but not compared. Exit code 1: people or joints were lost, or --max-shift is
    exceeded.
    """
    from ..artifact import resolve
    from ..evaluation.parity_run import verify
    from ..files import write_whole

    if against is None:
        for given, name in ((blame, "--blame"), (images, "--images"), (against_spec, "--against-spec")):
            if given:
                raise click.UsageError(f"{name} needs a reference: give --against REF.")
    if boxes is not None and not images:
        raise click.UsageError("--boxes belongs to --images.")
    artifact = resolve(model, spec)
    reference = None if against is None else resolve(against, against_spec)
    parity = verify(artifact, reference, images=images, boxes=boxes, device=device, runtime=runtime)
    culprit: Blame | None = None
    if blame and reference is not None:
        from ..evaluation.blame import find_blame

        culprit = find_blame(artifact, reference, images=images, boxes=boxes, device=device, runtime=runtime)
    failures = parity.failures(max_shift)
    report: dict[str, Any] = {
        "model": artifact.name,
        "reference": "golden outputs" if reference is None else reference.name,
        **parity.to_dict(),
        "sources": len(parity.comparisons),
        "unreadable": dict(parity.unreadable),
        "max_shift": max_shift,
        "passed": not failures,
        "failures": failures,
    }
    if culprit is not None:
        report["blame"] = culprit.to_dict()
    for reason in parity.unreadable.values():
        click.echo(f"edgepose: {reason}", err=True)
    if json_path is not None:
        text = json.dumps(report, indent=2) + "\n"
        if json_path == "-":
            click.echo(text, nl=False)
        else:
            write_whole(json_path, text.encode())
    if json_path != "-":
        _print(parity, report, culprit)
    for failure in failures:
        click.echo(f"edgepose: {failure}.", err=True)
    return 1 if failures or parity.unreadable else 0


def _print(parity: Parity, report: dict[str, Any], culprit: Blame | None) -> None:
    joints, people, scores = report["joints"], report["people"], report["scores"]
    click.echo(f"{report['model']} against {report['reference']}")
    click.echo(
        f"pixels   max {parity.max:.4f}  p99 {parity.p99:.4f}  mean {parity.mean:.4f}"
        f"  ({100 * parity.moved:.1f} % of {joints['compared']} joints moved by more than 1 px)"
    )
    oks = report["oks"]
    click.echo(
        "OKS      not defined for these keypoints"
        if oks is None
        else f"OKS      min {oks['min']:.5f}  mean {oks['mean']:.5f}"
    )
    click.echo(f"scores   joints {_shift(scores['joints'])}, people {_shift(scores['people'])}")
    for role, error in report["tensors"].items():
        size = "not finite" if error["max"] is None else f"max {error['max']:.3g}  mean {error['mean']:.3g}"
        click.echo(f"tensor   {role}: {size}  (values up to {error['scale']:.3g})")
    click.echo(f"people   {people['matched']} matched, {people['missing']} missing, {people['extra']} too many")
    click.echo(
        f"joints   {joints['lost']} lost; set aside: {joints['weak']} weak, {joints['unsettled']} unsettled"
        f" (moved by up to {joints['set_aside_max']:.2f} px)"
    )
    if culprit is not None:
        click.echo(culprit.to_text())


def _shift(part: dict[str, float]) -> str:
    return f"max {part['max']:.2g} mean {part['mean']:+.2g}"
