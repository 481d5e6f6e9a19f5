"""Person crops against reference crops, and the way there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.errors import InputError
from edgepose.fitting import fit, to_tensor
from edgepose.fitting.base import apply
from edgepose.fitting.crop import warp_crops
from edgepose.fitting.geometry import crop_geometry
from edgepose.spec import Crop, InputSpec

SIZE = (256, 192)
CONVENTIONS = ("msra", "udp", "alphapose")


def spec(convention: str = "msra", size: tuple[int, int] = SIZE, **more: Any) -> InputSpec:
    return InputSpec("input", *size, Crop(convention=convention), **more)  # type: ignore[arg-type]


def corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def topdown(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/topdown_decode.npz")


@pytest.fixture(scope="module")
def codec(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")


@pytest.fixture(scope="module")
def gluon(reference: Path) -> Any:
    return np.load(reference / "fixtures/gluoncv_aimet/gluoncv_prepost.npz")


def relative(maps: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference as a fraction of each map's largest entry."""
    return float((np.abs(maps - wanted) / np.abs(wanted).max(axis=(1, 2), keepdims=True)).max())


class TestSimpleBaseline:
    def test_affine(self, topdown: Any) -> None:
        boxes = corners(topdown["boxes_xywh"])
        upright = topdown["rot"] == 0
        assert upright.sum() == 8
        there = crop_geometry(boxes, SIZE, Crop(), (480, 640)).to_input
        assert relative(there[upright], topdown["affine_to_input"][upright]) < 1e-6
        back = crop_geometry(boxes, (64, 48), Crop(), (480, 640)).to_image
        assert relative(back, topdown["affine_from_heatmap"]) < 1e-6

    def test_pixels(self, topdown: Any) -> None:
        """Each crop is one of the two that OpenCV 4.10 and 5.0 make, or lies within 4 grey levels of it."""
        rows = topdown["crops_idx"]
        whole = np.tile([0, 0, 640, 480], (len(rows), 1))
        turned = warp_crops(topdown["image_bgr"], topdown["affine_to_input"][rows], SIZE, whole)
        boxes = corners(topdown["boxes_xywh"][rows])
        fitted = fit(topdown["image_bgr"], spec(), boxes).pixels
        upright = topdown["rot"][rows] == 0
        assert upright.sum() == 4
        for crops, chosen in ((turned, slice(None)), (fitted, upright)):
            errors = [
                np.abs(crops[chosen].astype(int) - topdown[name][chosen])
                for name in ("crops_u8_cv50", "crops_u8_cv410")
            ]
            assert any(e.max() <= 4 and (e == 0).mean(axis=(1, 2, 3)).min() >= 0.97 for e in errors)

    def test_sizes_follow_the_spec(self, topdown: Any) -> None:
        fitted = fit(topdown["image_bgr"], spec(size=(64, 48)), corners(topdown["boxes_xywh"]))
        assert fitted.pixels.shape == (24, 64, 48, 3)
        assert fitted.pixels.dtype == np.uint8
        assert fitted.size == (64, 48)
        assert fitted.to_image.shape == (24, 2, 3)


class TestMmpose:
    @pytest.mark.parametrize(("convention", "name"), [("msra", "mm_warp"), ("udp", "mm_warp_udp")])
    def test_warp(self, codec: Any, convention: str, name: str) -> None:
        """1e-4 pixels of the input, over the whole crop."""
        upright = codec["mm_rot"] == 0
        assert upright.sum() == 8
        center, scale = codec["mm_center"][upright], codec["mm_scale"][upright]
        boxes = np.concatenate([center - scale / 2.5, center + scale / 2.5], axis=1)
        geometry = crop_geometry(boxes, SIZE, Crop(convention=convention), (480, 640))  # type: ignore[arg-type]
        edges = np.array([[0, 0], [192, 0], [0, 256], [192, 256]], np.float64)
        for back, wanted in zip(geometry.to_image, codec[name][upright], strict=True):
            inverse = np.linalg.inv(np.vstack([wanted, [0, 0, 1]]))
            spots = np.hstack([edges, np.ones((4, 1))]) @ inverse[:2].T
            there = np.hstack([spots, np.ones((4, 1))]) @ np.linalg.inv(np.vstack([back, [0, 0, 1]]))[:2].T
            np.testing.assert_allclose(there, edges, atol=1e-4, rtol=0)


