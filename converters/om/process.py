"""Running a program that starts others, so that all of them end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgepose.lifeline import Child

#: Runs in the child: become the leader of a group of processes, and go on as the program that is wanted.
_LEAD = """
import os, sys
os.setsid()
try:
    os.execvp(sys.argv[1], sys.argv[1:])
except OSError as error:
    sys.exit("Cannot run %s: %s" % (sys.argv[1], error.strerror))
"""


def run_group(
    command: Sequence[str], environment: Mapping[str, str] | None, seconds: float, folder: Path
) -> tuple[int | None, str]:
    """Run a program to its end; the processes that it has started end with it, and with an interrupt of ours.

    ``atc`` compiles operators in processes of Python, which go on for minutes when it alone is ended.

    Parameters
    ----------
    command, environment, folder
        Program and arguments, its variables (ours by default), and where it runs.
    seconds
        How long it may take.

    Returns
    -------
    tuple of int or None, and str
        As :func:`edgepose.lifeline.run`.
    """
    child = Child([sys.executable, "-I", "-S", "-c", _LEAD, *command], environment, folder=folder)
    try:
        return child.wait(seconds), child.said()
    finally:
        # Not before it leads a group of its own is there a group of this number; then it has started nothing yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.close()
