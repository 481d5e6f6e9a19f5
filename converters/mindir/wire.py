"""Writing protocol buffers.

A message is a list of pieces, so that weights are never copied into a larger message.  Fields are written in the order
in which they are added: the same calls give the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Piece = bytes | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Message:
    """A message being written."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.size = 0

    def integer(self, field: int, value: int) -> Message:
        """Add a varint field; negative numbers as 64 bits in two's complement."""
        return self._add(_tag(field, _VARINT) + _varint(value & 0xFFFFFFFFFFFFFFFF))

    def integers(self, field: int, values: Iterable[int]) -> Message:
        """Add a repeated varint field, not packed."""
        for value in values:
            self.integer(field, value)
        return self

    def float32(self, field: int, value: float) -> Message:
        """Add a float field."""
        return self._add(_tag(field, _FIXED32) + struct.pack("<f", value))

    def data(self, field: int, value: Piece) -> Message:
        """Add a bytes field; the bytes are kept where they lie."""
        self._add(_tag(field, _BYTES) + _varint(len(value)))
        return self._add(value)

    def text(self, field: int, value: str) -> Message:
        """Add a string field."""
        return self.data(field, value.encode())

    def message(self, field: int, value: Message) -> Message:
        """Add a message field."""
        return self._add(_tag(field, _BYTES) + _varint(value.size)).append(value)

    def append(self, value: Message) -> Message:
        """Add the fields of another message."""
        self.pieces += value.pieces
        self.size += value.size
        return self

    def _add(self, piece: Piece) -> Message:
        self.pieces.append(piece)
        self.size += len(piece)
        return self


def _tag(field: int, kind: int) -> bytes:
    return _varint(field << 3 | kind)


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)
