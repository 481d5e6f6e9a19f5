"""Keeping codec libraries off standard error, and reading what they say there.

libjpeg, libpng, libtiff and FFmpeg inside OpenCV print straight to file descriptor 2, past ``sys.stderr`` and past
OpenCV's own log level.  A damaged JPEG is told apart from a good one only by what libjpeg prints.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

# Descriptor 2 belongs to the process: one redirection at a time.
_LOCK = threading.RLock()

_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"

# libjpeg's warnings, then the beginnings of what libpng, FFmpeg and OpenCV print (OpenCV's assertions have many lines).
_CODEC_LINE = re.compile(
    r"Corrupt JPEG data|Premature end of JPEG|Invalid SOS parameters|Unknown Adobe color|Inconsistent progression"
    r"|unknown JFIF revision|libpng |imdecode_|TIFF_(Error|Warning)|cap_ffmpeg|OpenCV\(|OpenCV:"
    r"|^\[ *(WARN|ERROR|INFO):|^\[[\w, /]+ @ 0x|^> |^\s*$"
)


@dataclass
class Said:
    """What the codecs printed, complete after the block has ended."""

    text: str = ""


@contextlib.contextmanager
def codecs_quiet() -> Iterator[Said]:
    """Keep what codecs print inside the block from standard error and hand it over.

    What other threads print meanwhile is passed on afterwards.
    """
    said = Said()
    with _LOCK:
        try:
            real = os.dup(2)
        except OSError:  # there is no standard error to be kept clean
            yield said
            return
        try:
            with _spool() as spool:
                os.dup2(spool.fileno(), 2)
                try:
                    yield said
                finally:
                    os.dup2(real, 2)
                    if spool.seek(0, os.SEEK_END):
                        spool.seek(0)
                        said.text = _separate(spool.read())
        finally:
            os.close(real)


@contextlib.contextmanager
def ffmpeg_quiet() -> Iterator[None]:
    """Tell FFmpeg inside OpenCV to print nothing, also from its own threads.

    OpenCV reads the level from the environment when it opens its first video; a level that the user has set stays.
    """
    with _LOCK:
        given = _FFMPEG_LEVEL in os.environ
        if not given:
            os.environ[_FFMPEG_LEVEL] = "-8"  # AV_LOG_QUIET
        try:
            yield
        finally:
            if not given:
                del os.environ[_FFMPEG_LEVEL]


def _spool() -> BinaryIO:
    """A file of no name; in memory where the system can, because a device may have nowhere to write."""
    if hasattr(os, "memfd_create"):
        return open(os.memfd_create("edgepose"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _separate(printed: bytes) -> str:
    """Pass on the lines that no codec printed; give back the others."""
    lines = printed.decode("utf-8", "replace").splitlines(keepends=True)
    foreign = [line for line in lines if not _CODEC_LINE.search(line)]
    if foreign:
        with contextlib.suppress(OSError):
            os.write(2, "".join(foreign).encode())
    return "".join(line for line in lines if _CODEC_LINE.search(line))
