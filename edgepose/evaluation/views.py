"""The same pictures seen slightly differently, so that AP of few pictures depends less on chance.

A joint that lies between two cells of a heatmap, or that two places compete for, is decided by the last digit of a
network's output.  On some dozen pictures such decisions move AP by several tenths of a point; another view of the same
picture decides them anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

#: The smallest size of a picture in its view: large enough to change AP by little, and room to move over more than one
#: stride of any network.
SMALLEST = 0.9
#: Largest shift of an annotated box, of its own sides.
BOX_SHIFT = 0.03


@dataclass(frozen=True)
class View:
    """Where a picture lies, a little smaller, in a frame of its own size; or how far given boxes are off.

    Attributes
    ----------
    scale
        Size of the picture in the frame, from :data:`SMALLEST` to 1.
    across, down
        Place in the room that is left, 0 (left, top) to 1 (right, bottom).
    """

    scale: float = 1.0
    across: float = 0.5
    down: float = 0.5

    def picture(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The picture in its frame, black around it; uint8 [H, W, 3] like ``image``."""
        height, width = image.shape[:2]
        left, top = self._corner(height, width)
        matrix = np.array([[self.scale, 0, left], [0, self.scale, top]])
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)

    def back(self, points: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Points [..., 2] of the frame in pixels of the picture of ``size`` (height, width)."""
        return ((points - np.array(self._corner(*size), np.float32)) / np.float32(self.scale)).astype(np.float32)

    def boxes(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes [N, 4 or 5] (x1, y1, x2, y2, score), moved and resized by at most some hundredths of their sides."""
        sides = boxes[:, 2:4] - boxes[:, :2]
        shift = BOX_SHIFT * (2 * np.array([self.across, self.down]) - 1)
        centres = (boxes[:, :2] + boxes[:, 2:4]) / 2 + shift * sides
        sides = sides * (self.scale + (1 - SMALLEST) / 2)
        return np.concatenate([centres - sides / 2, centres + sides / 2, boxes[:, 4:]], axis=1).astype(np.float32)

    def _corner(self, height: int, width: int) -> tuple[float, float]:
        room = 1 - self.scale
        return self.across * room * width, self.down * room * height


def views(count: int, seed: int = 0) -> list[View | None]:
    """``count`` views; the first is the picture as it is (None)."""
    draw = np.random.default_rng(seed)
    rest = [
        View(float(draw.uniform(SMALLEST, 1)), float(draw.random()), float(draw.random())) for _ in range(count - 1)
    ]
    return [None, *rest]
