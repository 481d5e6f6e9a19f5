"""COCO keypoint accuracy: annotations, results and the ten statistics.

The metric itself is pycocotools' own; this module feeds it and names what it returns.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DependencyError, InputError
from ..keypoints import COCO_17, KeypointSet

#: Names of pycocotools' ten keypoint statistics, in its order.
STATISTICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
PERSON = 1


class CocoAnnotations:
    """Person keypoints of a COCO data set.

    Parameters
    ----------
    path
        JSON file in the form of COCO's ``person_keypoints_*.json``.

    Raises
    ------
    InputError
        If the file cannot be read or has another form.
    DependencyError
        If pycocotools is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            from pycocotools.coco import COCO
        except ImportError as error:
            raise DependencyError("pycocotools", "COCO evaluation", "eval") from error
        data = _read_json(Path(path))
        if not isinstance(data, dict) or not _is_records(data, "images", ("id", "file_name")):
            raise InputError(f"'{path}' is no COCO annotation file: it has no list of images.")
        if not _is_records(data, "annotations", ("id", "image_id", "bbox", "keypoints", "area")):
            raise InputError(f"'{path}' is no COCO keypoint annotation file: its annotations have no keypoints.")
        for annotation in data["annotations"]:
            annotation.setdefault("iscrowd", 0)
            annotation.setdefault("category_id", PERSON)
            if "num_keypoints" not in annotation:
                annotation["num_keypoints"] = int(np.count_nonzero(np.asarray(annotation["keypoints"])[2::3]))
        data.setdefault("categories", [{"id": PERSON, "name": "person"}])
        data.setdefault("info", {})
        self.path = Path(path)
        self.coco: Any = COCO()
        self.coco.dataset = data
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco.createIndex()

    @property
    def images(self) -> list[dict[str, Any]]:
        """Image records, ordered by id."""
        return [self.coco.imgs[i] for i in sorted(self.coco.imgs)]

    def people(self, image_id: int) -> list[dict[str, Any]]:
        """People with at least one labelled keypoint, crowds left out."""
        records = self.coco.imgToAnns.get(image_id, [])
        return [a for a in records if not a["iscrowd"] and a["num_keypoints"] > 0 and a["category_id"] == PERSON]

    def statistics(self, results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> dict[str, float]:
        """The ten statistics of COCO keypoint results on the given images.

        Parameters
        ----------
        results
            COCO keypoint results (``image_id``, ``category_id``, ``keypoints``, ``score``).
        image_ids
            Images that count, those without results included.

        Returns
        -------
        dict
            :data:`STATISTICS` -> value in 0..1; -1 where no person falls in the class.
        """
        evaluation = self.evaluation(results, image_ids)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return {name: float(value) for name, value in zip(STATISTICS, evaluation.stats, strict=True)}

    def evaluation(self, results: Sequence[Mapping[str, Any]], image_ids: Sequence[int]) -> Any:
        """A ``pycocotools.cocoeval.COCOeval`` of COCO keypoint results on the given images, not yet evaluated."""
        from pycocotools.cocoeval import COCOeval

        with contextlib.redirect_stdout(io.StringIO()):
            found = self.coco.loadRes([dict(r) for r in results]) if results else _no_results(self.coco)
            evaluation = COCOeval(self.coco, found, "keypoints")
        evaluation.params.imgIds = list(image_ids)
        evaluation.params.catIds = [PERSON]
        return evaluation


def coco_keypoints(keypoints: npt.NDArray[np.float32], keypoint_set: KeypointSet) -> npt.NDArray[np.float32]:
    """Bring keypoints [N, K, 3] of any set to COCO's 17 by their names.

    Raises
    ------
    InputError
        If the set lacks one of COCO's keypoints.
    """
    if keypoint_set.names == COCO_17.names:
        return keypoints
    missing = [n for n in COCO_17.names if n not in keypoint_set.names]
    if missing:
        raise InputError(
            f"The keypoint set '{keypoint_set.name}' cannot be evaluated on COCO: it has no {', '.join(missing)}."
        )
    return keypoints[:, [keypoint_set.names.index(n) for n in COCO_17.names]]


def read_detections(path: str | Path) -> dict[int, npt.NDArray[np.float32]]:
    """Person boxes from a COCO detections file (``[{image_id, category_id, bbox, score}, ...]``).

    Returns
    -------
    dict
        Image id -> float32 [N, 5]: x1, y1, x2, y2, score; people only.

    Raises
    ------
    InputError
        If the file cannot be read or has another form.
    """
    data = _read_json(Path(path))
    if not _is_records({"d": data}, "d", ("image_id", "bbox", "score")):
        raise InputError(f"'{path}' is no COCO detections file: a list of image_id, bbox and score is expected.")
    found: dict[int, list[list[float]]] = {}
    try:
        for record in data:
            if record.get("category_id", PERSON) == PERSON:
                x, y, w, h = (float(v) for v in record["bbox"])
                found.setdefault(int(record["image_id"]), []).append([x, y, x + w, y + h, float(record["score"])])
    except (TypeError, ValueError) as error:
        raise InputError(f"'{path}': a detection is not well formed: {error}.") from error
    return {image: np.array(boxes, np.float32) for image, boxes in found.items()}


def ground_truth_boxes(people: Sequence[Mapping[str, Any]], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Boxes [N, 5] of annotated people, as the SimpleBaseline protocol clips them; score 1.

    Its boxes end at ``min(W - 1, x + max(0, w - 1))``, likewise below.
    """
    height, width = size
    boxes = np.array([p["bbox"] for p in people], np.float64).reshape(-1, 4)
    x1, y1 = np.maximum(boxes[:, 0], 0), np.maximum(boxes[:, 1], 0)
    x2 = np.minimum(width - 1, x1 + np.maximum(0, boxes[:, 2] - 1))
    y2 = np.minimum(height - 1, y1 + np.maximum(0, boxes[:, 3] - 1))
    return np.stack([x1, y1, x2, y2, np.ones_like(x1)], axis=1).astype(np.float32)


def _no_results(coco: Any) -> Any:
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {"images": coco.dataset["images"], "categories": coco.dataset["categories"], "annotations": []}
    empty.createIndex()
    return empty


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"'{path}' is not valid JSON: {error}.") from error


def _is_records(data: Mapping[str, Any], name: str, fields: Sequence[str]) -> bool:
    records = data.get(name)
    return isinstance(records, list) and all(isinstance(r, dict) and all(f in r for f in fields) for r in records)
