"""Accuracy of the same trained models on every target, on COCO keypoints.

    python benchmarks/accuracy_targets.py ANNOTATIONS.json IMAGES/ WEIGHTS/ [RUNTIME ...]

``WEIGHTS/`` holds ``ultralight_simplepose/Ultralight-Nano-SimplePose.params`` and
``lightweight_openpose/lightweight_openpose.pth``; the embedded models are in the package.  Runtimes are
``onnxruntime``, ``openvino``, ``tflite``, ``mindspore-lite`` and ``mindspore``; by default the first three.  A cell is
100 AP on all images; ``-`` where the target refuses the model, with the reason below the table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgepose.artifact import Artifact, resolve
from edgepose.conversion import convert
from edgepose.errors import ConversionError
from edgepose.evaluation.coco import CocoAnnotations
from edgepose.evaluation.runner import evaluate
from edgepose.importing import ImportOptions, import_checkpoint
from edgepose.keypoints import COCO_17
from edgepose.loading import load
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

RUNTIMES = {
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "tflite": "tflite",
    "mindspore-lite": "mindir",
    "mindspore": "mindir",
}
DEFAULT = ("onnxruntime", "openvino", "tflite")
#: As ``edgepose eval`` does by default: AP counts weak people as well.  The pair keeps the threshold of its own spec:
#: each weak person would be a run of the second network.
MIN_SCORE = 0.02
#: Height and width: some targets take one size only.
OPENPOSE_SIZE, FAST_SIZE = (368, 496), (384, 512)
ULTRALIGHT = PoseSpec(
    InputSpec("data", 256, 192, Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    DecoderSpec("heatmap", {"heatmaps": "hybridsequential0_conv7_fwd"}),
    COCO_17,
)


@dataclass(frozen=True)
class Row:
    """A model as it is measured."""

    name: str
    stages: Sequence[PoseModel]
    boxes: Literal["gt"] | None = None
    flip: bool = False
    min_score: float | None = MIN_SCORE


def rows(weights: Path) -> list[Row]:
    """All models, as FP32 graphs."""
    ultralight = import_checkpoint(
        weights / "ultralight_simplepose/Ultralight-Nano-SimplePose.params", ImportOptions(spec=ULTRALIGHT)
    )
    openpose = import_checkpoint(
        weights / "lightweight_openpose/lightweight_openpose.pth", ImportOptions(input_size=OPENPOSE_SIZE)
    )
    sources = resolve("accurate").stages
    thunder = PoseModel.from_onnx(sources[1].engine, sources[1].spec)
    fixed = import_checkpoint(sources[0].engine, ImportOptions(spec=sources[0].spec, input_size=FAST_SIZE))
    return [
        Row("Ultralight-SimplePose", [ultralight], "gt"),
        Row("Ultralight-SimplePose, flip test", [ultralight], "gt", flip=True),
        Row("`fast`, {} x {}".format(*FAST_SIZE), [fixed]),
        Row("`accurate`, detector {} x {}".format(*FAST_SIZE), [fixed, thunder], min_score=None),
        Row("Lightweight OpenPose, {} x {}".format(*OPENPOSE_SIZE), [openpose]),
    ]


def accuracy(row: Row, runtime: str, precision: str, truth: CocoAnnotations, images: Path) -> float:
    """100 AP of a model in bundles of its own, one a stage."""
    with tempfile.TemporaryDirectory() as folder:
        sources = []
        for i, stage in enumerate(row.stages):
            graph = Path(folder, f"{i}.onnx")
            stage.save(graph)
            bundle = convert(graph, RUNTIMES[runtime], output=Path(folder, f"bundle-{i}"), precision=precision)
            sources += resolve(bundle).stages
        model = Artifact(row.name, sources)
        with load(model, device="cpu", runtime=runtime, detector=None, flip=row.flip, min_score=row.min_score) as pose:
            return 100 * evaluate(pose, truth, images, boxes=row.boxes).statistics["AP"]


def main() -> None:
    """Measure and print a table."""
    truth, images, weights = CocoAnnotations(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    cells = [(runtime, precision) for runtime in sys.argv[4:] or DEFAULT for precision in ("fp32", "fp16")]
    print("| model | " + " | ".join(f"{r} {p}" for r, p in cells) + " |")
    print("|---|" + "---|" * len(cells))
    refusals = []
    for row in rows(weights):
        found = []
        for runtime, precision in cells:
            try:
                found.append(f"{accuracy(row, runtime, precision, truth, images):.2f}")
            except ConversionError as error:
                found.append("-")
                refusals.append(f"{row.name}, {runtime}, {precision}: {error.message}")
        print(f"| {row.name} | " + " | ".join(found) + " |", flush=True)
    print("\n".join(refusals))


if __name__ == "__main__":
    main()
