"""Pre- and post-processing inside the graph give what numpy gives."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from carrier import assert_same, carrier, fill, open_session, outputs_of, people
from hypothesis import given, settings
from hypothesis import strategies as st

import edgepose
from edgepose.artifact import resolve
from edgepose.errors import DecodeError, GraphError, SpecError
from edgepose.fitting import to_tensor
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.draft import opset_of
from edgepose.graph.embed import default_embedding, embed, embeddable
from edgepose.graph.passes import newest_opset, optimise, set_batch, set_opset
from edgepose.keypoints import KeypointSet
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, FixedHeight, InputSpec, Letterbox, PoseSpec

ROOT = Path(__file__).parent.parent.parent
MAPS = {"heatmaps": (17, 64, 48)}
VECTORS = {"simcc_x": (17, 384), "simcc_y": (17, 512)}
#: Of the 17 keypoints, a test needs a few.
FOUR = KeypointSet(name="four", names=("a", "b", "c", "d"))

# ---- raw outputs ----

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


# ---- the input side ----


def convolution(spec: InputSpec, opset: int = 17) -> PoseModel:
    """A padded convolution to three maps, in the layout and type that ``spec`` says."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("convolution", opset)
    height, width = spec.height or "height", spec.width or "width"
    nhwc = spec.layout == "NHWC"
    shape = ("batch", height, width, 3) if nhwc else ("batch", 3, height, width)
    x = builder.input(spec.name, shape, spec.dtype)
    if spec.dtype != "float32":
        x = builder.op("Cast", x, to=1)
    if nhwc:
        x = builder.op("Transpose", x, perm=[0, 3, 1, 2])
    weight = builder.constant(rng.standard_normal((3, 3, 3, 3)).astype(np.float32))
    x = builder.op("Conv", x, weight, kernel_shape=[3, 3], strides=[4, 4], pads=[1, 1, 1, 1])
    builder.output(x, "maps", ("batch", 3, "h", "w"))
    three = KeypointSet(name="three", names=("a", "b", "c"))
    return PoseModel(builder.build(), PoseSpec(spec, DecoderSpec("heatmap", {"heatmaps": "maps"}), three))


