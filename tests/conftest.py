"""Shared fixtures.  Reference data is optional; the rest of the suite needs neither data nor network."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder with reference inputs, outputs, weights and pictures."""
    folder = os.environ.get("EDGEPOSE_TEST_DATA")
    if not folder:
        pytest.skip("reference data needed: set EDGEPOSE_TEST_DATA to its folder")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"EDGEPOSE_TEST_DATA is '{folder}', which is not a folder")
    return path


def pytest_configure() -> None:
    """Let Ctrl-C work where the suite was started with it ignored, as a background job: some tests send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
