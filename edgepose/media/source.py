"""Opening sources: a picture, a folder of pictures, a pattern, a video."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import EdgePoseError, InputError, MediaError
from .frames import Failure, Frame, Source
from .kinds import Kind
from .pictures import read_picture
from .regular import kind_of
from .video import VideoSource

__all__ = ["Failure", "Frame", "PictureSource", "SequenceSource", "Source", "VideoSource", "open_source"]

# Files of these names in a folder are meant as pictures, so that one that cannot be read is told of, not passed over.
_PICTURE_SUFFIXES = {
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif",
    ".pbm", ".pgm", ".ppm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".hdr", ".exr",
}  # fmt: skip
_VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"}
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class PictureSource(Source):
    """Picture files, in the order given.

    Parameters
    ----------
    paths
        The files.
    name
        What the user gave.
    """

    def __init__(self, paths: Sequence[str | Path], name: str) -> None:
        self.name = name
        self.files = tuple(Path(p) for p in paths)
        self.total = len(self.files)

    def __iter__(self) -> Iterator[Frame | Failure]:
        """One frame or failure a file."""
        for path in self.files:
            yield _read(path)


class SequenceSource(Source):
    """Several sources, one after the other.

    Parameters
    ----------
    sources
        The sources, none of them live.
    name
        What the user gave.
    """

    def __init__(self, sources: Sequence[Source], name: str) -> None:
        self.name = name
        self.sources = tuple(sources)
        self.files = tuple(path for source in sources for path in source.files)
        totals = [source.total for source in sources]
        self.total = None if None in totals else sum(t for t in totals if t is not None)

    def __iter__(self) -> Iterator[Frame | Failure]:
        """The frames and failures of all."""
        for source in self.sources:
            yield from source


def open_source(text: str | Path) -> Source:
    """The source that a user means.

    Parameters
    ----------
    text
        A picture or video file (told by its content, whatever its name); a folder, of which the pictures are taken in
        natural order (``2.jpg`` before ``10.jpg``), without hidden files and subfolders; or a pattern such as
        ``clips/*.mp4`` (``**`` for any depth), which takes pictures and videos.

    Returns
    -------
    Source
        Files that are there but cannot be read are :class:`Failure` items of its iteration.

    Raises
    ------
    InputError
        If nothing of that name exists, the folder or pattern holds no picture, or it is a camera or a stream.
    """
    name = str(text)
    path = Path(text)
    if not name:
        raise InputError("The name of a source is empty.")
    if _ADDRESS.match(name):
        raise InputError(f"'{name}' is an address; cameras and streams are not supported yet.", hint=_HINT)
    try:
        exists, is_folder, is_device = path.is_symlink() or path.exists(), path.is_dir(), path.is_char_device()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"Cannot read '{name}': {reason}.") from error
    if is_device or (name.isdigit() and not exists):
        raise InputError(f"'{name}' is a device; cameras and streams are not supported yet.", hint=_HINT)
    if is_folder:
        return _folder(path, name)
    if exists:
        return _file(path)
    if glob.has_magic(name):
        return _pattern(name)
    raise InputError(f"There is no file or folder '{name}'.", hint=_HINT)


_HINT = "Give a picture, a folder of pictures, a pattern in quotes such as 'clips/*.mp4', or a video file."


def _read(path: Path) -> Frame | Failure:
    try:
        return Frame(str(path), 0, read_picture(path))
    except EdgePoseError as error:
        return Failure(str(path), str(error))


def _file(path: Path) -> Source:
    kind = _kind(path)
    if kind is not None and kind.role == "video":
        return VideoSource(path)
    return PictureSource([path], str(path))


def _folder(path: Path, name: str) -> Source:
    try:
        entries = [p for p in path.iterdir() if not p.name.startswith(".") and not p.is_dir()]
    except OSError as error:
        raise InputError(f"Cannot read the folder '{name}': {error.strerror or error}.") from error
    pictures = [p for p in entries if p.suffix.lower() in _PICTURE_SUFFIXES or _role(p) == "picture"]
    if not pictures:
        raise InputError(
            f"The folder '{name}' holds no pictures (subfolders are not searched).",
            hint=f"For videos or for subfolders give a pattern: '{name}/*.mp4' or '{name}/**/*.jpg'.",
        )
    pictures.sort(key=_natural)
    return PictureSource(pictures, name)


def _pattern(name: str) -> Source:
    # Not Path.glob, which takes no absolute patterns and finds hidden files.
    found = {Path(p) for p in glob.iglob(name, recursive=True)}  # noqa: PTH207
    matches = sorted(found, key=_natural)
    files = [p for p in matches if not p.is_dir()]
    known = [p for p in files if p.suffix.lower() in _PICTURE_SUFFIXES | _VIDEO_SUFFIXES or _role(p) in _READ]
    if not known:
        result = f"matches {len(files)} files, none of them a picture or a video" if files else "matches no file"
        raise InputError(f"The pattern '{name}' {result}.", hint=_HINT)
    if len(known) == 1:
        return _file(known[0])
    videos = {p for p in known if _role(p) == "video"}
    if not videos:
        return PictureSource(known, name)
    return SequenceSource([VideoSource(p) if p in videos else PictureSource([p], str(p)) for p in known], name)


_READ = ("picture", "video")


def _kind(path: Path) -> Kind | None:
    try:
        return kind_of(path)
    except MediaError:
        return None


def _role(path: Path) -> str | None:
    kind = _kind(path)
    return None if kind is None else kind.role


def _natural(path: Path) -> tuple[tuple[tuple[tuple[int, int, str], ...], ...], str]:
    """Order by which ``frame2`` comes before ``Frame10``, folder by folder; exact names decide between equals."""
    parts = tuple(
        tuple((0, int(t), "") if t.isdecimal() else (1, 0, t.lower()) for t in re.split("([0-9]+)", part) if t)
        for part in path.parts
    )
    return parts, str(path)
