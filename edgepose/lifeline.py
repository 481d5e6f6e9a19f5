"""Child processes that end when we do, however we end.

A child holds the reading end of a pipe that nobody writes to, and has asked the kernel for a signal when something
happens to it.  What happens is that we are gone, killed without a chance to clean up perhaps, and with us the writing
end.  The signal is SIGIO, which ends a process that does not handle it, in the middle of a long computation too.

The kernel can also signal the death of a parent directly (``PR_SET_PDEATHSIG``), but it takes the thread that started
the child for its parent, and a child must outlive that.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Runs in the child before the program that is wanted: ask for the signal, see whether it was too late, and go on.
_ARM = """
import fcntl, os, select, sys
end = int(sys.argv[1])
fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)
gone = select.poll()
gone.register(end, 0)
if gone.poll(0):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit("Cannot run %s: %s" % (sys.argv[2], error.strerror))
"""
#: Seconds that a child has to end by itself when its input is closed.
_GRACE = 3.0


class Child:
    """A process that ends when this object is closed or collected, or we end.

    Parameters
    ----------
    command
        Program and arguments.
    env
        Its environment; ours by default.
    folder
        Where it runs; where we are by default.
    talks
        Whether it is talked with through its standard input and output; else it has no input, and what it writes is
        kept for :meth:`said`.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        folder: Path | None = None,
        talks: bool = False,
    ) -> None:
        theirs, ours = os.pipe()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the child
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _ARM, str(theirs), *command],
                stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else self._said,
                stderr=self._said,
                env=dict(env) if env is not None else None,
                cwd=folder,
                pass_fds=(theirs,),
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._let_go = weakref.finalize(self, os.close, ours)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def requests(self) -> IO[bytes]:
        """Its standard input."""
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def replies(self) -> IO[bytes]:
        """Its standard output."""
        assert self._process.stdout is not None
        return self._process.stdout

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended: its exit code, or the negative number of a signal; None if it has not within ``seconds``."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def said(self, limit: int = 65536) -> str:
        """The end of what it wrote and nobody has read."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - limit))
        return self._said.read().decode(errors="replace")

    def close(self) -> None:
        """End it; one that is talked with has a little time to end when its input does.  May be called twice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self.wait(_GRACE if self._process.stdin is not None else 0) is None:
            self._process.kill()
            self._process.wait()
        self._let_go()


def run(
    command: Sequence[str],
    env: Mapping[str, str] | None = None,
    seconds: float | None = None,
    folder: Path | None = None,
) -> tuple[int | None, str]:
    """Run a program to its end.

    Parameters
    ----------
    command, env, folder
        See :class:`Child`.
    seconds
        How long it may take.

    Returns
    -------
    tuple of int or None, and str
        Its exit code, None if it was ended because it took too long; and the end of what it wrote.
    """
    child = Child(command, env, folder=folder)
    try:
        return child.wait(seconds), child.said()
    finally:
        child.close()
