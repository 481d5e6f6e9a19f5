"""Golden frames: real inputs with the outputs that the reference gave, to test an engine where it runs.

Stored as ``golden.npz`` in a bundle.  For frame ``f`` of stage ``s`` there is ``s.f.pixels`` (uint8 [B, H, W, 3] BGR,
already fitted to the input), ``s.f.out.<graph output>`` (float32, batch first) and, where the picture was fitted,
``s.f.to_image`` (float64 [B, 2, 3], the way back to the picture).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError
from .files import whole_file

GOLDEN = "golden.npz"
#: Golden frames are a few pictures; a file that unpacks to more is damaged or malicious.
MAX_UNPACKED_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class GoldenFrame:
    """One input of one stage with its reference outputs.

    Attributes
    ----------
    stage
        Index of the stage in the manifest.
    pixels
        uint8 [B, H, W, 3], BGR, fitted to the network input.
    outputs
        Graph output -> float32 array, batch first.
    to_image
        float64 [B, 2, 3]: affine map from pixels of the input to pixels of the picture it was cut from; None if the
        input is the picture.
    """

    stage: int
    pixels: npt.NDArray[np.uint8]
    outputs: Mapping[str, npt.NDArray[np.float32]]
    to_image: npt.NDArray[np.float64] | None = None


def write_golden(path: str | Path, frames: Sequence[GoldenFrame]) -> None:
    """Write golden frames, whole or not at all, with the same bytes for the same frames."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for i, frame in enumerate(frames):
        arrays[f"{frame.stage}.{i}.pixels"] = frame.pixels
        if frame.to_image is not None:
            arrays[f"{frame.stage}.{i}.to_image"] = frame.to_image
        arrays.update({f"{frame.stage}.{i}.out.{name}": a for name, a in frame.outputs.items()})
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date keeps the bytes the same from one writing to the next.
            with archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w") as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)


def read_golden(path: str | Path) -> list[GoldenFrame]:
    """Read golden frames.

    Raises
    ------
    BundleError
        If the file is damaged or not of this form.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(i.file_size for i in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise BundleError(f"'{path}' unpacks to {unpacked} bytes; at most {MAX_UNPACKED_BYTES} are accepted.")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError, RuntimeError) as error:
        raise BundleError(f"'{path}' holds no golden frames: {error}.", hint="Copy the bundle again.") from error
    pixels: dict[tuple[int, int], npt.NDArray[Any]] = {}
    outputs: dict[tuple[int, int], dict[str, npt.NDArray[Any]]] = {}
    maps: dict[tuple[int, int], npt.NDArray[Any]] = {}
    for name, array in arrays.items():
        stage, index, kind, output = (*name.split(".", 3), "", "", "", "")[:4]
        is_pixels = kind == "pixels" and array.dtype == np.uint8 and array.ndim == 4 and array.shape[3] == 3
        is_map = kind == "to_image" and array.shape[1:] == (2, 3) and array.dtype == np.float64
        if is_map and not np.isfinite(array).all():
            raise BundleError(f"'{path}': '{name}' is not finite.")
        known = is_pixels or is_map or (kind == "out" and output)
        if not (stage.isdecimal() and index.isdecimal() and known):
            raise BundleError(f"'{path}': unknown entry '{name}'.")
        key = int(stage), int(index)
        if is_pixels:
            pixels[key] = array
        elif is_map:
            maps[key] = array
        else:
            outputs.setdefault(key, {})[output] = array
    if pixels.keys() != outputs.keys() or any(
        key not in pixels or len(m) != len(pixels[key]) for key, m in maps.items()
    ):
        raise BundleError(f"'{path}': inputs and outputs do not belong together.")
    order = sorted(pixels, key=lambda k: (k[1], k[0]))
    return [GoldenFrame(key[0], pixels[key], outputs[key], maps.get(key)) for key in order]
