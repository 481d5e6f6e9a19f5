"""A pickle machine that can execute nothing.

It runs the opcodes of all pickle protocols over plain Python data.  Where a pickle names a function or class,
:mod:`.pickle_records` gives an inert record or refuses; where it calls one, a record of the call is built.  No module
is imported, no attribute set, no method of any foreign object called.  Every opcode takes from the file's memory
allowance, so that neither memory nor time can grow beyond what the size of the file explains.

Two properties of pickles need care even so.  The same tuple may be put into itself over and over, which takes
exponential time to walk, hash or compare: values are never compared, and only text and small numbers become keys of
dicts.  Nesting may be deep: nothing here recurses.

Facts: the comments of ``pickletools`` in the standard library.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Any

from ..errors import CheckpointError
from .mapped_file import MappedFile
from .pickle_records import Callee, Opaque, resolve

#: What an opcode takes from the allowance at least: the object that it pushes, and its share of time.
_BYTES_PER_OPCODE = 64
_BYTES_PER_DICT = 240
_BYTES_PER_ITEM = 208
_BYTES_PER_MARK = 160
_BYTES_PER_CALL = 320
_LONGEST_LINE = 4096
_LONGEST_INTEGER = 64
_LARGEST_KEY = 1 << 63
_INTEGER = re.compile(rb"\s*[+-]?[0-9]{1,150}L?\s*")
_FLOAT = re.compile(rb"[-+0-9.eE]{1,64}|[+-]?inf|nan")


class PickleMachine:
    """Runs one pickle after another from the same bytes.

    Parameters
    ----------
    file
        The file, for errors and for its allowance.
    data
        The bytes with the pickles.
    persistent
        Gives the record for an object that the pickle keeps elsewhere, from its identifier.
    """

    def __init__(self, file: MappedFile, data: memoryview, persistent: Callable[[object], object]) -> None:
        self.file = file
        self.data = data
        self.position = 0
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the pickle at :attr:`position`, which then stands after it.

        Raises
        ------
        UnsafeCheckpointError
            If the pickle names anything that is not known to be inert.
        CheckpointError
            If it is damaged, or asks for more memory than its size explains.
        """
        self.stack, self.marks, self.memo = [], [], {}
        memory, data, size = self.file.memory, self.data, len(self.data)
        try:
            while self.position < size:
                memory.take(_BYTES_PER_OPCODE, "the pickle")
                opcode = data[self.position]
                self.position += 1
                if opcode == _STOP:
                    return self.stack.pop()
                _OPCODES[opcode](self)
        except (IndexError, KeyError, struct.error):
            raise self.damaged() from None
        raise self.damaged()

    def damaged(self) -> CheckpointError:
        """The error that the pickle makes no sense here."""
        return self.file.error(f"is damaged or cut off: its pickle makes no sense at byte {self.position}.")

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        view = self.data[self.position : self.position + count]
        if len(view) != count:
            raise self.damaged()
        self.position += count
        return view

    def counted(self, form: str) -> memoryview:
        """Bytes after their number, which is packed as ``form``."""
        (count,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return self.take(count)

    def line(self) -> bytes:
        """Bytes up to the next line break, which is passed over."""
        for window in (128, _LONGEST_LINE):
            text = bytes(self.data[self.position : self.position + window])
            end = text.find(b"\n")
            if end >= 0:
                self.position += end + 1
                return text[:end]
        raise self.damaged()

    def push(self, value: Any) -> None:
        """Put a value on the stack."""
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken off the stack."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def remember(self, index: int) -> None:
        """Note the topmost value under a number."""
        self.file.memory.take(_BYTES_PER_ITEM, "the pickle")
        self.memo[index] = self.stack[-1]

    def text(self, view: memoryview | bytes) -> str:
        """Bytes as text; Python 2 did not say in what encoding."""
        self.file.memory.take(4 * len(view), "the pickle")
        try:
            return str(view, "utf-8")
        except UnicodeDecodeError:
            return str(view, "latin-1")

    def call(self, callee: Any, arguments: Any) -> None:
        """Push the record of a call."""
        self.file.memory.take(_BYTES_PER_CALL, "the pickle")
        if not isinstance(callee, Callee) or not isinstance(arguments, tuple):
            raise self.damaged()
        self.push(callee.build(self.file, arguments))

    def name(self, module: str, name: str) -> None:
        """Push the record of a function or class."""
        self.push(resolve(self.file, module, name))

    def refer(self, identifier: object) -> None:
        """Push what the identifier refers to."""
        self.file.memory.take(_BYTES_PER_CALL, "the pickle")
        self.push(self.persistent(identifier))

    def collect(self, items: list[Any], form: Callable[[list[Any]], Any]) -> None:
        """Push a tuple or list."""
        self.file.memory.take(64 + 16 * len(items), "the pickle")
        self.push(form(items))

    def extend(self, items: list[Any]) -> None:
        """Append to the list on top; what is appended to anything else is dropped with it."""
        self.file.memory.take(16 * len(items), "the pickle")
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):
            raise self.damaged()

    def update(self, items: list[Any]) -> None:
        """Put pairs into the dict on top; what is put into anything else is dropped with it."""
        self.file.memory.take(_BYTES_PER_ITEM * (len(items) // 2), "the pickle")
        target = self.stack[-1]
        if len(items) % 2:
            raise self.damaged()
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[_key(key)] = value
        elif not isinstance(target, Opaque):
            raise self.damaged()


def _key(key: Any) -> Any:
    """A key that hashes and compares in constant time; a stand-in, equal to nothing, for any other."""
    if key is None or isinstance(key, str | bytes | bool | float | Callee):
        return key
    if isinstance(key, int) and -_LARGEST_KEY <= key < _LARGEST_KEY:
        return key
    return Opaque("key")


def _pop(m: PickleMachine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _mark(m: PickleMachine) -> None:
    m.file.memory.take(_BYTES_PER_MARK, "the pickle")
    m.marks.append(m.stack)
    m.stack = []


def _integer(m: PickleMachine, text: bytes) -> int:
    if not _INTEGER.fullmatch(text):
        raise m.damaged()
    return int(text.strip().rstrip(b"L"))


def _int(m: PickleMachine) -> None:
    line = m.line()
    m.push({b"00": False, b"01": True}.get(line) if line in (b"00", b"01") else _integer(m, line))


def _float(m: PickleMachine) -> None:
    line = m.line()
    try:
        m.push(float(line if _FLOAT.fullmatch(line) else b""))
    except ValueError:
        raise m.damaged() from None


def _long(m: PickleMachine, view: memoryview) -> None:
    if len(view) > _LONGEST_INTEGER:
        raise m.damaged()
    m.push(int.from_bytes(view, "little", signed=True))


def _string(m: PickleMachine) -> None:
    line = m.line().strip()
    if len(line) < 2 or line[0] != line[-1] or line[:1] not in (b"'", b'"') or b"\\" in line:
        raise m.damaged()
    m.push(m.text(line[1:-1]))


def _unicode(m: PickleMachine) -> None:
    line = m.line()
    m.file.memory.take(4 * len(line), "the pickle")
    try:
        m.push(str(line, "raw-unicode-escape"))
    except UnicodeDecodeError:
        raise m.damaged() from None


def _dict_of(m: PickleMachine) -> None:
    items = m.since_mark()
    m.file.memory.take(_BYTES_PER_DICT, "the pickle")
    m.push({})
    m.update(items)


def _empty(m: PickleMachine) -> None:
    m.file.memory.take(_BYTES_PER_DICT, "the pickle")
    m.push({})


def _bytes(m: PickleMachine, view: memoryview) -> None:
    m.file.memory.take(len(view), "the pickle")
    m.push(bytes(view))


def _set_of(m: PickleMachine) -> None:
    m.since_mark()
    m.push(Opaque("set"))


def _reduce(m: PickleMachine) -> None:
    arguments = m.stack.pop()
    m.call(m.stack.pop(), arguments)


def _newobj_ex(m: PickleMachine) -> None:
    m.stack.pop()
    _reduce(m)


def _build(m: PickleMachine) -> None:
    """The state of an object: never a weight, and dropped."""
    m.stack.pop()
    if not m.stack:
        raise m.damaged()


def _inst(m: PickleMachine) -> None:
    m.name(m.text(m.line()), m.text(m.line()))
    callee = m.stack.pop()
    m.call(callee, tuple(m.since_mark()))


def _obj(m: PickleMachine) -> None:
    items = m.since_mark()
    m.call(items[0], tuple(items[1:]))


def _stack_global(m: PickleMachine) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise m.damaged()
    m.name(module, name)


def _setitem(m: PickleMachine) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.update([key, value])


def _append(m: PickleMachine) -> None:
    m.extend([m.stack.pop()])


def _tuple(m: PickleMachine, count: int) -> None:
    if len(m.stack) < count:
        raise m.damaged()
    items = m.stack[-count:]
    del m.stack[-count:]
    m.collect(items, tuple)


_STOP = ord(".")
_OPCODES: dict[int, Callable[[PickleMachine], None]] = {
    # values
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): _int,
    ord("L"): lambda m: m.push(_integer(m, m.line())),
    ord("J"): lambda m: m.push(struct.unpack("<i", m.take(4))[0]),
    ord("K"): lambda m: m.push(m.take(1)[0]),
    ord("M"): lambda m: m.push(struct.unpack("<H", m.take(2))[0]),
    0x8A: lambda m: _long(m, m.counted("<B")),
    0x8B: lambda m: _long(m, m.counted("<I")),
    ord("F"): _float,
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("S"): _string,
    ord("T"): lambda m: m.push(m.text(m.counted("<I"))),
    ord("U"): lambda m: m.push(m.text(m.counted("<B"))),
    ord("V"): _unicode,
    ord("X"): lambda m: m.push(m.text(m.counted("<I"))),
    0x8C: lambda m: m.push(m.text(m.counted("<B"))),
    0x8D: lambda m: m.push(m.text(m.counted("<Q"))),
    ord("B"): lambda m: _bytes(m, m.counted("<I")),
    ord("C"): lambda m: _bytes(m, m.counted("<B")),
    0x8E: lambda m: _bytes(m, m.counted("<Q")),
    0x96: lambda m: _bytes(m, m.counted("<Q")),
    # containers
    ord("]"): lambda m: m.collect([], list),
    ord("l"): lambda m: m.collect(m.since_mark(), list),
    ord("a"): _append,
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.collect(m.since_mark(), tuple),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("}"): _empty,
    ord("d"): _dict_of,
    ord("s"): _setitem,
    ord("u"): lambda m: m.update(m.since_mark()),
    0x8F: lambda m: m.push(Opaque("set")),
    0x90: lambda m: m.extend(m.since_mark()),
    0x91: _set_of,
    # the stack and the memo
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): lambda m: m.since_mark().clear(),
    ord("2"): lambda m: m.push(m.stack[-1]),
    ord("p"): lambda m: m.remember(_integer(m, m.line())),
    ord("q"): lambda m: m.remember(m.take(1)[0]),
    ord("r"): lambda m: m.remember(struct.unpack("<I", m.take(4))[0]),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("g"): lambda m: m.push(m.memo[_integer(m, m.line())]),
    ord("h"): lambda m: m.push(m.memo[m.take(1)[0]]),
    ord("j"): lambda m: m.push(m.memo[struct.unpack("<I", m.take(4))[0]]),
    # names and calls
    ord("c"): lambda m: m.name(m.text(m.line()), m.text(m.line())),
    0x93: _stack_global,
    ord("R"): _reduce,
    0x81: _reduce,
    0x92: _newobj_ex,
    ord("b"): _build,
    ord("i"): _inst,
    ord("o"): _obj,
    ord("P"): lambda m: m.refer(m.text(m.line())),
    ord("Q"): lambda m: m.refer(m.stack.pop()),
    # framing
    0x80: lambda m: m.take(1).release(),
    0x95: lambda m: m.take(8).release(),
}
