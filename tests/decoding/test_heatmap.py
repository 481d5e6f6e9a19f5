"""Heatmap decoding against reference outputs, and what must hold for any map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding import build_decoder
from edgepose.decoding.dark import gaussian_blur, peak_factor
from edgepose.decoding.heatmap import HeatmapDecoder
from edgepose.decoding.scoring import rescore
from edgepose.errors import DecodeError, SpecError
from edgepose.fitting.base import apply
from edgepose.fitting.geometry import crop_geometry
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

SIZE = (256, 192)
PICTURE = (480, 640)


def decoder(convention: str = "msra", keypoints: KeypointSet | None = COCO_17, **options: Any) -> HeatmapDecoder:
    fit = Crop(convention=convention)  # type: ignore[arg-type]
    spec = PoseSpec(InputSpec("input", *SIZE, fit), DecoderSpec("heatmap", {"heatmaps": "out"}, options), keypoints)
    built = build_decoder(spec)
    assert isinstance(built, HeatmapDecoder)
    return built


def decode(maps: np.ndarray, size: tuple[int, int] = SIZE, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints [N, K, 3] and scores [N]."""
    found = decoder(**options).decode({"heatmaps": maps}, size)
    return np.concatenate([f.keypoints for f in found]), np.concatenate([f.scores for f in found])