INPUTS = [
    InputSpec("input", 64, 48, Crop(), mean=(123.675, 116.28, 103.53), std=(63.1, 57.12, 50.1)),
    InputSpec("input", 64, 48, Crop(), color="BGR", mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    InputSpec("input", 64, 48, Crop(), layout="NHWC", mean=(127.5,) * 3, std=(127.5, 120.0, 1.0)),
    InputSpec("input", 64, 48, Crop(), layout="NHWC", color="BGR", mean=(1.0, 2.0, 3.0)),
    InputSpec("input", 64, 48, Crop(), dtype="float16", mean=(0.0, 0.0, 0.0), std=(255.0,) * 3),
    InputSpec("input", None, None, Letterbox(long_side=64)),
    InputSpec("input", None, None, Letterbox(long_side=64), layout="NHWC", color="BGR"),
    InputSpec("image", None, None, Letterbox(long_side=64), layout="NHWC", dtype="int32"),
    InputSpec("image", None, None, Letterbox(long_side=64), layout="NHWC", dtype="uint8"),
    InputSpec("image", 64, 48, Crop(), layout="NCHW", dtype="uint8", color="BGR"),
    InputSpec("pixels", 64, 48, Crop(), layout="NCHW", dtype="int32"),
]


class TestInput:
    @pytest.mark.parametrize("spec", INPUTS, ids=lambda s: f"{s.layout}-{s.dtype}-{s.color}-{s.height}-{s.is_raw}")
    @pytest.mark.parametrize("opset", [11, 17])
    def test_same_bits_as_numpy(self, spec: InputSpec, opset: int) -> None:
        model = convolution(spec, opset)
        embedded = embed(model, pre=True)
        entry = embedded.spec.input
        assert (entry.layout, entry.dtype, entry.color, entry.is_raw) == ("NHWC", "uint8", "BGR", True)
        assert (entry.height, entry.width, entry.fit) == (spec.height, spec.width, spec.fit)
        assert embedded.spec.decoder == model.spec.decoder
        pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
        np.testing.assert_array_equal(to_tensor(pixels, entry), pixels)
        wanted = outputs_of(model, to_tensor(pixels, spec))["heatmaps"]
        np.testing.assert_array_equal(outputs_of(embedded, pixels)["heatmaps"], wanted)

    @pytest.mark.parametrize("spec", INPUTS[:3])
    def test_with_the_decoder(self, spec: InputSpec) -> None:
        model = convolution(spec)
        embedded = embed(model, pre=True, post=True)
        pixels = np.random.default_rng(1).integers(0, 256, (2, 64, 48, 3), dtype=np.uint8)
        assert_same(people(model, to_tensor(pixels, spec)), people(embedded, pixels))

    def test_pixels_as_they_are_need_nothing(self) -> None:
        model = convolution(InputSpec("input", 64, 48, Crop(), layout="NHWC", dtype="uint8", color="BGR"))
        assert embed(model, pre=True) is model

    def test_pictures_that_are_not_whole_grey_levels(self) -> None:
        fit = FixedHeight(height=64, resize_after_normalise=True)
        with pytest.raises(GraphError, match="grey levels"):
            embed(convolution(InputSpec("input", None, None, fit)), pre=True)

    @pytest.mark.parametrize(
        "change", [{"name": "image"}, {"layout": "NHWC"}, {"dtype": "float16"}], ids=lambda c: next(iter(c))
    )
    def test_spec_of_another_graph(self, change: dict[str, Any]) -> None:
        model = convolution(INPUTS[0])
        other = model.spec.replace(input=dataclasses.replace(model.spec.input, **change))
        with pytest.raises(GraphError, match="input"):
            embed(PoseModel(model.graph, other), pre=True)


# ---- the whole ----


class TestModels:
    @pytest.mark.parametrize("pre", [False, True])
    @pytest.mark.parametrize("post", [False, True])
    def test_people_of_a_photograph(self, tmp_path: Path, pre: bool, post: bool) -> None:
        """The embedded detector, through everything that a user's picture goes through."""
        picture = cv2.imread(str(ROOT / "examples/park.jpg"))
        stage = resolve("fast").stages[0]
        model = embed(PoseModel.from_onnx(stage.engine, stage.spec), pre=pre, post=post)
        path = model.save(tmp_path / "model.onnx")
        with edgepose.load("fast") as plain, edgepose.load(path) as embedded:
            wanted, found = plain(picture), embedded(picture)
        assert len(wanted) == len(found) > 0
        np.testing.assert_allclose(found.keypoints[..., :2], wanted.keypoints[..., :2], atol=1e-2)
        np.testing.assert_allclose(found.keypoints[..., 2], wanted.keypoints[..., 2], atol=1e-5)
        np.testing.assert_allclose(found.boxes, wanted.boxes, atol=1e-2)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)

    def test_crops_of_a_photograph(self, tmp_path: Path) -> None:
        picture = cv2.imread(str(ROOT / "examples/park.jpg"))
        boxes = [
            [100, 50, 300, 400],
            [
                10,
                10,
                200,
                200,
            ],
            [300, 100, 380, 300],
        ]
        model = convolution(INPUTS[0])
        paths = [
            model.save(tmp_path / "plain.onnx"),
            embed(model, pre=True, post=True).save(tmp_path / "embedded.onnx"),
        ]
        with edgepose.load(paths[0]) as plain, edgepose.load(paths[1]) as embedded:
            wanted, found = plain(picture, boxes), embedded(picture, boxes)
        np.testing.assert_allclose(found.keypoints, wanted.keypoints, atol=1e-3)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-5)

    def test_flip_test_is_refused(self, tmp_path: Path) -> None:
        path = embed(convolution(INPUTS[0]), post=True).save(tmp_path / "model.onnx")
        picture = np.zeros((100, 100, 3), np.uint8)
        with edgepose.load(path, flip=True) as pose, pytest.raises(DecodeError, match="flip test"):
            pose(picture, [[0, 0, 50, 50]])

    @pytest.mark.parametrize("opset", [11, 12, 13, 16, 18, newest_opset()])
    @pytest.mark.parametrize("kind", ["heatmap", "simcc", "regression", "movenet-single", "movenet-multi"])
    def test_opsets(self, kind: str, opset: int) -> None:
        model, tensor = sample(kind, opset=opset)
        embedded = embed(model, post=True)
        assert opset_of(embedded.graph) == opset
        assert_same(people(model, tensor), people(embedded, tensor))

    @pytest.mark.parametrize("kind", ["heatmap", "simcc", "regression", "movenet-single", "movenet-multi"])
    def test_half_precision_outputs(self, kind: str) -> None:
        """What the network rounds is decoded in single precision, as numpy does it."""
        model, tensor = sample(kind, dtype="float16")
        embedded = embed(model, post=True)
        assert_same(people(model, tensor), people(embedded, tensor))
        assert {o.type for o in open_session(embedded).get_outputs()} == {"tensor(float)"}

    @pytest.mark.parametrize("kind", ["heatmap", "movenet-multi"])
    def test_fixed_batch(self, kind: str) -> None:
        model, tensor = sample(kind, batch=3)
        assert_same(people(model, tensor), people(embed(model, post=True), tensor))

    @pytest.mark.parametrize("kind", ["heatmap", "simcc", "regression", "movenet-single", "movenet-multi"])
    def test_passes_keep_working(self, kind: str) -> None:
        model, tensor = sample(kind)
        embedded = embed(model, pre=True, post=True)
        pixels = np.random.default_rng(0).integers(0, 256, (3, *tensor.shape[2:], 3), dtype=np.uint8)
        wanted = people(model, to_tensor(pixels, model.spec.input))
        graph = embedded.graph
        for changed in (
            optimise(graph),
            set_opset(graph, 11),
            set_opset(graph, 18),
            set_opset(set_opset(graph, 11), newest_opset()),
            set_batch(graph, 3),
            set_batch(set_batch(graph, 3), None),
            optimise(graph, opset=13, batch=3),
        ):
            assert_same(wanted, people(PoseModel(changed, embedded.spec), pixels))

    def test_onnxsim_keeps_it(self) -> None:
        pytest.importorskip("onnxsim")
        model, tensor = sample("heatmap")
        embedded = embed(model, pre=True, post=True)
        pixels = np.random.default_rng(0).integers(0, 256, (3, *tensor.shape[2:], 3), dtype=np.uint8)
        simpler = PoseModel(optimise(embedded.graph, simplify=True), embedded.spec)
        assert_same(people(model, to_tensor(pixels, model.spec.input)), people(simpler, pixels))

    def test_known_sizes_are_constants(self) -> None:
        """Device compilers want no computed shapes."""
        for kind in ("heatmap", "simcc", "regression", "movenet-single"):
            graph = embed(sample(kind)[0], pre=True, post=True).graph.graph
            assert not {"Shape", "Range", "Size"} & {n.op_type for n in graph.node}

    def test_the_network_stays(self) -> None:
        """Names of inner values are those of calibration tables; nodes are those of the network and the new ones."""
        model = convolution(INPUTS[0])
        ranges = {"input": (-2.0, 2.0), "maps": (-9.0, 9.0)}
        model = PoseModel(model.graph, model.spec.replace(calibration=ranges))
        embedded = embed(model, pre=True, post=True)
        assert embedded.spec.calibration == ranges
        names = {n.name for n in model.graph.graph.node}
        added = {n.name for n in embedded.graph.graph.node} - names
        assert names < {n.name for n in embedded.graph.graph.node}
        assert {name.partition("/")[0] for name in added} == {"edgepose.input", "edgepose.decoder"}
        values = {name for n in embedded.graph.graph.node for name in n.output}
        assert set(ranges) <= values
        onnx.checker.check_model(embedded.graph, full_check=True)

    def test_a_renamed_value_keeps_its_range(self) -> None:
        model, tensor = sample("movenet-single")
        model = PoseModel(model.graph, model.spec.replace(calibration={"keypoints": (0.0, 1.0)}))
        embedded = embed(model, post=True)
        assert embedded.spec.calibration == {"keypoints_raw": (0.0, 1.0)}
        assert_same(people(model, tensor), people(embedded, tensor))

    def test_nothing_asked_nothing_done(self) -> None:
        model = convolution(INPUTS[0])
        assert embed(model) is model

    def test_the_model_is_not_changed(self) -> None:
        model = convolution(INPUTS[0])
        before = model.graph.SerializeToString()
        embed(model, pre=True, post=True)
        assert model.graph.SerializeToString() == before


