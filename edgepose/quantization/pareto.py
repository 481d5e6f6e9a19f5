"""The price of accuracy as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import refuse_unwritable, write_whole
from .budget import Measurement

_SIZE, _MARGIN = (720, 480), (80, 40, 30, 60)  # width x height; left, right, top, bottom
_INK, _GREY, _BEST, _CHOSEN = (40, 40, 40), (190, 190, 190), (180, 110, 30), (40, 40, 210)  # BGR


def table(measured: Sequence[Measurement], full: Measurement, chosen: Measurement) -> str:
    """Layers in float, AP, OKS, shift, milliseconds and size of what was measured, the FP32 model last.

    "at most": what AP loses at most with 95 % confidence; "px": what one joint in a hundred moves by and more.
    """
    head = ("in float", "AP", "AP lost", "at most", "OKS lost", "px", "ms", "MB", "")
    rows = [head]
    for one in [*sorted(measured, key=lambda m: len(m.kept)), full]:
        labelled = one.ap is not None and full.ap is not None
        rows.append(
            (
                "all" if one is full else str(len(one.kept)),
                f"{one.ap:.2f}" if labelled else "-",
                f"{full.ap - one.ap:+.2f}" if labelled else "-",  # type: ignore[operator]
                "-" if one.ap_loss_bound is None else f"{one.ap_loss_bound:+.2f}",
                f"{one.oks_loss:.4f}",
                f"{one.shift:.2f}",
                "-" if one.ms is None else f"{one.ms:.2f}",
                f"{one.size / 1e6:.2f}",
                "chosen" if one is chosen else "FP32" if one is full else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def draw(measured: Sequence[Measurement], full: Measurement, chosen: Measurement) -> npt.NDArray[np.uint8]:
    """OKS lost (or AP lost, with labels) over milliseconds (or megabytes, where there are no times).

    Returns
    -------
    ndarray
        uint8 [480, 720, 3], BGR.
    """
    labelled = full.ap is not None
    points = [*measured, full]
    times = [m.ms for m in points if m.ms is not None]
    timed = len(times) == len(points)
    across = np.array(times if timed else [m.size / 1e6 for m in points])
    up = np.array([full.ap - m.ap if labelled else m.oks_loss for m in points])  # type: ignore[operator]
    left, right, top, bottom = _MARGIN
    picture = np.full((_SIZE[1], _SIZE[0], 3), 255, np.uint8)
    x0, x1 = _span(across)
    y0, y1 = _span(up)

    def place(x: float, y: float) -> tuple[int, int]:
        column = left + (x - x0) / (x1 - x0) * (_SIZE[0] - left - right)
        row = _SIZE[1] - bottom - (y - y0) / (y1 - y0) * (_SIZE[1] - top - bottom)
        return round(column), round(row)

    for share in np.linspace(0, 1, 6):
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        cv2.line(picture, place(x, y0), place(x, y1), _GREY, 1, cv2.LINE_AA)
        cv2.line(picture, place(x0, y), place(x1, y), _GREY, 1, cv2.LINE_AA)
        _write(picture, f"{x:.3g}", (place(x, y0)[0] - 12, _SIZE[1] - bottom + 18))
        _write(picture, f"{y:.3g}", (8, place(x0, y)[1] + 4))
    _write(picture, "milliseconds" if timed else "megabytes", (_SIZE[0] // 2 - 40, _SIZE[1] - 12))
    _write(picture, "AP points lost" if labelled else "OKS lost", (8, 18))
    for one, x, y in zip(points, across, up, strict=True):
        picked = one is chosen
        cv2.circle(picture, place(x, y), 7 if picked else 5, _CHOSEN if picked else _BEST, -1, cv2.LINE_AA)
        name = "FP32" if one is full else f"{len(one.kept)}"
        _write(picture, name, (place(x, y)[0] + 9, place(x, y)[1] - 6))
    _write(picture, "numbers: layers in float; red: chosen", (_SIZE[0] - 320, 18))
    return picture


def refuse_picture(path: str | Path) -> None:
    """Refuse before the work where :func:`save_picture` could not write, or would write what the name does not say.

    Raises
    ------
    InputError
        If the folder does not exist or the name does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"The picture '{path}' is a PNG.", hint="Give it a name that ends in .png.")
    refuse_unwritable(path)


def save_picture(path: str | Path, measured: Sequence[Measurement], full: Measurement, chosen: Measurement) -> None:
    """Write :func:`draw` as PNG, whole or not at all.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    fine, data = cv2.imencode(".png", draw(measured, full, chosen))
    if not fine:
        raise InputError(f"The picture '{path}' cannot be encoded.")
    write_whole(path, data.tobytes())


def _span(values: npt.NDArray[Any]) -> tuple[float, float]:
    low, high = float(min(values.min(), 0.0)), float(values.max())
    return low, high if high > low else low + 1.0


def _write(picture: npt.NDArray[np.uint8], text: str, place: tuple[int, int]) -> None:
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _INK, 1, cv2.LINE_AA)
