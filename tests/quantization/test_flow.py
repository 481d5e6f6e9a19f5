"""INT8 from the embedded model to a bundle that says what it cost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgepose
from edgepose.bundle import Bundle
from edgepose.conversion import convert
from edgepose.errors import ConversionError, EdgePoseError, InputError
from edgepose.importing import ImportOptions, import_model
from edgepose.keypoints import COCO_17
from edgepose.media.pictures import read_picture
from edgepose.plugins import converter
from edgepose.quantization.budget import OKS_OF_A_POINT, Budget
from edgepose.quantization.flow import RANGES
from edgepose.quantization.options import Int8Options
from edgepose.quantization.placement import quantisable
from edgepose.quantization.ranges import Ranges

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "park.jpg"
SIZE = (192, 256)
LOOSE = Budget("oks", 0.25)
#: Where the network itself does not matter.
SMALL = (96, 128)


def all_but(count: int) -> list[str]:
    """Names of all layers but some in the middle, so that a search is short."""
    model = import_model("fast", ImportOptions(input_size=SMALL)).stages[0][1]
    scheme = converter("onnx").scheme
    assert scheme is not None
    names = [layer.name for layer in quantisable(model, scheme)]
    return names[:20] + names[20 + count :]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    shutil.copy(EXAMPLE, folder / "park.jpg")
    cv2.imwrite(str(folder / "mirrored.jpg"), np.asarray(cv2.imread(str(EXAMPLE)))[:, ::-1])
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Bundle:
    folder = tmp_path_factory.mktemp("int8")
    options = Int8Options(pictures, budget=LOOSE, picture=folder / "tried.png")
    return convert("fast", precision="int8", int8=options, input_size=SIZE, output=folder / "b")


def test_the_bundle_finds_the_people_that_the_fp32_model_finds(bundle: Bundle) -> None:
    image = read_picture(EXAMPLE)
    with edgepose.load(bundle) as small, edgepose.load("fast") as full:
        found, true = small(image), full(image)
    assert len(found) == len(true) == 2
    order = np.argsort(found.boxes[:, 0]), np.argsort(true.boxes[:, 0])
    apart = np.linalg.norm(found.keypoints[order[0], :, :2] - true.keypoints[order[1], :, :2], axis=2)
    # Its input is half as large as the FP32 model's.
    assert np.median(apart) < 0.02 * image.shape[0]


def test_the_bundle_is_small_and_says_what_it_cost(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.stages[0].precision == "int8"
    # The embedded file stores its weights as float16.
    assert manifest.files["model.onnx"][0] < 0.6 * (Path(edgepose.__file__).parent / _MULTIPOSE).stat().st_size
    record = manifest.calibration
    assert record["form"] in record["forms"]
    assert record["method"] in record["form"]
    assert record["data"]["images"] == 2
    assert len(record["data"]["sha256"]) == 64
    assert record["ranges"][RANGES] == manifest.files[RANGES][1]
    assert record["budget"]["metric"] == "oks"
    assert record["budget"]["cost"] <= LOOSE.limit
    assert set(record["speed"]["ms"]) == {"fp32", "fp16", "int8"}
    assert "INT8" in record["speed"]["verdict"]
    assert record["tried"][-1]["oks_loss"] == 0
    assert (bundle.folder.parent / "tried.png").stat().st_size > 1000


_MULTIPOSE = "models/movenet/movenet-multipose-lightning.onnx"


def test_the_ranges_of_a_bundle_serve_again_for_another_target(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    again = convert(
        "fast",
        "openvino",
        precision="int8",
        int8=Int8Options(bundle.path(RANGES), samples=pictures, budget=LOOSE),
        input_size=SIZE,
        output=tmp_path / "b",
    )
    assert Ranges.load(again.path(RANGES)) == Ranges.load(bundle.path(RANGES))
    assert again.manifest.measured["parity"]["status"] == "executed"


def test_a_layer_that_is_asked_for_stays_in_float(pictures: Path, tmp_path: Path) -> None:
    graph = import_model("fast").stages[0][1].graph.graph
    name = next(n.output[0] for n in graph.node if n.op_type == "Conv")
    options = Int8Options(pictures, budget=Budget("oks", 1), keep_float=[name])
    kept = convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")
    assert kept.manifest.calibration["float"][name] == "asked for"
    wrong = Int8Options(pictures, keep_float=["nothing"])
    with pytest.raises(InputError, match="no layer 'nothing'"):
        convert("fast", precision="int8", int8=wrong, input_size=SIZE, output=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_budget_that_cannot_be_met_leaves_nothing_and_shows_what_was_tried(pictures: Path, tmp_path: Path) -> None:
    options = Int8Options(pictures, method="naive", budget=Budget("shift", 0), keep_float=all_but(3), repair=False)
    with pytest.raises(InputError, match="cannot meet the budget") as caught:
        convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b")
    assert "in float" in caught.value.message
    assert "--precision fp16" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As few labelled pictures as a budget in AP takes."""
    folder = tmp_path_factory.mktemp("album")
    park = np.asarray(cv2.imread(str(EXAMPLE)))
    for number, picture in enumerate((park, park[:, ::-1], park // 2, park[8:], park[:, 8:])):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture(scope="module")
def labelled(album: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labels(album, tmp_path_factory.mktemp("labels") / "people.json")


def labels(pictures: Path, path: Path) -> Path:
    """The FP32 network's own poses, shifted a little, as COCO annotations."""
    images: list[dict[str, object]] = []
    people: list[dict[str, object]] = []
    with edgepose.load("fast", min_score=0.2) as pose:
        for number, file in enumerate(sorted(pictures.iterdir()), 1):
            picture = read_picture(file)
            images.append({"id": number, "file_name": file.name, "width": picture.shape[1], "height": picture.shape[0]})
            poses = pose(picture)
            for (x0, y0, x1, y1), found in zip(poses.boxes, poses.keypoints, strict=True):
                joints = np.concatenate([found[:, :2] + 2, np.full((17, 1), 2)], axis=1)
                people.append(
                    {
                        "id": len(people) + 1,
                        "image_id": number,
                        "category_id": 1,
                        "iscrowd": 0,
                        "num_keypoints": 17,
                        "bbox": [float(v) for v in (x0, y0, x1 - x0, y1 - y0)],
                        "area": float((x1 - x0) * (y1 - y0)),
                        "keypoints": joints.reshape(-1).tolist(),
                    }
                )
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.names), "skeleton": []}
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return path


def test_a_budget_in_ap_is_kept_on_labelled_pictures(album: Path, labelled: Path, tmp_path: Path) -> None:
    options = Int8Options(
        labelled,
        images=album,
        method="naive",
        views=2,
        budget=Budget("ap", 2),
        keep_float=all_but(4),
        repair=False,
    )
    bundle = convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")
    record = bundle.manifest.calibration
    ap = record["accuracy"]["AP"]
    assert ap["before"] > 30
    assert record["accuracy"]["protocol"]["views"] == 2
    assert ap["interval"][0] <= ap["after"] - ap["before"] <= ap["interval"][1]
    assert record["budget"] == {"metric": "ap", "limit": 2, "cost": pytest.approx(ap["before"] - ap["after"])}
    chosen = [t for t in record["tried"][:-1] if t["AP"] == round(ap["after"], 3) and t["AP_loss_bound"] <= 2]
    assert any(0 < t["oks_loss"] <= 2 * OKS_OF_A_POINT for t in chosen)


@pytest.fixture
def quick(pictures: Path) -> Int8Options:
    """Three layers of a small input, with any loss."""
    return Int8Options(pictures, method="naive", budget=Budget("oks", 1), keep_float=all_but(3), repair=False)


def changed(labelled: Path, path: Path, **values: object) -> Path:
    """The labels with some values in every annotation; None leaves it out."""
    data = json.loads(labelled.read_text())
    for person in data["annotations"]:
        for name, value in values.items():
            person[name] = value
            if value is None:
                del person[name]
    path.write_text(json.dumps(data))
    return path


def test_labelled_pictures_that_cannot_be_read_do_not_count(
    album: Path, labelled: Path, quick: Int8Options, tmp_path: Path
) -> None:
    data = json.loads(labelled.read_text())
    whole = [tmp_path / "six.json", tmp_path / "five.json"]
    for path in whole:
        path.write_text(json.dumps(data))
        # A picture that is not there comes with people whom nobody finds.
        data["images"].insert(0, {"id": 99, "file_name": "gone.png", "width": 64, "height": 64})
        data["annotations"].insert(0, {**data["annotations"][0], "id": 999, "image_id": 99})
    five, six = whole
    seen = []
    for path in (five, six):
        said: list[str] = []
        options = dataclasses.replace(quick, calibration=path, images=album, budget=Budget("ap", 100))
        out = tmp_path / path.stem
        done = convert("fast", precision="int8", int8=options, input_size=SMALL, output=out, report=said.append)
        accuracy = done.manifest.calibration["accuracy"]
        assert accuracy["protocol"].pop("annotations") == path.name
        assert accuracy["protocol"]["images"] == 5
        seen.append((accuracy, [line for line in said if "cannot be read" in line]))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] == []
    assert {line.split(" without ")[0] for line in seen[1][1]} == {"calibrated", "AP is measured"}
    assert all("gone.png" in line for line in seen[1][1])


