"""Decoders inside the graph find in any raw outputs what numpy finds."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carrier import FOUR, MAPS, VECTORS, assert_same, carrier, fill, outputs_of, people
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepose.graph.builder import GraphBuilder
from edgepose.graph.embed import embed
from edgepose.keypoints import KeypointSet
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec

KINDS = ("noise", "levels", "plateau", "negative", "zero", "constant", "nan", "inf", "-inf", "mixed", "huge", "tiny")


def raw(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Rows [..., L] of one kind, with ties, plateaus and what is not a number."""
    rows = rng.standard_normal(shape).astype(np.float32)
    if kind in ("levels", "plateau"):
        return (rng.integers(-2, 3 if kind == "levels" else -1, shape) + (kind == "plateau") * 2).astype(np.float32)
    if kind == "negative":
        return -np.abs(rows) - np.float32(0.1)
    if kind in ("zero", "constant"):
        return np.full(shape, 0 if kind == "zero" else rng.choice([-1, 0.5]), np.float32)
    if kind in ("nan", "inf", "-inf", "mixed"):
        rows[rng.random(shape) < 0.05] = np.float32(rng.choice([np.nan, np.inf]) if kind == "mixed" else kind)
    if kind == "huge":
        rows *= np.float32(1e37)
    if kind == "tiny":
        rows *= np.float32(1e-30)
    return rows


def mixture(seed: int, count: int, points: int, shape: tuple[int, ...]) -> np.ndarray:
    """[count, points, *shape], another kind for each row."""
    rng = np.random.default_rng(seed)
    rows = [raw(str(rng.choice(KINDS)), shape, rng) for _ in range(count * points)]
    return np.stack(rows).reshape(count, points, *shape)


@functools.cache
def pair(kind: str, size: tuple[int, int] | None, shapes: str, **options: Any) -> tuple[PoseModel, PoseModel]:
    """A carrier and its embedded form; ``shapes`` as in ``heatmaps=4,16,12``."""
    parsed = {}
    for part in shapes.split(";"):
        role, _, lengths = part.partition("=")
        parsed[role] = tuple(map(int, lengths.split(",")))
    fit = Letterbox(long_side=64) if kind.startswith("movenet") else Crop(convention=options.pop("convention", "msra"))
    if "sigma" in options:
        options["sigma"] = list(options["sigma"])
    model = carrier(kind, parsed, size=size, fit=fit, keypoints=FOUR, **options)
    return model, embed(model, post=True)


def check(models: tuple[PoseModel, PoseModel], arrays: list[np.ndarray], size: tuple[int, int]) -> None:
    """Both models find the same people in these raw outputs."""
    tensor = fill(arrays, size)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same(people(models[0], tensor), people(models[1], tensor))


seeds = st.integers(0, 2**32 - 1)


