"""Where results go: JSON Lines, drawn pictures, drawn videos."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError, MediaError
from ..files import whole_file, write_whole
from ..poses import Poses
from .frames import Frame, Source
from .quiet import codecs_quiet
from .video_writer import VideoWriter

__all__ = ["FolderSink", "JsonLinesSink", "PictureSink", "Sink", "VideoSink", "open_save"]

_PICTURES = (".png", ".jpg", ".jpeg")
# Suffixes by which a file is meant and not a folder, but of a kind that is not written.
_OTHER_PICTURES = (".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm")
_OTHER_VIDEOS = (".avi", ".mov", ".mkv", ".webm", ".m4v")
_JPEG_QUALITY = 95


class Sink(ABC):
    """Takes results one after the other.

    Used as a context it is closed at the end, and aborted if the block ends in an error.
    """

    @abstractmethod
    def write(self, frame: Frame, poses: Poses) -> None:
        """Take the people of one frame.

        Raises
        ------
        InputError
            If they cannot be written.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish.  Files are there from now on, not before.

        Raises
        ------
        InputError
            If a file could not be written completely; then it is not there.
        """

    @abstractmethod
    def abort(self) -> None:
        """Drop files that are not finished."""

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class JsonLinesSink(Sink):
    """One JSON object a frame: ``source, frame, width, height, persons``; persons as in :meth:`Poses.to_dict`.

    Parameters
    ----------
    target
        A file, written whole or not at all; ``-`` for standard output; or a pipe or device such as ``/dev/stdout``.
        The last two get each line at once.

    Raises
    ------
    InputError
        If it cannot be written there.
    """

    def __init__(self, target: str | Path) -> None:
        path = Path(target)
        self._target = str(target)
        self._at_once = True
        self._stream: TextIO = sys.stdout
        with ExitStack() as stack:
            if self._target != "-":
                self._at_once = path.exists() and not path.is_file() and not path.is_dir()
                place = path if self._at_once else stack.enter_context(whole_file(path))
                try:
                    self._stream = stack.enter_context(open(place, "w", encoding="utf-8", newline="\n"))
                except OSError as error:
                    raise InputError(f"Cannot write '{target}': {error.strerror or error}.") from error
            self._stack = stack.pop_all()

    def write(self, frame: Frame, poses: Poses) -> None:
        """See :meth:`Sink.write`; a reader that has gone away is a ``BrokenPipeError``."""
        height, width = frame.size
        line = {
            # File names are bytes; those that are not UTF-8 cannot stand in JSON as they are.
            "source": os.fsencode(frame.source).decode("utf-8", "replace"),
            "frame": frame.index,
            "width": width,
            "height": height,
            "persons": poses.to_dict(),
        }
        with self._our_errors():
            self._stream.write(json.dumps(line, allow_nan=False) + "\n")
            if self._at_once:
                self._stream.flush()

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        with self._our_errors(), self._stack:
            if not self._at_once and not self._stream.closed:
                self._stream.flush()
                os.fsync(self._stream.fileno())

    def abort(self) -> None:
        """See :meth:`Sink.abort`."""
        with contextlib.suppress(OSError):  # a full disk refuses what is still in the buffer
            self._stack.__exit__(InputError, InputError(f"'{self._target}' was dropped."), None)

    @contextlib.contextmanager
    def _our_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise InputError(f"Cannot write '{self._target}': {error.strerror or error}.") from error


class PictureSink(Sink):
    """One drawn picture in one file.

    Parameters
    ----------
    path
        The file, ``.png`` or ``.jpg``.

    Raises
    ------
    InputError
        If it cannot be written there.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        _check_writable(self._path)

    def write(self, frame: Frame, poses: Poses) -> None:
        """See :meth:`Sink.write`; the file is there at once."""
        _write_picture(self._path, poses.draw(frame.image))

    def close(self) -> None:
        """Nothing is left to be done."""

    def abort(self) -> None:
        """The picture is there whole or was not written."""


class VideoSink(Sink):
    """The drawn frames of one video, as MP4.

    Parameters
    ----------
    path
        The file, ``.mp4``.
    fps
        Frames per second; None for 25.

    Raises
    ------
    InputError
        If it cannot be written there.
    """

    def __init__(self, path: str | Path, fps: float | None = None) -> None:
        _check_writable(Path(path))
        self._writer = VideoWriter(path, fps)

    def write(self, frame: Frame, poses: Poses) -> None:
        """See :meth:`Sink.write`."""
        self._writer.write(poses.draw(frame.image))

    def close(self) -> None:
        """See :meth:`Sink.close`; without a frame there is no file."""
        self._writer.close()

    def abort(self) -> None:
        """See :meth:`Sink.abort`."""
        self._writer.abort()


