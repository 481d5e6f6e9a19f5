"""How far a quantised network's poses lie from its FP32 form's, on unlabelled pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ..decoding import build_decoder
from ..devices import Device
from ..errors import InputError
from ..estimator import Stage
from ..evaluation.parity import Comparison, compare
from ..evaluation.parity_people import WEAK, People, extent, look_at_golden, match, recorded
from ..golden import GoldenFrame
from ..keypoints import COCO_17
from ..model import PoseModel
from ..oks import mean_areas, pairwise_oks
from ..plugins import runtime

_RUNTIME = "onnxruntime"


def open_graph(model: PoseModel, folder: Path) -> Stage:
    """A graph in ONNX Runtime on the CPU; the caller closes its session.

    Raises
    ------
    DeviceError
        If ONNX Runtime refuses it.
    """
    path = folder / "graph.onnx"
    path.write_bytes(model.to_bytes())
    try:
        return Stage(model.spec, runtime(_RUNTIME).open(path, Device("cpu"), {}), build_decoder(model.spec))
    finally:
        path.unlink()


class Reference:
    """The FP32 network's answers on some inputs.

    Parameters
    ----------
    model
        The FP32 graph.
    samples
        [B, H, W, 3] BGR batches of grey levels, fitted to its input.
    limit
        How many inputs are used, at most.
    """

    def __init__(self, model: PoseModel, samples: Iterable[npt.NDArray[Any]], limit: int) -> None:
        self._spec, self._decoder = model.spec, build_decoder(model.spec)
        self._frames: list[GoldenFrame] = []
        left = limit
        with TemporaryDirectory() as folder:
            stage = open_graph(model, Path(folder))
            try:
                for batch in samples:
                    pixels = np.clip(np.rint(batch[:left]), 0, 255).astype(np.uint8)
                    outputs = {model.spec.decoder.outputs[role]: a for role, a in stage.infer(pixels).items()}
                    self._frames.append(GoldenFrame(0, pixels, outputs))
                    left -= len(pixels)
                    if left <= 0:
                        break
            finally:
                stage.session.close()

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """The first input, uint8 [1, H, W, 3], BGR."""
        return self._frames[0].pixels[:1]

    def compare(self, stage: Stage, limit: int | None = None) -> list[Comparison]:
        """A network's answers on the same inputs, or on the first batches of ``limit``, against the FP32 network's."""
        found, seen = [], 0
        for i, frame in enumerate(self._frames):
            if limit is None or seen < limit:
                true = recorded(self._spec, self._decoder, frame)
                found.append(compare(true, look_at_golden(stage, frame), f"sample {i}"))
            seen += len(frame.pixels)
        return found


def compare_results(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """COCO keypoint results of two models on the same pictures: the people's OKS and scores, picture by picture.

    For several networks one behind the other: what a detector's own answers are worth is what the poses behind it are.
    """
    found = []
    for image in sorted({int(r["image_id"]) for r in (*before, *after)}):
        true, other = (_people([r for r in results if r["image_id"] == image]) for results in (before, after))
        strong = true.joints[..., 2] >= max(WEAK * float(true.joints[..., 2].max(initial=0)), 1e-12)
        areas = mean_areas(other.areas, true.areas)
        similar = pairwise_oks(other.joints, true.joints, areas, COCO_17, strong[None])
        pairs = match(similar.T)
        missing = [i for i in range(len(true.joints)) if i not in {row for row, _ in pairs}]
        extra = [i for i in range(len(other.joints)) if i not in {column for _, column in pairs}]
        found.append(
            Comparison(
                f"picture {image}",
                "pose",
                oks=np.array([similar[column, row] for row, column in pairs], np.float64),
                oks_scores=true.scores[[row for row, _ in pairs]].astype(np.float64),
                people=len(pairs),
                missing=len(missing),
                extra=len(extra),
                alone_scores=np.concatenate([true.scores[missing], other.scores[extra]]).astype(np.float64),
            )
        )
    return found


def _people(results: Sequence[Mapping[str, Any]]) -> People:
    joints = np.array([r["keypoints"] for r in results], np.float32).reshape(-1, len(COCO_17), 3)
    boxes = extent(joints)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1, dtype=np.float64)
    return People(joints, np.array([r["score"] for r in results], np.float32), areas)


def oks_loss(comparisons: Sequence[Comparison]) -> float:
    """One minus the mean OKS of the people with the FP32 network's; people of one of the two only count as 0.

    Each person counts by the score of the network that found it, as in AP: a network for many people finds as many that
    it hardly believes in, which come and go with the last digit.

    Raises
    ------
    InputError
        If there is nobody in any of the inputs.
    """
    oks = np.concatenate([c.oks for c in comparisons] or [np.zeros(0)])
    scores = np.maximum(np.concatenate([c.oks_scores for c in comparisons] or [np.zeros(0)]), 0)
    alone = np.maximum(np.concatenate([c.alone_scores for c in comparisons] or [np.zeros(0)]), 0)
    total = float(scores.sum() + alone.sum())
    if total <= 0:
        raise InputError(
            "The FP32 network finds nobody in the calibration pictures, so what INT8 costs cannot be measured.",
            hint="Calibrate with pictures of people.",
        )
    return 1 - float((scores * oks).sum()) / total


def shift_p99(comparisons: Sequence[Comparison], farthest: float) -> float:
    """Distance in pixels of the inputs that one joint in a hundred exceeds; 0 if no joint counts.

    A joint that only one of the two networks finds counts as ``farthest``, the diagonal of the input.
    """
    shifts = [c.shifts for c in comparisons]
    lost = np.full(sum(c.lost for c in comparisons), farthest)
    everything = np.concatenate([*shifts, lost])
    return float(np.percentile(everything, 99)) if len(everything) else 0.0