def sample(kind: str, **options: Any) -> tuple[PoseModel, np.ndarray]:
    """A carrier of this decoder and an input of three samples for it."""
    shapes: dict[str, tuple[int, ...]] = {
        "heatmap": {"heatmaps": (4, 16, 12)},
        "simcc": {"simcc_x": (4, 96), "simcc_y": (4, 128)},
        "regression": {"coordinates": (4, 4)},
        "movenet-single": {"keypoints": (1, 4, 3)},
        "movenet-multi": {"poses": (5, 17)},
    }[kind]
    size = None if kind == "movenet-multi" and "batch" not in options else (64, 48)
    fit = Letterbox(long_side=64) if kind.startswith("movenet") else Crop()
    model = carrier(kind, shapes, size=size, fit=fit, keypoints=FOUR, **options)
    rng = np.random.default_rng(5)
    return model, fill([rng.random((3, *shape), np.float32) for shape in shapes.values()], (64, 48))


class TestDefault:
    @pytest.mark.parametrize("target", ["onnx", "openvino", "tflite", "none"])
    def test_the_flip_test_stays_possible(self, target: str) -> None:
        assert default_embedding(target)[1] is False

    def test_only_where_it_is_faster(self) -> None:
        assert [target for target in ("onnx", "openvino", "tflite") if default_embedding(target)[0]] == ["openvino"]

    def test_what_can_be_embedded(self) -> None:
        spec = convolution(INPUTS[0]).spec
        assert embeddable(spec) == (True, True)
        unrounded = FixedHeight(height=64, resize_after_normalise=True)
        entry = InputSpec("input", None, None, unrounded)
        paf = DecoderSpec("openpose", {"heatmaps": "h", "pafs": "p"})
        assert embeddable(spec.replace(input=entry)) == (False, True)
        assert embeddable(spec.replace(decoder=paf)) == (True, False)
        assert embeddable(carrier("heatmap", MAPS, refine="dark").spec) == (True, False)
        assert embeddable(embed(convolution(INPUTS[0]), post=True).spec) == (True, False)


