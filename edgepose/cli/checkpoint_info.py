"""What ``edgepose info`` says about a checkpoint, without building anything."""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..artifact import EMBEDDED
from ..errors import EdgePoseError
from ..model import SPEC_KEY

#: So many names are listed; the JSON form has all of them.
LISTED = 12


def is_checkpoint(model: str) -> bool:
    """Whether to read ``model`` as a checkpoint: a file that no installed runtime opens as it is."""
    path = Path(model)
    if model in EMBEDDED or not path.is_file():
        return False
    from ..plugins import runtime, runtimes

    endings = {ending for r in map(runtime, runtimes()) for all_ in r.targets.values() for ending in all_}
    if path.suffix.lower() not in endings:
        return True
    # A foreign ONNX graph has no contract yet; it is described as a checkpoint.
    return path.suffix.lower() == ".onnx" and SPEC_KEY.encode() not in path.read_bytes()


def describe_checkpoint(model: str) -> dict[str, Any]:
    """Format, family, parameters, input, keypoints, what was set aside and what is missing, as plain data."""
    from ..architectures import examine
    from ..checkpoints import read_checkpoint

    checkpoint = read_checkpoint(model)
    arrays = checkpoint.arrays
    report: dict[str, Any] = {
        "name": checkpoint.path.name,
        "format": checkpoint.format,
        "bytes": checkpoint.path.stat().st_size,
        "arrays": len(arrays),
        "parameters": int(sum(np.prod(a.shape, dtype=np.int64) for a in arrays.values())),
        "dtypes": dict(Counter(str(a.dtype) for a in arrays.values())),
        "set_aside": dict(checkpoint.set_aside),
        "metadata": dict(checkpoint.metadata),
    }
    if checkpoint.graph is not None:
        report["graph"] = "its own; convert it with --spec FILE.json"
        return report
    try:
        found = examine(arrays)
    except EdgePoseError as error:
        report["unknown"] = str(error)
        return report
    report |= {
        "family": found.family,
        "architecture": found.architecture,
        "missing": {n: list(s) for n, s in found.mismatch.missing.items()},
        "misshaped": {n: [list(e), list(f)] for n, (e, f) in found.mismatch.misshaped.items()},
        "unexpected": {n: list(s) for n, s in found.mismatch.unexpected.items()},
        "spec": found.spec.to_dict(),
    }
    return report


def print_checkpoint(report: dict[str, Any]) -> None:
    """Print the report for people."""
    click.echo(click.style(report["name"], bold=True))
    dtypes = ", ".join(f"{n} x {d}" for d, n in report["dtypes"].items())
    rows = {
        "format": f"{report['format']}, {report['bytes'] / 1e6:.1f} MB",
        "arrays": f"{report['arrays']} ({dtypes}), {report['parameters']:,} parameters",
        "graph": report.get("graph"),
        "family": report.get("family"),
        "network": report.get("architecture"),
    }
    if "spec" in report:
        entry, keypoints = report["spec"]["input"], report["spec"]["keypoints"]
        size = "any size" if entry["height"] is None else f"{entry['height']} x {entry['width']} (H x W)"
        rows["input"] = f"{entry['color']}, {size}, (pixel - {entry['mean']}) / {entry['std']}, {entry['fit']['kind']}"
        rows["decoder"] = report["spec"]["decoder"]["type"]
        rows["keypoints"] = f"{keypoints['name']}: {len(keypoints['names'])}"
    for name, text in rows.items():
        if text is not None:
            click.echo(f"  {name:<10} {text}")
    if "unknown" in report:
        click.echo("\n" + report["unknown"])
    _list("metadata", {n: v for n, v in report["metadata"].items() if v not in ("", {}, [])})
    reasons: dict[str, list[str]] = {}
    for name, reason in report["set_aside"].items():
        # Optimizer state names its array; the reason is the same for all.
        reasons.setdefault(re.sub(r" of '.*'$", "", reason), []).append(name)
    _list("set aside", {r: f"{len(names)}, {names[0]} for instance" for r, names in reasons.items()})
    for title in ("missing", "misshaped", "unexpected"):
        _list(title, report.get(title, {}))


def _list(title: str, entries: dict[str, Any]) -> None:
    if not entries:
        return
    click.echo(f"\n{title} ({len(entries)})")
    for name, value in list(entries.items())[:LISTED]:
        text = value if isinstance(value, str) else json.dumps(value)
        click.echo(f"  {name}: {textwrap.shorten(text, 100, placeholder=' ...')}")
    if len(entries) > LISTED:
        click.echo(f"  ... and {len(entries) - LISTED} more; --json lists all")
