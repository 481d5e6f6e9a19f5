"""Calibration sets: pictures as the network will see them, one after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..fitting.base import Pixels
from ..media.frames import Failure
from ..spec import PoseSpec
from .data_sources import CocoPieces, GoldenPieces, MediaPieces, Pieces

#: Samples of a batch; a batch of 384 x 288 crops has 2.7 MB.
BATCH = 8
#: Samples of a calibration set, unless told otherwise.
LIMIT = 500


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of one size.

    Attributes
    ----------
    pixels
        As :func:`edgepose.fitting.fit` gives them: [B, H, W, 3] BGR.
    names
        For each sample the picture that it is from.
    """

    pixels: Pixels
    names: tuple[str, ...]


class CalibrationSet:
    """Samples of a calibration set, read anew each time they are iterated over.

    Iterating gives batches uint8 [B, H, W, 3] BGR, fitted to the network input (float32 where the model's fit resizes
    after normalising); only one batch and one picture are in memory.  The length is the number of samples: exact after
    one pass, before that what is known of the source.

    Parameters
    ----------
    pieces
        The samples of each picture.
    limit
        Largest number of samples; None for all.
    batch
        Largest number of samples of a batch.

    Attributes
    ----------
    unreadable
        Picture -> why it could not be used, from the latest pass.
    """

    def __init__(self, pieces: Pieces, limit: int | None, batch: int = BATCH) -> None:
        self._pieces = pieces
        self._limit = limit
        self._batch = batch
        self._record: dict[str, Any] | None = None
        self.unreadable: Mapping[str, str] = {}

    def __len__(self) -> int:
        return int(self.record["samples"]) if self._record is not None else self._pieces.samples

    def __iter__(self) -> Iterator[Pixels]:
        """The pixels of :meth:`batches`."""
        for batch in self.batches():
            yield batch.pixels

    @property
    def record(self) -> dict[str, Any]:
        """What the set is, plain JSON data without paths: ``source``, ``images``, ``samples`` and ``sha256``.

        ``sha256`` is a hash over the pictures' content and names in order, and the person boxes, if they were given.
        Found while the samples are read; if they have not been read to the end yet, this does it.
        """
        if self._record is None:
            for _ in self.batches():
                pass
        assert self._record is not None
        return dict(self._record)

    def batches(self) -> Iterator[Batch]:
        """The samples with the names of their pictures.

        Raises
        ------
        InputError
            If no picture can be read, there is only one although more were allowed, nobody is in them although the
            model needs person crops, or every sample is of one colour.
        """
        digest = hashlib.sha256()
        images = samples = 0
        plain = True
        unreadable: dict[str, str] = {}
        rows: list[Pixels] = []
        names: list[str] = []
        for piece in self._pieces:
            if isinstance(piece, Failure):
                unreadable[piece.source] = piece.reason
                continue
            digest.update(piece.identity)
            images += 1
            samples += len(piece.pixels)
            for row in piece.pixels:
                plain = plain and bool((row == row[0, 0]).all())
                if rows and (len(rows) == self._batch or rows[0].shape != row.shape):
                    yield _batch(rows, names)
                    rows, names = [], []
                rows.append(row)
                names.append(piece.name)
        self.unreadable = unreadable
        self._refuse_useless(images, samples, plain)
        yield _batch(rows, names)
        self._record = {
            "source": self._pieces.source,
            "images": images,
            "samples": samples,
            "sha256": digest.hexdigest(),
        }

    def _refuse_useless(self, images: int, samples: int, plain: bool) -> None:
        where = f"'{self._pieces.name}'"
        if not images:
            reason = next(iter(self.unreadable.values()), "it is empty")
            raise InputError(
                f"No picture of {where} can be read for calibration: {reason}", hint="Give pictures that can be opened."
            )
        if not samples:
            raise InputError(
                f"There is nobody in the {images} pictures of {where}; this model looks at one person at a time.",
                hint="Give pictures of people, or a COCO JSON with person boxes.",
            )
        if images == 1 and self._limit != 1:
            raise InputError(
                f"{where} has only one usable picture; ranges found on it would cut off others.",
                hint="Give some dozens of pictures; if one is really meant, say so with --limit 1.",
            )
        if plain:
            raise InputError(
                f"All samples of {where} are of one colour; ranges found on them would cut off real pictures.",
                hint="Give real pictures, some dozens.",
            )


def _batch(rows: list[Pixels], names: list[str]) -> Batch:
    pixels: Any = np.stack(rows)
    return Batch(pixels, tuple(names))


def calibration_set(
    path: str | Path,
    spec: PoseSpec,
    *,
    images: str | Path | None = None,
    limit: int | None = LIMIT,
    batch: int = BATCH,
) -> CalibrationSet:
    """Open a calibration set.

    Parameters
    ----------
    path
        A folder of pictures, a picture, a pattern or a video; a COCO JSON; a bundle or its ``golden.npz``.
    spec
        Contract of the model; its own pre-processing makes the samples.  For a model that looks at one person at a
        time they are crops, around a COCO JSON's boxes, else around the people that the embedded detector finds.
    images
        Folder of the pictures of a COCO JSON.
    limit
        Largest number of samples, spread evenly over the source; None for all.
    batch
        Largest number of samples of a batch.

    Raises
    ------
    InputError
        If there is no such source, or it is empty; what is wrong with its pictures is told when they are read.
    """
    path = Path(path)
    if limit is not None and limit < 1:
        raise InputError(f"The limit is {limit}; a calibration set has at least one sample.")
    pieces: Pieces
    if path.suffix.lower() == ".json" and path.is_file():
        pieces = CocoPieces(path, images, spec, limit)
    elif images is not None:
        raise InputError(f"A folder of pictures was given for '{path}', which is no COCO JSON.")
    elif path.suffix.lower() == ".npz" or (path / "manifest.json").is_file():
        pieces = GoldenPieces(path, spec, limit)
    else:
        pieces = MediaPieces(path, spec, limit)
    return CalibrationSet(pieces, limit, batch)
