"""Pre- and post-processing inside the graph give what numpy gives."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from carrier import FOUR, MAPS, VECTORS, assert_same, carrier, fill, open_session, outputs_of, people

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
