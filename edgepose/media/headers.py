"""Headers of picture files: what they declare, checked against the bytes that are there, before anything is decoded.

Decoders allocate what a header declares and fill up what is missing with grey; both are found out here.  Layouts from
the specifications of the formats: PNG (ISO/IEC 15948), JPEG (ITU-T T.81), BMP (BITMAPINFOHEADER), TIFF 6.0, GIF89a,
WebP (RFC 9649), Netpbm.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from .ifd import IfdError, Values, exif_orientation, read_ifd


class HeaderError(ValueError):
    """A picture file is damaged or of a kind that is not read; the text completes the sentence 'it ...'."""


@dataclass(frozen=True)
class Header:
    """What a picture file declares.

    Attributes
    ----------
    width, height
        In pixels, before the orientation is applied.
    alpha
        Whether there is an alpha channel.
    premultiplied
        Whether the colours come out of OpenCV already multiplied with alpha.
    orientation
        EXIF orientation that is still to be applied, 1..8.  Always 1 for TIFF, where OpenCV applies it.
    white
        Largest sample value of pictures with more than 8 bits.
    """

    width: int
    height: int
    alpha: bool = False
    premultiplied: bool = False
    orientation: int = 1
    white: int = 65535


def read_header(data: bytes, kind: str, max_pixels: int) -> Header:
    """Parse the header of a picture file of the format ``kind`` and check that the file is complete.

    Raises
    ------
    HeaderError
        If the file is damaged, cut short, or declares more pixels than its bytes can hold or ``max_pixels``.
    """
    try:
        header = _PARSERS[kind](data)
    except (struct.error, IndexError) as error:
        raise HeaderError("is cut short") from error
    except IfdError as error:
        raise HeaderError(str(error)) from error
    if header.width < 1 or header.height < 1:
        raise HeaderError(f"declares a size of {header.width} x {header.height} pixels")
    if header.width * header.height > max_pixels:
        raise HeaderError(f"declares {header.width} x {header.height} pixels; at most {max_pixels:,} are allowed")
    return header


# More pieces than any encoder writes; parsing stops there because each costs time.
_MOST_PIECES = 1_000_000


def _png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise HeaderError("has no PNG header")
    width, height, bits, color = struct.unpack_from(">IIBB", data, 16)
    compressed, orientation, transparent = 0, 1, color in (4, 6)
    at = 8
    for _ in range(_MOST_PIECES):
        if at + 12 > len(data):
            raise HeaderError("is cut short: its last chunk is missing")
        length, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise HeaderError(f"is cut short: {at + 12 + length - len(data):,} bytes of a chunk are missing")
        if name == b"IDAT":
            compressed += length
        elif name == b"tRNS":
            transparent = True
        elif name == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        elif name == b"IEND":
            break
        at += 12 + length
    else:
        raise HeaderError("is divided into too many chunks")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(color, 1)
    # Deflate makes at most 1032 bytes out of one (RFC 1951: 258 bytes from two bits).
    if height * ((width * channels * bits + 7) // 8) > 1032 * compressed:
        raise HeaderError(_too_few(width, height, len(data)))
    return Header(width, height, alpha=transparent, orientation=orientation)


_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Progressive files have about ten scans.  Each one is a pass over all pixels, however few bytes it has.
_MOST_SCANS = 100


def _jpeg(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    arithmetic, orientation, scans, at = False, 1, 0, 2
    for _ in range(_MOST_PIECES):
        found = _MARKER.search(data, at)
        if found is None or (found.end() >= len(data) and data[found.end() - 1] != 0xD9):
            raise HeaderError("is cut short: its end marker is missing")
        marker, at = data[found.end() - 1], found.end()
        if marker == 0xD9:
            break
        if marker in (0x01, 0xD8):
            continue
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise HeaderError("is cut short: a segment lies behind its end")
        if marker in _FRAME_MARKERS and size is None:
            height, width = struct.unpack_from(">HH", data, at + 3)
            size, arithmetic = (width, height), marker >= 0xC9
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0" and orientation == 1:
            orientation = exif_orientation(data[at + 8 : at + length])
        elif marker == 0xDA:
            scans += 1
            if scans > _MOST_SCANS:
                raise HeaderError(f"has more than {_MOST_SCANS} scans")
        at += length
    else:
        raise HeaderError("is divided into too many segments")
    if size is None or scans == 0:
        raise HeaderError("holds no picture")
    # A Huffman-coded block of 8 x 8 samples takes at least one bit.
    if not arithmetic and size[0] * size[1] > 8 * 64 * len(data):
        raise HeaderError(_too_few(*size, len(data)))
    return Header(*size, orientation=orientation)


def _bmp(data: bytes) -> Header:
    (offset,) = struct.unpack_from("<I", data, 10)
    (header_size,) = struct.unpack_from("<I", data, 14)
    compression = 0
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    height = abs(height)
    if compression in (0, 3, 6) and width > 0:
        missing = offset + (width * bits + 31) // 32 * 4 * height - len(data)
        if missing > 0:
            raise HeaderError(f"is cut short: {missing:,} bytes of its pixels are missing")
    return Header(width, height)


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    pictures, alpha, inside = 0, False, False
    for _ in range(_MOST_PIECES):
        block = data[at]
        if inside:  # a chain of sub-blocks, each with its length in front, ended by an empty one
            inside = block > 0
            at += block + 1
        elif block == 0x2C:
            local = data[at + 9]
            at += 11 + (3 << (local & 7) + 1 if local & 0x80 else 0)
            pictures, inside = pictures + 1, True
        elif block == 0x21:
            alpha |= pictures == 0 and data[at + 1] == 0xF9 and bool(data[at + 3] & 1)
            at, inside = at + 2, True
        elif block == 0x3B:
            break
        else:
            raise HeaderError("is damaged: it has an unknown block")
    else:
        raise HeaderError("is divided into too many blocks")
    if not pictures:
        raise HeaderError("holds no picture")
    return Header(width, height, alpha=alpha)


def _webp(data: bytes) -> Header:
    missing = struct.unpack_from("<I", data, 4)[0] + 8 - len(data)
    if missing > 0:
        raise HeaderError(f"is cut short: {missing:,} bytes are missing")
    name = data[12:16]
    if name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(width & 0x3FFF, height & 0x3FFF)
    if name == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Header((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, alpha=bool(packed >> 28 & 1))
    if name != b"VP8X":
        raise HeaderError("has no WebP picture chunk")
    flags = data[20]
    width = int.from_bytes(data[24:27], "little") + 1
    height = int.from_bytes(data[27:30], "little") + 1
    orientation = 1
    at = 12
    for _ in range(_MOST_PIECES):
        if at + 8 > len(data):
            break
        chunk, length = struct.unpack_from("<4sI", data, at)
        if chunk == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
            break
        at += 8 + length + (length & 1)
    return Header(width, height, alpha=bool(flags & 0x10), orientation=orientation)


def _tiff(data: bytes) -> Header:
    fields = read_ifd(data, linked=True)
    width, height = _first(fields, 256, 0), _first(fields, 257, 0)
    bits, samples, form = _first(fields, 258, 1), _first(fields, 277, 1), _first(fields, 339, 1)
    if form == 3:
        raise HeaderError("holds floating-point samples, which have no defined white; convert it to 8 or 16 bits")
    if bits > 16:
        raise HeaderError(f"holds samples of {bits} bits; convert it to 8 or 16 bits")
    stored = 0
    for offsets, lengths in ((273, 279), (324, 325)):  # strips, tiles
        if offsets in fields and lengths in fields:
            starts, sizes = fields[offsets].astype("u8"), fields[lengths].astype("u8")
            # Each is compared alone first, because the sum of two large ones would wrap around.
            if len(starts) != len(sizes) or max(starts.max(initial=0), sizes.max(initial=0)) > len(data):
                raise HeaderError("is cut short: some of its pixels lie behind its end")
            if (starts + sizes > len(data)).any():
                raise HeaderError("is cut short: some of its pixels lie behind its end")
            stored = int(sizes.sum())
    # Uncompressed; LZW, Deflate and PackBits make less than 4096 bytes out of one.
    most = {1: 1, 5: 4096, 8: 4096, 32946: 4096, 32773: 4096}.get(_first(fields, 259, 1))
    if most and (width * samples * bits + 7) // 8 * height > most * stored:
        raise HeaderError(_too_few(width, height, len(data)))
    extra = _first(fields, 338, 0)
    alpha = _first(fields, 262, 2) == 2 and samples == 4
    # libtiff itself multiplies 8-bit pictures with their alpha; 16-bit samples come as they are stored.
    return Header(width, height, alpha=alpha, premultiplied=bits <= 8 or extra == 1)


def _first(fields: dict[int, Values], tag: int, default: int) -> int:
    values = fields.get(tag)
    return int(values[0]) if values is not None and len(values) else default


_NUMBER = re.compile(rb"(?:\s|#[^\r\n]*[\r\n])*(\d{1,9})(?=\s|#)")


def _pnm(data: bytes) -> Header:
    form, at, numbers = data[1:2], 2, []
    head = data[: 1 << 16]
    for _ in range(2 if form in b"14" else 3):
        found = _NUMBER.match(head, at)
        if not found:
            raise HeaderError("has an incomplete header")
        numbers.append(int(found[1]))
        at = found.end()
    width, height = numbers[:2]
    white = numbers[2] if len(numbers) > 2 else 1
    if not 1 <= white <= 65535:
        raise HeaderError(f"declares {white} as its largest sample")
    samples = width * (3 if form in b"36" else 1)
    if form == b"4":
        needed = (width + 7) // 8 * height
    else:
        needed = samples * height * (2 if form in b"56" and white > 255 else 1)
    if at + 1 + needed > len(data) + (form in b"123"):  # text may end without white space
        raise HeaderError(f"is cut short: {at + 1 + needed - len(data):,} bytes of its pixels are missing")
    return Header(width, height, white=white)


def _too_few(width: int, height: int, size: int) -> str:
    return f"is damaged: {width} x {height} pixels cannot come out of its {size:,} bytes"


_PARSERS: dict[str, Callable[[bytes], Header]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "BMP": _bmp,
    "GIF": _gif,
    "WebP": _webp,
    "TIFF": _tiff,
    "PNM": _pnm,
}
