"""``edgepose selftest``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..device_proof import Case, Report


@click.command()
@click.option("--device", default="auto", show_default=True, metavar="D", help="Device to prove.")
@click.option("--runtime", metavar="NAME", help="Engine API, where the device has several.")
@click.option(
    "--target", "targets", multiple=True, metavar="T", help="Target, may be repeated; by default all that it opens."
)
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(["fp32", "fp16", "int8"]),
    help="Precision, may be repeated; by default fp32 and fp16.",
)  # fmt: skip
@click.option("--output", metavar="FILE", help="The report; by default edgepose-selftest-D.json in the current folder.")
def command(
    device: str, runtime: str | None, targets: tuple[str, ...], precisions: tuple[str, ...], output: str | None
) -> int:
    """Prove that this device computes the right poses, and how fast.

    Converts the embedded models and a small network of each kind of decoder to what the device runs, runs golden
    frames on it, compares with the FP32 reference in pixels of the picture, and measures the time. Nothing is
    downloaded. The report holds versions, numbers and errors, no names, addresses or folders, and can be attached to
    an issue.

    Exit code 0: all passed; 1: some failed; 2: nothing could be tested.
    """
    from ..device_proof import RUNNING, SKIPPED, choose_device, plan, prove_device
    from ..files import write_whole

    chosen = choose_device(device, runtime)
    pairs, skipped = plan(chosen, runtime, tuple(dict.fromkeys(targets)), tuple(dict.fromkeys(precisions)))
    path = output or f"edgepose-selftest-{chosen.name}.json"

    def write(report: Report) -> None:
        # Before a case as well: if a vendor's library ends this process, the file says in which case.
        write_whole(path, (json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n").encode())
        last = report.cases[-1]
        name = f"[{len(report.cases)}/{report.planned}] {last.target} {last.precision} {last.network}"
        if last.status == RUNNING:
            click.echo(f"edgepose: {name} ...", err=True)
        else:
            click.echo(f"edgepose: {name} {last.status}" + (f": {last.error}" if last.error else ""), err=True)

    report = prove_device(chosen, pairs, skipped, runtime, on_case=write) if pairs else None
    if report is None:
        for case in skipped:
            click.echo(f"{case.target} {case.precision}: {case.error}\n  {case.remedy}")
        click.echo(f"edgepose: nothing can be tested on {chosen}.", err=True)
        return 2
    click.echo(_table(report.cases))
    for case in report.cases:
        if case.error:
            note = f"\n  {case.remedy}" if case.remedy else ""
            click.echo(f"{case.target} {case.precision} {case.network}".rstrip() + f": {case.error}{note}")
    failed = sum(c.status not in ("passed", SKIPPED) for c in report.cases)
    click.echo(
        f"{chosen}: {report.count('passed')} passed, {failed} failed, {report.count(SKIPPED)} skipped; report: {path}"
    )
    return 1 if failed else 0


def _table(cases: list[Case]) -> str:
    """One line a case."""
    head = ("target", "precision", "network", "result", "error px (p99)", "ms", "MB", "runs on")
    cells = [
        (
            c.target,
            c.precision,
            c.network or "-",
            c.status,
            "-" if c.pixels is None or c.pixels["p99"] is None else f"{c.pixels['p99']:.3f}",
            "-" if c.ms is None else f"{c.ms:.1f}",
            "-" if c.size is None else f"{c.size / 1e6:.1f}",
            c.placement or "-",
        )
        for c in cases
    ]
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in (head, *cells))
