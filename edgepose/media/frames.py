"""What every source of pictures gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes
    ----------
    source
        Path of the file that it is from, as it was given; the address of a live source.
    index
        Number of the frame in that file, from 0; 0 for a picture.
    image
        uint8 [H, W, 3], BGR, upright.
    timestamp
        Seconds since the beginning of the video; None for a picture.
    fps
        Frames per second of the video that it is from; None for a picture, or if the video does not state it.
    """

    source: str
    index: int
    image: npt.NDArray[np.uint8]
    timestamp: float | None = None
    fps: float | None = None

    @property
    def is_video(self) -> bool:
        """Whether it is from a video or a live source."""
        return self.timestamp is not None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.image.shape[0]), int(self.image.shape[1])


@dataclass(frozen=True)
class Failure:
    """A picture that cannot be read, or the point from which a video cannot be read; it stands in a frame's place.

    Attributes
    ----------
    source
        Path of the file.
    reason
        What happened and what to do, in sentences that name the file.
    """

    source: str
    reason: str


class Source(ABC):
    """Pictures, one after the other.  Iterating begins from the start each time (live sources: from now).

    A file that cannot be read does not end the iteration: it gives a :class:`Failure` and the next file follows.

    Attributes
    ----------
    name
        What was given by the user.
    files
        The files that will be read; empty for live sources.
    total
        Number of frames and failures to come, None if it is not known.  A video's is what its container states,
        which may be a little wrong.
    fps
        Frames per second; None for pictures and where it is not known.
    size
        (height, width) in pixels; None where it is not known in advance.
    is_video
        Whether the frames are consecutive in time.
    live
        Whether frames come as time passes and are lost if they are not taken.
    """

    name: str
    files: tuple[Path, ...] = ()
    total: int | None = None
    fps: float | None = None
    size: tuple[int, int] | None = None
    is_video: bool = False
    live: bool = False

    @abstractmethod
    def __iter__(self) -> Iterator[Frame | Failure]:
        """Give the frames; what was opened for it is released when the iterator ends or is closed."""