class FolderSink(Sink):
    """A drawn picture for each picture and a drawn video for each video, in one folder.

    A file is named as its source: ``.png``, ``.jpg`` and ``.jpeg`` are kept, other pictures become ``.png`` and videos
    ``.mp4``.  Sources of the same name get ``-2``, ``-3`` ... in the order in which they come.

    Parameters
    ----------
    path
        The folder; it is made if it is not there.
    inputs
        The files that will be read, which must not lie in this folder, or they could be overwritten.

    Raises
    ------
    InputError
        If it cannot be made or written, or an input lies in it.
    """

    def __init__(self, path: str | Path, inputs: Sequence[Path] = ()) -> None:
        self._path = Path(path)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"Cannot make the folder '{path}': {error.strerror or error}.") from error
        _check_writable(self._path / "picture.png")
        here = self._path.resolve()
        if any(folder.resolve() == here for folder in {file.parent for file in inputs}):
            raise InputError(
                f"Cannot save in '{path}': inputs lie there, which could be overwritten.", hint="Name another folder."
            )
        self._taken: set[str] = set()
        self._video: VideoSink | None = None
        self._video_source: str | None = None

    def write(self, frame: Frame, poses: Poses) -> None:
        """See :meth:`Sink.write`; a picture is there at once, a video when the next source begins."""
        begins = not frame.is_video or frame.index == 0 or frame.source != self._video_source
        if begins:
            self.close()
        if not frame.is_video:
            _write_picture(self._free_name(frame.source, None), poses.draw(frame.image))
            return
        if self._video is None:
            self._video = VideoSink(self._free_name(frame.source, ".mp4"), frame.fps)
            self._video_source = frame.source
        self._video.write(frame, poses)

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        video, self._video = self._video, None
        if video is not None:
            video.close()

    def abort(self) -> None:
        """Drop the video that is being written; pictures and videos that are finished stay."""
        video, self._video = self._video, None
        if video is not None:
            video.abort()

    def _free_name(self, source: str, suffix: str | None) -> Path:
        given = Path(source)
        suffix = suffix or (given.suffix if given.suffix.lower() in _PICTURES else ".png")
        name, number = given.stem + suffix, 1
        while name in self._taken:
            number += 1
            name = f"{given.stem}-{number}{suffix}"
        self._taken.add(name)
        return self._path / name


def open_save(target: str | Path, sources: Sequence[Source]) -> Sink:
    """The sink for drawings that a user means by a path.

    Parameters
    ----------
    target
        A name ending in ``.png``, ``.jpg`` or ``.jpeg`` is one picture, one ending in ``.mp4`` one video; everything
        else is a folder.
    sources
        What will be read.

    Raises
    ------
    InputError
        If the path does not fit the sources, cannot be written, or would overwrite an input.
    """
    path = Path(target)
    inputs = [file for source in sources for file in source.files]
    suffix = path.suffix.lower()
    if path.is_dir() or str(target).endswith(os.sep):
        return FolderSink(path, inputs)
    if suffix in _OTHER_PICTURES or suffix in _OTHER_VIDEOS:
        written = "pictures are written as .png or .jpg" if suffix in _OTHER_PICTURES else "videos are written as .mp4"
        raise InputError(f"Cannot write '{target}': {written}.")
    if suffix not in (*_PICTURES, ".mp4"):
        return FolderSink(path, inputs)
    if any(path.resolve() == file.resolve() for file in inputs):
        raise InputError(f"Cannot write '{target}': it is an input.", hint="Name another file.")
    alone = sources[0] if len(sources) == 1 and len(inputs) <= 1 else None
    if suffix == ".mp4":
        if alone is None or not alone.is_video:
            raise InputError(f"Cannot write '{target}': one video needs one video as its source.", hint=_FOLDER_HINT)
        return VideoSink(path, alone.fps)
    if alone is None or alone.is_video:
        raise InputError(f"Cannot write '{target}': one picture needs one picture as its source.", hint=_FOLDER_HINT)
    return PictureSink(path)


_FOLDER_HINT = "Name a folder, which takes any number of pictures and videos."


def _check_writable(path: Path) -> None:
    """Find out before the work begins."""
    if path.is_dir():
        raise InputError(f"Cannot write '{path}': it is a folder.")
    if not path.parent.is_dir():
        raise InputError(f"Cannot write '{path}': the folder '{path.parent}' does not exist.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"Cannot write '{path}': the folder '{path.parent}' is write-protected.")


def _write_picture(path: Path, image: npt.NDArray[np.uint8]) -> None:
    options = [] if path.suffix.lower() == ".png" else [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    try:
        with codecs_quiet():
            done, data = cv2.imencode(path.suffix.lower(), image, options)
    except cv2.error:
        done = False
    if not done:
        height, width = image.shape[:2]
        raise MediaError(
            f"Cannot write '{path}': OpenCV cannot encode {width} x {height} pixels so.",
            hint="JPEG ends at 65,535 pixels a side: name a .png file." if options else None,
        )
    write_whole(path, data.tobytes())