class TestHeatmaps:
    @settings(max_examples=60, deadline=None)
    @given(
        seeds,
        st.sampled_from(["msra", "mmpose", "mindpose"]),
        st.sampled_from(["quarter", "none"]),
        st.sampled_from(["stride", "corners"]),
        st.sampled_from([(16, 12), (5, 7), (4, 4), (3, 3), (1, 6), (6, 1), (1, 1)]),
        st.integers(1, 3),
    )
    def test_any_maps(self, seed: int, rule: str, refine: str, align: str, shape: tuple[int, int], count: int) -> None:
        models = pair(
            "heatmap", (64, 48), f"heatmaps=4,{shape[0]},{shape[1]}", quarter_rule=rule, refine=refine, align=align
        )
        check(models, [mixture(seed, count, 4, shape)], (64, 48))

    @pytest.mark.parametrize("rule", ["msra", "mmpose", "mindpose"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind(self, rule: str, kind: str) -> None:
        rng = np.random.default_rng(1)
        models = pair("heatmap", (64, 48), "heatmaps=4,16,12", quarter_rule=rule)
        check(models, [raw(kind, (3, 4, 16, 12), rng)], (64, 48))

    @pytest.mark.parametrize("rule", ["msra", "mmpose", "mindpose"])
    def test_every_cell_may_be_the_maximum(self, rule: str) -> None:
        """With slopes, so that the step applies wherever the rule allows it."""
        rng = np.random.default_rng(2)
        maps = rng.random((8 * 6 // 4, 4, 8, 6), np.float32) * np.float32(0.5)
        maps.reshape(48, 48)[np.arange(48), np.arange(48)] = 1
        models = pair("heatmap", (64, 48), "heatmaps=4,8,6", quarter_rule=rule)
        check(models, [maps], (64, 48))
        found = np.concatenate([p.keypoints for p in people(models[1], fill([maps], (64, 48)))])
        assert len(np.unique(found[..., :2].reshape(-1, 2), axis=0)) == 48

    def test_udp_crop_stretches_to_the_corners(self) -> None:
        models = pair("heatmap", (64, 48), "heatmaps=4,16,12", convention="udp")
        check(models, [mixture(3, 3, 4, (16, 12))], (64, 48))

    def test_the_same_places_first_of_equal_maxima(self) -> None:
        maps = np.zeros((1, 4, 16, 12), np.float32)
        maps[..., 3, 7] = maps[..., 5, 2] = maps[..., 3, 9] = 1
        models = pair("heatmap", (64, 48), "heatmaps=4,16,12", refine="none")
        assert people(models[1], fill([maps], (64, 48)))[0].keypoints[0, 0].tolist() == [28, 12, 1]

    def test_maps_of_unknown_size(self) -> None:
        """The size of such maps is read while the graph runs."""
        builder = GraphBuilder("pool", 17)
        x = builder.input("input", ("batch", 3, "height", "width"))
        pooled = builder.op("AveragePool", x, kernel_shape=[1, 1], strides=[4, 4])
        builder.output(pooled, "maps", ("batch", 3, "h", "w"))
        three = KeypointSet(name="three", names=("a", "b", "c"))
        entry = InputSpec("input", None, None, Letterbox(long_side=64), color="BGR")
        model = PoseModel(builder.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "maps"}), three))
        embedded = embed(model, post=True)
        for size in ((64, 96), (96, 32)):
            tensor = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
            assert_same(people(model, tensor), people(embedded, tensor))

    @pytest.mark.parametrize("refine", ["quarter", "none"])
    @pytest.mark.parametrize("rule", ["msra", "mmpose", "mindpose"])
    def test_reference_maps(self, reference: Path, rule: str, refine: str) -> None:
        folder = reference / "fixtures"
        model = carrier("heatmap", MAPS, quarter_rule=rule, refine=refine)
        embedded = embed(model, post=True)
        topdown = np.load(folder / "simplepose_lwop/topdown_decode.npz")
        codec = np.load(folder / "simplepose_lwop/codec_decode.npz")
        gluon = np.load(folder / "gluoncv_aimet/gluoncv_prepost.npz")
        for maps in (topdown["heatmaps"], topdown["heatmaps_flip_raw"], topdown["flip_merged"], codec["heatmaps_pos"]):
            assert_same(people(model, fill([maps])), people(embedded, fill([maps])))
        maps = gluon["heatmaps"]
        assert_same(people(model, fill([maps])), people(embedded, fill([maps])))

    def test_reference_keypoints(self, reference: Path) -> None:
        """The embedded decoder held to the reference itself."""
        fixture = np.load(reference / "fixtures/simplepose_lwop/topdown_decode.npz")
        embedded = embed(carrier("heatmap", MAPS, refine="none"), post=True)
        found = outputs_of(embedded, fill([fixture["heatmaps"]]))["keypoints"]
        np.testing.assert_array_equal(found[..., :2], fixture["max_preds"] * 4)
        np.testing.assert_array_equal(found[..., 2], np.maximum(fixture["max_vals"][..., 0], 0))
        codec = np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")
        embedded = embed(carrier("heatmap", MAPS, quarter_rule="mmpose"), post=True)
        found = outputs_of(embedded, fill([fixture["heatmaps"][:10]]))["keypoints"]
        np.testing.assert_allclose(found[..., :2], codec["mm_msra_input_xy"], atol=1e-3, rtol=0)

    def test_alphapose_maps(self, reference: Path) -> None:
        maps = np.load(reference / "fixtures/gluoncv_aimet/gluoncv_prepost.npz")["alpha_heatmaps"]
        shape = {"heatmaps": maps.shape[1:]}
        model = carrier("heatmap", shape, size=(320, 256), fit=Crop(convention="alphapose"))
        tensor = fill([maps], (320, 256))
        assert_same(people(model, tensor), people(embed(model, post=True), tensor))


class TestSimCC:
    @settings(max_examples=40, deadline=None)
    @given(seeds, st.sampled_from(["min", "mean", "visibility"]), st.integers(1, 3), st.sampled_from([1, 2, 40]))
    def test_any_vectors(self, seed: int, score: str, count: int, length: int) -> None:
        models = pair(
            "simcc", (64, 48), f"simcc_x=4,{length};simcc_y=4,50", score=score, sigma=(4.9, 5.66), split_ratio=2.5
        )
        check(models, [mixture(seed, count, 4, (length,)), mixture(seed + 1, count, 4, (50,))], (64, 48))

    @pytest.mark.parametrize("kind", KINDS)
    def test_each_kind(self, kind: str) -> None:
        rng = np.random.default_rng(1)
        for score in ("min", "mean", "visibility"):
            models = pair("simcc", (64, 48), "simcc_x=4,96;simcc_y=4,128", score=score, sigma=(4.9, 5.66))
            good, bad = raw("noise", (3, 4, 96), rng), raw(kind, (3, 4, 128), rng)
            check(models, [good, bad], (64, 48))

    @pytest.mark.parametrize("score", ["min", "mean", "visibility"])
    def test_reference_vectors(self, reference: Path, score: str) -> None:
        codec = np.load(reference / "fixtures/simplepose_lwop/codec_decode.npz")
        model = carrier("simcc", VECTORS, score=score, sigma=[4.9, 5.66])
        embedded = embed(model, post=True)
        for x, y in (("simcc_x", "simcc_y"), ("simcc_pos_x", "simcc_pos_y")):
            tensor = fill([codec[x], codec[y]])
            assert_same(people(model, tensor), people(embedded, tensor))
        found = outputs_of(embedded, fill([codec["simcc_x"], codec["simcc_y"]]))["keypoints"]
        np.testing.assert_allclose(found[..., :2], codec["simcc_xy_split2"], atol=1e-3, rtol=0)


class TestCoordinates:
    @settings(max_examples=40, deadline=None)
    @given(seeds, st.sampled_from([2, 4]), st.integers(1, 3))
    def test_regression(self, seed: int, channels: int, count: int) -> None:
        rows = mixture(seed, count, 4, (channels,))
        rows[..., :2] /= 64  # the largest would leave float32 when they become pixels
        check(pair("regression", (64, 48), f"coordinates=4,{channels}"), [rows], (64, 48))

    @settings(max_examples=40, deadline=None)
    @given(seeds, st.integers(1, 3), st.sampled_from([(64, 96), (32, 32), None]))
    def test_movenet_single(self, seed: int, count: int, size: tuple[int, int] | None) -> None:
        """Its raw output is called ``keypoints`` as the new one is."""
        models = pair("movenet-single", size, "keypoints=1,4,3")
        rows = mixture(seed, count, 4, (3,))
        rows[np.isfinite(rows)] = np.clip(rows[np.isfinite(rows)], -10, 10)
        check(models, [rows[:, None]], size or (96, 64))
        assert models[1].spec.decoder.outputs == {"keypoints": "keypoints", "scores": "scores"}

    @settings(max_examples=40, deadline=None)
    @given(
        seeds,
        st.integers(1, 3),
        st.sampled_from([(64, 96), None]),
        st.sampled_from([0.1, 0.5]),
        st.sampled_from([1, 5]),
    )
    def test_movenet_multi(
        self, seed: int, count: int, size: tuple[int, int] | None, threshold: float, places: int
    ) -> None:
        models = pair("movenet-multi", size, f"poses={places},17", score_threshold=threshold, iou_threshold=0.4321)
        rng = np.random.default_rng(seed)
        rows = rng.random((count, places, 17), np.float32)
        rows[..., -1] = rng.integers(0, 11, (count, places)) / 10  # ties, and scores at the threshold
        # Corners y1, x1, y2, x2 from few levels: boxes overlap in chains, are the same, have no area or are turned.
        rows[..., -5:-1] = (rng.integers(0, 4, (count, places, 4)) + np.array([0, 0, 3, 3])) / 7
        rows[rng.random(rows.shape) < 0.01] = np.nan
        rows[rng.random(rows.shape) < 0.01] = np.inf
        check(models, [rows], size or (96, 64))

    def test_equal_people(self) -> None:
        """Of overlapping boxes with equal scores the first is kept; a dropped one drops no other."""
        models = pair("movenet-multi", (64, 96), "poses=5,17", iou_threshold=0.4321)
        rows = np.zeros((2, 5, 17), np.float32)
        rows[0, :, -5:] = (0, 0, 0.5, 0.5, 0.7)
        rows[1, :, -5:] = [(0, 0.1 * i, 0.5, 0.1 * i + 0.3, 0.9 - 0.1 * i) for i in range(5)]
        check(models, [rows], (64, 96))
        first, second = outputs_of(models[1], fill([rows], (64, 96)))["scores"]
        assert first.tolist() == [pytest.approx(0.7), 0, 0, 0, 0]
        assert second.tolist() == [pytest.approx(0.9), 0, pytest.approx(0.7), 0, pytest.approx(0.5)]

    def test_places_without_people(self) -> None:
        models = pair("movenet-multi", (64, 96), "poses=5,17")
        rows = np.full((2, 5, 17), 0.5, np.float32)
        rows[0, :, -1] = [0.05, 0.3, 0.0, 0.9, 0.3]
        rows[1, :, -1] = 0.01
        raw_scores = outputs_of(models[1], fill([rows], (64, 96)))["scores"]
        np.testing.assert_allclose(raw_scores, [[0, 0.3, 0, 0.9, 0.3], [0] * 5])
        first, second = people(models[1], fill([rows], (64, 96)))
        np.testing.assert_allclose(first.scores, [0.9, 0.3, 0.3])
        assert len(second.scores) == 0
