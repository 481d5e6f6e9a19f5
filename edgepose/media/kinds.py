"""What a file is, told by its first bytes; its name is never asked.

Magic numbers from the formats' own specifications (PNG, JFIF, BMP, TIFF 6.0, WebP, GIF89a, Netpbm, ISO/IEC 14496-12,
RIFF, EBML) and the registrations of those that are only recognised in order to be refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: Bytes of a file that :func:`identify` wants to see.
HEAD_BYTES = 32


@dataclass(frozen=True)
class Kind:
    """What a file is.

    Attributes
    ----------
    role
        ``picture`` or ``video`` for what edgepose reads; ``foreign`` for what it only knows by name.
    format
        Name of the format.
    """

    role: Literal["picture", "video", "foreign"]
    format: str


_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_FOREIGN = (
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"v/1\x01", "OpenEXR"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"8BPS", "Photoshop"),
    (b"%PDF", "PDF"),
    (b"PF\n", "PFM"),
    (b"Pf\n", "PFM"),
    (b"P7\n", "PAM"),
    (b"FLV\x01", "Flash video"),
    (b"OggS", "Ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (b"\0\0\x01\xba", "MPEG program stream"),
    (b"\0\0\x01\xb3", "MPEG video stream"),
)
# Brands of ISO base media files that hold still pictures (ISO/IEC 23008-12, AVIF).
_STILL_BRANDS = {
    b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC",
    b"hevc": "HEIC", b"hevx": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"crx ": "Canon raw",
}  # fmt: skip
# Boxes that a QuickTime or MP4 file may begin with.
_MOVIE_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}


def identify(head: bytes) -> Kind | None:
    """What a file with these first bytes is; None if nothing known.

    Parameters
    ----------
    head
        The first :data:`HEAD_BYTES` bytes, fewer if the file is shorter.
    """
    for magic, name in _PICTURES:
        if head.startswith(magic):
            return Kind("picture", name)
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and (head[2:3].isspace() or head[2:3] == b"#"):
        return Kind("picture", "PNM")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("picture", "WebP")
    if head[:4] == b"RIFF" and head[8:11] == b"AVI":
        return Kind("video", "AVI")
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return Kind("video", "Matroska")
    for magic, name in _FOREIGN:
        if head.startswith(magic):
            return Kind("foreign", name)
    if head[4:8] in _MOVIE_BOXES:
        still = _STILL_BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
        return Kind("foreign", still) if still else Kind("video", "MP4")
    return None
