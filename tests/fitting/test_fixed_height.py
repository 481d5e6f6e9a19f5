"""Fitting a picture to one height: sizes and padding of the original, and the way back."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.errors import InputError
from edgepose.fitting import Fitted, fit, to_tensor
from edgepose.fitting.base import apply
from edgepose.fitting.fixed_height import MAX_ASPECT
from edgepose.spec import FixedHeight, InputSpec


def network(kind: FixedHeight, size: tuple[int | None, int | None] = (None, None)) -> InputSpec:
    return InputSpec("data", *size, kind, color="BGR", mean=(128, 128, 128), std=(256, 256, 256))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise, uint8 [H, W, 3]."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def content(fitted: Fitted, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the padding, from the map to a picture of ``size``."""
    corners = np.array([[0, 0], [size[1], size[0]]], np.float64)
    matrix = fitted.to_image[0]
    (left, top), (right, bottom) = (corners - matrix[:, 2]) / np.diag(matrix[:, :2])
    return round(top), round(left), fitted.size[0] - round(bottom), fitted.size[1] - round(right)


def test_sizes_and_padding_of_lightweight_openpose(reference: Path) -> None:
    table = json.loads((reference / "fixtures/simplepose_lwop/lwop_pad_table.json").read_text())
    for row in table:
        kind = FixedHeight(row["base_h"], 8, min_width=row["base_h"])
        fitted = fit(picture(row["h"], row["w"]), network(kind))
        assert fitted.size == (row["net_h"], row["net_w"])
        assert content(fitted, (row["h"], row["w"])) == tuple(row[s] for s in ("top", "left", "bottom", "right"))
        padding = fitted.pixels[0].copy()
        scaled = slice(row["left"], row["left"] + row["scaled_w"])
        padding[row["top"] : row["top"] + row["scaled_h"], scaled] = 128
        assert (padding == 128).all()


def test_padding_is_zero_for_the_network() -> None:
    spec = network(FixedHeight(256, min_width=256))
    tensor = to_tensor(fit(picture(300, 200), spec).pixels, spec)
    assert tensor.shape == (1, 3, 256, 256)
    assert not tensor[..., :42].any()
    assert not tensor[..., 213:].any()
    assert tensor[..., 42:213].any()


@pytest.mark.parametrize(("anchor", "expected"), [("center", (0, 3, 0, 4)), ("top-left", (0, 0, 0, 7))])
def test_anchor(anchor: str, expected: tuple[int, ...]) -> None:
    kind = FixedHeight(368, anchor=anchor)  # type: ignore[arg-type]
    assert content(fit(picture(333, 500), network(kind)), (333, 500)) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.sampled_from([64, 256, 368]),
    st.sampled_from(["center", "top-left"]),
    st.sampled_from([None, 256]),
)
def test_points_go_to_the_network_and_back(
    height: int, width: int, target: int, anchor: str, min_width: int | None
) -> None:
    kind = FixedHeight(target, min_width=min_width, anchor=anchor)  # type: ignore[arg-type]
    if width > MAX_ASPECT * height:
        with pytest.raises(InputError, match="16:1"):
            fit(picture(height, width), network(kind))
        return
    fitted = fit(picture(height, width), network(kind))
    assert fitted.size[0] % 8 == fitted.size[1] % 8 == 0
    assert fitted.size[0] == target
    assert fitted.size[1] >= (min_width or 8)
    points = np.random.default_rng(0).uniform(0, [width, height], (20, 2))
    matrix = fitted.to_image[0]
    inside = (points - matrix[:, 2]) / np.diag(matrix[:, :2])
    assert (inside > -1).all()
    assert (inside < np.array(fitted.size[::-1]) + 1).all()
    np.testing.assert_allclose(apply(matrix, inside), points, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (427, 640), (640, 480), (1080, 1920), (100, 90)])
def test_the_map_leads_to_the_same_spot_of_the_picture(height: int, width: int) -> None:
    """A ramp along x and along y: the grey level at a point tells where it is."""
    rows, columns = np.mgrid[:height, :width]
    ramp = np.stack([columns * 255 / width, rows * 255 / height, columns * 0], axis=-1).astype(np.float32)
    kind = FixedHeight(368, min_width=368, interpolation="linear", resize_after_normalise=True)
    fitted = fit(np.round(ramp).astype(np.uint8), network(kind))
    top, left, bottom, right = content(fitted, (height, width))
    y, x = np.mgrid[top + 20 : fitted.size[0] - bottom - 20, left + 20 : fitted.size[1] - right - 20]
    spots = apply(fitted.to_image[0], np.stack([x + 0.5, y + 0.5], axis=-1))
    found = fitted.pixels[0, y, x, :2] / 255 * np.array([width, height]) + 0.5
    # Grey levels are whole numbers, so the ramp tells a place to half a step.
    assert np.abs(found - spots).max() <= 0.5 + np.ceil(max(width, height) / 255)
    assert np.abs((found - spots).mean(axis=(0, 1))).max() <= 0.1


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_normalising_first_gives_what_the_network_wants(interpolation: str) -> None:
    kind = FixedHeight(368, min_width=368, interpolation=interpolation, resize_after_normalise=True)  # type: ignore[arg-type]
    image = picture(427, 640)
    image[100:200, 100:300] = np.random.default_rng(1).choice([0, 255], (100, 200, 3))
    spec = network(kind)
    fitted = fit(image, spec)
    assert fitted.pixels.dtype == np.float32
    scale = 368 / 427
    code = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}[interpolation]
    expected = cv2.resize((image.astype(np.float32) - 128) / 256, None, fx=scale, fy=scale, interpolation=code)
    np.testing.assert_allclose(to_tensor(fitted.pixels, spec)[0].transpose(1, 2, 0), expected, atol=1e-5)
    if interpolation == "cubic":
        assert fitted.pixels.max() > 255, "overshoot belongs to it"


def test_a_fixed_network_takes_what_fits() -> None:
    kind = FixedHeight(256, anchor="top-left")
    wide = fit(picture(100, 400), network(kind, (256, 456)))
    assert wide.size == (256, 456)
    assert content(wide, (100, 400)) == (0, 0, 142, 0)
    narrow = fit(picture(480, 640), network(kind, (256, 456)))
    assert content(narrow, (480, 640)) == (0, 0, 0, 115)


def test_a_picture_of_the_right_height_is_left_as_it_is() -> None:
    image = picture(256, 320)
    fitted = fit(image, network(FixedHeight(256)))
    np.testing.assert_array_equal(fitted.pixels[0], image)
    np.testing.assert_array_equal(fitted.to_image[0], np.eye(2, 3))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5000, 1), (3, 2), (10, 160)])
def test_extreme_pictures(height: int, width: int) -> None:
    fitted = fit(np.full((height, width, 3), 200, np.uint8), network(FixedHeight(256, min_width=256)))
    assert fitted.size[0] == 256
    assert (fitted.pixels == 200).any()
