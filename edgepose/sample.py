"""The picture that edgepose brings along, for proofs that need one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .artifact import DEFAULT_MODEL, embedded_folder
from .bundle import read_bundle
from .decoding import build_decoder
from .golden import GOLDEN, read_golden


def sample_picture() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """The picture that the embedded model was tested with, and the two people in it.

    Returns
    -------
    tuple of ndarray
        uint8 [H, W, 3], BGR, and float32 [2, 4]: x1, y1, x2, y2 in pixels, as the embedded detector found them.
    """
    folder = embedded_folder(DEFAULT_MODEL)
    frame = read_golden(folder / GOLDEN)[0]
    spec = read_bundle(folder).manifest.stages[0].spec
    outputs = {role: frame.outputs[name] for role, name in spec.decoder.outputs.items()}
    size = int(frame.pixels.shape[1]), int(frame.pixels.shape[2])
    found = build_decoder(spec).decode(outputs, size)[0]
    boxes = np.zeros((0, 4), np.float32) if found.boxes is None else found.boxes[:2]
    return frame.pixels[0], boxes