def test_a_handful_of_pictures_is_no_ground_for_95_percent(pictures: Path, quick: Int8Options, tmp_path: Path) -> None:
    two = labels(pictures, tmp_path / "two.json")
    options = dataclasses.replace(quick, calibration=two, images=pictures, budget=Budget("ap", 50))
    with pytest.raises(InputError, match="labelled in 2 pictures") as caught:
        convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b")
    assert "--max-oks-loss" in str(caught.value)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("values", [{"keypoints": None}, {"category_id": 0}], ids=str)
def test_labels_of_nobody_give_no_ap(
    album: Path, labelled: Path, quick: Int8Options, tmp_path: Path, values: dict[str, object]
) -> None:
    path = changed(labelled, tmp_path / "people.json", **values)
    options = dataclasses.replace(quick, calibration=path, images=album)
    said: list[str] = []
    done = convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b", report=said.append)
    assert "AP" not in done.manifest.calibration["accuracy"]
    assert [line for line in said if line.startswith("AP is not measured") and "keypoints" in line]
    for wrong in (
        dataclasses.replace(options, budget=Budget("ap", 1)),
        dataclasses.replace(options, annotations=path, annotated_images=album),
        dataclasses.replace(options, views=2),
    ):
        with pytest.raises(InputError, match="keypoints"):
            convert("fast", precision="int8", int8=wrong, input_size=SMALL, output=tmp_path / "c")


