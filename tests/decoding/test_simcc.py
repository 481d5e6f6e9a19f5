"""SimCC decoding against reference outputs, and what must hold for any vector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding import build_decoder
from edgepose.decoding.simcc import SimCCDecoder, blur_width
from edgepose.errors import DecodeError, SpecError
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

SIZE = (256, 192)
SIGMA = [4.9, 5.66]


def decoder(**options: Any) -> SimCCDecoder:
    outputs = {"simcc_x": "x", "simcc_y": "y"}
    spec = PoseSpec(InputSpec("input", *SIZE, Crop()), DecoderSpec("simcc", outputs, options), COCO_17)
    built = build_decoder(spec)
    assert isinstance(built, SimCCDecoder)
    return built


def decode(x: np.ndarray, y: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    found = decoder(**options).decode({"simcc_x": x, "simcc_y": y}, SIZE)
    return np.concatenate([f.keypoints for f in found]), np.concatenate([f.scores for f in found])


def gaussian(centres: np.ndarray, length: int, sigma: float) -> np.ndarray:
    return np.exp(-((np.arange(length) - centres[..., None]) ** 2) / (2 * sigma**2)).astype(np.float32)


@pytest.fixture(scope="module")
def codec(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")


class TestMmpose:
    def test_maxima(self, codec: Any) -> None:
        keypoints, _ = decode(codec["simcc_x"], codec["simcc_y"])
        np.testing.assert_array_equal(keypoints[..., :2] * 2, codec["simcc_locs"])
        np.testing.assert_array_equal(keypoints[..., 2], np.maximum(codec["simcc_vals"], 0))
        np.testing.assert_allclose(keypoints[..., :2], codec["simcc_xy_split2"], atol=1e-3, rtol=0)

    def test_visibility(self, codec: Any) -> None:
        keypoints, _ = decode(codec["simcc_x"], codec["simcc_y"], score="visibility", sigma=SIGMA)
        seen = codec["simcc_vals"] > 0
        np.testing.assert_allclose(keypoints[..., 2][seen], codec["simcc_visibility_beta150"][seen], atol=1e-5, rtol=0)
        assert not keypoints[..., 2][~seen].any()

    def test_dark(self, codec: Any) -> None:
        assert [blur_width(s) for s in SIGMA] == list(codec["simcc_dark_blur"])
        keypoints, _ = decode(codec["simcc_pos_x"], codec["simcc_pos_y"], dark=True, sigma=SIGMA)
        np.testing.assert_allclose(keypoints[..., :2], codec["simcc_dark_xy"], atol=1e-3, rtol=0)


class TestScore:
    def test_mean_of_the_axes(self) -> None:
        x, y = np.zeros((1, 17, 384), np.float32), np.zeros((1, 17, 512), np.float32)
        x[..., 100], y[..., 200] = 0.9, 0.5
        assert decode(x, y)[0][0, 0].tolist() == pytest.approx([50, 100, 0.5])
        assert decode(x, y, score="mean")[0][0, 0].tolist() == pytest.approx([50, 100, 0.7])

    def test_person_is_the_mean_of_what_is_seen(self) -> None:
        x, y = np.zeros((1, 17, 384), np.float32), np.zeros((1, 17, 512), np.float32)
        x[..., 1] = y[..., 1] = np.linspace(0.1, 0.9, 17)
        _, scores = decode(x, y)
        levels = np.linspace(0.1, 0.9, 17)
        assert scores[0] == pytest.approx(levels[levels > 0.2].mean())


class TestAnyVector:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(-30, 30), st.integers(-30, 30))
    def test_moves_with_the_picture(self, seed: int, dark: bool, dx: int, dy: int) -> None:
        rng = np.random.default_rng(seed)
        cx, cy = rng.uniform(100, 280, (1, 17)), rng.uniform(100, 400, (1, 17))
        options = {"dark": dark, "sigma": SIGMA}
        here, _ = decode(gaussian(cx, 384, 4.9), gaussian(cy, 512, 5.66), **options)
        there, _ = decode(gaussian(cx + dx, 384, 4.9), gaussian(cy + dy, 512, 5.66), **options)
        moved = np.broadcast_to([dx / 2, dy / 2], (1, 17, 2))
        np.testing.assert_allclose(there[..., :2] - here[..., :2], moved, atol=1e-2)

    def test_dark_finds_the_centre(self) -> None:
        rng = np.random.default_rng(3)
        cx, cy = rng.uniform(60, 320, (4, 17)), rng.uniform(60, 450, (4, 17))
        keypoints, _ = decode(gaussian(cx, 384, 4.9), gaussian(cy, 512, 5.66), dark=True, sigma=SIGMA)
        np.testing.assert_allclose(keypoints[..., :2], np.stack([cx, cy], axis=-1) / 2, atol=0.02)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_symmetric_model_is_unchanged_by_the_flip_test(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        plain = {"simcc_x": rng.random((2, 17, 24), np.float32), "simcc_y": rng.random((2, 17, 32), np.float32)}
        order = list(COCO_17.flip_indices)
        mirrored = {"simcc_x": plain["simcc_x"][:, order, ::-1], "simcc_y": plain["simcc_y"][:, order]}
        merged = decoder().merge_flip(plain, mirrored)
        for role, vector in plain.items():
            np.testing.assert_array_equal(merged[role], vector)

    @pytest.mark.parametrize("options", [{}, {"dark": True, "sigma": SIGMA}, {"score": "visibility", "sigma": SIGMA}])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, -1.0, 0.5, 3e38])
    def test_vectors_that_say_nothing_score_nothing(self, options: dict[str, Any], value: float) -> None:
        good = np.random.default_rng(0).random((2, 17, 40), np.float32)
        bad = np.full((2, 17, 30), value, np.float32)
        for x, y in ((bad, good), (good, bad)):
            keypoints, scores = decode(x, y, **options)
            assert np.isfinite(keypoints).all()
            assert not keypoints[..., 2].any()
            assert not scores.any()

    @pytest.mark.parametrize("length", [1, 2, 3])
    def test_short_vectors(self, length: int) -> None:
        vectors = np.random.default_rng(0).random((1, 17, length), np.float32)
        keypoints, _ = decode(vectors, vectors, dark=True, sigma=SIGMA)
        assert np.isfinite(keypoints).all()

    def test_no_crops_no_people(self) -> None:
        empty = {"simcc_x": np.zeros((0, 17, 384), np.float32), "simcc_y": np.zeros((0, 17, 512), np.float32)}
        assert decoder(dark=True, sigma=SIGMA).decode(empty, SIZE) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("x", "y"),
        [
            ((1, 16, 8), (1, 17, 8)),
            ((1, 17, 8), (2, 17, 8)),
            ((1, 17, 0), (1, 17, 8)),
            ((1, 17, 8, 1), (1, 17, 8)),
        ],
    )
    def test_shape(self, x: tuple[int, ...], y: tuple[int, ...]) -> None:
        with pytest.raises(DecodeError, match="simcc"):
            decode(np.zeros(x, np.float32), np.zeros(y, np.float32))

    @pytest.mark.parametrize(
        "options",
        [
            {"dark": True},
            {"score": "visibility"},
            {"score": "max"},
            {"split_ratio": 0},
            {"sigma": [1.0]},
            {"sigma": [1e9, 5.0]},
        ],
    )
    def test_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(SpecError, match="simcc"):
            decoder(**options)
