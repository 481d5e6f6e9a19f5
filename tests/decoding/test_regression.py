"""Regressed coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding import build_decoder
from edgepose.decoding.regression import RegressionDecoder
from edgepose.errors import DecodeError, SpecError
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

SIZE = (256, 192)


def decoder(**options: Any) -> RegressionDecoder:
    outputs = {"coordinates": "out"}
    spec = PoseSpec(InputSpec("input", *SIZE, Crop()), DecoderSpec("regression", outputs, options), COCO_17)
    built = build_decoder(spec)
    assert isinstance(built, RegressionDecoder)
    return built


def decode(raw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = decoder().decode({"coordinates": raw}, SIZE)
    return np.concatenate([f.keypoints for f in found]), np.concatenate([f.scores for f in found])


def test_coordinates_are_fractions_of_the_input() -> None:
    raw = np.full((2, 17, 2), 0.25, np.float32)
    raw[..., 1] = 0.5
    keypoints, scores = decode(raw)
    np.testing.assert_allclose(keypoints, np.broadcast_to([48, 128, 1], (2, 17, 3)))
    np.testing.assert_allclose(scores, 1)


def test_score_is_one_minus_the_mean_sigma() -> None:
    raw = np.zeros((1, 17, 4), np.float32)
    raw[..., 2], raw[..., 3] = np.log(0.1 / 0.9), np.log(0.3 / 0.7)
    keypoints, scores = decode(raw)
    np.testing.assert_allclose(keypoints[..., 2], 0.8, rtol=1e-6)
    np.testing.assert_allclose(scores, 0.8, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_masked(value: float) -> None:
    raw = np.random.default_rng(0).random((2, 17, 4), np.float32)
    raw[0, 3, 1] = raw[1, 5, 2] = value
    keypoints, scores = decode(raw)
    assert np.isfinite(keypoints).all()
    assert np.isfinite(scores).all()
    assert keypoints[0, 3].tolist() == keypoints[1, 5].tolist() == [0, 0, 0]
    assert (keypoints[..., 2] > 0).sum() == 32


def test_huge_sigmas_do_not_overflow() -> None:
    raw = np.zeros((1, 17, 4), np.float32)
    raw[..., 2], raw[..., 3] = 3e38, -3e38
    np.testing.assert_allclose(decode(raw)[0][..., 2], 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([2, 4]))
def test_symmetric_model_is_unchanged_by_the_flip_test(seed: int, shift: bool, channels: int) -> None:
    rng = np.random.default_rng(seed)
    raw = rng.random((2, 17, channels), np.float32)
    mirrored = raw[:, list(COCO_17.flip_indices)]
    mirrored[..., 0] = 1 - mirrored[..., 0] - (1 / 192 if shift else 0)
    merged = decoder(flip_shift=shift).merge_flip({"coordinates": raw}, {"coordinates": mirrored})["coordinates"]
    np.testing.assert_allclose(merged, raw, atol=1e-6)


def test_sigmas_are_averaged_as_probabilities() -> None:
    plain, mirrored = np.zeros((2, 1, 17, 4), np.float32)
    plain[..., 2:], mirrored[..., 2:] = -200, np.log(0.6 / 0.4)
    merged = decoder().merge_flip({"coordinates": plain}, {"coordinates": mirrored})
    np.testing.assert_allclose(decode(merged["coordinates"])[0][..., 2], 0.7, rtol=1e-6)


def test_no_crops_no_people() -> None:
    assert decoder().decode({"coordinates": np.zeros((0, 17, 4), np.float32)}, SIZE) == []


@pytest.mark.parametrize("shape", [(1, 17, 3), (1, 16, 4), (17, 4)])
def test_refused_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError, match="coordinates"):
        decode(np.zeros(shape, np.float32))


def test_merged_outputs_must_have_one_shape() -> None:
    with pytest.raises(DecodeError, match="mirrored"):
        decoder().merge_flip({"coordinates": np.zeros((1, 17, 4))}, {"coordinates": np.zeros((1, 17, 2))})


def test_the_input_width_must_be_fixed() -> None:
    spec = PoseSpec(
        InputSpec("input", None, None, Letterbox(long_side=256)),
        DecoderSpec("regression", {"coordinates": "out"}),
        COCO_17,
    )
    with pytest.raises(SpecError, match="width"):
        build_decoder(spec)
