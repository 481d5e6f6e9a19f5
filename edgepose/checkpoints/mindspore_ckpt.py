"""MindSpore ``.ckpt``: protocol buffers, one message an array, one after another.

Facts about the format: MindSpore 2.10 ``train/checkpoint.proto``, ``train/serialization.py``, ``core/utils/crypto.h``.
Names of optimizer state: the prefixes that the optimizers of ``mindspore.nn`` and ``mindspore.experimental`` use.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ..errors import CheckpointError
from .base import Checkpoint
from .elements import ITEM_SIZES, MAX_DIMENSIONS, Array, array_of, size_of
from .mapped_file import BYTES_PER_ARRAY, MappedFile
from .protobuf_wire import BYTES, VARINT, fields, text, varint, varints

FORMAT = "mindspore-ckpt"
#: First bytes of an encrypted file -> how it is encrypted.
ENCRYPTIONS = {b"\xd8\x5e\x3a\x7f": "AES-GCM", b"\xd9\x5e\x3a\x7f": "AES-CBC", b"\xda\x5e\x3a\x7f": "SM4-CBC"}
_TYPES = {
    "Bool": "bool", "Int8": "int8", "Int16": "int16", "Int32": "int32", "Int64": "int64", "UInt8": "uint8",
    "UInt16": "uint16", "UInt32": "uint32", "UInt64": "uint64", "Float16": "float16", "Float32": "float32",
    "Float64": "float64", "BFloat16": "bfloat16",
}  # fmt: skip
_MINDIR = re.compile(rb"\x0a.[0-9]+\.[0-9]+\.[0-9]+[^\x12]*\x12.MindSpore", re.DOTALL)
_STRING, _INT4 = "str", "Int4"
#: The trailer that ``crc_check=True`` appends: these letters, then the CRC-32 of all before them, big-endian.
_TRAILER, _TRAILER_SIZE = b"crc_num", 17
#: An optimizer keeps one array for each weight: PREFIX.NAME beside NAME.
_STATE_PREFIXES = {
    "accum", "accum_update", "adam_m", "adam_v", "ax", "ax_", "exp_avg", "exp_avg_sq", "exp_inf", "lamb_m", "lamb_v",
    "linear", "max_exp_avg_sq", "mean_grad", "mean_square", "moment", "moment1", "moment2", "moments", "prev", "stat",
    "step_size", "vhat",
}  # fmt: skip
#: Numbers that the optimizer, loss scaling and the checkpoint callback keep.
_COUNTERS = {
    "batch_num", "beta1_power", "beta2_power", "current_iterator_step", "epoch_num", "global_step",
    "last_overflow_iterator_step", "learning_rate", "loss_scale", "momentum", "scale_sense", "step_num", "weight_decay",
}  # fmt: skip


def looks_like_ckpt(file: MappedFile) -> bool:
    """Whether the file starts like a checkpoint: an entry, and in it a name of printable text."""
    try:
        if file.data[0] != 0x0A:
            return False
        _, position = varint(file, file.data, 1, "")
        if file.data[position] != 0x0A:
            return False
        size, position = varint(file, file.data, position + 1, "")
        return size > 0 and str(file.data[position : position + min(size, 256)], "utf-8", "ignore").isprintable()
    except (CheckpointError, IndexError):
        return False


def looks_like_mindir(file: MappedFile) -> bool:
    """Whether the file starts like a MindIR model: a version such as 0.1.1, then the name of the producer."""
    return _MINDIR.match(bytes(file.data[:64])) is not None


@dataclass(slots=True)
class _Entry:
    """One message: an array, or a slice of one."""

    name: str
    type: str = ""
    shape: tuple[int, ...] = ()
    content: list[memoryview] = field(default_factory=list)
    is_map: bool = False


def read_ckpt(file: MappedFile) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    CheckpointError
        If it is damaged, its checksum does not fit, or it holds 4-bit integers.
    """
    data, checked = _without_trailer(file)
    arrays: dict[str, Array] = {}
    set_aside: dict[str, str] = {}
    strings: dict[str, str] = {}
    for entry in _joined(file, data):
        if entry.name in arrays or entry.name in set_aside:
            raise file.error(f"is damaged: '{entry.name:.200}' stands in it twice.")
        if entry.is_map:
            set_aside[entry.name] = "a map of arrays (an embedding table), not a weight"
        elif entry.type == _STRING:
            strings[entry.name] = _string(file, entry)
            set_aside[entry.name] = "text"
        else:
            arrays[entry.name] = _array(file, entry)
    set_aside |= training_state(arrays)
    arrays = {name: array for name, array in arrays.items() if name not in set_aside}
    return Checkpoint(file.path, FORMAT, arrays, set_aside, {"checksum": checked, "strings": strings})


