"""The whole picture, aspect not kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.fitting import fit
from edgepose.fitting.base import apply
from edgepose.spec import InputSpec, Stretch


@pytest.mark.parametrize(
    ("picture", "kind", "fixed", "size"),
    [
        ((90, 160), Stretch(496, 384), None, (384, 496)),
        ((160, 90), Stretch(496, 384), None, (496, 384)),
        ((100, 100), Stretch(496, 384), None, (496, 384)),
        ((90, 160), Stretch(256), None, (256, 256)),
        ((90, 160), Stretch(), (48, 64), (48, 64)),
    ],
)
def test_size(picture: tuple[int, int], kind: Stretch, fixed: tuple[int, int] | None, size: tuple[int, int]) -> None:
    spec = InputSpec("input", *(fixed or (None, None)), kind)
    fitted = fit(np.zeros((*picture, 3), np.uint8), spec)
    assert fitted.pixels.shape == (1, *size, 3)
    assert fitted.size == size


@settings(max_examples=30, deadline=None)
@given(st.integers(8, 250), st.integers(8, 250))
def test_pixels_lie_where_the_map_says(height: int, width: int) -> None:
    """Grey levels that grow along x and y tell from which spot a pixel was taken."""
    image = np.zeros((height, width, 3), np.uint8)
    slope = 255 // (max(height, width) - 1)
    image[..., 0] = np.arange(width) * slope
    image[..., 1] = np.arange(height)[:, None] * slope
    fitted = fit(image, InputSpec("input", 120, 100, Stretch()))
    rows, columns = np.mgrid[:120, :100].reshape(2, -1)
    spots = apply(fitted.to_image[0], np.stack([columns, rows], axis=1))
    # Beyond the centre of the outermost pixel the resize repeats it.
    spots = np.clip(spots, 0, [width - 1, height - 1])
    # OpenCV's bilinear resize of bytes is off by up to three quarters of a grey level.
    np.testing.assert_allclose(fitted.pixels[0, rows, columns, :2], spots * slope, atol=0.76)


def test_same_size_is_the_picture_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    fitted = fit(image, InputSpec("input", 30, 40, Stretch()))
    np.testing.assert_array_equal(fitted.pixels[0], image)
    np.testing.assert_array_equal(fitted.to_image[0], [[1, 0, 0], [0, 1, 0]])
