"""Reading docs/support.md: what it says about each cell, and which cells it lists as exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent.parent / "docs/support.md"
_CELLS = "## Networks and targets"
_EXCEPTIONS = "## Exceptions"
_COLUMNS = ["network", "target", "precision", "operator", "reason"]

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Exceptional:
    """A cell that is listed as not supported.

    Attributes
    ----------
    operator
        Which operator, or input, stands in the way; the refusal names it.
    reason
        Why.
    """

    operator: str
    reason: str


def exceptions(text: str) -> dict[Key, Exceptional]:
    """(network, target, precision) -> why that cell is not supported."""
    header, *rows = _table(text, _EXCEPTIONS)
    assert header == _COLUMNS, f"the table of exceptions has the columns {header}"
    listed = {}
    for network, target, precisions, operator, reason in rows:
        for precision in precisions.split(", "):
            listed[network, target, precision] = Exceptional(operator, reason)
    return listed


def cells(text: str) -> dict[tuple[str, str], str]:
    """(network, column) -> what the table of networks says."""
    header, *rows = _table(text, _CELLS)
    return {(row[0], column): cell for row in rows for column, cell in zip(header[1:], row[1:], strict=True)}


def _table(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, the header first."""
    assert text.count(f"\n{heading}\n") == 1, f"docs/support.md has no heading '{heading}', or two"
    section = text.split(f"\n{heading}\n")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    assert len(rows) >= 2, f"there is no table below '{heading}'"
    return [rows[0], *rows[2:]]
