"""``.safetensors``: a JSON table, then the bytes of the arrays.

The library checks the whole table (no overlap, no gap, sizes that fit) before anything is trusted; the arrays are then
given as views of the mapped file, where the library would copy them.
"""

from __future__ import annotations

from typing import Any

from ..errors import DependencyError
from .base import Checkpoint
from .elements import Array, array_of
from .json_document import parse_json, parsed_size
from .mapped_file import BYTES_PER_ARRAY, Cursor, MappedFile
from .mindspore_ckpt import training_state
from .torch_names import COUNTER_REASON, is_counter, unwrapped

FORMAT = "safetensors"
_METADATA = "__metadata__"
_TYPES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "F64": "float64", "I64": "int64", "U64": "uint64",
    "C64": "complex64",
}  # fmt: skip


def looks_like_safetensors(file: MappedFile) -> bool:
    """Whether the file starts with the size of a table that fits into it, and a brace."""
    if file.size < 10 or file.data[8] != ord("{"):
        return False
    return 2 <= int.from_bytes(file.data[:8], "little") <= 1 << 40


def read_safetensors(file: MappedFile) -> Checkpoint:
    """Read a file.

    Raises
    ------
    DependencyError
        If the library is not installed.
    CheckpointError
        If the file is damaged.
    """
    cursor = Cursor(file, file.data)
    text = bytes(cursor.take(cursor.u64("the header"), "the header"))
    cost = parsed_size(text)
    table: dict[str, Any] = parse_json(text, f"The header of '{file.name}'", file.memory.left)
    file.memory.take(cost, "the header")
    _check(file)
    notes = table.pop(_METADATA, {})
    names, wrapper = unwrapped({name: name for name in table})
    arrays: dict[str, Array] = {}
    set_aside = training_state(names) if notes.get("format") == "ms" else {}
    for name, stored in names.items():
        entry = table[stored]
        if name in set_aside:
            continue
        if is_counter(name):
            set_aside[name] = COUNTER_REASON
        elif entry["dtype"] not in _TYPES:
            set_aside[name] = f"of the type {entry['dtype']}, which no array type equals"
        else:
            file.memory.take(BYTES_PER_ARRAY, "an array")
            start, end = entry["data_offsets"]
            content = file.data[cursor.position + start : cursor.position + end]
            arrays[name] = array_of(file, content, _TYPES[entry["dtype"]], entry["shape"], f"'{name:.200}'")
    return Checkpoint(file.path, FORMAT, arrays, set_aside, {"wrapper": wrapper, "entries": notes})


def _check(file: MappedFile) -> None:
    """Let the library check the table against the file."""
    try:
        import safetensors
    except ImportError:
        raise DependencyError("safetensors", f"Reading '{file.name}'", "safetensors") from None
    try:
        with safetensors.safe_open(file.name, framework="numpy"):
            pass
    except (safetensors.SafetensorError, OSError) as error:
        raise file.error(f"is damaged: {error}.") from None
