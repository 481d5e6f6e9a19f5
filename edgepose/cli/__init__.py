"""The command line.  One file a command; a command is imported when it is called, its help line stands here."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from typing import Any

import click

#: Command -> what ``edgepose --help`` says about it.  The module ``edgepose.cli.<command>`` has a ``command``.
COMMANDS = {
    "run": "Find people in pictures and videos.",
    "convert": "Convert a checkpoint to a target's bundle.",
    "calibrate": "Find the ranges of activations for INT8, to use them more than once.",
    "verify": "Prove in pixels that a model gives the same poses as another.",
    "eval": "Measure COCO keypoint accuracy.",
    "info": "Show what a model or checkpoint is.",
    "models": "List the models that come with edgepose.",
    "selftest": "Prove a device: convert, run, compare in pixels, measure, and write a report.",
    "doctor": "Show which devices and engines are here, and how to mend what is not.",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM: end as tidily as after Ctrl-C."""


class LazyGroup(click.Group):
    """Knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of :data:`COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f".{cmd_name}", __name__).command
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for a misspelt one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            suggestion = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"There is no command '{args[0]}'.{suggestion}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="edgepose", prog_name="edgepose")
def edgepose() -> None:
    """Take human-pose models from the framework that trained them to the device that runs them.

    To see it work: edgepose run photo.jpg --save drawn.jpg
    """


def main(args: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a part failed, 2 wrong usage or bad input."""
    from ..errors import EdgePoseError

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code: Any = edgepose.main(args=args, standalone_mode=False)
    except EdgePoseError as error:
        click.echo(f"edgepose: {error}", err=True)
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        click.echo("edgepose: interrupted; nothing unfinished was left behind.", err=True)
        terminated = isinstance(error.__cause__ or error, _Terminated)  # click wraps it
        code = 128 + (signal.SIGTERM if terminated else signal.SIGINT)  # as shells report it
    except BrokenPipeError:
        # The reader of our output went away; what Python would flush at exit has nowhere to go.
        sys.stdout = None
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: object) -> None:
    raise _Terminated
