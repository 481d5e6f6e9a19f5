"""What INT8 costs in AP: the budget search beside naive and per-tensor quantisation of the whole graph.

    python benchmarks/int8_accuracy.py COCO/ MODEL[:SPEC.json] ... [--targets onnx,openvino] [--views 8]

``COCO/`` has ``train2017/``, ``val2017/`` and their ``person_keypoints_*.json``.  Everything is calibrated, and the
search keeps its budgets, each in a row, on train2017; AP is of val2017 with the difference's 95 % interval (paired
bootstrap over the pictures); speed is INT8 against FP32 of the same runtime, in turns.  With ``--views``, AP is the
mean over as many views of each picture, in the search as well; the last column has the difference for the pictures as
they are.  A model is what ``edgepose convert`` takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np

from edgepose.artifact import Artifact, StageSource, resolve
from edgepose.conversion import TargetOptions, convert, engines_of
from edgepose.errors import EdgePoseError
from edgepose.evaluation.bootstrap import ap_difference
from edgepose.evaluation.coco import CocoAnnotations
from edgepose.evaluation.runner import Evaluation, evaluate
from edgepose.evaluation.views import views
from edgepose.importing import Imported, ImportOptions, import_model
from edgepose.loading import load
from edgepose.model import PoseModel
from edgepose.plugins import converter
from edgepose.quantization.budget import Budget
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.options import Int8Options
from edgepose.quantization.placement import quantisable
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme

#: As ``edgepose eval`` does by default.
MIN_SCORE = 0.02
#: Calibration samples of a network.
LIMIT = 300


class Data:
    """COCO pictures with annotations."""

    def __init__(self, folder: Path, name: str) -> None:
        self.json, self.images = folder / f"person_keypoints_{name}.json", folder / name
        self.truth = CocoAnnotations(self.json)

    def accuracy(self, artifact: Artifact, count: int) -> list[Evaluation]:
        """Of a model in each view, with the annotated boxes if it needs any."""
        boxes: Literal["gt"] | None = "gt" if artifact.stages[0].spec.is_top_down else None
        with load(artifact, detector=None, min_score=MIN_SCORE) as pose:
            return [evaluate(pose, self.truth, self.images, boxes=boxes, view=view) for view in views(count)]


def whole_graph(imported: Imported, to: str, scheme: Scheme, ranges: Sequence[Ranges], folder: Path) -> Artifact:
    """Everything quantised, without a search."""
    pairs = zip(imported.stages, ranges, strict=True)
    models: list[PoseModel] = [quantize_model(model, found, scheme).model for (_, model), found in pairs]
    folder.mkdir()
    written = engines_of(imported, models, folder, to, "int8", TargetOptions())
    return Artifact(imported.name, [StageSource(folder / s.engine, to, "int8", s.spec) for s in written.stages])


def table_of(
    name: str, spec: str | None, target: str, folder: Path, budgets: Sequence[Budget], size: str | None, count: int
) -> None:
    """The rows of one model on one target."""
    train, val = Data(folder, "train2017"), Data(folder, "val2017")
    height_width = None if size is None else (int(size.split("x")[0]), int(size.split("x")[1]))
    imported = import_model(name, ImportOptions(spec=spec, input_size=height_width))
    scheme = converter(target).scheme
    assert scheme is not None
    ids = [int(r["id"]) for r in val.truth.images]
    with TemporaryDirectory() as place:
        full = convert(name, target, spec=spec, input_size=height_width, output=Path(place) / "fp32")
        before = val.accuracy(resolve(full), count)
        ap_before = np.mean([100 * e.statistics["AP"] for e in before])

        def row(what: str, artifact: Artifact, kept: str, speed: str = "") -> None:
            after = val.accuracy(artifact, count)
            ap_after = np.mean([100 * e.statistics["AP"] for e in after])
            apart = ap_difference(val.truth, [e.results for e in before], [e.results for e in after], ids)
            plain = 100 * (after[0].statistics["AP"] - before[0].statistics["AP"])
            print(
                f"| {imported.name} | {target} | {what} | {ap_before:.2f} | {ap_after:.2f}"
                f" | {apart.value:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}] | {kept} | {speed} | {plain:+.2f} |",
                flush=True,
            )

        naive = [
            calibrate(m, calibration_set(train.json, m.spec, images=train.images, limit=LIMIT), "naive")
            for _, m in imported.stages
        ]
        row("naive, whole graph", whole_graph(imported, target, scheme, naive, Path(place) / "naive"), "0")
        by_tensor = dataclasses.replace(scheme, per_channel=False)
        row("naive, per tensor", whole_graph(imported, target, by_tensor, naive, Path(place) / "tensor"), "0")
        layers = sum(len(quantisable(model, scheme)) for _, model in imported.stages)
        for budget in budgets:
            options = Int8Options(train.json, images=train.images, limit=LIMIT, views=count, budget=budget)
            try:
                bundle = convert(
                    name, target, precision="int8", int8=options, spec=spec, input_size=height_width,
                    output=Path(place) / budget.metric,
                    report=lambda line: print(f"  {line}", file=sys.stderr, flush=True),
                )  # fmt: skip
            except EdgePoseError as error:
                print(f"{name} {target}: {error}", file=sys.stderr)
                continue
            record = bundle.manifest.calibration
            searched = {k for k, why in record["float"].items() if why.startswith(("quant", "known"))}
            ms = record["speed"]["ms"]  # empty where no engine of the target runs
            times = f"{ms['fp32'] / ms['int8']:.2f}" if ms else ""
            row(f"edgepose, {budget}", resolve(bundle), f"{len(searched)} of {layers}", times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--targets", default="onnx,openvino")
    parser.add_argument("--max-ap-drop", type=float, default=0.4)
    parser.add_argument("--max-oks-loss", type=float, help="a row more, for this budget")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--input-size")
    chosen = parser.parse_args()
    budgets = [Budget("ap", chosen.max_ap_drop)]
    if chosen.max_oks_loss is not None:
        budgets.append(Budget("oks", chosen.max_oks_loss))
    names = (
        "model",
        "target",
        "INT8",
        "AP FP32",
        "AP INT8",
        "difference, 95 %",
        "in float",
        "times as fast",
        "as it is",
    )
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for text in chosen.models:
        name, _, spec = text.partition(":")
        for target in chosen.targets.split(","):
            table_of(name, spec or None, target, chosen.folder, budgets, chosen.input_size, chosen.views)


if __name__ == "__main__":
    main()
