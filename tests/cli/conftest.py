"""Calling the command line as a user would, without the cost of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgepose.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def edgepose(capfd: pytest.CaptureFixture[str]) -> Call:
    """Run ``edgepose ARGUMENTS``; what it and its C libraries print is captured at the file descriptors."""

    def call(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        captured = capfd.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, captured.out, captured.err)

    return call
