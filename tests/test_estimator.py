"""The public face: edgepose.load() and Poses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

import edgepose
from edgepose.artifact import embedded_folder
from edgepose.bundle import BundleStage, finish_bundle, read_bundle, writing_bundle
from edgepose.errors import BundleError, DeviceError, InputError, PluginError, SpecError
from edgepose.keypoints import COCO_17, KeypointSet
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

EXAMPLES = Path(__file__).parent.parent / "examples"
Image = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def park() -> Image:
    return np.asarray(cv2.imread(str(EXAMPLES / "park.jpg")), np.uint8)


@pytest.fixture(scope="module")
def fast() -> edgepose.Estimator:
    return edgepose.load("fast")


@pytest.fixture(scope="module")
def park_poses(fast: edgepose.Estimator, park: Image) -> edgepose.Poses:
    return fast(park)


def crop_model(folder: Path, size: tuple[int, int] = (64, 48), batch: int | str = "batch") -> Path:
    """A real top-down network of one node: its only keypoint is where the crop is brightest."""
    height, width = size
    nodes = [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=1)]
    graph = helper.make_graph(
        nodes,
        "brightest",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, 3, height, width])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [batch, 1, height, width])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = PoseSpec(
        InputSpec("x", height, width, Crop(), std=(255.0, 255.0, 255.0)),
        DecoderSpec("heatmap", {"heatmaps": "y"}, {"refine": "none"}),
        KeypointSet("bright", ("spot",)),
    )
    return PoseModel(model, spec).save(folder / "brightest.onnx")


def test_two_people_in_the_park(park_poses: edgepose.Poses) -> None:
    # Where the two people stand was read off the picture by eye (1280 x 720).
    assert len(park_poses) >= 2
    noses = park_poses.keypoint("nose")[:2, :2]
    by_x = noses[np.argsort(noses[:, 0])]
    np.testing.assert_allclose(by_x, [[458, 90], [868, 405]], atol=16)
    ankles = park_poses.keypoint("left_ankle")[:2]
    assert (ankles[:, 1] > noses[:, 1] + 150).all()
    assert park_poses.keypoints.dtype == np.float32
    assert park_poses.keypoints.shape[1:] == (17, 3)
    assert (np.diff(park_poses.scores) <= 0).all()


def test_boxes_hold_their_keypoints(park_poses: edgepose.Poses) -> None:
    for person in park_poses[:2]:
        x1, y1, x2, y2 = person.boxes[0]
        seen = person.keypoints[0][person.keypoints[0, :, 2] > 0.3]
        assert (seen[:, 0] > x1 - 25).all()
        assert (seen[:, 0] < x2 + 25).all()
        assert (seen[:, 1] > y1 - 25).all()
        assert (seen[:, 1] < y2 + 25).all()


def test_a_batch_is_the_single_pictures(fast: edgepose.Estimator, park: Image, park_poses: edgepose.Poses) -> None:
    small = cv2.resize(park, (400, 225), interpolation=cv2.INTER_AREA)
    several = fast([park, np.asarray(small, np.uint8)])
    np.testing.assert_array_equal(several[0].keypoints, park_poses.keypoints)
    assert several[1].size == (225, 400)
    stacked = fast(np.stack([park, park]))
    np.testing.assert_array_equal(stacked[1].keypoints, park_poses.keypoints)


def test_nobody_there(fast: edgepose.Estimator) -> None:
    poses = fast(np.zeros((120, 160, 3), np.uint8))
    assert len(poses) == 0
    assert poses.to_coco() == []
    assert poses.to_dict() == []
    assert poses.keypoints.shape == (0, 17, 3)
    assert list(poses) == []


def test_the_pair_is_the_default_and_finds_the_same_people(park: Image, park_poses: edgepose.Poses) -> None:
    poses = edgepose.load()(park)
    assert len(poses) == len(park_poses) == 2
    for name in ("nose", "left_shoulder", "right_hip", "left_ankle"):
        ours, others = poses.keypoint(name)[:, :2], park_poses.keypoint(name)[:, :2]
        distance = np.linalg.norm(ours[:, None] - others, axis=2).min(axis=1)
        assert (distance < 25).all(), name


def test_a_crowd_of_one_person_is_one_person(park: Image) -> None:
    pose = edgepose.load()
    found = pose.boxes(park)
    assert len(found[0]) == len(pose(park)) == 2


def test_min_score(park: Image, tmp_path: Path) -> None:
    scores = edgepose.load("fast", min_score=0.0)(park).scores
    assert len(scores) > 2
    middle = float(np.median(scores))
    np.testing.assert_array_equal(edgepose.load("fast", min_score=middle)(park).scores, scores[scores >= middle])
    pose = edgepose.load(crop_model(tmp_path), min_score=0.5)
    boxes = [[40, 40, 60, 80, 0.4], [40, 40, 60, 80, 0.6]]
    np.testing.assert_allclose(pose(bright_spots((50, 60)), boxes).scores, [0.6], atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 1, 3), (33, 31, 3)])
def test_odd_pictures(fast: edgepose.Estimator, shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    poses = fast(rng.integers(0, 256, shape, np.uint8))
    assert poses.size == shape[:2]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 4), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 10, 3), np.uint8),
    ],
    ids=["grey", "alpha", "float", "empty"],
)
def test_a_wrong_picture_is_a_clear_error(fast: edgepose.Estimator, image: npt.NDArray[np.generic]) -> None:
    with pytest.raises(InputError, match="uint8"):
        fast(image)  # type: ignore[call-overload]


def test_coco_results(park_poses: edgepose.Poses) -> None:
    result = park_poses.to_coco(image_id=7)[0]
    assert result["image_id"] == 7
    assert result["category_id"] == 1
    np.testing.assert_array_equal(np.float32(result["keypoints"]).reshape(17, 3), park_poses.keypoints[0])
    json.dumps(result, allow_nan=False)


def test_values_that_are_not_finite_stay_valid_json() -> None:
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    poses = edgepose.Poses(keypoints, np.float32([np.inf]), np.zeros((1, 4), np.float32), COCO_17, (10, 10))
    text = json.dumps(poses.to_dict(), allow_nan=False)
    assert json.loads(text)[0]["score"] is None
    drawn = poses.draw(np.zeros((10, 10, 3), np.uint8))
    assert not drawn.any()


def test_supervision(park_poses: edgepose.Poses) -> None:
    supervision = pytest.importorskip("supervision", reason="optional dependency: pip install edgepose[supervision]")
    keypoints = park_poses.to_supervision()
    assert isinstance(keypoints, supervision.KeyPoints)
    np.testing.assert_array_equal(keypoints.xy, park_poses.keypoints[..., :2])
    assert len(park_poses[:0].to_supervision()) == 0


def test_drawing_changes_a_copy_near_the_people_only(park: Image, park_poses: edgepose.Poses) -> None:
    before = park.copy()
    drawn = park_poses[:2].draw(park, boxes=True)
    np.testing.assert_array_equal(park, before)
    changed = np.argwhere((drawn != park).any(axis=2))
    low, high = changed.min(axis=0), changed.max(axis=0)
    points = park_poses.keypoints[:2, :, :2].reshape(-1, 2)
    corners = park_poses.boxes[:2].reshape(-1, 2)
    extent = np.concatenate([points, corners])[:, ::-1]
    assert (low > extent.min(axis=0) - 12).all()
    assert (high < extent.max(axis=0) + 12).all()
    assert len(changed) > 500


def test_indexing(park_poses: edgepose.Poses) -> None:
    assert len(park_poses[0]) == 1
    assert len(park_poses[park_poses.scores > 2]) == 0
    assert [len(p) for p in park_poses] == [1] * len(park_poses)
    with pytest.raises(InputError, match="left_ankle"):
        park_poses.keypoint("left_toe")


def test_boxes_are_refused_by_a_model_that_needs_none(fast: edgepose.Estimator, park: Image) -> None:
    with pytest.raises(InputError, match="takes no person boxes"):
        fast(park, [[0, 0, 10, 10]])


def bright_spots(*points: tuple[int, int]) -> Image:
    image = np.zeros((240, 320, 3), np.uint8)
    for x, y in points:
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_top_down_with_boxes(tmp_path: Path, batch: int | str) -> None:
    pose = edgepose.load(crop_model(tmp_path, batch=batch))
    spots = [(50, 60), (200, 100), (250, 200), (120, 30), (20, 220)]
    boxes = [[x - 12, y - 16, x + 10, y + 18, 1 - i / 10] for i, (x, y) in enumerate(spots)]
    poses = pose(bright_spots(*spots), boxes)
    assert len(poses) == len(spots)
    np.testing.assert_allclose(poses.keypoints[:, 0, :2], spots, atol=1.5)
    np.testing.assert_allclose(poses.scores, [b[4] for b in boxes], atol=1e-6)
    assert len(pose(bright_spots(), [])) == 0


def test_top_down_without_boxes_says_what_is_missing(tmp_path: Path) -> None:
    pose = edgepose.load(crop_model(tmp_path), detector=None)
    with pytest.raises(InputError, match="detector"):
        pose(bright_spots((10, 10)))
    for boxes in ([[1, 2, 3]], [["a", "b", "c", "d"]], [1, 2, 3, 4], [[0, 0, np.nan, 4]]):
        with pytest.raises(InputError):
            pose(bright_spots((10, 10)), boxes)


def test_a_pair_takes_boxes_from_its_detector(tmp_path: Path, park: Image, park_poses: edgepose.Poses) -> None:
    model = crop_model(tmp_path)
    for pose in (
        edgepose.load(model),
        edgepose.load(model, detector="fast"),
        edgepose.load(pair_bundle(tmp_path, model)),
    ):
        poses = pose(park)
        assert len(poses) == len(park_poses)
        inside = {tuple(b) for b in poses.boxes.tolist()}
        assert inside == {tuple(b) for b in park_poses.boxes.tolist()}
        pose.close()


def pair_bundle(folder: Path, model: Path) -> Path:
    first = read_bundle(embedded_folder("fast")).manifest.stages[0]
    with writing_bundle(folder / "pair") as inside:
        shutil.copy(embedded_folder("fast") / first.engine, inside / "detector.onnx")
        shutil.copy(model, inside / "pose.onnx")
        stages = [
            BundleStage("detector", "onnx", "fp32", "detector.onnx", first.spec),
            BundleStage("pose", "onnx", "fp32", "pose.onnx", PoseModel.from_onnx(model).spec),
        ]
        finish_bundle(inside, "pair", stages)
    return folder / "pair"


def test_a_detector_for_a_model_that_needs_none() -> None:
    with pytest.raises(InputError, match="takes no detector"):
        edgepose.load("fast", detector="fast")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"model": "nosuch"}, InputError, "no model 'nosuch'"),
        ({"device": "gpu"}, DeviceError, "no device 'gpu'"),
        ({"device": "cpu:x"}, DeviceError, "number"),
        ({"device": "jetson"}, DeviceError, "does not run"),
        ({"runtime": "onnxruntim"}, PluginError, "Did you mean 'onnxruntime'"),
        ({"spec": "x.json"}, SpecError, "has its own"),
        ({"model": "fast", "options": {"thread": 1}}, DeviceError, "no option thread"),
    ],
)
def test_load_refuses_clearly(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        edgepose.load(**arguments)  # type: ignore[arg-type]


def test_foreign_onnx_needs_a_spec_that_fits(tmp_path: Path) -> None:
    model = PoseModel.from_onnx(crop_model(tmp_path))
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(model.graph.SerializeToString())
    stripped = onnx.load(bare)
    del stripped.metadata_props[:]
    onnx.save(stripped, bare)
    with pytest.raises(SpecError, match="no PoseSpec"):
        edgepose.load(bare)
    assert len(edgepose.load(bare, spec=model.spec)(bright_spots((9, 9)), [[0, 0, 20, 20]])) == 1
    wrong = PoseSpec.from_dict({**model.spec.to_dict(), "decoder": {"type": "heatmap", "outputs": {"heatmaps": "z"}}})
    with pytest.raises(SpecError, match="no output 'z'"):
        edgepose.load(bare, spec=wrong)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"garbage" * 50])
def test_files_that_are_no_model(tmp_path: Path, content: bytes) -> None:
    for name in ("model.onnx", "model.jpg", "model"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            edgepose.load(tmp_path / name)


def test_a_bundle_whose_engine_is_no_onnx(tmp_path: Path) -> None:
    stage = read_bundle(embedded_folder("fast")).manifest.stages[0]
    with writing_bundle(tmp_path / "b") as inside:
        (inside / "model.onnx").write_bytes(b"not onnx")
        finish_bundle(inside, "b", [BundleStage("pose", "onnx", "fp32", "model.onnx", stage.spec)])
    with pytest.raises(DeviceError, match="cannot load"):
        edgepose.load(tmp_path / "b")
    with pytest.raises(BundleError):
        edgepose.load(tmp_path)


def test_a_closed_estimator_says_so(park: Image) -> None:
    with edgepose.load("fast") as pose:
        pass
    with pytest.raises(DeviceError, match="closed"):
        pose(park)