class TestGluonCV:
    """The stored inputs were made by OpenCV 4.6; any 4.x gives the same grey levels."""

    # OpenCV 4 places samples on a grid of 1/32 pixel.  Exact placing differs by at most half a step on each axis, so
    # by 255 / 64 grey levels on each, and by rounding.
    BOUND = 2 * 255 / 64 + 1

    def compare(self, tensor: np.ndarray, wanted: np.ndarray, deviations: np.ndarray) -> None:
        levels = np.abs(tensor - wanted) * deviations[:, None, None]
        if cv2.__version__.startswith("4."):
            assert (levels < 0.01).mean() > 0.99
            assert levels.max() < 1.01
        else:
            assert levels.max() <= self.BOUND
            assert levels.mean() < 0.1

    def test_simple_pose(self, gluon: Any) -> None:
        mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
        wanted = spec(mean=tuple(mean), std=tuple(std))
        image = np.ascontiguousarray(gluon["image_rgb_u8"][..., ::-1])
        fitted = fit(image, wanted, gluon["boxes_xyxy_clipped"])
        self.compare(to_tensor(fitted.pixels, wanted), gluon["simple_input"], std)
        middle = np.array([[96, 128]])
        for back, center, scale in zip(fitted.to_image, gluon["simple_center"], gluon["simple_scale"], strict=True):
            np.testing.assert_allclose(apply(back, middle)[0], center, atol=1e-3)
            extent = apply(back, np.array([[192, 256]])) - apply(back, np.array([[0, 0]]))
            np.testing.assert_allclose(extent[0], scale, atol=1e-3)

    def test_alpha_pose(self, gluon: Any) -> None:
        means = np.array([0.406, 0.457, 0.480]) * 255
        wanted = spec("alphapose", (320, 256), mean=tuple(means), std=(255.0, 255.0, 255.0))
        image = np.ascontiguousarray(gluon["image_rgb_u8"][..., ::-1])
        fitted = fit(image, wanted, gluon["boxes_xyxy_clipped"])
        self.compare(to_tensor(fitted.pixels, wanted), gluon["alpha_input"], np.full(3, 255.0))
        geometry = crop_geometry(gluon["boxes_xyxy_clipped"], (320, 256), Crop(convention="alphapose"), (240, 320))
        np.testing.assert_array_equal(geometry.windows, gluon["alpha_boxes"][:, 0])


boxes_in_and_out = st.lists(
    st.tuples(
        st.floats(-2000, 2000, width=32),
        st.floats(-2000, 2000, width=32),
        st.floats(2, 1500, width=32),
        st.floats(2, 1500, width=32),
    ),
    min_size=1,
    max_size=4,
)


class TestThereAndBack:
    @settings(max_examples=100, deadline=None)
    @given(boxes_in_and_out, st.sampled_from(["msra", "udp"]), st.floats(0.5, 2), st.sampled_from([SIZE, (96, 128)]))
    def test_points_return(
        self, extents: list[tuple[float, ...]], convention: str, padding: float, size: tuple[int, int]
    ) -> None:
        boxes = corners(np.array(extents))
        kind = Crop(padding=padding, convention=convention)  # type: ignore[arg-type]
        geometry = crop_geometry(boxes, size, kind, (480, 640))
        for box, there, back in zip(boxes, geometry.to_input, geometry.to_image, strict=True):
            points = np.random.default_rng(0).uniform(box[:2], box[2:], (20, 2))
            np.testing.assert_allclose(apply(back, apply(there, points)), points, atol=1e-3, rtol=0)

    @settings(max_examples=100, deadline=None)
    @given(boxes_in_and_out)
    def test_alphapose_returns_within_two_pixels(self, extents: list[tuple[float, ...]]) -> None:
        """Its crop and its way back disagree by design, by two pixels of the picture and two of the input at most.

        One drops the last row and column, pads by whole pixels and counts W - 1 columns; the other does not.
        """
        geometry = crop_geometry(corners(np.array(extents)), SIZE, Crop(convention="alphapose"), (1080, 1920))
        for window, there, back in zip(geometry.windows, geometry.to_input, geometry.to_image, strict=True):
            if (window[2:] - window[:2]).min() < 20:
                continue  # rounding its padding turns a crop of few pixels visibly
            points = np.random.default_rng(0).uniform(window[:2], window[2:], (20, 2))
            seen = apply(there, points)
            assert np.abs(apply(back, seen) - points).max() < 2 + 2 * back[0, 0]

    @pytest.mark.parametrize("convention", CONVENTIONS)
    def test_pixels_lie_where_the_map_says(self, convention: str) -> None:
        """Grey levels that grow along x, then along y, tell from which spot a pixel of the crop was taken."""
        ramp = np.tile(np.arange(240, dtype=np.uint8), (240, 1))
        image = np.dstack([ramp, ramp.T, np.zeros_like(ramp)])
        boxes = np.array([[60.3, 70.6, 130.2, 180.1], [90, 60, 150, 100]])
        fitted = fit(image, spec(convention), boxes)
        slack = 2.5 if convention == "alphapose" else 0.52  # half a grey level, and OpenCV's own rounding
        rows, columns = np.mgrid[40:220:20, 30:170:20].reshape(2, -1)
        for crop, back in zip(fitted.pixels, fitted.to_image, strict=True):
            spots = apply(back, np.stack([columns, rows], axis=1))
            levels = crop[rows, columns, :2].astype(float)
            inside = levels.min(axis=1) > 0
            assert inside.sum() > 20
            np.testing.assert_allclose(levels[inside], spots[inside], atol=slack)

    def test_udp_measures_between_pixel_centres(self) -> None:
        geometry = crop_geometry(np.array([[100, 100, 160, 180]]), SIZE, Crop(1.0, "udp"), (480, 640))
        there = apply(geometry.to_input[0], np.array([[100, 100], [160, 180]]))
        np.testing.assert_allclose(there, [[0, 0], [191, 255]], atol=1e-4)

    def test_the_box_grows_to_the_aspect_of_the_input(self) -> None:
        geometry = crop_geometry(np.array([[0, 0, 90, 40], [0, 0, 30, 200]]), SIZE, Crop(1.25), (480, 640))
        np.testing.assert_allclose(geometry.to_image[:, 0, 0] * 192, [112.5, 187.5])
        np.testing.assert_allclose(geometry.to_image[:, 0, 0], geometry.to_image[:, 1, 1])


