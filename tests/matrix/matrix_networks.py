"""The networks of docs/support.md, and the pictures on which their conversions are compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.artifact import resolve
from edgepose.evaluation.coco import CocoAnnotations, ground_truth_boxes
from edgepose.evaluation.parity_run import Picture, sample
from edgepose.graph.passes import optimise
from edgepose.importing import ImportOptions, import_checkpoint
from edgepose.keypoints import COCO_17
from edgepose.media.pictures import read_picture
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

#: Pictures of the reference data beside the one that edgepose brings along, and people in each of them.
PICTURES, PEOPLE = 6, 2
#: Smaller people are a few pixels wide; COCO calls those below this area medium or small.
_LARGE = 96**2

Make = Callable[[Path], PoseModel]


@dataclass(frozen=True)
class Network:
    """A network of the table.

    Attributes
    ----------
    name
        As the table calls it.
    make
        Builds its FP32 graph; takes the folder of the reference data.
    light
        Whether all its FP32 cells together take seconds.
    trained
        Whether it needs weights from the reference data.
    chaotic
        Whether its decoder says nothing of the network: part affinity fields of random weights join limbs to people in
        one of very many equally good ways.  The outputs of such a network are compared instead of its people.
    """

    name: str
    make: Make
    light: bool = False
    trained: bool = False
    chaotic: bool = False


def pictures(reference: Path | None) -> list[Picture]:
    """The picture that edgepose brings along, and pictures with large people where the reference data is here."""
    chosen = [sample()]
    if reference is None:
        return chosen
    folder = reference / "data/coco_keypoints"
    truth = CocoAnnotations(folder / "person_keypoints_val2017.json")
    for record in truth.images:
        if len(chosen) > PICTURES:
            break
        image = read_picture(folder / "val2017" / record["file_name"], orient=False)
        boxes = ground_truth_boxes(truth.people(record["id"]), (image.shape[0], image.shape[1]))[:, :4]
        large = boxes[np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) > _LARGE][:PEOPLE]
        if len(large):
            chosen.append(Picture(record["file_name"], image, large))
    return chosen


def ultralight(reference: Path) -> PoseModel:
    """The trained Ultralight-SimplePose."""
    spec = PoseSpec(
        InputSpec("data", 256, 192, Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
        DecoderSpec("heatmap", {"heatmaps": "hybridsequential0_conv7_fwd"}),
        COCO_17,
    )
    weights = reference / "data/weights/ultralight_simplepose/Ultralight-Nano-SimplePose.params"
    return import_checkpoint(weights, ImportOptions(spec=spec))


def _synthetic(name: str, size: tuple[int, int] | None = None) -> Make:
    """An architecture with weights made from the names of its arrays."""

    def make(_: Path) -> PoseModel:
        path = Path(__file__).parent.parent / "architectures/synthetic_weights.py"
        found = importlib.util.spec_from_file_location("synthetic_weights_of_the_matrix", path)
        assert found is not None
        assert found.loader is not None
        recipe = importlib.util.module_from_spec(found)
        found.loader.exec_module(recipe)
        arrays = recipe.fill(examine({}, name).expected)
        network = build_network(arrays, name, BuildOptions(input_size=size))
        return PoseModel(optimise(network.graph), network.spec, {"architecture": name})

    return make


def _openpose(reference: Path) -> PoseModel:
    weights = reference / "data/weights/lightweight_openpose/lightweight_openpose.pth"
    return import_checkpoint(weights, ImportOptions(input_size=(368, 496)))


def _embedded(stage: int, size: tuple[int, int] | None = None) -> Make:
    """A network of the embedded model; None leaves the picture's size open where it is."""

    def make(_: Path) -> PoseModel:
        source = resolve("accurate").stages[stage]
        if size is None:
            return PoseModel.from_onnx(source.engine, source.spec)
        return import_checkpoint(source.engine, ImportOptions(spec=source.spec, input_size=size))

    return make


NETWORKS = (
    Network("simple_pose_resnet18_v1b", _synthetic("simple_pose_resnet18_v1b")),
    Network("simple_pose_resnet50_v1d", _synthetic("simple_pose_resnet50_v1d")),
    Network("mobile_pose_resnet18_v1b", _synthetic("mobile_pose_resnet18_v1b")),
    Network("mobile_pose_resnet50_v1b", _synthetic("mobile_pose_resnet50_v1b")),
    Network("mobile_pose_mobilenet1.0", _synthetic("mobile_pose_mobilenet1.0"), light=True),
    Network("mobile_pose_mobilenetv2_1.0", _synthetic("mobile_pose_mobilenetv2_1.0"), light=True),
    Network("mobile_pose_mobilenetv3_large", _synthetic("mobile_pose_mobilenetv3_large"), light=True),
    Network("mobile_pose_mobilenetv3_small", _synthetic("mobile_pose_mobilenetv3_small"), light=True),
    Network("alpha_pose_resnet101_v1b_coco", _synthetic("alpha_pose_resnet101_v1b_coco")),
    Network("mindspore_simple_pose_resnet50", _synthetic("mindspore_simple_pose_resnet50")),
    Network("pose_hrnet_w32", _synthetic("pose_hrnet_w32")),
    Network("rtmpose_s", _synthetic("rtmpose_s"), light=True),
    Network("lightweight_openpose", _synthetic("lightweight_openpose", (128, 176)), light=True, chaotic=True),
    Network("Lightweight OpenPose, trained", _openpose, trained=True),
    Network("Ultralight-SimplePose", ultralight, light=True, trained=True),
    Network("MoveNet Thunder", _embedded(1), light=True),
    Network("MoveNet MultiPose", _embedded(0, (384, 512))),
    Network("MoveNet MultiPose, any size", _embedded(0), light=True),
)
