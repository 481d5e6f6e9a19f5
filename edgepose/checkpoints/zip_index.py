"""The directory of a zip archive, checked against the mapped file.

``zipfile`` of the standard library copies what it reads and does not say where in the file a member's data lie; weights
are given as views instead, so the directory is read here.  Facts: APPNOTE.TXT 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from .mapped_file import BYTES_PER_ARRAY, MappedFile

SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_END_SIZE, _END64_SIZE, _LOCATOR64_SIZE, _ENTRY_SIZE, _LOCAL_SIZE = 22, 56, 20, 46, 30
_LONGEST_COMMENT = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001
_ZIP64 = 0x0001


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive.

    Attributes
    ----------
    name
        Its path in the archive.
    method
        0 stored, 8 deflated.
    checksum
        CRC-32 of the content; 0 where the writer did not compute it.
    packed, size
        Bytes in the archive, and of the content.
    header
        Position of the member's own header in the file.
    """

    name: str
    method: int
    checksum: int
    packed: int
    size: int
    header: int


class ZipIndex:
    """The members of an archive by name.

    Parameters
    ----------
    file
        The archive.

    Raises
    ------
    CheckpointError
        If its directory is damaged, or a member is encrypted or compressed in another way than deflate.
    """

    def __init__(self, file: MappedFile) -> None:
        self._file = file
        self.members: dict[str, Member] = {}
        start, size, count = self._end()
        position = start
        for _ in range(count):
            position = self._entry(position, start + size)
        # Members that share data could make a small archive cost any amount of time.
        if sum(member.packed for member in self.members.values()) > file.size:
            raise file.error("is damaged: members of the zip archive overlap.")

    def _end(self) -> tuple[int, int, int]:
        """Position, size and number of entries of the directory."""
        file = self._file
        window = max(0, file.size - _END_SIZE - _LONGEST_COMMENT)
        end = window + bytes(file.data[window:]).rfind(_END)
        if end < window or end + _END_SIZE > file.size:
            raise file.error(
                "is a zip archive without its directory.", hint="It was not copied or downloaded completely."
            )
        count, size, start = struct.unpack_from("<HII", file.data, end + 10)
        locator = end - _LOCATOR64_SIZE
        if locator >= 0 and file.has(_LOCATOR64, locator):
            (end64,) = struct.unpack_from("<Q", file.data, locator + 8)
            if end64 + _END64_SIZE > locator or not file.has(_END64, end64):
                raise file.error("is damaged: the directory of the zip archive is not where it should be.")
            count, size, start = struct.unpack_from("<QQQ", file.data, end64 + 32)
        if start + size > end or count * _ENTRY_SIZE > size:
            raise file.error("is damaged: the directory of the zip archive lies outside of the file.")
        return start, size, count

    def _entry(self, position: int, limit: int) -> int:
        """Note one entry of the directory; gives the position of the next."""
        file, data = self._file, self._file.data
        if position + _ENTRY_SIZE > limit or not file.has(b"PK\x01\x02", position):
            raise file.error("is damaged: the directory of the zip archive is cut off.")
        flags, method, checksum, packed, size = struct.unpack_from("<HH4xIII", data, position + 8)
        name_size, extra_size, comment_size = struct.unpack_from("<HHH", data, position + 28)
        (header,) = struct.unpack_from("<I", data, position + 42)
        name_at = position + _ENTRY_SIZE
        extra_at = name_at + name_size
        following: int = extra_at + extra_size + comment_size
        if following > limit:
            raise file.error("is damaged: the directory of the zip archive is cut off.")
        file.memory.take(BYTES_PER_ARRAY + 4 * name_size, "the directory of the zip archive")
        name = str(data[name_at:extra_at], "utf-8", "replace")
        size, packed, header = self._wide(name, data[extra_at : extra_at + extra_size], size, packed, header)
        if flags & _ENCRYPTED:
            raise file.error(f"is an encrypted archive ('{name}').", hint="Unpack it with its password first.")
        if method not in (_STORED, _DEFLATED):
            raise file.error(f"is damaged: '{name}' is compressed by the unknown method {method}.")
        if name in self.members:
            raise file.error(f"is damaged: '{name}' stands twice in the zip archive.")
        self.members[name] = Member(name, method, checksum, packed, size, header)
        return following

    def _wide(self, name: str, extra: memoryview, size: int, packed: int, header: int) -> tuple[int, int, int]:
        """Size, packed size and header position; the zip64 field has those that do not fit into 32 bits."""
        fields = [size, packed, header]
        position = 0
        while position + 4 <= len(extra):
            kind, length = struct.unpack_from("<HH", extra, position)
            content = extra[position + 4 : position + 4 + length]
            position += 4 + length
            if kind == _ZIP64:
                wide = iter(struct.unpack(f"<{len(content) // 8}Q", content[: len(content) // 8 * 8]))
                fields = [next(wide, -1) if field == 0xFFFFFFFF else field for field in fields]
                break
        if min(fields) < 0:
            raise self._file.error(f"is damaged: the size of '{name}' is missing from the zip archive.")
        return fields[0], fields[1], fields[2]

    def read(self, name: str) -> memoryview:
        """The content of a member: a view if it is stored, a copy if it is deflated; its CRC-32 is checked.

        Raises
        ------
        CheckpointError
            If there is no such member, or it is damaged.
        """
        file = self._file
        member = self.members.get(name)
        if member is None:
            raise file.error(f"is damaged: '{name}' is missing from the zip archive.")
        if member.header + _LOCAL_SIZE > file.size or not file.has(b"PK\x03\x04", member.header):
            raise file.error(f"is damaged: '{name}' is not where the directory of the zip archive says.")
        start = member.header + _LOCAL_SIZE + sum(struct.unpack_from("<HH", file.data, member.header + 26))
        if start + member.packed > file.size:
            raise file.error(f"is damaged: '{name}' reaches past the end of the file.")
        packed = file.data[start : start + member.packed]
        content = packed if member.method == _STORED else self._inflated(member, packed)
        if len(content) != member.size:
            raise file.error(f"is damaged: '{name}' has {len(content)} bytes in place of {member.size}.")
        if member.checksum and zlib.crc32(content) != member.checksum:
            raise file.error(f"is damaged: the checksum of '{name}' does not fit.")
        return content

    def _inflated(self, member: Member, packed: memoryview) -> memoryview:
        # The output is copied as it grows, and what is left over of the input is copied too.
        self._file.memory.take(2 * member.size + member.packed, f"unpacking '{member.name}'")
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, member.size + 1)
        except zlib.error as error:
            raise self._file.error(f"is damaged: '{member.name}' cannot be unpacked ({error}).") from None
        return memoryview(content)
