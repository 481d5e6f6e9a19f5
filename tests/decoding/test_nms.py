"""Suppression against reference keep-lists, and what must hold for any people and boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.decoding.nms import box_nms, nearby_nms, oks_nms, soft_oks_nms
from edgepose.errors import InputError
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.oks import mean_areas, pairwise_oks


@pytest.fixture(scope="module")
def topdown(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/topdown_decode.npz")


@pytest.fixture(scope="module")
def codec(reference: Path) -> Any:
    return np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")


class TestReference:
    def test_oks(self, topdown: Any) -> None:
        poses, areas = topdown["oks_kpts"], topdown["oks_area"]
        similarity = pairwise_oks(poses, poses, mean_areas(areas, areas), COCO_17)
        np.testing.assert_allclose(similarity, topdown["oks_matrix"], atol=1e-9, rtol=0)

    def test_oks_of_visible_keypoints(self, topdown: Any) -> None:
        """The original means both to be visible, but its ``and`` of two lists leaves the second mask alone."""
        poses, areas = topdown["oks_kpts"], topdown["oks_area"]
        similarity = pairwise_oks(poses[:1], poses, mean_areas(areas[:1], areas), COCO_17, poses[..., 2] > 0.2)
        np.testing.assert_allclose(similarity[0], topdown["oks_iou_vis02_row0"], atol=1e-9, rtol=0)

    @pytest.mark.parametrize("threshold", [0.9, 0.5, 0.3])
    def test_oks_nms(self, topdown: Any, threshold: float) -> None:
        kept = oks_nms(topdown["oks_kpts"], topdown["rescored"], topdown["oks_area"], COCO_17, threshold)
        np.testing.assert_array_equal(kept, topdown[f"oks_nms_keep_{threshold}"])

    @pytest.mark.parametrize("threshold", [0.9, 0.5])
    def test_soft_oks_nms(self, topdown: Any, threshold: float) -> None:
        kept = soft_oks_nms(topdown["oks_kpts"], topdown["rescored"], topdown["oks_area"], COCO_17, threshold)
        np.testing.assert_array_equal(kept, topdown[f"soft_oks_nms_keep_{threshold}"])

    def test_nearby_nms(self, topdown: Any, codec: Any) -> None:
        kept = nearby_nms(topdown["oks_kpts"], topdown["rescored"], min_keypoints=8, max_people=30)
        np.testing.assert_array_equal(kept, codec["nearby_nms_keep"])

    def test_box_nms(self, codec: Any) -> None:
        boxes = codec["nms_boxes"]
        kept = box_nms(boxes[:, :4], boxes[:, 4], 0.3, inclusive=True)
        np.testing.assert_array_equal(kept, codec["nms_keep_0.3"])


def iou(first: np.ndarray, second: np.ndarray, more: float) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.prod(np.maximum(high - low + more, 0))
    union = sum(np.prod(b[2:] - b[:2] + more) for b in (first, second)) - shared
    return float(shared / union) if union > 0 else 0.0


def crowd(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """People, some of whom lie nearly on one another; their scores and areas."""
    rng = np.random.default_rng(seed)
    poses = rng.uniform(0, 200, (count, 17, 3))
    for i in range(1, count, 2):
        poses[i] = poses[i - 1] + rng.normal(0, rng.uniform(0.1, 8), (17, 3))
    return poses, rng.random(count), rng.uniform(2000, 9000, count)


class TestBoxes:
    @settings(max_examples=80, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.floats(0, 1), st.booleans())
    def test_kept_boxes_are_apart_and_dropped_ones_are_not(
        self, seed: int, count: int, threshold: float, inclusive: bool
    ) -> None:
        rng = np.random.default_rng(seed)
        corners = rng.integers(0, 40, (count, 2)).astype(float)
        boxes = np.concatenate([corners, corners + rng.integers(0, 20, (count, 2))], axis=1)
        scores = rng.integers(0, 5, count) / 5  # with ties
        kept = box_nms(boxes, scores, threshold, inclusive=inclusive)
        more = float(inclusive)
        assert len(set(kept.tolist())) == len(kept)
        assert (np.diff(scores[kept]) <= 0).all()
        for n, i in enumerate(kept):
            assert all(iou(boxes[i], boxes[j], more) <= threshold + 1e-9 for j in kept[:n])
        for i in set(range(count)) - set(kept.tolist()):
            better = [j for j in kept if scores[j] >= scores[i]]
            assert any(iou(boxes[i], boxes[j], more) > threshold - 1e-9 for j in better)
        np.testing.assert_array_equal(
            box_nms(boxes[kept], scores[kept], threshold, inclusive=inclusive), np.arange(len(kept))
        )

    def test_width_convention_decides(self) -> None:
        boxes, scores = np.array([[0, 0, 1, 1], [1, 0, 2, 1.0]]), np.array([0.9, 0.8])
        assert box_nms(boxes, scores, 0.3).tolist() == [0, 1]
        assert box_nms(boxes, scores, 0.3, inclusive=True).tolist() == [0]

    def test_equal_scores_keep_their_order(self) -> None:
        boxes = np.tile([0.0, 0, 10, 10], (4, 1)) + np.array([0, 100, 0, 200])[:, None]
        assert box_nms(boxes, np.ones(4), 0.5).tolist() == [0, 1, 3]

    def test_bad_rows_are_left_out(self) -> None:
        boxes = np.array([[0, 0, 9, 9], [0, 0, np.nan, 9], [0, 0, 9, 9], [5, 5, 5, 5], [9, 9, 0, 0], [0, 0, 9, np.inf]])
        assert box_nms(boxes, np.array([0.5, 0.9, np.nan, 0.4, 0.3, 0.95]), 0.5).tolist() == [0, 3, 4]


class TestPeople:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.floats(0.05, 0.95))
    def test_kept_people_are_apart_and_dropped_ones_are_not(self, seed: int, count: int, threshold: float) -> None:
        poses, scores, areas = crowd(seed, count)
        similarity = pairwise_oks(poses, poses, mean_areas(areas, areas), COCO_17)
        kept = oks_nms(poses, scores, areas, COCO_17, threshold).tolist()
        assert (np.diff(scores[kept]) <= 0).all()
        for n, i in enumerate(kept):
            assert (similarity[i, kept[:n]] <= threshold).all()
        for i in set(range(count)) - set(kept):
            assert any(similarity[i, j] > threshold for j in kept if scores[j] >= scores[i])

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 30))
    def test_soft_and_nearby_lists(self, seed: int, count: int) -> None:
        poses, scores, areas = crowd(seed, count)
        soft = soft_oks_nms(poses, scores, areas, COCO_17)
        assert sorted(set(soft.tolist())) == sorted(soft.tolist())
        assert len(soft) == min(count, 20)
        near = nearby_nms(poses, scores)
        assert (np.diff(scores[near]) <= 0).all()
        if count:
            assert soft[0] == near[0] == np.argmax(scores)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_bad_rows_are_left_out(self, bad: float) -> None:
        poses, scores, areas = crowd(3, 8)
        poses[2, 5, 0], scores[4], areas[7] = bad, np.nan, bad
        for kept in (oks_nms(poses, scores, areas, COCO_17), soft_oks_nms(poses, scores, areas, COCO_17)):
            assert not {2, 4, 7} & set(kept.tolist())
            assert {0, 6} <= set(kept.tolist())
        assert not {2, 4} & set(nearby_nms(poses, scores).tolist())

    def test_people_of_no_extent(self) -> None:
        poses = np.zeros((3, 17, 3))
        assert oks_nms(poses, np.array([0.1, 0.3, 0.2]), np.zeros(3), COCO_17).tolist() == [1]
        assert len(nearby_nms(poses, np.array([0.1, 0.3, 0.2]))) == 3


class TestOks:
    @settings(max_examples=40, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.floats(-500, 500), st.floats(0.1, 10))
    def test_same_person_moved_and_scaled(self, seed: int, shift: float, scale: float) -> None:
        poses, _, areas = crowd(seed, 4)
        plain = pairwise_oks(poses, poses, mean_areas(areas, areas), COCO_17)
        np.testing.assert_array_equal(np.diag(plain), 1)
        np.testing.assert_allclose(plain, plain.T)
        assert (plain >= 0).all()
        moved = poses * scale + shift
        same = pairwise_oks(moved, moved, mean_areas(areas, areas) * scale**2, COCO_17)
        np.testing.assert_allclose(same, plain, atol=1e-6)

    def test_ground_truth_counts_its_visible_keypoints(self) -> None:
        truth, found = np.zeros((1, 17, 3)), np.zeros((2, 17, 3))
        found[1, 3:, 0] = 1e6
        visible = np.zeros((1, 17), bool)
        visible[0, :3] = True
        np.testing.assert_array_equal(pairwise_oks(found, truth, [100.0], COCO_17, visible), [[1], [1]])
        np.testing.assert_array_equal(pairwise_oks(found, truth, [100.0], COCO_17, np.zeros((1, 17), bool)), 0)
        assert pairwise_oks(found, truth, [100.0], COCO_17)[1, 0] == pytest.approx(3 / 17)

    def test_needs_sigmas_and_keypoints_of_the_set(self) -> None:
        points = np.zeros((1, 2, 2))
        with pytest.raises(InputError, match="sigmas"):
            pairwise_oks(points, points, 1.0, KeypointSet("two", ("a", "b")))
        with pytest.raises(InputError, match="17"):
            pairwise_oks(points, points, 1.0, COCO_17)
