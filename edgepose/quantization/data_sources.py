"""Where calibration samples come from: pictures, videos, COCO annotations, golden frames."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..bundle import MANIFEST, read_bundle
from ..errors import EdgePoseError, InputError
from ..evaluation.coco import PERSON, ground_truth_boxes
from ..files import sha256_of
from ..fitting import fit
from ..fitting.base import Pixels
from ..golden import GOLDEN, GoldenFrame, read_golden
from ..media.frames import Failure, Frame
from ..media.pictures import read_picture
from ..media.source import PictureSource, open_source
from ..spec import PoseSpec

#: COCO's largest annotation file has 450 MB.
_MAX_JSON_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class Piece:
    """The samples of one picture.

    Attributes
    ----------
    name
        What to call the picture.
    identity
        What enters the hash of the set.
    pixels
        [B, H, W, 3] as fitted; B is 0 where nobody is in the picture.
    """

    name: str
    identity: bytes
    pixels: Pixels


class Pieces(Protocol):
    """The pictures of a calibration set.

    Attributes
    ----------
    name
        What the user gave.
    source
        Kind and base name.
    samples
        Number of samples, as far as it is known before they are read.
    """

    name: str
    source: str
    samples: int

    def __iter__(self) -> Iterator[Piece | Failure]: ...


def spread(count: int, limit: int | None) -> list[int]:
    """At most ``limit`` of ``count`` indices, in order and evenly apart."""
    if limit is None or count <= limit:
        return list(range(count))
    return [(2 * i + 1) * count // (2 * limit) for i in range(limit)]


class MediaPieces:
    """Pictures or frames of a video, evenly spread; for top-down models the people that the embedded detector finds.

    People are taken from every picture in turn, those of the highest score first, so that the limit does not leave out
    the end of the source.

    Parameters
    ----------
    path
        What :func:`edgepose.media.source.open_source` opens.
    spec
        Contract of the model.
    limit
        Largest number of samples; None for all.
    """

    def __init__(self, path: Path, spec: PoseSpec, limit: int | None) -> None:
        self._source = open_source(path)
        self._spec, self._limit = spec, limit
        self.name = str(path)
        self.source = f"{'video' if self._source.is_video else 'pictures'} {path.resolve().name}"
        total = self._source.total
        if total is None:
            total = sum(isinstance(item, Frame) for item in self._source)
        self._picks = spread(total, limit)
        self.samples = len(self._picks)
        self._hashed = "", ""

    def __iter__(self) -> Iterator[Piece | Failure]:
        """See :class:`Pieces`."""
        if not self._spec.is_top_down:
            for item in self._items():
                yield item if isinstance(item, Failure) else self._piece(item, None)
            return
        from ..artifact import EMBEDDED_DETECTOR
        from ..loading import load

        taken = 0
        with load(EMBEDDED_DETECTOR, device="cpu") as detector:
            for count, item in enumerate(self._items(), 1):
                if isinstance(item, Failure):
                    yield item
                    continue
                found = detector(item.image)
                boxes = found.boxes[np.argsort(-found.scores, kind="stable")]
                if self._limit is not None:
                    boxes = boxes[: math.ceil(self._limit * count / len(self._picks)) - taken]
                taken += len(boxes)
                yield self._piece(item, boxes)

    def _items(self) -> Iterator[Frame | Failure]:
        if isinstance(self._source, PictureSource):
            yield from PictureSource([self._source.files[i] for i in self._picks], self.name)
            return
        wanted, last = set(self._picks), max(self._picks, default=0)
        for index, item in enumerate(self._source):
            if isinstance(item, Failure) or index in wanted:
                yield item
            if index >= last:
                return

    def _piece(self, frame: Frame, boxes: npt.NDArray[np.float32] | None) -> Piece:
        name = Path(frame.source).name
        if frame.source != self._hashed[0]:  # once for all frames of a video
            self._hashed = frame.source, sha256_of(frame.source)
        identity = f"{name} {frame.index} {self._hashed[1]}\n"
        return Piece(
            f"{name}, frame {frame.index}" if frame.is_video else name,
            identity.encode(),
            _fit(frame.image, self._spec, boxes),
        )


class CocoPieces:
    """Pictures of a COCO JSON; for top-down models crops of its annotated people, as the SimpleBaseline protocol.

    Parameters
    ----------
    path
        The JSON file.
    images
        Folder of the pictures.
    spec
        Contract of the model.
    limit
        Largest number of samples, evenly spread; None for all.
    """

    def __init__(self, path: Path, images: str | Path | None, spec: PoseSpec, limit: int | None) -> None:
        if images is None:
            raise InputError(f"'{path}' needs the folder of its pictures.", hint="Give it with --images DIR.")
        self._folder = Path(images)
        if not self._folder.is_dir():
            raise InputError(f"'{images}' is not a folder of pictures.")
        self._spec = spec
        self.name = str(path)
        self.source = f"coco {path.resolve().name}"
        people = _read_coco(path)
        if spec.is_top_down:
            everyone = [(file, person) for file, boxes in people.items() for person in boxes]
            if not everyone:
                raise InputError(f"'{path}' has no person with a box, which this model needs.")
            kept: dict[str, list[list[float]]] = {}
            for i in spread(len(everyone), limit):
                file, person = everyone[i]
                kept.setdefault(file, []).append(person)
            self._people = kept
            self.samples = sum(map(len, kept.values()))
        else:
            files = list(people)
            self._people = {files[i]: [] for i in spread(len(files), limit)}
            self.samples = len(self._people)

    def __iter__(self) -> Iterator[Piece | Failure]:
        """See :class:`Pieces`."""
        for file, people in self._people.items():
            try:
                path = _inside(self._folder, file)
                # Annotations belong to the pixels as they are stored.
                image = read_picture(path, orient=False)
                identity = f"{file} {sha256_of(path)} {people}\n".encode()
            except EdgePoseError as error:
                yield Failure(file, error.message)
                continue
            boxes = None
            if self._spec.is_top_down:
                size = int(image.shape[0]), int(image.shape[1])
                boxes = ground_truth_boxes([{"bbox": box} for box in people], size)[:, :4]
            yield Piece(file, identity, _fit(image, self._spec, boxes))


class GoldenPieces:
    """Golden frames of a bundle, those of its stage that has the input of the model.

    Parameters
    ----------
    path
        The bundle's folder or its ``golden.npz``.
    spec
        Contract of the model.
    limit
        Largest number of samples; None for all.
    """

    def __init__(self, path: Path, spec: PoseSpec, limit: int | None) -> None:
        self.name = str(path)
        if (path / MANIFEST).is_file():
            bundle = read_bundle(path)
            stages = {i for i, s in enumerate(bundle.manifest.stages) if s.spec.is_top_down == spec.is_top_down}
            frames = [f for f in read_golden(bundle.path(GOLDEN)) if f.stage in stages]
        else:
            frames = read_golden(path)
        frames = [f for f in frames if _fits(f, spec)]
        if not frames:
            raise InputError(
                f"'{path}' has no golden frame of the size that this model takes.", hint="Give pictures instead."
            )
        self.source = f"golden {path.resolve().name}"
        self._frames = []
        left = limit if limit is not None else sum(len(f.pixels) for f in frames)
        for i in spread(len(frames), limit):
            pixels = frames[i].pixels[:left]
            left -= len(pixels)
            self._frames.append(pixels)
        self.samples = sum(map(len, self._frames))

    def __iter__(self) -> Iterator[Piece | Failure]:
        """See :class:`Pieces`."""
        for i, pixels in enumerate(self._frames):
            content = hashlib.sha256(pixels.tobytes()).hexdigest()
            yield Piece(f"golden frame {i}", f"golden {list(pixels.shape)} {content}\n".encode(), pixels)


def _fits(frame: GoldenFrame, spec: PoseSpec) -> bool:
    size = spec.input.height, spec.input.width
    return size == (None, None) or frame.pixels.shape[1:3] == size


def _fit(image: npt.NDArray[np.uint8], spec: PoseSpec, boxes: npt.NDArray[np.float32] | None) -> Pixels:
    return fit(image, spec.input, boxes).pixels


def _read_coco(path: Path) -> dict[str, list[list[float]]]:
    """File name -> boxes x, y, w, h of its people (no crowds, nobody without a labelled keypoint), by image id."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"'{path}' is too large for a COCO JSON.")
        data = json.loads(path.read_bytes())
        files = {int(image["id"]): str(image["file_name"]) for image in data["images"]}
        people: dict[int, list[list[float]]] = {i: [] for i in sorted(files)}
        for annotation in data.get("annotations", []):
            x, y, width, height = (float(v) for v in annotation["bbox"])
            seen = all(map(math.isfinite, (x, y))) and 0 < width < math.inf and 0 < height < math.inf
            if seen and _is_person(annotation) and int(annotation["image_id"]) in people:
                people[int(annotation["image_id"])].append([x, y, width, height])
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError(
            f"'{path}' is no COCO annotation file: it needs images with id and file_name, annotations with bbox."
        ) from error
    if not files:
        raise InputError(f"'{path}' lists no images.")
    return {files[i]: boxes for i, boxes in people.items()}


def _is_person(annotation: dict[str, Any]) -> bool:
    if annotation.get("iscrowd", 0) or annotation.get("category_id", PERSON) != PERSON:
        return False
    keypoints = annotation.get("keypoints")
    return keypoints is None or any(v > 0 for v in keypoints[2::3])


def _inside(folder: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise InputError(f"The annotations name the picture '{name}', which is not inside the folder.")
    return folder / path
