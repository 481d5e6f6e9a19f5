"""``edgepose models``."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """List the models that come with edgepose; each name can be given as --model."""
    from ..artifact import DEFAULT_MODEL, EMBEDDED, resolve

    for name, embedded in EMBEDDED.items():
        artifact = resolve(name)
        size = sum(s.engine.stat().st_size for s in artifact.stages) / 1e6
        mark = " (default)" if name == DEFAULT_MODEL else ""
        click.echo(f"{name}{mark}: {embedded.description}, {size:.1f} MB")
