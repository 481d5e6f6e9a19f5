"""What a user says about INT8, and the calibration, samples and labels that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..evaluation.coco import CocoAnnotations
from ..model import PoseModel
from .budget import Budget
from .calibration import calibrate
from .data import CalibrationSet, calibration_set
from .gluoncv_ranges import ranges_of
from .judge import Labelled
from .ranges import FORMAT, Ranges

Report = Callable[[str], object]
#: Stands for the ranges that the checkpoint brought along.
IMPORTED: Literal["imported"] = "imported"
#: Inputs on which the poses of candidates are compared with the FP32 model's.
COMPARED = 128


@dataclass(frozen=True)
class Int8Options:
    """How to quantise.

    Attributes
    ----------
    calibration
        A folder of pictures, a COCO JSON (with ``images``), a video, a bundle or its ``golden.npz``; or a file of
        ranges, which needs ``samples`` for the budget; or ``imported`` for the ranges that the checkpoint brought.
    images
        Folder of the pictures of a COCO JSON.
    method
        ``naive``, ``entropy``, ``percentile``, ``mse`` or ``sqnr``; None to try those that are best for most networks.
    limit
        Calibration samples, at most.
    samples
        Pictures to measure the budget on, as for ``calibration``; by default those of the calibration.
    annotations, annotated_images
        Labelled pictures for a budget in AP; by default a COCO JSON given for calibration.
    views
        In how many views each labelled picture counts for AP (:mod:`edgepose.evaluation.views`): AP depends less on
        chance, and takes as many times as long.
    budget
        What INT8 may cost; None for :data:`.budget.DEFAULT_AP` with labels, else :data:`.budget.DEFAULT_OKS`.
    keep_float
        Layers that stay in float in any case.
    repair
        Where INT8 alone misses the budget, balance and repair the networks before layers go back to float; takes some
        minutes for large ones.
    picture
        Where the picture of everything that was tried is written; None for none.
    """

    calibration: str | Path
    images: str | Path | None = None
    method: str | None = None
    limit: int = 500
    samples: str | Path | None = None
    annotations: str | Path | None = None
    annotated_images: str | Path | None = None
    views: int = 1
    budget: Budget | None = None
    keep_float: Collection[str] = ()
    repair: bool = True
    picture: str | Path | None = None

    @property
    def promises(self) -> list[str]:
        """What was asked for, beside calibration, that only a search within a budget gives."""
        asked = {
            "a budget": self.budget is not None,
            "layers in float": bool(self.keep_float),
            "views": self.views != 1,
            "samples": self.samples is not None,
            "annotations": self.annotations is not None,
            "a picture of what was tried": self.picture is not None,
        }
        return [name for name, given in asked.items() if given]


def ranges_for(model: PoseModel, options: Int8Options, method: str, report: Report) -> Ranges:
    """Ranges for a network: calibrated by a method, read from a file, or those that came with the checkpoint."""
    if options.calibration == IMPORTED:
        return ranges_of(model)
    path = Path(options.calibration)
    if _is_ranges(path):
        return Ranges.load(path)
    samples = calibration_set(path, model.spec, images=options.images, limit=options.limit)
    ranges = calibrate(model, samples, method, on_sample=Steps(report, f"calibrating ({method})", len(samples)))
    if samples.unreadable:
        report(f"calibrated without {unread(samples.unreadable)}")
    return ranges


def samples_for(model: PoseModel, options: Int8Options, limit: int) -> CalibrationSet:
    """The inputs on which candidates are compared with the FP32 network, and repairs are learned.

    Raises
    ------
    InputError
        If only ranges were given.
    """
    if options.samples is not None:
        is_coco = Path(options.samples).suffix.lower() == ".json"
        images = options.annotated_images or options.images if is_coco else None
        if is_coco and images is None:
            raise InputError(
                f"The samples '{options.samples}' need the folder of their pictures.", hint="Give --annotated-images."
            )
        return calibration_set(options.samples, model.spec, images=images, limit=limit)
    if is_calibrated(options):
        raise InputError(
            "Ranges alone do not say what INT8 costs.", hint="Give some pictures to measure it on with --samples."
        )
    # Who means a single picture for the ranges means it here as well.
    limit = limit if options.limit > 1 else 1
    return calibration_set(options.calibration, model.spec, images=options.images, limit=limit)


def labelled_for(options: Int8Options, report: Report) -> Labelled | None:
    """Labelled pictures, if there are any.

    The COCO JSON of a calibration may have boxes and no keypoints; why there is no AP is then reported.

    Raises
    ------
    InputError
        If annotations are without pictures or keypoints, or views or a budget in AP without annotations.
    """
    if options.annotations is not None:
        if options.annotated_images is None:
            raise InputError("Annotations need the folder of their pictures.", hint="Give --annotated-images.")
        return _labelled(options.annotations, options.annotated_images, options.views)
    is_coco = Path(options.calibration).suffix.lower() == ".json" and not is_calibrated(options)
    if options.images is not None and is_coco:
        try:
            return _labelled(options.calibration, options.images, options.views)
        except InputError as error:
            if options.views != 1 or (options.budget is not None and options.budget.metric == "ap"):
                raise
            report(f"AP is not measured: {error.message}")
    if options.budget is not None and options.budget.metric == "ap":
        raise InputError(
            "A budget in AP needs labelled pictures.",
            hint="Calibrate with a COCO JSON and --images, give --annotations, or use --max-oks-loss.",
        )
    if options.views != 1:
        raise InputError(
            "Only labelled pictures count in several views.",
            hint="Calibrate with a COCO JSON and --images, give --annotations, or leave out --views.",
        )
    return None


def unread(unreadable: Mapping[str, str]) -> str:
    """What to say of pictures that cannot be read: how many, and the first one's reason."""
    return f"{len(unreadable)} pictures that cannot be read; {next(iter(unreadable.values()))}"


def is_calibrated(options: Int8Options) -> bool:
    """Whether the ranges are given, so that the network must stay as it is."""
    return options.calibration == IMPORTED or _is_ranges(Path(options.calibration))


def _labelled(annotations: str | Path, images: str | Path, count: int) -> Labelled:
    labelled = Labelled(CocoAnnotations(annotations), Path(images), count)
    if not labelled.with_people(labelled.ids):
        raise InputError(
            f"'{annotations}' labels nobody's keypoints, so there is no AP.",
            hint="Give other labels with --annotations, or use --max-oks-loss.",
        )
    return labelled


def _is_ranges(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return FORMAT.encode() in stream.read(200)
    except OSError:
        return False


class Steps:
    """Reports progress a few times, not at every step."""

    def __init__(self, report: Report, what: str, total: int = 0) -> None:
        self._report, self._what, self._total = report, what, total
        self._done = self._told = 0

    def __call__(self, done: int | None = None, total: int | None = None) -> None:
        self._done = self._done + 1 if done is None else done
        whole = total or self._total
        if self._done - self._told >= max(1, whole // 10) or self._done == whole:
            self._told = self._done
            # The number of people in pictures is not known beforehand.
            self._report(f"{self._what}: {self._done}" + (f" of {whole}" if whole >= self._done else ""))