def test_a_single_picture_serves_who_means_it(quick: Int8Options, tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "park.jpg")
    options = dataclasses.replace(quick, calibration=tmp_path / "park.jpg")
    with pytest.raises(InputError, match="--limit 1"):
        convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")
    options = dataclasses.replace(options, limit=1)
    done = convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")
    assert done.manifest.calibration["data"]["samples"] == 1


def test_samples_and_labels_are_told_apart(
    bundle: Bundle, pictures: Path, album: Path, labelled: Path, quick: Int8Options, tmp_path: Path
) -> None:
    options = dataclasses.replace(
        quick, calibration=bundle.path(RANGES), method=None, keep_float=(), samples=pictures,
        annotations=labelled, annotated_images=album,
    )  # fmt: skip
    done = convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")
    assert done.manifest.calibration["accuracy"]["protocol"]["images"] == 5
    options = dataclasses.replace(options, samples=labelled, images=album, annotations=None, annotated_images=None)
    done = convert("fast", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "c")
    assert "AP" not in done.manifest.calibration["accuracy"]


def test_keypoints_without_sigmas_are_named(pictures: Path, tmp_path: Path) -> None:
    model = import_model("fast", ImportOptions(input_size=SMALL)).stages[0][1]
    spec = model.spec.to_dict()
    spec["keypoints"] = {"name": "bare", "names": list(COCO_17.names)}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    path = model.save(tmp_path / "m.onnx")
    with pytest.raises(InputError, match="'bare' has no sigmas") as caught:
        convert(path, precision="int8", int8=Int8Options(pictures), spec=tmp_path / "spec.json", output=tmp_path / "b")
    assert "spec" in str(caught.value)


