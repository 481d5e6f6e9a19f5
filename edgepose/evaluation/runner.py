"""Running a model over an annotated data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MediaError
from ..estimator import Estimator, without_duplicates
from ..keypoints import COCO_17
from ..media.pictures import read_picture
from ..poses import Poses
from .coco import CocoAnnotations, coco_keypoints, ground_truth_boxes
from .views import View

Detections = dict[int, npt.NDArray[np.float32]]
BoxSource = Literal["gt"] | Detections | None


@dataclass(frozen=True)
class Evaluation:
    """What a model reached.

    Attributes
    ----------
    statistics
        The ten COCO statistics, 0..1.
    results
        COCO keypoint results, as the evaluation server takes them.
    unreadable
        Image file -> why it could not be used; these images count as without results.
    images
        Number of images that count.
    """

    statistics: dict[str, float]
    results: list[dict[str, Any]]
    unreadable: dict[str, str] = field(default_factory=dict)
    images: int = 0


def evaluate(
    estimator: Estimator,
    annotations: CocoAnnotations,
    images: str | Path,
    *,
    boxes: BoxSource = None,
    limit: int | None = None,
    image_ids: Sequence[int] | None = None,
    view: View | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> Evaluation:
    """COCO keypoint accuracy of a loaded model.

    Parameters
    ----------
    estimator
        The model; a top-down one needs ``boxes`` or a detector of its own.
    annotations
        The ground truth.
    images
        Folder of the pictures.
    boxes
        ``"gt"`` for the annotated people, or image id -> [N, 5] boxes x1, y1, x2, y2, score; None for the model's own.
    limit
        Only the first so many images, by id.
    image_ids
        Only these images.
    view
        Every picture, or every given box, is looked at like this; results are in pixels of the picture.
    on_image
        Called after each image.

    Raises
    ------
    InputError
        If model, boxes and data do not fit together.
    """
    folder = Path(images)
    if not folder.is_dir():
        raise InputError(f"'{images}' is not a folder of pictures.")
    only = None if image_ids is None else set(image_ids)
    wanted = [r for r in annotations.images if only is None or r["id"] in only][:limit]
    if not wanted:
        raise InputError(f"'{annotations.path}' has no image to evaluate.")
    results: list[dict[str, Any]] = []
    unreadable: dict[str, str] = {}
    for record in wanted:
        try:
            image = read_picture(_inside(folder, record["file_name"]), orient=False)
        except MediaError as error:
            unreadable[str(record["file_name"])] = error.message
        else:
            results.extend(_results(estimator, annotations, record["id"], image, boxes, view))
        on_image()
    if len(unreadable) == len(wanted):
        raise InputError(
            f"None of the {len(wanted)} images could be read in '{folder}': {next(iter(unreadable.values()))}"
        )
    ids = [r["id"] for r in wanted]
    return Evaluation(annotations.statistics(results, ids), results, unreadable, len(wanted))


def _results(
    estimator: Estimator,
    annotations: CocoAnnotations,
    image_id: int,
    image: npt.NDArray[np.uint8],
    boxes: BoxSource,
    view: View | None,
) -> list[dict[str, Any]]:
    size = (image.shape[0], image.shape[1])
    given: npt.NDArray[np.float32] | None = None
    if boxes == "gt":
        given = ground_truth_boxes(annotations.people(image_id), size)
    elif isinstance(boxes, dict):
        given = boxes.get(image_id, np.zeros((0, 5), np.float32))
    if view is not None and given is not None:
        given = view.boxes(given)
    elif view is not None:
        image = view.picture(image)
    poses = estimator(image, given)
    if given is not None and len(poses):
        poses = without_duplicates(poses, estimator.stages[-1].spec)
    in_coco = coco_keypoints(poses.keypoints, poses.keypoint_set)
    if view is not None and given is None:
        in_coco = np.concatenate([view.back(in_coco[..., :2], size), in_coco[..., 2:]], axis=-1)
    return Poses(in_coco, poses.scores, poses.boxes, COCO_17, poses.size).to_coco(image_id)


def _inside(folder: Path, name: object) -> Path:
    path = PurePosixPath(str(name))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise MediaError(f"The annotations name the picture '{name}', which is not inside the folder.")
    return folder / path
