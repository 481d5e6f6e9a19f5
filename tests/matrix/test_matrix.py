"""Every network on every target in every precision: as near to the reference as docs/support.md says, or listed there.

The ordinary cells are the light networks in FP32; the others are marked ``conformance``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matrix_cells import PIXELS, PRECISIONS, RUNTIMES, TENSORS, Reference, measure, missing, prepare
from matrix_document import DOCUMENT, cells, exceptions
from matrix_networks import NETWORKS, Network

TEXT = DOCUMENT.read_text(encoding="utf-8")
LISTED = exceptions(TEXT)
EVERY = [
    (network, target, runtime, precision)
    for network in NETWORKS
    for target, runtimes in RUNTIMES.items()
    for runtime in runtimes
    for precision in PRECISIONS
]


def parameters() -> list[Any]:
    found = []
    for network, target, runtime, precision in EVERY:
        heavy = () if network.light and precision == "fp32" else (pytest.mark.conformance,)
        name = f"{network.name}-{runtime}-{precision}"
        found.append(pytest.param(network, target, runtime, precision, marks=heavy, id=name))
    return found


class Keeper:
    """Holds the last network that was asked for; the cells of a network follow one another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: Reference | None = None

    def get(self, network: Network, data: Path | None) -> Reference:
        if self._held is None or self._held.network is not network:
            self.drop()
            self._held = prepare(network, data, self._folder)
        return self._held

    def drop(self) -> None:
        if self._held is not None:
            self._held.graph.unlink()
            self._held = None


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keeper]:
    kept = Keeper(tmp_path_factory.mktemp("graph"))
    yield kept
    kept.drop()


@pytest.mark.parametrize(("network", "target", "runtime", "precision"), parameters())
def test_cell(
    request: pytest.FixtureRequest, keeper: Keeper, network: Network, target: str, runtime: str, precision: str
) -> None:
    absent = missing(target, runtime)
    if absent is not None:
        pytest.skip(absent)
    with_data = network.trained or "EDGEPOSE_TEST_DATA" in os.environ
    data = request.getfixturevalue("reference") if with_data else None
    listed = LISTED.get((network.name, target, precision))
    outcome = measure(keeper.get(network, data), target, runtime, precision)
    if listed is None:
        assert outcome.problem is None
    else:
        assert outcome.problem is not None, "this cell works: take it out of the exceptions in docs/support.md"
        assert listed.operator in outcome.problem


@pytest.mark.parametrize(("network", "target", "runtime", "precision"), EVERY)
def test_the_document_has_every_cell(network: Network, target: str, runtime: str, precision: str) -> None:
    said = cells(TEXT)[network.name, f"{runtime} {precision}"]
    listed = (network.name, target, precision) in LISTED
    if said == "not run" and runtime == "mindspore":
        return
    assert (said == "none") == listed
    if not listed:
        assert float(said) <= (TENSORS if network.chaotic else PIXELS)[precision]


def test_the_document_has_no_other_exceptions() -> None:
    assert set(LISTED) <= {(network.name, target, precision) for network, target, _, precision in EVERY}
    assert all(listed.operator and listed.reason for listed in LISTED.values())


def test_exceptions_are_read_from_the_document() -> None:
    header = "| network | target | precision | operator | reason |\n|---|---|---|---|---|"
    text = f"# S\n\n## Exceptions\n\nWords.\n\n{header}\n| a_net | tflite | fp32, fp16 | `Mod` | not in the format |"
    found = exceptions(text + "\n\n## More\n\n| network |\n|---|\n| other |\n")
    assert set(found) == {("a_net", "tflite", "fp32"), ("a_net", "tflite", "fp16")}
    assert {(e.operator, e.reason) for e in found.values()} == {("Mod", "not in the format")}
    with pytest.raises(AssertionError, match="no heading"):
        exceptions("# S\n")
