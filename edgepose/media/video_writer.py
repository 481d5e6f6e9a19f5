"""Writing video files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError, MediaError
from ..files import whole_file
from .containers import defect
from .quiet import codecs_quiet, ffmpeg_quiet

#: Frame rate of videos whose source states none.
DEFAULT_FPS = 25.0
# MPEG-4 Part 2: the only codec for MP4 that the FFmpeg of OpenCV's own wheels can write and every player can read.
_CODEC = "mp4v"
_SUFFIX = ".mp4"


class VideoWriter:
    """An MP4 file that is there when :meth:`close` has returned, and not before.

    Parameters
    ----------
    path
        The file; its name ends in ``.mp4``.
    fps
        Frames per second.

    Raises
    ------
    InputError
        If the file cannot be written there.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != _SUFFIX:
            raise InputError(f"Cannot write '{path}': videos are written as {_SUFFIX}.")
        self._fps = fps or DEFAULT_FPS
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(whole_file(self.path))
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._count = 0

    def write(self, image: npt.NDArray[np.uint8]) -> None:
        """Add a frame, uint8 [H, W, 3] BGR; later frames are brought to the size of the first.

        Raises
        ------
        MediaError
            If OpenCV cannot encode frames of this size.
        """
        if self._writer is None:
            self._writer = self._open(image.shape[0], image.shape[1])
        height, width = self._size
        if image.shape[:2] != self._size:
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        # The codec halves its colour planes: an odd side gets one more row or column.
        if height % 2 or width % 2:
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        with codecs_quiet():
            self._writer.write(image)
        self._count += 1

    def close(self) -> None:
        """Finish the file and give it its name.  Without frames there is no file.

        Raises
        ------
        MediaError
            If not all of it could be written; then there is no file.
        """
        with self._stack:
            if self._release():
                self._check()
                return
            self._discard()

    def abort(self) -> None:
        """Drop what was written; the file is not there, or is the one that was there before."""
        self._release()
        self._discard()

    def _discard(self) -> None:
        dropped = InputError(f"'{self.path}' was dropped.")
        self._stack.__exit__(InputError, dropped, None)

    def _open(self, height: int, width: int) -> cv2.VideoWriter:
        self._size = (height, width)
        even = (width + width % 2, height + height % 2)
        with ffmpeg_quiet(), codecs_quiet():
            try:
                fourcc = cv2.VideoWriter.fourcc(*_CODEC)
                writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, fourcc, self._fps, even)
            except (cv2.error, UnicodeError) as error:
                raise MediaError(f"Cannot write '{self.path}': OpenCV cannot create a video there.") from error
        if not writer.isOpened():
            raise MediaError(
                f"Cannot write '{self.path}': OpenCV cannot encode video of {even[0]} x {even[1]} pixels.",
                hint="The opencv-python-headless wheel can; OpenCV builds without FFmpeg cannot.",
            )
        return writer

    def _release(self) -> bool:
        writer, self._writer = self._writer, None
        if writer is None:
            return False
        with codecs_quiet():
            writer.release()
        return True

    def _check(self) -> None:
        """OpenCV does not say when a disk is full: count what is in the file."""
        problem = defect(self._temporary, "MP4")
        if problem is None:
            with codecs_quiet():
                capture = cv2.VideoCapture(str(self._temporary.absolute()), cv2.CAP_FFMPEG)
                written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
                capture.release()
            problem = None if written == self._count else f"holds {written} of {self._count} frames"
        if problem:
            raise MediaError(f"Cannot write '{self.path}': what was written {problem}.", hint="The disk may be full.")
