"""What every checkpoint reader gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named arrays read from a file.

    Attributes
    ----------
    path
        The file.
    format
        What it turned out to be: ``mxnet-params``, ``mindspore-ckpt``, ``torch-zip``, ``torch-legacy``,
        ``safetensors``, ``onnx``.
    arrays
        Name -> array, in the order of the file.  Read-only views of the memory-mapped file where the format allows.
        bfloat16 is widened to float32, which is exact.
    set_aside
        Name -> why it is no weight (optimizer state, counters, strings).
    metadata
        What else the file says about itself; plain JSON data.
    graph
        The network's own graph where the file has one (MXNet symbol JSON, ONNX model), else None.
    """

    path: Path
    format: str
    arrays: Mapping[str, npt.NDArray[np.generic]]
    set_aside: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    graph: Any = None
