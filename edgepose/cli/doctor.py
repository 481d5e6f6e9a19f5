"""``edgepose doctor``."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from typing import Any

import click


@click.command()
@click.option("--device", metavar="D", help="Look at this device only; exit code 1 if it cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def command(device: str | None, as_json: bool) -> int:
    """Show which devices and engines are here, and how to mend what is not."""
    from ..devices import AUTO, device_names, parse_device

    asked = None if device is None else parse_device(device).name
    report = examine(device_names() if asked in (None, AUTO) else (asked,))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    usable = any(d["usable_with"] for d in report["devices"])
    return 0 if usable else 1


def examine(names: tuple[str, ...]) -> dict[str, Any]:
    """What was looked for and found, as plain data."""
    from .. import __version__
    from ..devices import detect
    from ..errors import PluginError
    from ..plugins import converter, converters, runtime, runtimes

    engines: list[dict[str, Any]] = []
    for kind, installed, get in (("runtime", runtimes(), runtime), ("converter", converters(), converter)):
        for name in installed:
            entry: dict[str, Any] = {"kind": kind, "name": name}
            try:
                plugin = get(name)
            except PluginError as error:
                entry |= {"available": False, "looked_for": installed[name].value, "found": "", "remedy": str(error)}
            else:
                entry |= asdict(plugin.probe())
                entry["devices"] = list(getattr(plugin, "devices", ()))
                entry["targets"] = list(getattr(plugin, "targets", (name,)))
            engines.append(entry)
    devices = []
    for name in names:
        seen = asdict(detect(name))
        able = [e["name"] for e in engines if e["available"] and name in e.get("devices", ())]
        seen["usable_with"] = able if seen["found"] else []
        if seen["found"] and not able:
            seen["remedy"] = "No installed runtime can use it; the engines below say what is missing."
        devices.append(seen)
    return {
        "edgepose": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "devices": devices,
        "engines": engines,
    }


def _print(report: dict[str, Any]) -> None:
    click.echo(f"edgepose {report['edgepose']}, Python {report['python']}, {report['platform']}")
    click.echo("\nDevices")
    for d in report["devices"]:
        _line(d["name"], bool(d["usable_with"]), d["evidence"] or f"not found (looked for {d['looked_for']})", d)
    click.echo("\nEngines")
    for e in report["engines"]:
        found = e["found"] or f"not found (looked for {e['looked_for']})"
        _line(f"{e['name']} {e['kind']}", e["available"], found, e)


def _line(name: str, good: bool, found: str, entry: dict[str, Any]) -> None:
    mark = click.style("ok     ", fg="green") if good else click.style("missing", fg="yellow")
    click.echo(f"  {mark} {name}: {found}")
    if not good and entry["remedy"]:
        click.echo(f"          {entry['remedy']}")