class TestRefusals:
    @pytest.mark.parametrize(
        ("kind", "shapes", "options", "reason"),
        [
            ("heatmap", MAPS, {"refine": "dark"}, "refine 'dark'.*double precision"),
            ("heatmap", MAPS, {"refine": "udp-dark"}, "refine 'udp-dark'"),
            ("heatmap", {"heatmaps": (51, 32, 24)}, {"target": "combined"}, "combined"),
            ("simcc", VECTORS, {"dark": True, "sigma": [4.9, 5.66]}, "'dark'"),
            ("regression", {"coordinates": (17, 3)}, {}, "2 or 4"),
            ("movenet-multi", {"poses": (6, 56)}, {"score_threshold": 0.0}, "score_threshold"),
            ("heatmap", {"heatmaps": (16, 64, 48)}, {}, "16.*by the spec it is"),
            ("heatmap", {"heatmaps": (17, 64)}, {}, "by the spec it is"),
        ],
    )
    def test_decoder(self, kind: str, shapes: dict[str, tuple[int, ...]], options: dict[str, Any], reason: str) -> None:
        with pytest.raises(GraphError, match=reason):
            embed(carrier(kind, shapes, **options), post=True)

    def test_decoder_without_a_form_as_nodes(self) -> None:
        model = carrier("openpose", {"heatmaps": (19, 32, 24), "pafs": (38, 32, 24)})
        with pytest.raises(GraphError, match=r"'openpose' cannot be put into the graph.*simcc"):
            embed(model, post=True)

    def test_twice(self) -> None:
        with pytest.raises(GraphError, match="already"):
            embed(embed(convolution(INPUTS[0]), post=True), post=True)

    def test_missing_output(self) -> None:
        model = convolution(INPUTS[0])
        wrong = model.spec.replace(decoder=DecoderSpec("heatmap", {"heatmaps": "output"}))
        with pytest.raises(GraphError, match="no output 'output'; it has maps"):
            embed(PoseModel(model.graph, wrong), post=True)

    def test_wrong_options(self) -> None:
        with pytest.raises(SpecError, match="quarter"):
            embed(carrier("heatmap", MAPS, quarter=1), post=True)

    def test_old_opset(self) -> None:
        model = carrier("regression", {"coordinates": (17, 2)}, opset=10)
        with pytest.raises(GraphError, match="opset 10"):
            embed(model, post=True)

    def test_name_that_another_output_has(self) -> None:
        model = convolution(INPUTS[0])
        graph = onnx.ModelProto()
        graph.CopyFrom(model.graph)
        graph.graph.node.append(onnx.helper.make_node("Relu", ["maps"], ["scores"]))
        graph.graph.output.append(onnx.helper.make_tensor_value_info("scores", 1, None))
        with pytest.raises(GraphError, match="'scores'"):
            embed(PoseModel(graph, model.spec), post=True)
