"""Damaged files of every format: read, or refused with a word; never a traceback, never more than the size explains."""

from __future__ import annotations

import os
import time
import tracemalloc
from pathlib import Path

import pytest
from fuzz_inputs import SEEDS, Damage, damages, legacy_around, pickles, rechecked, tar_around, zip_around
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.checkpoints import Checkpoint, read_checkpoint
from edgepose.errors import EdgePoseError

#: What the project promises: four times the file, and 64 MiB.
FACTOR, BASE = 4, 64 << 20
#: Far above what any of these small files takes, and far below a hang; tracing makes Python several times slower.
SECONDS = 20.0


def read(path: Path) -> Checkpoint | None:
    """Read a file; None if it was refused. Anything but an EdgePoseError goes through."""
    words = "nothing was said"
    try:
        return read_checkpoint(path)
    except EdgePoseError as error:
        words = str(error)
    assert path.name in words
    return None


def read_bounded(folder: Path, data: bytes) -> Checkpoint | None:
    """The same for bytes, within the memory and time that their number explains."""
    path = folder / "fuzzed"
    path.write_bytes(data)
    started = time.process_time()
    tracemalloc.start()
    try:
        checkpoint = read(path)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= FACTOR * len(data) + BASE
    assert time.process_time() - started < SECONDS
    return checkpoint


@pytest.mark.parametrize("name", SEEDS)
def test_seed_is_read(tmp_path: Path, name: str) -> None:
    assert read_bounded(tmp_path, SEEDS[name]) is not None


@pytest.mark.parametrize("name", SEEDS)
def test_truncated_at_every_byte(tmp_path: Path, name: str) -> None:
    """Refused, but for two formats that do not say where they end.

    MindSpore writes one message after another, so that a file cut between two of them is a whole file; a tar archive
    ends with empty blocks, which nobody needs.
    """
    data = SEEDS[name]
    path = tmp_path / "truncated"
    path.write_bytes(data)
    accepted = []
    for end in range(len(data) - 1, 0, -1):
        os.truncate(path, end)
        if read(path) is not None:
            accepted.append(end)
    if name == "torch tar":
        assert all(not any(data[end:]) for end in accepted)
    elif name == "mindspore":
        assert 0 < len(accepted) <= 6
    elif name == "mindspore checked":
        assert len(accepted) == 3  # a cut trailer is no trailer: only the ends of the three messages
    else:
        assert not accepted


@pytest.mark.parametrize("name", SEEDS)
@given(hits=st.lists(damages, min_size=1, max_size=4))
def test_damaged(tmp_path_factory: pytest.TempPathFactory, name: str, hits: list[Damage]) -> None:
    data = SEEDS[name]
    for hit in hits:
        data = hit(data)
    read_bounded(tmp_path_factory.getbasetemp(), data or b"\0")


@pytest.mark.parametrize("name", [name for name in SEEDS if "zip" in name or name == "npz"])
@given(hits=st.lists(damages, min_size=1, max_size=4))
def test_damaged_under_right_checksums(tmp_path_factory: pytest.TempPathFactory, name: str, hits: list[Damage]) -> None:
    data = SEEDS[name]
    for hit in hits:
        data = hit(data)
    read_bounded(tmp_path_factory.getbasetemp(), rechecked(data) or b"\0")


@settings(max_examples=300)
@given(pickle=pickles, around=st.sampled_from([legacy_around, zip_around, tar_around, bytes]))
def test_any_pickle(tmp_path_factory: pytest.TempPathFactory, pickle: bytes, around: object) -> None:
    assert callable(around)
    read_bounded(tmp_path_factory.getbasetemp(), around(pickle))


@settings(max_examples=300)
@given(
    start=st.sampled_from([data[:n] for data in SEEDS.values() for n in (1, 4, 8, 16, 40)]), rest=st.binary(max_size=80)
)
def test_any_bytes_after_a_right_start(tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes) -> None:
    read_bounded(tmp_path_factory.getbasetemp(), start + rest)
