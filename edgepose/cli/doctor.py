"""``edgepose doctor``."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ..devices import Step
    from ..plugins import Probe
    from ..system import System

#: Parts without which no runtime can use a device, whatever it says of itself.
_NEEDED = ("chip", "device files", "SDK", "runtime")


@click.command()
@click.option("--device", metavar="D", help="Look at this device only; exit code 1 if it cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def command(device: str | None, as_json: bool) -> int:
    """Show which devices and engines are here, and how to mend what is not.

    For a device, what it needs is listed in the order in which it has to be there, with the one thing to do next.
    """
    from ..devices import AUTO, device_names, parse_device

    asked = None if device is None else parse_device(device).name
    report = examine(device_names() if asked in (None, AUTO) else (asked,))
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report, asked not in (None, AUTO))
    usable = any(d["usable_with"] for d in report["devices"])
    return 0 if usable else 1


def examine(names: tuple[str, ...], system: System | None = None) -> dict[str, Any]:
    """What was looked for and found, as plain data.

    Parameters
    ----------
    names
        Kinds of device.
    system
        Whose files, programs and environment are looked at; this system's by default.
    """
    from .. import __version__
    from ..devices import detect, steps

    engines = _engines()
    devices = []
    for name in names:
        seen = asdict(detect(name, system))
        runtimes = [e for e in engines if e["kind"] == "runtime" and name in e["devices"]]
        probed = [_probed(e, name) for e in runtimes]
        able = [e["name"] for e in probed if e["available"]]
        opened = {target for e in runtimes for target in e["targets"]}
        made_by = [e for e in engines if e["kind"] == "converter" and e["name"] in opened]
        parts = [_step(s) for s in steps(name, system)]
        parts += [_choice("runtime", probed), _choice("converter", made_by)]
        seen["steps"] = parts
        seen["engines"] = sorted({e["name"] for e in (*runtimes, *made_by)})
        # Beside a device that is here, a runtime shows that it can do without the rest; not all of them look for one.
        enough = able and seen["found"]
        blocking = [p for p in parts if not enough or p["part"].startswith(_NEEDED)]
        seen["next"] = next((p for p in blocking if not p["good"]), None)
        seen["usable_with"] = able if seen["found"] and seen["next"] is None else []
        if seen["found"] and seen["next"] is not None:
            seen["remedy"] = seen["next"]["remedy"]
        devices.append(seen)
    return {
        "edgepose": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "executable": sys.executable,
        "devices": devices,
        "engines": engines,
    }


def _engines() -> list[dict[str, Any]]:
    """Every installed runtime and converter, and whether it can work here."""
    from ..errors import PluginError
    from ..plugins import converter, converters, runtime, runtimes

    engines: list[dict[str, Any]] = []
    for kind, installed, get in (("runtime", runtimes(), runtime), ("converter", converters(), converter)):
        for name in installed:
            entry: dict[str, Any] = {"kind": kind, "name": name, "devices": [], "targets": []}
            try:
                plugin = get(name)
            except PluginError as error:
                entry |= {"available": False, "looked_for": installed[name].value, "found": "", "remedy": str(error)}
            else:
                entry |= asdict(plugin.probe())
                entry["devices"] = list(getattr(plugin, "devices", ()))
                entry["targets"] = list(getattr(plugin, "targets", (name,)))
            engines.append(entry)
    return engines


def _probed(engine: dict[str, Any], device: str) -> dict[str, Any]:
    """A runtime asked about one device."""
    from ..errors import PluginError
    from ..plugins import runtime

    try:
        probe: Probe = runtime(engine["name"]).probe(device)
    except PluginError:
        return engine
    return {**engine, **asdict(probe)}


def _step(step: Step) -> dict[str, Any]:
    return {**asdict(step), "good": bool(step.found)}


def _choice(part: str, engines: list[dict[str, Any]]) -> dict[str, Any]:
    """A step that one of several plug-ins fulfils."""
    able = [e for e in engines if e["available"]]
    found = ", ".join(f"{e['name']} ({e['found']})" if e["found"] else e["name"] for e in able)
    missing = next((e for e in engines if not e["available"]), None)
    looked_for = "; ".join(dict.fromkeys(f"{e['name']}: {e['looked_for']}" for e in engines))
    return {
        "part": part,
        "looked_for": looked_for or f"a {part} for it",
        "found": found,
        "remedy": missing["remedy"] if missing else f"No installed {part} is for it: pip install --upgrade edgepose",
        "good": bool(able),
    }


def _print(report: dict[str, Any], in_detail: bool) -> None:
    click.echo(f"edgepose {report['edgepose']}, Python {report['python']}, {report['platform']}")
    click.echo("\nDevices")
    for d in report["devices"]:
        usable = bool(d["usable_with"])
        found = d["evidence"] or f"not found (looked for {d['looked_for']})"
        if not in_detail and (usable or not d["found"]):
            _line(d["name"], usable, found, d["remedy"])
            continue
        _line(d["name"], usable, found, "")
        for step in d["steps"]:
            _line(
                step["part"], step["good"], step["found"] or f"not found (looked for {step['looked_for']})", "", "    "
            )
        if d["next"] is not None:
            click.echo(f"    Next, for the {d['next']['part']}:\n      {d['next']['remedy']}")
    click.echo("\nEngines")
    for e in report["engines"]:
        if in_detail and not any(e["name"] in d["engines"] for d in report["devices"]):
            continue
        shown = e["found"] or f"not found (looked for {e['looked_for']})"
        _line(f"{e['name']} {e['kind']}", e["available"], shown, e["remedy"])


def _line(name: str, good: bool, found: str, remedy: str, indent: str = "  ") -> None:
    mark = click.style("ok     ", fg="green") if good else click.style("missing", fg="yellow")
    click.echo(f"{indent}{mark} {name}: {found}")
    if not good and remedy:
        click.echo(f"{indent}        {remedy}")
