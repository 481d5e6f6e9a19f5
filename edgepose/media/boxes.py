"""Person boxes from a file, for models that look at one person at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .frames import Frame

Boxes = npt.NDArray[np.float32]


class BoxFile:
    """Boxes of every frame, as ``edgepose run --json`` writes them.

    One JSON object a line with ``source``, ``frame`` (0 if it is left out) and ``persons``, each with ``box``
    (x1, y1, x2, y2 in pixels) and ``score`` (1 if it is left out).  Anything else in a line is passed over, so the
    output of another model can be used as it is.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it cannot be read or a line has another form.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._by_source: dict[tuple[str, int], Boxes] = {}
        self._by_name: dict[tuple[str, int], list[Boxes]] = {}
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"Cannot read the boxes '{path}': {error.strerror or error}.") from error
        except ValueError as error:
            raise InputError(f"The boxes '{path}' are not text.") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                self._add(number, line)

    def _add(self, number: int, line: str) -> None:
        try:
            record = json.loads(line)
            source, frame = str(record["source"]), int(record.get("frame", 0))
            boxes = _boxes(record["persons"])
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise InputError(
                f"'{self.path}', line {number}: no boxes there: {error!r}.",
                hint='A line reads: {"source": "a.jpg", "frame": 0, "persons": [{"box": [x1, y1, x2, y2]}]}',
            ) from error
        self._by_source[source, frame] = boxes
        self._by_name.setdefault((Path(source).name, frame), []).append(boxes)

    def of(self, frame: Frame) -> Boxes:
        """Boxes [N, 5] (x1, y1, x2, y2, score) of a frame: by its source as written, else by its file name.

        Raises
        ------
        InputError
            If the file says nothing of this frame, or has several of that name.
        """
        exact = self._by_source.get((frame.source, frame.index))
        if exact is not None:
            return exact
        named = self._by_name.get((Path(frame.source).name, frame.index), [])
        if len(named) != 1:
            found = "nothing" if not named else f"{len(named)} entries of that name"
            raise InputError(f"'{self.path}' has {found} for '{frame.source}', frame {frame.index}.")
        return named[0]


def _boxes(persons: list[Mapping[str, Any]]) -> Boxes:
    rows = []
    for person in persons:
        x1, y1, x2, y2 = (float(v) for v in person["box"])
        score = person.get("score")
        rows.append([x1, y1, x2, y2, 1.0 if score is None else float(score)])
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    if not np.isfinite(boxes).all():
        raise ValueError("a box is not finite")
    return boxes
