"""``edgepose info``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..artifact import Artifact, StageSource

#: Entries of the manifest's lists that are written out.
_LISTED = 12


@click.command()
@click.argument("model", metavar="[M]", required=False)
@click.option("--spec", metavar="FILE.json", help="Contract of a foreign engine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def command(model: str | None, spec: str | None, as_json: bool) -> None:
    """Show what M is: spec, provenance, licence, precision and sizes.

    M is a bundle, an .onnx that edgepose wrote, a foreign engine with --spec, the name of an embedded model, or a
    checkpoint, of which nothing is built; without M, the default embedded model.
    """
    from .checkpoint_info import describe_checkpoint, is_checkpoint, print_checkpoint

    if model is not None and spec is None and is_checkpoint(model):
        found = describe_checkpoint(model)
        click.echo(json.dumps(found, indent=2)) if as_json else print_checkpoint(found)
        return
    from ..artifact import resolve

    report = describe(resolve(model, spec))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)


def describe(artifact: Artifact) -> dict[str, Any]:
    """What is known about a model, as plain data."""
    manifest = artifact.manifest
    provenance: dict[str, Any] = {}
    if manifest is None:
        if artifact.stages[0].target == "onnx":
            from ..model import PoseModel

            stage = artifact.stages[0]
            provenance = {"source": dict(PoseModel.from_onnx(stage.engine, stage.spec).provenance)}
    else:
        fields = ("created", "source", "license", "tools", "calibration", "measured", "notes")
        provenance = {name: getattr(manifest, name) for name in fields}
    return {
        "name": artifact.name,
        "stages": [
            {
                "role": "detector" if i < len(artifact.stages) - 1 else "pose",
                "target": s.target,
                "precision": s.precision,
                "engine": s.engine.name,
                "bytes": s.engine.stat().st_size,
                "spec": s.spec.to_dict(),
                "lint": _lint(s),
            }
            for i, s in enumerate(artifact.stages)
        ],
        **provenance,
    }


def _lint(stage: StageSource) -> list[str]:
    """What a Q/DQ graph has that is slow or wrong somewhere."""
    if stage.target != "onnx":
        return []
    from ..model import PoseModel
    from ..quantization.lint import lint

    found = lint(PoseModel.from_onnx(stage.engine, stage.spec).graph)
    return [f"{one.message} ({len(one.nodes)} nodes, {one.nodes[0]} for instance)" for one in found]


def _print(report: dict[str, Any]) -> None:
    click.echo(click.style(report["name"], bold=True))
    for stage in report["stages"]:
        spec = stage["spec"]
        entry = spec["input"]
        size = "any size" if entry["height"] is None else f"{entry['height']} x {entry['width']} (H x W)"
        fit = dict(entry["fit"])
        click.echo(f"\n{stage['role']} stage")
        rows = {
            "engine": f"{stage['engine']} ({stage['target']}, {stage['precision']}, {stage['bytes'] / 1e6:.1f} MB)",
            "input": f"'{entry['name']}' {entry['dtype']} {entry['layout']} {entry['color']}, {size}",
            "normalise": f"(pixel - {entry['mean']}) / {entry['std']}",
            "fit": f"{fit.pop('kind')}: {_options(fit)}",
            "decoder": f"{spec['decoder']['type']} {_options(spec['decoder']['options'])}".rstrip(),
            "outputs": _options(spec["decoder"]["outputs"]),
            "keypoints": _keypoints(spec["keypoints"]),
        }
        for name, text in rows.items():
            click.echo(f"  {name:<10} {text}")
        if "calibration" in spec:
            click.echo(f"  {'ranges':<10} {len(spec['calibration'])} activation ranges from the checkpoint")
        for line in stage["lint"]:
            click.echo(f"  {'lint':<10} {line}")
    for section in ("source", "license", "tools", "calibration", "measured"):
        if report.get(section):
            click.echo(f"\n{section}")
            for key, value in report[section].items():
                click.echo(f"  {key:<10} {value if isinstance(value, str) else _short(value)}")
    for note in report.get("notes", ()):
        click.echo(f"\n{note}")


def _short(value: Any) -> str:
    """JSON; of a long list only the length, ``--json`` has it whole."""
    if isinstance(value, (list, dict)) and len(value) > _LISTED:
        return f"{len(value)} entries; --json lists them"
    return json.dumps(value)


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{k}={v}" for k, v in options.items())


def _keypoints(data: dict[str, Any] | None) -> str:
    if data is None:
        return "none, person boxes only"
    names = data["names"]
    listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    return f"{data['name']}: {len(names)} ({listed})"