def gaussians(x: np.ndarray, y: np.ndarray, size: tuple[int, int] = (64, 48), sigma: float = 2.0) -> np.ndarray:
    """Maps [..., h, w] of Gaussians centred at cells (x, y)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    squared = (columns - x[..., None, None]) ** 2 + (rows - y[..., None, None]) ** 2
    return np.exp(-squared / (2 * sigma**2)).astype(np.float32)


@pytest.fixture(scope="module")
def topdown(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/topdown_decode.npz")


@pytest.fixture(scope="module")
def codec(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")


@pytest.fixture(scope="module")
def gluon(reference: Path) -> Any:
    return np.load(reference / "fixtures/gluoncv_aimet/gluoncv_prepost.npz")


def to_image(
    points: np.ndarray,
    boxes: np.ndarray,
    convention: str = "msra",
    size: tuple[int, int] = SIZE,
    picture: tuple[int, int] = PICTURE,
) -> np.ndarray:
    """Pixels of the input [B, K, 2] -> pixels of the picture."""
    maps = crop_geometry(boxes, size, Crop(convention=convention), picture).to_image  # type: ignore[arg-type]
    return np.stack([apply(m, p) for m, p in zip(maps, points, strict=True)])


def corners(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


class TestSimpleBaseline:
    def test_maxima(self, topdown: Any) -> None:
        keypoints, _ = decode(topdown["heatmaps"], refine="none")
        np.testing.assert_array_equal(keypoints[..., :2], topdown["max_preds"] * 4)
        # A keypoint without a positive maximum has no score here; the original reports the maximum itself.
        np.testing.assert_array_equal(keypoints[..., 2], np.maximum(topdown["max_vals"][..., 0], 0))

    @pytest.mark.parametrize(("refine", "wanted"), [("quarter", "final_preds"), ("none", "final_preds_nopost")])
    def test_keypoints_in_the_picture(self, topdown: Any, refine: str, wanted: str) -> None:
        keypoints, _ = decode(topdown["heatmaps"], refine=refine)
        points = to_image(keypoints[..., :2], corners(topdown["boxes_xywh"]))
        np.testing.assert_allclose(points, topdown[wanted], atol=1e-3, rtol=0)

    @pytest.mark.parametrize(("shift", "wanted"), [(False, "flip_back"), (True, "flip_back_shifted")])
    def test_mirrored_maps_come_back(self, topdown: Any, shift: bool, wanted: str) -> None:
        raw = topdown["heatmaps_flip_raw"]
        merged = decoder(flip_shift=shift).merge_flip({"heatmaps": np.zeros_like(raw)}, {"heatmaps": raw})
        np.testing.assert_array_equal(merged["heatmaps"] * 2, topdown[wanted])

    def test_flip_merge(self, topdown: Any) -> None:
        raw = topdown["heatmaps_flip_raw"]
        merged = decoder().merge_flip({"heatmaps": topdown["heatmaps"][: len(raw)]}, {"heatmaps": raw})
        np.testing.assert_array_equal(merged["heatmaps"], topdown["flip_merged"])
        keypoints, _ = decode(merged["heatmaps"])
        points = to_image(keypoints[..., :2], corners(topdown["boxes_xywh"][: len(raw)]))
        np.testing.assert_allclose(points, topdown["flip_merged_preds"], atol=1e-3, rtol=0)
        np.testing.assert_array_equal(keypoints[..., 2], np.maximum(topdown["flip_merged_vals"][..., 0], 0))

    def test_rescoring(self, topdown: Any) -> None:
        scores = rescore(topdown["oks_kpts"][..., 2], topdown["oks_boxscore"])
        np.testing.assert_allclose(scores, topdown["rescored"], rtol=1e-6)

    def test_person_score_is_the_rescoring_mean(self, topdown: Any) -> None:
        keypoints, scores = decode(topdown["heatmaps"])
        np.testing.assert_allclose(scores, rescore(keypoints[..., 2], np.ones(len(scores))), rtol=1e-6)


class TestMmpose:
    def test_maxima(self, topdown: Any, codec: Any) -> None:
        keypoints, _ = decode(topdown["heatmaps"][:10], refine="none", quarter_rule="mmpose")
        np.testing.assert_array_equal(keypoints[..., :2], codec["mm_locs"] * 4)
        np.testing.assert_array_equal(keypoints[..., 2], np.maximum(codec["mm_vals"], 0))

    def test_quarter(self, topdown: Any, codec: Any) -> None:
        keypoints, _ = decode(topdown["heatmaps"][:10], quarter_rule="mmpose")
        np.testing.assert_allclose(keypoints[..., :2] / 4, codec["mm_refined_msra_hm"], atol=1e-3, rtol=0)
        np.testing.assert_allclose(keypoints[..., :2], codec["mm_msra_input_xy"], atol=1e-3, rtol=0)

    def test_picture(self, codec: Any, topdown: Any) -> None:
        center, scale = codec["mm_center"][:10], codec["mm_scale"][:10]
        boxes = np.concatenate([center - scale / 2.5, center + scale / 2.5], axis=1)
        keypoints, _ = decode(topdown["heatmaps"][:10], quarter_rule="mmpose")
        np.testing.assert_allclose(to_image(keypoints[..., :2], boxes), codec["mm_image_xy"], atol=1e-3, rtol=0)

    def test_blur(self, codec: Any) -> None:
        maps = codec["blur_example_in"]
        blurred = gaussian_blur(maps, 11)
        blurred = blurred * peak_factor(blurred, maps.max(axis=(1, 2)))[:, None, None]
        np.testing.assert_allclose(blurred, codec["blur_example_out"], atol=1e-6, rtol=0)

    def test_dark(self, codec: Any) -> None:
        keypoints, _ = decode(codec["heatmaps_pos"], refine="dark", quarter_rule="mmpose")
        np.testing.assert_allclose(keypoints[..., :2] / 4, codec["mm_refined_dark_hm"], atol=1e-2, rtol=0)

    def test_udp(self, codec: Any) -> None:
        keypoints, _ = decode(codec["heatmaps_pos"], refine="udp-dark", convention="udp", quarter_rule="mmpose")
        cells = keypoints[..., :2] / np.array([191, 255]) * np.array([47, 63])
        np.testing.assert_allclose(cells, codec["mm_refined_darkudp_hm"], atol=1e-2, rtol=0)
        # mmpose stretches the last cell to the width of the input, here it is the last pixel; each way back to the
        # picture takes its own view, so the keypoints in the picture are the same.
        wider = keypoints[..., :2] * np.array([192 / 191, 256 / 255])
        np.testing.assert_allclose(wider, codec["mm_udp_input_xy"], atol=1e-2, rtol=0)
        center, scale = codec["mm_center"][:10], codec["mm_scale"][:10]
        boxes = np.concatenate([center - scale / 2.5, center + scale / 2.5], axis=1)
        wanted = codec["mm_udp_input_xy"] / [192, 256] * scale[:, None] + (center - scale / 2)[:, None]
        np.testing.assert_allclose(to_image(keypoints[..., :2], boxes, "udp"), wanted, atol=1e-2, rtol=0)


class TestGluonCV:
    def test_maxima(self, gluon: Any) -> None:
        keypoints, _ = decode(gluon["heatmaps"], refine="none")
        np.testing.assert_array_equal(keypoints[..., :2], gluon["max_pred"] * 4)
        np.testing.assert_array_equal(keypoints[..., 2:], np.maximum(gluon["maxvals"], 0))

    def test_picture(self, gluon: Any) -> None:
        keypoints, _ = decode(gluon["heatmaps"])
        points = to_image(keypoints[..., :2], gluon["boxes_xyxy_clipped"], picture=(240, 320))
        np.testing.assert_allclose(points, gluon["final_preds"], atol=1e-3, rtol=0)

    @pytest.mark.parametrize(("shift", "wanted"), [(False, "flip_heatmap"), (True, "flip_heatmap_shift")])
    def test_mirrored_maps_come_back(self, gluon: Any, shift: bool, wanted: str) -> None:
        raw = gluon["heatmaps"]
        merged = decoder(flip_shift=shift).merge_flip({"heatmaps": np.zeros_like(raw)}, {"heatmaps": raw})
        np.testing.assert_array_equal(merged["heatmaps"] * 2, gluon[wanted])

    def test_alphapose(self, gluon: Any) -> None:
        size = (320, 256)
        keypoints, _ = decode(gluon["alpha_heatmaps"], size, convention="alphapose")
        points = to_image(keypoints[..., :2], gluon["boxes_xyxy_clipped"], "alphapose", size, (240, 320))
        np.testing.assert_allclose(points, gluon["alpha_coords"], atol=1e-3, rtol=0)
        np.testing.assert_array_equal(keypoints[..., 2:], np.maximum(gluon["alpha_maxvals"], 0))

    def test_demo_reads_cells_over_the_box(self, gluon: Any) -> None:
        keypoints, _ = decode(gluon["heatmaps"], refine="none")
        boxes = gluon["upscaled_boxes"]
        points = keypoints[..., :2] / [192, 256] * (boxes[:, 2:] - boxes[:, :2])[:, None] + boxes[:, None, :2]
        np.testing.assert_allclose(points, gluon["demo_coords"], atol=1e-3, rtol=0)


class TestRefinement:
    def test_dark_finds_the_centre_of_a_gaussian(self) -> None:
        rng = np.random.default_rng(5)
        x, y = rng.uniform(10, 37, (4, 17)), rng.uniform(10, 53, (4, 17))
        for refine in ("dark", "udp-dark"):
            keypoints, _ = decode(gaussians(x, y), refine=refine)
            np.testing.assert_allclose(keypoints[..., :2] / 4, np.stack([x, y], axis=-1), atol=0.02)

    @pytest.mark.parametrize("level", [3e-3, 0.02, 1.0, 51.0])
    @pytest.mark.parametrize("kernel", [1, 5, 11, 61])
    def test_udp_equals_a_loop_over_the_joints(self, level: float, kernel: int) -> None:
        """Also where clipping needs the maximum of the whole blurred map, and at the border."""
        rng = np.random.default_rng(2)
        x, y = rng.uniform(0, 47, 17), rng.uniform(0, 63, 17)
        x[:4], y[:4] = (0, 47, 0, 47), (0, 0, 63, 63)
        maps = np.float32(level) * (gaussians(x, y) + rng.random((17, 64, 48), np.float32) * np.float32(0.02))
        maps[14:] -= np.float32(0.05 * level)
        keypoints, _ = decode(maps[None], refine="udp-dark", blur_kernel=kernel)
        # Without curvature the step is a division of rounding by rounding.
        wanted, steep = zip(*(naive_udp(m, kernel) for m in maps), strict=True)
        steep = np.array(steep)
        assert steep.sum() >= 12
        np.testing.assert_allclose(keypoints[0, steep, :2] / 4, np.array(wanted)[steep], atol=1e-2, rtol=0)

    def test_combined_target(self) -> None:
        """Peaks of the class map moved by the offsets there, given in units of the radius."""
        rng = np.random.default_rng(3)
        x, y = rng.uniform(12, 35, (2, 17)), rng.uniform(12, 51, (2, 17))
        rows, columns = np.mgrid[:64, :48]
        radius = 0.0546875 * 64
        across, down = columns - x[..., None, None], rows - y[..., None, None]
        classes = (across**2 + down**2 <= radius**2).astype(np.float32)
        maps = np.stack([classes, -across / radius, -down / radius], axis=2).reshape(2, 51, 64, 48)
        keypoints, _ = decode(maps.astype(np.float32), target="combined", convention="udp")
        wanted = np.stack([x, y], axis=-1) * np.array([191 / 47, 255 / 63])
        np.testing.assert_allclose(keypoints[..., :2], wanted, atol=1e-2)

    def test_corners_put_the_last_cell_on_the_last_pixel(self) -> None:
        maps = np.zeros((1, 17, 64, 48), np.float32)
        maps[..., 63, 47] = 1
        for options in ({"align": "corners"}, {"convention": "udp"}):
            keypoints, _ = decode(maps, refine="none", **options)
            np.testing.assert_allclose(keypoints[0, :, :2], np.tile([191, 255], (17, 1)))
        keypoints, _ = decode(maps, refine="none", convention="udp", align="stride")
        np.testing.assert_allclose(keypoints[0, :, :2], np.tile([188, 252], (17, 1)))

    @pytest.mark.parametrize(
        ("rule", "cells", "moved"),
        [
            # (column, row) of the maximum with its higher neighbours to the right and below
            ("msra", (1, 20), (0, 0)),
            ("msra", (2, 20), (1, 1)),
            ("msra", (46, 20), (1, 1)),
            ("msra", (20, 1), (0, 0)),
            ("mmpose", (1, 20), (0, 1)),
            ("mmpose", (20, 1), (1, 0)),
            ("mmpose", (0, 20), (0, 0)),
            ("mindpose", (1, 20), (1, 1)),
            ("mindpose", (0, 20), (0, 1)),
            ("mindpose", (46, 62), (1, 1)),
            ("mindpose", (47, 63), (0, 0)),
        ],
    )
    def test_quarter_rules(self, rule: str, cells: tuple[int, int], moved: tuple[int, int]) -> None:
        rows, columns = np.mgrid[:64, :48]
        maps = (0.001 * (rows + columns)).astype(np.float32)
        maps[cells[1], cells[0]] = 1
        keypoints, _ = decode(np.tile(maps, (1, 17, 1, 1)), quarter_rule=rule)
        np.testing.assert_allclose(keypoints[0, 0, :2] / 4, np.add(cells, np.multiply(moved, 0.25)))


def naive_udp(heatmap: np.ndarray, kernel: int) -> tuple[np.ndarray, bool]:
    """One joint, as UDP is written down; whether its curvature is more than rounding."""
    half = kernel // 2
    height, width = heatmap.shape
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    blurred = cv2.GaussianBlur(np.pad(heatmap, half), (kernel, kernel), 0)[half : half + height, half : half + width]
    logs = np.pad(np.log(np.clip(blurred * (heatmap.max() / blurred.max()), 1e-3, 50)), 1, mode="edge")
    logs = logs.astype(np.float64)
    c, e, w, s, n = (logs[y + 1 + j, x + 1 + i] for i, j in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)))
    mixed = (logs[y + 2, x + 2] - e - s + 2 * c - w - n + logs[y, x]) / 2
    hessian = np.array([[e - 2 * c + w, mixed], [mixed, s - 2 * c + n]])
    step = np.linalg.inv(hessian + np.finfo(np.float32).eps * np.eye(2)) @ np.array([(e - w) / 2, (s - n) / 2])
    return np.array([x, y]) - step, abs(np.linalg.det(hessian)) > 1e-6


class TestFlip:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 2**32 - 1))
    def test_symmetric_model_is_unchanged(self, seed: int) -> None:
        """A network that mirrors exactly gives for the mirrored input its mirrored maps."""
        rng = np.random.default_rng(seed)
        maps = rng.random((2, 17, 16, 12), np.float32)
        mirrored = maps[:, list(COCO_17.flip_indices), :, ::-1]
        merged = decoder(flip_shift=False).merge_flip({"heatmaps": maps}, {"heatmaps": mirrored})
        np.testing.assert_array_equal(merged["heatmaps"], maps)

    def test_symmetric_model_with_a_stride_is_unchanged_after_the_shift(self) -> None:
        """Pixel x becomes W - 1 - x, so what was at pixel 4 i comes back at 4 (i - 3/4), nearly a cell early."""
        maps = gaussians(np.full((1, 17), 20.0), np.full((1, 17), 30.0))
        mirrored = np.zeros_like(maps)
        mirrored[..., 1:] = maps[:, list(COCO_17.flip_indices), :, ::-1][..., :-1]
        merged = decoder().merge_flip({"heatmaps": maps}, {"heatmaps": mirrored})
        np.testing.assert_allclose(merged["heatmaps"], maps, atol=1e-9)

    def test_shift_follows_the_alignment(self) -> None:
        maps = np.random.default_rng(0).random((1, 17, 8, 6), np.float32)
        plain = {"heatmaps": np.zeros_like(maps)}
        for options, shifted in (({}, True), ({"convention": "udp"}, False), ({"align": "corners"}, False)):
            merged = decoder(**options).merge_flip(plain, {"heatmaps": maps})["heatmaps"]  # type: ignore[arg-type]
            same = np.array_equal(merged[..., 0], merged[..., 1])
            assert same is shifted

    def test_combined_offsets_change_sign(self) -> None:
        maps = np.random.default_rng(1).random((2, 51, 16, 12), np.float32)
        mirrored = maps.reshape(2, 17, 3, 16, 12)[:, list(COCO_17.flip_indices), :, :, ::-1].copy()
        mirrored[:, :, 1] *= -1
        merged = decoder("udp", target="combined").merge_flip(
            {"heatmaps": maps}, {"heatmaps": mirrored.reshape(maps.shape)}
        )
        np.testing.assert_array_equal(merged["heatmaps"], maps)

    def test_shapes_must_agree(self) -> None:
        with pytest.raises(DecodeError, match="mirrored"):
            decoder().merge_flip({"heatmaps": np.zeros((1, 17, 8, 6))}, {"heatmaps": np.zeros((1, 17, 8, 8))})


class TestAnyMap:
    @settings(max_examples=30, deadline=None)
    @given(
        st.sampled_from(["quarter", "none", "dark", "udp-dark"]),
        st.sampled_from(["msra", "mmpose", "mindpose"]),
        st.integers(-6, 6),
        st.integers(-6, 6),
    )
    def test_moves_with_the_picture(self, refine: str, rule: str, dx: int, dy: int) -> None:
        rng = np.random.default_rng(abs(dx) * 100 + abs(dy))
        x, y = rng.uniform(18, 30, (1, 17)), rng.uniform(18, 44, (1, 17))
        here, _ = decode(gaussians(x, y), refine=refine, quarter_rule=rule)
        there, _ = decode(gaussians(x + dx, y + dy), refine=refine, quarter_rule=rule)
        np.testing.assert_allclose(
            there[..., :2] - here[..., :2], np.broadcast_to([4 * dx, 4 * dy], (1, 17, 2)), atol=1e-3
        )

    @pytest.mark.parametrize("refine", ["quarter", "none", "dark", "udp-dark", "combined"])
    @pytest.mark.parametrize(
        "value",
        [np.nan, np.inf, -np.inf, 0.0, -1.0, 0.5, 1e-38, 3e38],
    )
    def test_maps_that_say_nothing_score_nothing(self, refine: str, value: float) -> None:
        options: dict[str, Any] = {"target": "combined"} if refine == "combined" else {"refine": refine}
        channels = 51 if refine == "combined" else 17
        maps = np.full((2, channels, 16, 12), value, np.float32)
        keypoints, scores = decode(maps, (64, 48), **options)
        assert np.isfinite(keypoints).all()
        assert not keypoints[..., 2].any()
        assert not scores.any()

    @pytest.mark.parametrize("refine", ["quarter", "none", "dark", "udp-dark"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_one_bad_map_leaves_the_others_alone(self, refine: str, value: float) -> None:
        maps = np.random.default_rng(7).random((3, 17, 16, 12), np.float32)
        clean, _ = decode(maps, (64, 48), refine=refine)
        spoilt = maps.copy()
        spoilt[1, 4, 3, 2] = value
        keypoints, scores = decode(spoilt, (64, 48), refine=refine)
        assert keypoints[1, 4, 2] == 0
        assert np.isfinite(keypoints).all()
        assert np.isfinite(scores).all()
        rest = np.ones((3, 17), bool)
        rest[1, 4] = False
        np.testing.assert_array_equal(keypoints[rest], clean[rest])

    @pytest.mark.parametrize("refine", ["quarter", "none", "dark", "udp-dark"])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (3, 3), (4, 4)])
    def test_tiny_maps(self, refine: str, shape: tuple[int, int]) -> None:
        maps = np.random.default_rng(1).random((2, 17, *shape), np.float32)
        keypoints, _ = decode(maps, refine=refine)
        assert np.isfinite(keypoints).all()

    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def test_scores_are_maxima_and_quarter_steps_stay_near_them(self, data: st.DataObject) -> None:
        shape = (2, 17, data.draw(st.integers(2, 20)), data.draw(st.integers(2, 20)))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        # Few levels, so that there are ties and plateaus.
        maps = (rng.integers(-3, 4, shape) / 3).astype(np.float32)
        size = (shape[2] * 4, shape[3] * 4)
        coarse, _ = decode(maps, size, refine="none")
        fine, _ = decode(maps, size, refine="quarter")
        np.testing.assert_array_equal(coarse[..., 2], np.maximum(maps.max(axis=(2, 3)), 0))
        x, y = (coarse[..., :2] / 4).astype(int)[..., 0], (coarse[..., :2] / 4).astype(int)[..., 1]
        at = np.take_along_axis(maps.reshape(2, 17, -1), (y * shape[3] + x)[..., None], axis=2)[..., 0]
        seen = coarse[..., 2] > 0
        np.testing.assert_array_equal(at[seen], coarse[..., 2][seen])
        assert np.abs(fine[..., :2] - coarse[..., :2]).max() <= 1

    def test_no_crops_no_people(self) -> None:
        assert decoder().decode({"heatmaps": np.zeros((0, 17, 64, 48), np.float32)}, SIZE) == []

    def test_half_precision_outputs(self) -> None:
        maps = np.random.default_rng(0).random((1, 17, 8, 6)).astype(np.float16)
        keypoints, _ = decode(maps)
        assert keypoints.dtype == np.float32


class TestRefusals:
    @pytest.mark.parametrize("shape", [(1, 16, 8, 6), (17, 8, 6), (1, 17, 0, 6), (1, 51, 8, 6)])
    def test_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(DecodeError, match="heatmaps"):
            decode(np.zeros(shape, np.float32))

    def test_missing_output(self) -> None:
        with pytest.raises(DecodeError, match="heatmaps"):
            decoder().decode({"maps": np.zeros((1, 17, 8, 6), np.float32)}, SIZE)

    @pytest.mark.parametrize(
        "options",
        [
            {"refine": "best"},
            {"blur_kernel": 4},
            {"blur_kernel": 100001},
            {"blur_kernel": -1},
            {"target": "combined", "refine": "dark"},
            {"quarter": 1},
        ],
    )
    def test_options(self, options: dict[str, Any]) -> None:
        with pytest.raises(SpecError):
            decoder(**options)

    def test_no_keypoint_set(self) -> None:
        with pytest.raises(SpecError, match="keypoint set"):
            decoder(keypoints=None)
