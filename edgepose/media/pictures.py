"""Reading pictures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import MediaError
from .headers import Header, HeaderError, read_header
from .kinds import HEAD_BYTES, identify
from .quiet import codecs_quiet
from .regular import read_regular

Image = npt.NDArray[np.uint8]
Samples = npt.NDArray[np.integer[Any] | np.floating[Any]]

#: Pictures of more pixels are refused before they are decoded (16384 x 16384).
MAX_PIXELS = 1 << 28
#: Picture files of more bytes are refused: MAX_PIXELS with four samples of 16 bits need no more.
MAX_BYTES = 1 << 31

# libjpeg's warnings that stand for pixels it had to make up.  Others (extraneous bytes) are common in good pictures.
_LOST_PIXELS = re.compile(
    r"premature end of data segment|bad Huffman code|Premature end of JPEG file|found marker 0x\w+ instead of RST"
    r"|TIFF_Error"
)
_ANY_DEPTH = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
_BLEND_PIXELS = 1 << 20


def read_picture(path: str | Path, *, orient: bool = True) -> Image:
    """Read a picture as a viewer shows it.

    Its format is told by its content: PNG, JPEG, BMP, TIFF, WebP, GIF or PNM.  The EXIF orientation is applied; grey
    becomes three equal channels; 16-bit samples are scaled so that white stays white; transparent parts are laid on
    white; of several frames or pages the first is taken.

    Parameters
    ----------
    path
        A regular file.
    orient
        Apply the EXIF orientation.  Annotations of data sets belong to the pixels as they are stored.

    Returns
    -------
    ndarray
        uint8 [H, W, 3], BGR.

    Raises
    ------
    MediaError
        If the file cannot be read, is no picture of these formats, is damaged or cut short, or has more than
        :data:`MAX_PIXELS` pixels.
    """
    data = read_regular(path, MAX_BYTES)
    kind = identify(data[:HEAD_BYTES])
    if kind is None:
        raise MediaError(f"Cannot read '{path}': it is neither a picture nor a video that edgepose knows.")
    if kind.role != "picture":
        raise MediaError(
            f"Cannot read '{path}' as a picture: its content is {kind.format}.",
            hint="Convert it to PNG or JPEG first." if kind.role == "foreign" else "Give it as a video.",
        )
    try:
        header = read_header(data, kind.format, MAX_PIXELS)
        image = _to_bgr(_decode(data, kind.format, header), header)
        return _upright(image, header.orientation) if orient else image
    except HeaderError as error:
        raise MediaError(f"Cannot read '{path}': it {error}.") from error
    except MemoryError as error:
        raise MediaError(f"Cannot read '{path}': there is not enough memory to decode it.") from error


def _decode(data: bytes, kind: str, header: Header) -> Samples:
    flags = cv2.IMREAD_UNCHANGED if header.alpha else _ANY_DEPTH
    problem = f"is damaged, or a {kind} picture that OpenCV {cv2.__version__} cannot decode"
    with codecs_quiet() as said:
        try:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        except cv2.error as error:
            raise HeaderError(problem) from error
    if pixels is None:
        raise HeaderError(problem)
    if _LOST_PIXELS.search(said.text):
        raise HeaderError("is damaged: a part of its pixels is lost")
    if sorted(pixels.shape[:2]) != sorted((header.height, header.width)):
        raise HeaderError(problem)
    return pixels


def _to_bgr(pixels: Samples, header: Header) -> Image:
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / header.white)
    if pixels.dtype != np.uint8:
        raise HeaderError(f"holds {pixels.dtype} samples; convert it to 8 or 16 bits")
    image = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    if image.shape[2] == 4 and header.alpha:
        image = _on_white(image.astype(np.uint8, copy=False), header.premultiplied)
    elif image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    elif image.shape[2] != 3:
        raise HeaderError(f"has {image.shape[2]} channels")
    return image.astype(np.uint8, copy=False)


def _on_white(image: Image, premultiplied: bool) -> Image:
    height, width = image.shape[:2]
    result = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BLEND_PIXELS // width)
    for top in range(0, height, rows):
        part = image[top : top + rows].astype(np.uint16)
        alpha = part[..., 3:]
        # 255 * 255 is the largest value in between, which 16 bits hold.
        colors = part[..., :3] if premultiplied else (part[..., :3] * alpha + 127) // 255
        result[top : top + rows] = np.minimum(colors + (255 - alpha), 255)
    return result


def _upright(image: Image, orientation: int) -> Image:
    """Undo an EXIF orientation: 2..4 mirrored or upside down, 5..8 with the axes exchanged as well."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
