"""Reading video files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from ..errors import MediaError
from .containers import defect
from .frames import Failure, Frame, Source
from .pictures import MAX_PIXELS
from .quiet import codecs_quiet, ffmpeg_quiet
from .regular import kind_of

# Rates that a file can state by mistake (a clock rate in place of a frame rate) are taken as not stated.
_MAX_FPS = 1000.0


class VideoSource(Source):
    """The frames of a video file: MP4, MOV, AVI, Matroska or WebM, told by its content.

    The rotation that the file asks for is applied.  A file that cannot be read gives one :class:`Failure`; one that is
    cut short gives the frames that are there and then a :class:`Failure`.

    Parameters
    ----------
    path
        The file.
    """

    is_video = True

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.files = (Path(path),)
        try:
            with _Capture(self.name) as capture:
                self.total, self.fps, self.size = capture.total, capture.fps, capture.size
        except MediaError:  # it is told when the frames are asked for
            self.total = 1

    def __iter__(self) -> Iterator[Frame | Failure]:
        """The frames, then a failure if the video does not end as it should."""
        try:
            with _Capture(self.name) as capture:
                count = 0
                for frame in capture.frames():
                    yield frame
                    count += 1
                problem = capture.problem_after(count)
        except MediaError as error:
            problem = str(error)
        if problem:
            yield Failure(self.name, problem)


class _Capture:
    """An open video file."""

    def __init__(self, name: str) -> None:
        self.name = name
        kind = kind_of(name)
        if kind is None or kind.role != "video":
            content = "of no known kind" if kind is None else kind.format
            raise MediaError(f"Cannot read '{name}' as a video: its content is {content}.")
        self.defect = defect(name, kind.format)
        # An absolute path cannot be taken for an address.
        address = str(Path(name).absolute())
        try:
            with ffmpeg_quiet(), codecs_quiet():
                self._capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG)
                self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        except (cv2.error, UnicodeError) as error:
            raise MediaError(f"Cannot read '{name}': OpenCV cannot open it.") from error
        if not self._capture.isOpened():
            reason = self.defect or f"is damaged, or a {kind.format} video that OpenCV {cv2.__version__} cannot decode"
            raise MediaError(f"Cannot read '{name}': it {reason}.")
        width, height = (self._number(p) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise MediaError(f"Cannot read '{name}': its frames of {width:.0f} x {height:.0f} pixels are too large.")
        fps, total = self._number(cv2.CAP_PROP_FPS), self._number(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if 0 < fps <= _MAX_FPS else None
        self.total = int(total) if 0 < total < 1 << 40 else None
        self.size = (int(height), int(width)) if min(width, height) > 0 else None

    def __enter__(self) -> _Capture:
        return self

    def __exit__(self, *_: object) -> None:
        with codecs_quiet():
            self._capture.release()

    def frames(self) -> Iterator[Frame]:
        """The frames up to the end, or up to where they cannot be decoded any more."""
        index = 0
        while True:
            try:
                with codecs_quiet():
                    there, image = self._capture.read()
                    position = self._number(cv2.CAP_PROP_POS_MSEC)
            except (cv2.error, MemoryError):
                return
            if not there or image is None or image.ndim != 3:
                return
            counted = index / (self.fps or 25.0)
            yield Frame(
                self.name,
                index,
                image.astype(np.uint8, copy=False),
                position / 1000 if position > 0 else counted,
                self.fps,
            )
            index += 1

    def problem_after(self, count: int) -> str | None:
        """What to say when the frames have ended after ``count``; None if that is the end of the video."""
        if self.defect:
            return f"The video '{self.name}' {self.defect}; {count} frames could be read."
        if count == 0:
            return f"Cannot read '{self.name}': no frame of it can be decoded."
        # Containers count frames that players leave out, so that a few less mean nothing.
        if self.total and count < self.total / 2:
            return f"The video '{self.name}' is damaged: only {count} of its {self.total} frames can be decoded."
        return None

    def _number(self, what: int) -> float:
        value = float(self._capture.get(what))
        return value if math.isfinite(value) else 0.0
