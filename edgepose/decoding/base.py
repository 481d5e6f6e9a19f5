"""What every decoder takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Detections:
    """People read from the outputs for one network input, in pixels of that input.

    Attributes
    ----------
    keypoints
        float32 [N, K, 3]: x, y, score; K is 0 for a detector of boxes.
    scores
        float32 [N]: confidence of each person.
    boxes
        float32 [N, 4]: x1, y1, x2, y2; None if the decoder finds no boxes.
    """

    keypoints: Array
    scores: Array
    boxes: Array | None = None


class Decoder(Protocol):
    """Raw outputs of a network -> people.

    A decoder is built once from a :class:`~edgepose.spec.PoseSpec` and holds no state between calls, so that threads
    may share it.
    """

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """Read one :class:`Detections` for each element of the batch.

        Parameters
        ----------
        outputs
            From the decoder's own role names (the keys of ``DecoderSpec.outputs``) to raw float32 outputs, batch
            first.
        size
            (height, width) of the network input in pixels.

        Raises
        ------
        DecodeError
            If the outputs do not have the shape that this decoder reads.
        """
        ...

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average the outputs with those of the mirrored input.

        Raises
        ------
        DecodeError
            If this decoder has no flip test.
        """
        ...
