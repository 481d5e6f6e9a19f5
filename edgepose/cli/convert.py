"""``edgepose convert``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import click

if TYPE_CHECKING:
    from ..quantization.options import Int8Options


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


def _embed(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[Literal["pre", "post"], ...] | None:
    """``pre``, ``post``, ``pre,post`` or ``none``."""
    known: dict[str, tuple[Literal["pre", "post"], ...]] = {
        "none": (),
        "pre": ("pre",),
        "post": ("post",),
        "pre,post": ("pre", "post"),
    }
    if value is None:
        return None
    if value not in known:
        raise click.BadParameter(f"'{value}' is none of {', '.join(known)}.")
    return known[value]


def _own(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> dict[str, str]:
    """``NAME=VALUE``, several times."""
    found: dict[str, str] = {}
    for text in value:
        name, equals, given = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise click.BadParameter(f"'{text}' is not NAME=VALUE.")
        if name in found:
            raise click.BadParameter(f"'{name}' is given twice.")
        found[name] = given
    return found


@click.command()
@click.argument("checkpoint", metavar="CHECKPOINT")
@click.option(
    "--to",
    "targets",
    required=True,
    multiple=True,
    metavar="TARGET",
    help="Target, several times for several, or 'all-installed'; 'edgepose doctor' lists them.",
)
@click.option("--architecture", metavar="A", help="Network, if it cannot be told; 'edgepose models' lists them.")
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "fp16", "int8"]))
@click.option("--spec", metavar="FILE.json", help="Contract of a graph that edgepose did not build.")
@click.option("--input-size", callback=_size, metavar="HxW", help="Input height and width in pixels.")
@click.option("--batch", callback=_batch, metavar="N|dynamic", help="Batch size; by default dynamic.")
@click.option("--opset", type=click.IntRange(min=11), metavar="N", help="ONNX operator set.")
@click.option(
    "--embed",
    callback=_embed,
    metavar="pre,post",
    help="Put colour, normalisation and layout (pre) and the decoder (post) into the graph, or 'none';"
    " by default what is fastest on the target.",
)
@click.option("--simplify", is_flag=True, help="Run onnxsim as well.")
@click.option("--via", metavar="TOOL", help="Where there are several ways: the vendor's tool, 'mslite' for MindIR.")
@click.option("--mindir-version", type=click.Choice(["1", "3"]), help="Of MindIR: 3 for MindSpore 2.3 and newer.")
@click.option(
    "--option", "own", multiple=True, callback=_own, metavar="NAME=VALUE", help="Of the target itself; several times."
)
@click.option(
    "--calibration",
    metavar="PATH",
    help="INT8: a folder of pictures, a COCO JSON with --images, a video, a bundle, a file of ranges, or 'imported' for"
    " the ranges that the checkpoint brought.",
)
@click.option("--images", metavar="DIR", help="INT8: folder of the pictures of a COCO JSON.")
@click.option(
    "--method",
    type=click.Choice(["naive", "entropy", "percentile", "mse", "sqnr"]),
    help="INT8: how ranges are found; by default several are tried.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="INT8: calibration samples, at most; 500.")
@click.option(
    "--max-ap-drop",
    type=click.FloatRange(min=0),
    metavar="P",
    help="INT8: AP points of 100 that may be lost, with 95 % confidence; and a tenth of that in OKS.",
)
@click.option(
    "--views",
    type=click.IntRange(1, 64),
    metavar="N",
    help="INT8: count each labelled picture in N views, so that chance decides less on AP; 1.",
)
@click.option("--max-oks-loss", type=click.FloatRange(0, 1), metavar="L", help="INT8: OKS that may be lost; no labels.")
@click.option(
    "--max-shift", type=click.FloatRange(min=0), metavar="PX", help="INT8: pixels of the input (p99); no labels."
)
@click.option("--samples", metavar="PATH", help="INT8: other pictures than the calibration's to measure the loss on.")
@click.option("--annotations", metavar="JSON", help="INT8: other labels than the calibration's to measure AP on.")
@click.option(
    "--annotated-images", metavar="DIR", help="INT8: folder of their pictures, or of a COCO JSON in --samples."
)
@click.option("--keep-float", multiple=True, metavar="LAYER", help="INT8: a layer that stays in float; several times.")
@click.option("--repair/--no-repair", default=True, help="INT8: balance and repair before layers go back to float.")
@click.option("--pareto", metavar="FILE.png", help="INT8: draw what the search tried.")
@click.option(
    "-o",
    "--output",
    metavar="BUNDLE",
    help="Folder of the bundle (of the bundles, for several targets); or FILE.onnx for the bare graph.",
)
def command(
    checkpoint: str,
    targets: tuple[str, ...],
    architecture: str | None,
    precision: str,
    spec: str | None,
    input_size: tuple[int, int] | None,
    batch: int | Literal["dynamic"] | None,
    opset: int | None,
    embed: tuple[Literal["pre", "post"], ...] | None,
    simplify: bool,
    own: dict[str, str],
    via: str | None,
    mindir_version: str | None,
    output: str | None,
    **int8: Any,
) -> int:
    """Convert CHECKPOINT to a target's bundle.

    CHECKPOINT is a GluonCV or MXNet .params, an MXNet -symbol.json with its .params beside it, a MindSpore .ckpt, a
    PyTorch .pth, .safetensors or .onnx; its content decides, not its name.  A bundle of FP32 ONNX graphs and the name
    of an embedded model are converted as well.

    INT8 is calibrated and kept within a budget: layers that cost too much stay in float.  Without a budget it is 0.4
    AP points where there are labels, else 0.01 OKS.
    """

    def report(line: str) -> None:
        click.echo(f"edgepose: {line}", err=True)

    from ..importing import ImportOptions

    options = ImportOptions(architecture, spec, opset, batch, input_size, simplify)
    own |= {name: given for name, given in (("via", via), ("mindir_version", mindir_version)) if given is not None}
    quantisation = _int8(**int8)
    if len(targets) > 1 or "all-installed" in targets:
        if own:
            raise click.UsageError("--option, --via and --mindir-version are for one target.")
        from ..conversion import TargetOptions
        from ..multi_target import convert_all, table

        rows = convert_all(
            checkpoint,
            targets,
            (precision,),
            output=output,
            options=options,
            target=TargetOptions(embed, int8=quantisation),
            report=report,
        )
        click.echo(table(rows))
        return 1 if any(row.folder is None for row in rows) else 0
    (to,) = targets
    if output is not None and output.lower().endswith(".onnx"):
        from ..conversion import check_target, embedded_for
        from ..importing import import_checkpoint

        if own:
            raise click.UsageError("--option is of a target, and a bare .onnx file has none.")
        if to != "onnx" or precision != "fp32":
            raise click.UsageError("A bare .onnx file is written with --to onnx --precision fp32; give a folder to -o.")
        check_target(to, precision, quantisation)
        path = embedded_for(import_checkpoint(checkpoint, options, report), to, embed).save(output)
        click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
        return 0
    from ..conversion import convert

    bundle = convert(
        checkpoint,
        to,
        output=output,
        precision=precision,
        int8=quantisation,
        architecture=architecture,
        spec=spec,
        opset=opset,
        batch=batch,
        input_size=input_size,
        simplify=simplify,
        embed=embed,
        target_options=own,
        report=report,
    )
    size = sum(p.stat().st_size for p in bundle.folder.rglob("*") if p.is_file())
    click.echo(f"{bundle.folder}: {size / 1e6:.1f} MB; {_parity(bundle.manifest.measured.get('parity', {}))}")
    return 0


def _int8(
    calibration: str | None,
    method: str | None,
    limit: int | None,
    views: int | None,
    max_ap_drop: float | None,
    max_oks_loss: float | None,
    max_shift: float | None,
    pareto: str | None,
    repair: bool,
    **rest: Any,
) -> Int8Options | None:
    """What was said about INT8; None if nothing was."""
    given = [
        (metric, value)
        for metric, value in (("ap", max_ap_drop), ("oks", max_oks_loss), ("shift", max_shift))
        if value is not None
    ]
    if calibration is None:
        others = (method, limit, views, pareto, *rest.values())
        if given or not repair or any(o not in (None, ()) for o in others):
            raise click.UsageError("The options of INT8 need --calibration.")
        return None
    if len(given) > 1:
        raise click.UsageError("Give one budget: --max-ap-drop, --max-oks-loss or --max-shift.")
    from ..quantization.budget import Budget
    from ..quantization.options import Int8Options

    chosen: dict[str, Any] = {
        name: value for name, value in (("method", method), ("limit", limit), ("views", views)) if value is not None
    }
    budget = Budget(*given[0]) if given else None  # type: ignore[arg-type]
    return Int8Options(calibration, budget=budget, picture=pareto, repair=repair, **chosen, **rest)


def _parity(measured: Mapping[str, Any]) -> str:
    """What the conversion measured of itself, in words."""
    if measured.get("status") != "executed":
        return f"not executed: {measured.get('reason', 'nothing was measured')}"
    pixels = measured["pixels"]
    moved = "nothing to compare" if pixels["p99"] is None else f"poses moved by {pixels['p99']:.3f} px (p99)"
    return f"{moved} against the FP32 graph, on {measured['runtime']}"
