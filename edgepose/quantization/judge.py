"""Measuring candidates: as the target's own engines where they run here, on labelled or unlabelled pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact, StageSource
from ..errors import DeviceError, PluginError
from ..estimator import Stage
from ..evaluation.bootstrap import Results, ap_difference
from ..evaluation.coco import CocoAnnotations
from ..evaluation.runner import Evaluation, evaluate
from ..evaluation.timing import median_ms
from ..evaluation.views import views
from ..loading import load, open_stage, place
from ..model import PoseModel
from .budget import Measurement
from .consistency import Reference, compare_results, oks_loss, shift_p99

#: Writes the engines of networks in a precision into a folder and says what they are.
Build = Callable[[Sequence[PoseModel], str, Path], Artifact]
#: COCO results for each view; none without labels.
ByView = list[Results]
#: As ``edgepose eval`` does by default: AP counts weak people as well.
MIN_SCORE = 0.02


@dataclass(frozen=True)
class Labelled:
    """Labelled pictures.

    Attributes
    ----------
    truth
        COCO annotations.
    images
        Folder of the pictures.
    views
        In how many views each picture counts; see :mod:`edgepose.evaluation.views`.
    """

    truth: CocoAnnotations
    images: Path
    views: int = 1

    @property
    def ids(self) -> list[int]:
        """The pictures that the annotations name."""
        return [int(r["id"]) for r in self.truth.images]

    def with_people(self, ids: Sequence[int]) -> list[int]:
        """Those of some pictures in which somebody has labelled keypoints."""
        return [i for i in ids if self.truth.people(i)]


class Judge:
    """Measures candidates of one model on one target.

    Parameters
    ----------
    build
        Makes engines of graphs.
    references
        The FP32 answers of each network.
    labelled
        Labelled pictures; None to go without AP.
    """

    def __init__(self, build: Build, references: Sequence[Reference], labelled: Labelled | None) -> None:
        self._build, self._references, self.labelled = build, references, labelled
        #: What the last candidate ran on, and whether that is the target's own runtime.
        self.placement, self.on_target = "", True
        #: The labelled pictures that count, and why others cannot be read; known once the FP32 networks are measured.
        self.ids = [] if labelled is None else labelled.ids
        self.unreadable: Mapping[str, str] = {}
        self._full: list[Results] = []

    @property
    def inputs(self) -> list[npt.NDArray[np.uint8]]:
        """An input for each network, uint8 [1, H, W, 3], BGR."""
        return [r.pixels for r in self._references]

    def measure(
        self, models: Sequence[PoseModel], precision: str, kept: Sequence[str] = (), *, with_ap: bool = True
    ) -> tuple[Measurement, ByView]:
        """Build, run and measure.

        Parameters
        ----------
        models
            A graph for each network: Q/DQ graphs for ``int8``; the FP32 ones come first.
        precision
            As for the target's converter.
        kept
            Names of the layers in float, for the record.
        with_ap
            Whether to measure AP, where there are labels.

        Returns
        -------
        tuple
            The measurement, and COCO results for each view (none without labels).

        Raises
        ------
        DeviceError
            If an engine loads and then fails.
        """
        with TemporaryDirectory() as name:
            folder = Path(name)
            made = self._build(models, precision, folder)
            size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
            artifact = self._runnable(made, models, precision, folder)
            stages = [open_stage(source, *place(source)) for source in artifact.stages]
            try:
                compared = [r.compare(s) for r, s in zip(self._references, stages, strict=True)]
                # The times of another runtime would mislead.
                taken = [median_ms(s, p) for s, p in zip(stages, self.inputs, strict=True) if self.on_target]
                self.placement = "; ".join(dict.fromkeys(s.session.placement for s in stages))
            finally:
                for stage in stages:
                    stage.session.close()
            everything = [c for part in compared for c in part]
            # A detector's own answers count by the poses that follow from them, where there are pictures to see it in.
            by_results = len(stages) > 1 and self.labelled is not None
            seen = self._evaluations(artifact, with_ap, by_results)
            results: ByView = [one.results for one in seen]
        if precision == "fp32":
            self._full = results
            self._leave_out(seen)
        lost = oks_loss(compare_results(self._full[0], results[0]) if by_results else everything)
        ap = bound = None
        if self.labelled is not None and with_ap:
            ap = 100 * float(np.mean([one.statistics["AP"] for one in seen]))
            bound = -ap_difference(self.labelled.truth, self._full, results, self.ids).at_least
        farthest = max(math.hypot(*p.shape[1:3]) for p in self.inputs)
        ms = sum(taken) if self.on_target else None
        return Measurement(tuple(kept), ap, lost, shift_p99(everything, farthest), ms, size, bound), results

    def stages(self, models: Sequence[PoseModel], precision: str, folder: Path) -> list[Stage]:
        """Loaded engines of graphs, in ``folder``; the caller closes their sessions."""
        artifact = self._runnable(self._build(models, precision, folder), models, precision, folder)
        return [open_stage(s, *place(s)) for s in artifact.stages]

    def _runnable(self, artifact: Artifact, models: Sequence[PoseModel], precision: str, folder: Path) -> Artifact:
        """The target's engines; the graphs themselves, in ONNX Runtime, where nothing here runs such engines."""
        try:
            for source in artifact.stages:
                place(source)
        except (DeviceError, PluginError):
            self.on_target = False
            sources = []
            for index, model in enumerate(models):
                path = model.save(folder / f"graph-{index}.onnx")
                sources.append(StageSource(path, "onnx", precision, model.spec))
            return Artifact(artifact.name, sources)
        return artifact

    def _evaluations(self, artifact: Artifact, with_ap: bool, by_results: bool) -> list[Evaluation]:
        """Of every view for AP, of the pictures as they are to compare results."""
        if self.labelled is None or not (with_ap or by_results):
            return []
        # A top-down network by itself looks at the annotated people.
        boxes: Literal["gt"] | None = "gt" if artifact.stages[0].spec.is_top_down else None
        with load(artifact, detector=None, min_score=MIN_SCORE) as estimator:
            truth, images = self.labelled.truth, self.labelled.images
            return [
                evaluate(estimator, truth, images, boxes=boxes, image_ids=self.ids, view=view)
                for view in views(self.labelled.views if with_ap else 1)
            ]

    def _leave_out(self, seen: Sequence[Evaluation]) -> None:
        """Leave out what cannot be read: pictures without results would make every loss smaller than it is."""
        self.unreadable = {name: why for one in seen for name, why in one.unreadable.items()}
        if self.labelled is not None and self.unreadable:
            self.ids = [i for i in self.ids if self.labelled.truth.coco.imgs[i]["file_name"] not in self.unreadable]
            for one in seen:
                one.statistics.update(self.labelled.truth.statistics(one.results, self.ids))
