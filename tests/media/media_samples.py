"""Small picture and video files, written by hand from the formats' specifications."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgepose.media.quiet import codecs_quiet, ffmpeg_quiet

Image = npt.NDArray[np.uint8]


def names_in(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files as well."""
    return sorted(path.name for path in folder.iterdir())


def gradient(height: int = 40, width: int = 60) -> Image:
    """uint8 [H, W, 3] BGR whose every pixel tells where it is, as long as it is small."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8)


def textured(height: int = 120, width: int = 160, seed: int = 3) -> Image:
    """A picture with detail everywhere, so that compressed data are spread over the file."""
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3)).clip(0, 255)
    return cv2.GaussianBlur(noise.astype(np.uint8), (0, 0), 1.5)


def encoded(suffix: str, image: Image, *options: int) -> bytes:
    """OpenCV's own encoding."""
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of raw rows, each beginning with its filter byte; ``extra`` chunks stand before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(rows)),
         png_chunk(b"IEND", b"")]
    )  # fmt: skip


def png_rows(samples: npt.NDArray[np.unsignedinteger[npt.NBitBase]]) -> bytes:
    """Rows of [H, W] or [H, W, C] samples, without filters, big endian."""
    flat = samples.reshape(len(samples), -1)
    return b"".join(b"\0" + row.astype(flat.dtype.newbyteorder(">")).tobytes() for row in flat)


def tiff(
    samples: npt.NDArray[np.generic], *, photometric: int, sample_format: int = 1, tags: dict[int, int] | None = None
) -> bytes:
    """An uncompressed little-endian TIFF of one strip, [H, W] or [H, W, C] in the order of the file."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    bits, pixels = samples.dtype.itemsize * 8, samples.tobytes()
    at_bits = 8
    at_pixels = at_bits + 2 * channels
    fields = {
        256: (4, 1, width), 257: (4, 1, height), 258: (3, channels, bits if channels < 3 else at_bits),
        259: (3, 1, 1), 262: (3, 1, photometric), 273: (4, 1, at_pixels), 277: (3, 1, channels),
        278: (4, 1, height), 279: (4, 1, len(pixels)), 339: (3, 1, sample_format),
        **{tag: (3, 1, value) for tag, value in (tags or {}).items()},
    }  # fmt: skip
    if channels == 2:
        fields[258] = (3, 2, bits << 16 | bits)
    directory = struct.pack("<H", len(fields))
    for tag, (kind, count, value) in sorted(fields.items()):
        directory += struct.pack("<HHII", tag, kind, count, value)
    body = struct.pack("<H", bits) * channels + pixels
    body += b"\0" * (len(body) % 2)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + b"\0\0\0\0"


def gif(width: int, height: int, indexes: bytes, palette: bytes) -> bytes:
    """A GIF of one picture with 4 colours, its LZW codes never longer than 3 bits."""
    codes = []
    for i, index in enumerate(indexes):
        if i % 2 == 0:
            codes.append(4)  # clear, so that the code length never grows
        codes.append(index)
    codes.append(5)
    packed, filled, data = 0, 0, bytearray()
    for code in codes:
        packed |= code << filled
        filled += 3
        while filled >= 8:
            data.append(packed & 255)
            packed, filled = packed >> 8, filled - 8
    if filled:
        data.append(packed)
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80 | 1, 0, 0) + palette
    return screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02" + blocks + b"\0;"


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF block with nothing but the orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 274, 3, 1, orientation, 0)
    return mark + struct.pack(order + "I", 8) + struct.pack(order + "H", 1) + entry + b"\0\0\0\0"


def jpeg_with_exif(jpeg: bytes, block: bytes) -> bytes:
    body = b"Exif\0\0" + block
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def webp_with_exif(webp: bytes, width: int, height: int, block: bytes) -> bytes:
    """Put a simple WebP into the extended form, with EXIF data behind its picture."""
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + bytes([0x08, 0, 0, 0]) + size
    tail = b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) % 2)
    body = b"WEBP" + extended + webp[12:] + tail
    return b"RIFF" + struct.pack("<I", len(body)) + body


def video(
    path: Path, frames: int = 12, codec: str = "mp4v", fps: float = 10.0, size: tuple[int, int] = (64, 96)
) -> Path:
    """A video whose n-th frame has a grey level of 20 n; ``size`` is (height, width)."""
    # Whoever opens the first video of a process decides how loud FFmpeg is.
    with ffmpeg_quiet(), codecs_quiet():
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, size[::-1])
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((*size, 3), 20 * i, np.uint8))
    writer.release()
    return path
