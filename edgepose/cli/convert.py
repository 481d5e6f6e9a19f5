"""``edgepose convert``."""

from __future__ import annotations

import re
from typing import Literal

import click


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """``HEIGHTxWIDTH`` in pixels."""
    if value is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", value.lower())
    if not found:
        raise click.BadParameter(f"'{value}' is not HEIGHTxWIDTH, 256x192 for instance.")
    return int(found.group(1)), int(found.group(2))


def _batch(ctx: click.Context, param: click.Parameter, value: str | None) -> int | Literal["dynamic"] | None:
    """A number, or ``dynamic``."""
    if value is None:
        return None
    if value == "dynamic":
        return "dynamic"
    if not re.fullmatch(r"[1-9][0-9]{0,3}", value):
        raise click.BadParameter(f"'{value}' is neither a batch size nor 'dynamic'.")
    return int(value)


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option("--to", required=True, metavar="TARGET", help="Target; 'edgepose doctor' lists the installed ones.")
@click.option("--architecture", metavar="A", help="Network, if it cannot be told; 'edgepose models' lists them.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "fp16", "int8"]))
@click.option("--spec", metavar="FILE.json", help="Contract of a graph that edgepose did not build.")
@click.option("--input-size", callback=_size, metavar="HxW", help="Input height and width in pixels.")
@click.option("--batch", callback=_batch, metavar="N|dynamic", help="Batch size; by default dynamic.")
@click.option("--opset", type=click.IntRange(min=11), metavar="N", help="ONNX operator set.")
@click.option("--simplify", is_flag=True, help="Run onnxsim as well.")
@click.option("-o", "--output", metavar="BUNDLE", help="Folder of the bundle; or FILE.onnx for the bare graph.")
def command(
    checkpoint: str,
    to: str,
    architecture: str | None,
    precision: str,
    spec: str | None,
    input_size: tuple[int, int] | None,
    batch: int | Literal["dynamic"] | None,
    opset: int | None,
    simplify: bool,
    output: str | None,
) -> None:
    """Convert CHECKPOINT to a target's bundle.

    CHECKPOINT is a GluonCV or MXNet .params, an MXNet -symbol.json with its .params beside it, a MindSpore .ckpt, a
    PyTorch .pth, .safetensors or .onnx; its content decides, not its name.
    """

    def report(line: str) -> None:
        click.echo(f"edgepose: {line}", err=True)

    if output is not None and output.lower().endswith(".onnx"):
        from ..importing import ImportOptions, import_checkpoint

        if to != "onnx" or precision != "fp32":
            raise click.UsageError("A bare .onnx file is written with --to onnx --precision fp32; give a folder to -o.")
        options = ImportOptions(architecture, spec, opset, batch, input_size, simplify)
        path = import_checkpoint(checkpoint, options, report).save(output)
    else:
        from ..conversion import convert

        path = convert(
            checkpoint,
            to,
            output=output,
            precision=precision,
            architecture=architecture,
            spec=spec,
            opset=opset,
            batch=batch,
            input_size=input_size,
            simplify=simplify,
            report=report,
        ).folder
    size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir()))
    click.echo(f"{path}: {size / 1e6:.1f} MB")
