"""``edgepose models``."""

from __future__ import annotations

import click


@click.command()
def command() -> None:
    """List the models that come with edgepose, and the architectures that 'edgepose convert' builds.

    The name of a model can be given as --model, that of an architecture as --architecture.
    """
    from ..architectures import architectures
    from ..artifact import DEFAULT_MODEL, EMBEDDED, resolve

    click.echo("Models inside (--model)")
    for name, embedded in EMBEDDED.items():
        size = sum(s.engine.stat().st_size for s in resolve(name).stages) / 1e6
        mark = " (default)" if name == DEFAULT_MODEL else ""
        click.echo(f"  {name}{mark}: {embedded.description}, {size:.1f} MB")
    known = architectures()
    width = max(map(len, known))
    click.echo("\nArchitectures of checkpoints (--architecture)")
    for name, description in known.items():
        click.echo(f"  {name:<{width}}  {description}")