def test_forms_are_tried_before_layers_go_back_to_float(pictures: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = Int8Options(pictures, budget=Budget("shift", 0), keep_float=all_but(3))
    with contextlib.suppress(InputError):  # whether so little can be met is not the question
        convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b", report=said.append)
    forms = [line.split(":")[0] for line in said if line.startswith("everything quantised")]
    assert [form.split(", ")[1] for form in forms[:5]] == ["as trained"] * 3 + ["equalised", "balanced"]
    # The search failed in the nearest form, and went on in the next one.
    assert all(form.endswith("rounding learned, biases corrected") for form in forms[5:])
    assert len({form.split(", ")[1] for form in forms[5:]}) == 2
    said.clear()
    options = Int8Options(pictures, budget=Budget("oks", 1), repair=False)
    convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "c", report=said.append)
    assert sum(line.startswith("everything quantised") for line in said) == 1


def test_ranges_of_another_network_are_refused(bundle: Bundle, pictures: Path, tmp_path: Path) -> None:
    options = Int8Options(bundle.path(RANGES), samples=pictures)
    with pytest.raises(InputError, match="another network"):
        convert("accurate", precision="int8", int8=options, input_size=SIZE, output=tmp_path / "b")


def test_two_networks_get_two_engines_and_two_sets_of_ranges(pictures: Path, tmp_path: Path) -> None:
    options = Int8Options(pictures, budget=Budget("oks", 0.5))
    pair = convert("accurate", precision="int8", int8=options, output=tmp_path / "b")
    names = set(pair.manifest.files)
    assert {"detector/model.onnx", "pose/model.onnx", "detector.ranges.json", "pose.ranges.json"} <= names
    with edgepose.load(pair) as pose:
        assert len(pose(read_picture(EXAMPLE))) == 2


def test_one_of_two_networks_may_stay_in_float_as_a_whole(pictures: Path, tmp_path: Path) -> None:
    scheme = converter("onnx").scheme
    assert scheme is not None
    detector = import_model("accurate").stages[0][1]
    kept = [f"detector/{layer.name}" for layer in quantisable(detector, scheme)]
    options = Int8Options(pictures, budget=Budget("oks", 1), keep_float=kept)
    pair = convert("accurate", precision="int8", int8=options, output=tmp_path / "b")
    assert [stage.precision for stage in pair.manifest.stages] == ["fp32", "int8"]
    with edgepose.load(pair) as pose:
        assert len(pose(read_picture(EXAMPLE))) == 2


def test_every_layer_in_float_is_no_int8(pictures: Path, tmp_path: Path) -> None:
    options = Int8Options(pictures, budget=Budget("oks", 1), keep_float=all_but(0))
    with pytest.raises(InputError, match="No layer is left to quantise"):
        convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_views_without_labels_are_refused(pictures: Path, tmp_path: Path) -> None:
    options = Int8Options(pictures, views=8)
    with pytest.raises(InputError, match="Only labelled pictures") as caught:
        convert("fast", precision="int8", int8=options, input_size=SMALL, output=tmp_path / "b")
    assert "--annotations" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_calibration_twice_or_for_a_float_precision_is_refused(pictures: Path) -> None:
    with pytest.raises(ConversionError, match="twice"):
        convert("fast", precision="int8", calibration=pictures, int8=Int8Options(pictures))
    with pytest.raises(EdgePoseError, match="not for fp32"):
        convert("fast", calibration=pictures)


def test_the_manifest_is_json_without_paths(bundle: Bundle) -> None:
    text = json.dumps(dict(bundle.manifest.calibration))
    assert str(EXAMPLE.parent) not in text
    assert "/tmp" not in text