def training_state(names: Collection[str]) -> dict[str, str]:
    """Which of the names are of the optimizer and of counters, and why."""
    state = {}
    for name in names:
        prefix, _, weight = name.partition(".")
        if prefix in _STATE_PREFIXES and weight in names:
            state[name] = f"optimizer state of '{weight}'"
        elif name in _COUNTERS:
            state[name] = "a counter or setting of the training"
    return state


def _without_trailer(file: MappedFile) -> tuple[memoryview, bool]:
    """The messages, and whether a checksum vouched for them."""
    cut = file.size - _TRAILER_SIZE
    if cut < 0 or not file.has(_TRAILER, cut):
        return file.data, False
    stored = int.from_bytes(file.data[cut + len(_TRAILER) :], "big")
    if zlib.crc32(file.data[:cut]) != stored:
        raise file.error("is damaged: its checksum does not fit.", hint="Copy or download it again.")
    return file.data[:cut], True


def _joined(file: MappedFile, data: memoryview) -> Iterator[_Entry]:
    """Entries, with the slices of arrays over 512 MiB put together: same name and shape, one after another."""
    current: _Entry | None = None
    for number, wire, _, content in fields(file, data, "the list of arrays"):
        if number != 1 or wire != BYTES:
            raise file.error(f"is damaged: the list of arrays has an unknown field {number}.")
        entry = _entry(file, content)
        if current and (entry.name, entry.type, entry.shape) == (current.name, current.type, current.shape):
            current.content += entry.content
            continue
        if current:
            yield current
        current = entry
    if current:
        yield current


def _entry(file: MappedFile, message: memoryview) -> _Entry:
    file.memory.take(BYTES_PER_ARRAY, "the list of arrays")
    name: str | None = None
    tensor: memoryview | None = None
    is_map = False
    for number, wire, _, content in fields(file, message, "an entry"):
        if wire != BYTES or number not in (1, 2, 3):
            raise file.error(f"is damaged: an entry has an unknown field {number}.")
        if number == 1:
            name = text(file, content, "a name")
        elif number == 2:
            tensor = content
        else:
            is_map = True
    if name is None or (tensor is None and not is_map):
        raise file.error("is damaged: an entry has no name or no array.")
    entry = _Entry(name, is_map=is_map)
    if tensor is not None:
        _fill(file, entry, tensor)
    return entry


def _fill(file: MappedFile, entry: _Entry, message: memoryview) -> None:
    what = f"'{entry.name:.200}'"
    shape: list[int] = []
    for number, wire, _, content in fields(file, message, what):
        if number == 1 and wire in (VARINT, BYTES):  # one dimension, or several in a packed field
            if len(content) > MAX_DIMENSIONS * 10:
                raise file.error(f"is damaged: {what} has more than {MAX_DIMENSIONS} dimensions.")
            shape += varints(file, content, what).tolist()
        elif number == 2 and wire == BYTES:
            entry.type = text(file, content, what)
        elif number == 3 and wire == BYTES:
            entry.content = [content]
        else:
            raise file.error(f"is damaged: {what} has an unknown field {number}.")
        if len(shape) > MAX_DIMENSIONS:
            raise file.error(f"is damaged: {what} has more than {MAX_DIMENSIONS} dimensions.")
    entry.shape = tuple(shape)


def _content(file: MappedFile, entry: _Entry, what: str) -> memoryview:
    if len(entry.content) == 1:
        return entry.content[0]
    file.memory.take(sum(map(len, entry.content)), f"putting together the slices of {what}")
    return memoryview(b"".join(entry.content))


def _array(file: MappedFile, entry: _Entry) -> Array:
    what = f"'{entry.name:.200}'"
    if entry.type == _INT4:
        raise file.error(
            f"holds {what} as 4-bit integers (qint4x2), which have no exact array type.",
            hint="Save the checkpoint of the network before it was quantized.",
        )
    if entry.type not in _TYPES:
        raise file.error(f"is damaged: {what} has the unknown type '{entry.type:.40}'.")
    element = _TYPES[entry.type]
    content = _content(file, entry, what)
    shape = entry.shape
    if shape == (0,) and len(content) == ITEM_SIZES[element]:
        shape = ()  # MindSpore before 2.0 wrote a scalar so
    if len(entry.content) > 1 and len(content) != size_of(file, element, shape, what):
        raise file.error(f"is damaged: {what} stands in it twice, or a slice of it is missing.")
    return array_of(file, content, element, shape, what)


def _string(file: MappedFile, entry: _Entry) -> str:
    what = f"'{entry.name:.200}'"
    content = _content(file, entry, what)
    file.memory.take(2 * len(content), what)
    try:
        return str(content, "utf-32-le")
    except UnicodeDecodeError:
        raise file.error(f"is damaged: {what} is no text.") from None