class TestAnyBox:
    @pytest.mark.parametrize("convention", CONVENTIONS)
    def test_no_boxes(self, convention: str) -> None:
        fitted = fit(noise(50, 60), spec(convention), np.zeros((0, 4)))
        assert fitted.pixels.shape == (0, *SIZE, 3)
        assert fitted.to_image.shape == (0, 2, 3)

    @settings(max_examples=150, deadline=None)
    @given(
        st.lists(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False, width=32)] * 4), min_size=1, max_size=3),
        st.sampled_from(CONVENTIONS),
        st.sampled_from([(1, 1), (1, 40), (37, 53)]),
    )
    def test_never_fails(self, boxes: list[tuple[float, ...]], convention: str, picture: tuple[int, int]) -> None:
        fitted = fit(noise(*picture), spec(convention, (32, 24)), np.array(boxes))
        assert fitted.pixels.shape == (len(boxes), 32, 24, 3)
        assert np.isfinite(fitted.to_image).all()
        assert (np.abs(np.linalg.det(fitted.to_image[:, :, :2])) > 0).all()

    @pytest.mark.parametrize("convention", CONVENTIONS)
    @pytest.mark.parametrize(
        "box",
        [(10, 10, 10, 10), (30, 30, 20, 20), (-500, 10, -400, 60), (10, 900, 40, 990), (1e30, 1e30, 2e30, 2e30)],
    )
    def test_degenerate_boxes(self, convention: str, box: tuple[float, ...]) -> None:
        sane = (5, 5, 45, 50)
        image = noise(60, 60)
        fitted = fit(image, spec(convention), np.array([sane, box, sane]))
        alone = fit(image, spec(convention), np.array([sane]))
        np.testing.assert_array_equal(fitted.pixels[[0, 2]], alone.pixels[[0, 0]])
        # AlphaPose pulls a box into the picture first, where five columns of it are left.
        if box[1] >= 900 or (box[0] < -400 and convention != "alphapose"):
            assert not fitted.pixels[1].any()

    def test_a_box_around_everything_shows_everything(self) -> None:
        image = np.full((60, 60, 3), 200, np.uint8)
        fitted = fit(image, spec(), np.array([[-600.0, -600, 660, 660]]))
        shown = (fitted.pixels[0, ..., 0] > 0).sum()
        across = 60 / fitted.to_image[0, 0, 0]
        assert abs(shown - across**2) < 4 * across

    def test_a_box_wider_than_opencv_warps(self) -> None:
        image = np.zeros((40, 70000, 3), np.uint8)
        image[...] = (np.arange(70000) // 300)[:, None]
        fitted = fit(image, spec(), np.array([[0, 0, 70000, 40]]))
        columns = np.arange(25, 165, 10)
        spots = apply(fitted.to_image[0], np.stack([columns, np.full(len(columns), 128)], axis=1))
        np.testing.assert_allclose(fitted.pixels[0, 128, columns, 0], spots[:, 0] / 300, atol=1.5)

    def test_only_what_is_asked_is_read(self) -> None:
        """A crop does not depend on how much picture lies around it."""
        image = noise(200, 300)
        box = np.array([[120.0, 80, 160, 140]])
        small = fit(np.ascontiguousarray(image[40:180, 60:220]), spec(), box - [60, 40, 60, 40])
        np.testing.assert_array_equal(fit(image, spec(), box).pixels, small.pixels)

    def test_boxes_are_needed_and_finite(self) -> None:
        with pytest.raises(InputError, match="boxes"):
            fit(noise(20, 20), spec())
        with pytest.raises(InputError, match="finite"):
            fit(noise(20, 20), spec(), np.array([[0, 0, np.nan, 5]]))
