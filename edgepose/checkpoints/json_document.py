"""JSON from files that nobody vouches for."""

from __future__ import annotations

import json
from typing import Any

from ..errors import CheckpointError
from .mapped_file import MappedFile

#: What one parsed value may cost at most, in bytes: CPython's dict of one entry (232) plus its slot in the parent.
_BYTES_PER_OBJECT = 240
_BYTES_PER_ARRAY = 96
_BYTES_PER_MEMBER = 128


def parsed_size(text: bytes) -> int:
    """Upper bound, in bytes, of the memory that the parsed form of ``text`` takes.

    Found by counting brackets, commas and quotation marks, which is fast and errs on the high side only: characters
    inside of strings count as structure.
    """
    return (
        len(text)
        + _BYTES_PER_OBJECT * text.count(b"{")
        + _BYTES_PER_ARRAY * text.count(b"[")
        + _BYTES_PER_MEMBER * (text.count(b",") + text.count(b":"))
    )


def looks_like_json(file: MappedFile) -> bool:
    """Whether the file starts with a brace and is text."""
    start = bytes(file.data[:64])
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" and b"\0" not in start


def parse_json(text: bytes, name: str, allowed: int) -> Any:
    """Parse JSON of a checkpoint.

    Parameters
    ----------
    text
        UTF-8.
    name
        What the text is, for the error.
    allowed
        Most bytes of memory that the parsed form may take.

    Raises
    ------
    CheckpointError
        If it is no JSON, nested too deep, or would take more than ``allowed`` bytes.
    """
    if parsed_size(text) > allowed:
        raise CheckpointError(f"{name} would take more than {allowed} bytes of memory: far more than a network needs.")
    try:
        return json.loads(text.removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise CheckpointError(f"{name} is nested too deep.") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, integers of too many digits
        raise CheckpointError(f"{name} is not valid JSON: {error}.") from None
