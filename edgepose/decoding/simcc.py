"""SimCC: one classification along x and one along y a keypoint (RTMPose).

Sources: mmpose's SimCCLabel codec and its post-processing; rtmlib for the mean score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import DecodeError, SpecError
from ..spec import PoseSpec
from .base import Detections
from .dark import refine_line
from .flip import merge_flipped
from .options import read_options, require_outputs, take_output
from .peaks import find_peaks
from .topdown import keypoint_set, one_person_each

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Sharpness of the softmax behind the score ``visibility`` (``decode_beta`` of mmpose's SimCCLabel).
VISIBILITY_BETA = 150.0


@dataclass(frozen=True)
class SimCCOptions:
    """Options of :class:`SimCCDecoder`.

    Attributes
    ----------
    split_ratio
        Bins a pixel of the input.
    score
        Score of a keypoint: the smaller of the two maxima (``min``, mmpose), their ``mean`` (rtmlib), or the smaller
        maximum of the two sharpened softmaxes (``visibility``, mmpose; needs ``sigma``).
    dark
        Refine below one bin by the curvature of the logarithm; needs ``sigma``.
    sigma
        Training sigmas (x, y) in bins: (4.9, 5.66) for RTMPose at 256 x 192, (6.0, 6.93) at 384 x 288.
    """

    split_ratio: float = 2.0
    score: Literal["min", "mean", "visibility"] = "min"
    dark: bool = False
    sigma: tuple[float, float] | None = None


class SimCCDecoder:
    """Outputs ``simcc_x`` [N, K, bins along x] and ``simcc_y`` [N, K, bins along y].

    Each crop gives one person.  Bin ``i`` stands for input pixel ``i / split_ratio``.  A keypoint whose axes say
    nothing (not finite, constant, or the smaller maximum not positive) has score 0 and lies one bin before the origin,
    where mmpose puts it.  The score of the person is the mean of the keypoint scores above 0.2, or 0.
    """

    def __init__(self, spec: PoseSpec) -> None:
        require_outputs(spec.decoder, ("simcc_x", "simcc_y"))
        self.options = read_options(spec.decoder, SimCCOptions)
        options = self.options
        if options.split_ratio <= 0:
            raise SpecError("Decoder 'simcc': option 'split_ratio' must be positive.")
        if options.sigma is None and (options.dark or options.score == "visibility"):
            raise SpecError("Decoder 'simcc': options 'dark' and score 'visibility' need 'sigma'.")
        if options.sigma is not None and not all(0.5 <= s <= 100 for s in options.sigma):
            raise SpecError("Decoder 'simcc': option 'sigma' must be two numbers from 0.5 to 100.")
        self._pairs = keypoint_set(spec).flip_indices

    def decode(self, outputs: Mapping[str, Array], size: tuple[int, int]) -> list[Detections]:
        """See :meth:`Decoder.decode`."""
        axes = self._take(outputs)
        count, points = axes[0].shape[:2]
        rows = [axis.reshape(count * points, axis.shape[2]) for axis in axes]
        (x, top_x, seen_x), (y, top_y, seen_y) = (find_peaks(r) for r in rows)
        lower = np.minimum(top_x, top_y)
        found = seen_x & seen_y & (lower > 0)
        bins = np.stack([x, y], axis=1).astype(np.float64)
        bins[~found] = -1
        if self.options.dark:
            assert self.options.sigma is not None
            for axis, sigma in enumerate(self.options.sigma):
                bins[found, axis] += refine_line(rows[axis][found], (x, y)[axis][found], blur_width(sigma))
        if self.options.score == "visibility":
            assert self.options.sigma is not None
            scores = self._visibility(rows, found)
        else:
            scores = lower if self.options.score == "min" else (top_x + top_y) / 2
        shown: Array = np.asarray(np.where(found, scores, 0), np.float32)
        pixels = bins / self.options.split_ratio
        return one_person_each(pixels.reshape(count, points, 2), shown.reshape(count, points))

    def merge_flip(self, outputs: Mapping[str, Array], flipped: Mapping[str, Array]) -> Mapping[str, Array]:
        """Average with the mirrored outputs: the bins along x turned round, left and right keypoints exchanged."""
        plain, mirrored = self._take(outputs), self._take(flipped)
        return {
            "simcc_x": merge_flipped(plain[0], mirrored[0], self._pairs, mirror=True),
            "simcc_y": merge_flipped(plain[1], mirrored[1], self._pairs, mirror=False),
        }

    def _take(self, outputs: Mapping[str, Array]) -> tuple[Array, Array]:
        x, y = (take_output(outputs, role, (None, len(self._pairs), None)) for role in ("simcc_x", "simcc_y"))
        if len(x) != len(y) or 0 in (x.shape[2], y.shape[2]):
            raise DecodeError(
                f"Outputs 'simcc_x' {list(x.shape)} and 'simcc_y' {list(y.shape)} do not belong together."
            )
        return x, y

    def _visibility(self, rows: list[Array], found: Mask) -> Floats:
        """Smaller of the two largest softmax probabilities; float64 [M]."""
        assert self.options.sigma is not None
        largest = np.zeros((2, len(found)))
        for axis, sigma in enumerate(self.options.sigma):
            logits = rows[axis][found].astype(np.float64) * (VISIBILITY_BETA * sigma)
            logits -= logits.max(axis=1, keepdims=True)
            largest[axis, found] = 1 / np.exp(logits).sum(axis=1)
        return np.asarray(largest.min(axis=0), np.float64)


def blur_width(sigma: float) -> int:
    """Odd width in bins of the blur before DARK along one axis, for a training sigma in bins (mmpose)."""
    width = int((20 * sigma - 7) // 3)
    return max(1, width - 1 if width % 2 == 0 else width)
