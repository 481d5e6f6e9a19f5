"""Running a model and its reference on the same pictures, and comparing their answers.

Golden frames are used where they fit both models; they need no reference, because the bundle holds the reference's
outputs.  Pictures go through the whole chain of each model.  Top-down networks look at the same boxes, so that their
people belong together by number; a detector is compared by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..artifact import EMBEDDED_DETECTOR, Artifact, StageSource, resolve
from ..bundle import BundleStage
from ..decoding import build_decoder
from ..devices import AUTO
from ..errors import DeviceError, InputError, PluginError
from ..estimator import Estimator, Stage
from ..golden import GOLDEN, GoldenFrame, read_golden
from ..loading import load, open_stage, place
from ..media.boxes import BoxFile
from ..media.frames import Failure, Frame
from ..media.source import open_source
from ..model import PoseModel
from ..plugins import runtime as load_runtime
from ..plugins import runtimes
from ..sample import sample_picture
from ..spec import PoseSpec
from .parity import Comparison, Parity, compare, same_keypoints
from .parity_people import look, look_at_golden, recorded

Boxes = npt.NDArray[np.float32]
_ROLES = {1: ("pose",), 2: ("detector", "pose")}
#: The runtime whose outputs are the reference of a conversion.
REFERENCE_RUNTIME = "onnxruntime"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture to look at.

    Attributes
    ----------
    name
        What it is called in reports.
    image
        uint8 [H, W, 3], BGR.
    boxes
        Float32 [N, 4] of the people in it; None if none were given.
    """

    name: str
    image: npt.NDArray[np.uint8]
    boxes: Boxes | None = None


class Both:
    """A model and its reference, loaded.

    Attributes
    ----------
    model, reference
        With their own stages only.
    """

    def __init__(self, model: Estimator, reference: Estimator, closing: ExitStack) -> None:
        self.model, self.reference = model, reference
        self._closing = closing
        self._finder: Estimator | None = None

    def boxes(self, picture: Picture) -> Boxes:
        """Boxes [N, 4] of the people in a picture: those given, or those that a detector finds.

        The detector is the reference's, else the model's, else the embedded one, which top-down models have by default.
        """
        if picture.boxes is not None:
            return picture.boxes
        if self._finder is None:
            own = [e for e in (self.reference, self.model) if not e.stages[0].spec.is_top_down]
            self._finder = own[0] if own else self._closing.enter_context(load(EMBEDDED_DETECTOR, device="cpu"))
        return self._finder.boxes(picture.image)[0]


@contextmanager
def opened(model: Artifact, reference: Artifact, device: str, runtime: str | None) -> Iterator[Both]:
    """Load both; the reference on the CPU, or on the model's device if it does not run on the CPU.

    Raises
    ------
    InputError
        If they find different keypoints.
    """
    on_cpu = all("cpu" in _devices_of(s.target) for s in reference.stages)
    with ExitStack() as closing:
        ours = closing.enter_context(load(model, device=device, runtime=runtime, detector=None))
        true = closing.enter_context(load(reference, device="cpu" if on_cpu else device, detector=None))
        same_keypoints(true.stages[-1].spec, ours.stages[-1].spec)
        yield Both(ours, true, closing)


def verify(
    model: str | Path | Artifact | None,
    against: str | Path | Artifact | None = None,
    *,
    images: Sequence[str | Path] = (),
    boxes: str | Path | None = None,
    device: str = AUTO,
    runtime: str | None = None,
    spec: str | Path | PoseSpec | None = None,
    against_spec: str | Path | PoseSpec | None = None,
) -> Parity:
    """How far a model lies from its reference.

    Parameters
    ----------
    model
        As for :func:`edgepose.load`.
    against
        The reference; None for the outputs that the model's own bundle holds.
    images
        Pictures, folders, patterns or videos to look at beside the golden frames; they need a reference.  Where there
        are no golden frames that fit both models and no images, the picture that edgepose brings along is used.
    boxes
        File of person boxes for ``images``, as ``edgepose run --json`` writes it.
    device, runtime
        Of the model.  The reference runs on the CPU, or on the same device if it cannot.
    spec, against_spec
        Contracts of foreign engines.

    Raises
    ------
    EdgePoseError
        If a model cannot be loaded or run, or the two cannot be compared.
    """
    artifact = resolve(model, spec)
    if against is None:
        if images:
            raise InputError("Pictures are compared with a reference, and none was given.", hint="Give --against.")
        frames = golden_frames(artifact)
        if not frames:
            raise InputError(
                f"'{artifact.name}' has no golden frames to compare with.", hint="Give a reference with --against."
            )
        with load(artifact, device=device, runtime=runtime, detector=None) as estimator:
            return Parity([_with_record(estimator, f, i) for i, f in enumerate(frames)])
    reference_artifact = resolve(against, against_spec)
    pictures, unreadable = read_pictures(images, boxes)
    with opened(artifact, reference_artifact, device, runtime) as both:
        comparisons = _golden_comparisons(both, artifact, reference_artifact)
        if not comparisons and not pictures and not unreadable:
            pictures = [sample()]
        for picture in pictures:
            comparisons += compare_on_picture(both, picture)
    return Parity(comparisons, unreadable)


def measure_conversion(models: Sequence[PoseModel], folder: Path, stages: Sequence[BundleStage]) -> dict[str, Any]:
    """Run what a converter wrote on the golden frames, against the graphs that it was made from.

    Parameters
    ----------
    models
        The FP32 graph of each stage.
    folder
        Where the engines and ``golden.npz`` are; the bundle need not be finished.
    stages
        The bundle's stages.

    Returns
    -------
    dict
        Plain data for ``measured["parity"]`` of the manifest: ``status`` is ``"executed"``, with what
        :meth:`.parity.Parity.to_dict` gives, ``frames``, ``device``, ``runtime`` and ``reference``; or
        ``"not executed"`` with the ``reason``, where nothing here runs such an engine.

    Raises
    ------
    EdgePoseError
        If something here runs such engines, and this one does not load, fails, or gives something else than its spec
        says.
    """
    frames = read_golden(folder / GOLDEN)
    comparisons: list[Comparison] = []
    placements: list[str] = []
    for index, (model, stage) in enumerate(zip(models, stages, strict=True)):
        source = StageSource(folder / stage.engine, stage.target, stage.precision, stage.spec)
        try:
            engine_api, device = place(source)
        except (DeviceError, PluginError) as error:
            return {"status": "not executed", "reason": " ".join(filter(None, (error.message, error.hint)))}
        loaded = open_stage(source, engine_api, device)
        decoder = build_decoder(model.spec)
        try:
            comparisons += [
                compare(recorded(model.spec, decoder, f), look_at_golden(loaded, f), f"golden frame {i}", stage.role)
                for i, f in enumerate(frames)
                if f.stage == index
            ]
            placements.append(loaded.session.placement)
        finally:
            loaded.session.close()
    return {
        "status": "executed",
        **Parity(comparisons).to_dict(),
        "frames": len(frames),
        "device": str(device),
        "runtime": "; ".join(dict.fromkeys(placements)),
        "reference": f"the FP32 graph in {REFERENCE_RUNTIME}",
    }


def golden_frames(artifact: Artifact) -> list[GoldenFrame]:
    """The golden frames of an artifact's own stages; none if it is no bundle or has none.

    Raises
    ------
    BundleError
        If they cannot be read.
    """
    if artifact.manifest is None or GOLDEN not in artifact.manifest.files:
        return []
    depth = len(PurePosixPath(artifact.manifest.stages[0].engine).parts)
    folder = artifact.stages[0].engine.parents[depth - 1]
    return [f for f in read_golden(folder / GOLDEN) if f.stage < len(artifact.stages)]


def read_pictures(images: Sequence[str | Path], boxes: str | Path | None) -> tuple[list[Picture], dict[str, str]]:
    """Pictures of all sources, and why some could not be read.

    Raises
    ------
    InputError
        If a source does not exist, or the boxes say nothing of a picture.
    """
    box_file = None if boxes is None else BoxFile(boxes)
    pictures: list[Picture] = []
    unreadable: dict[str, str] = {}
    for text in images:
        for item in open_source(text):
            if isinstance(item, Failure):
                unreadable[item.source] = item.reason
            else:
                given = None if box_file is None else box_file.of(item)[:, :4]
                pictures.append(Picture(_name(item), item.image, given))
    return pictures, unreadable


def sample() -> Picture:
    """The picture that edgepose brings along."""
    image, boxes = sample_picture()
    return Picture("sample picture", image, boxes)


def compare_on_picture(both: Both, picture: Picture) -> list[Comparison]:
    """Compare two models on a picture, stage by stage where both have two."""
    true, ours = both.reference.stages, both.model.stages
    comparisons = []
    if len(true) == len(ours) == 2:
        answers = [look(stages[0], picture.image, None) for stages in (true, ours)]
        comparisons.append(compare(answers[0], answers[1], picture.name, "detector"))
    boxes: Boxes | None = None
    if any(stages[-1].spec.is_top_down for stages in (true, ours)):
        boxes = both.boxes(picture)
        if not len(boxes):
            return [*comparisons, Comparison(picture.name, "pose")]
    answers = [look(stages[-1], picture.image, boxes) for stages in (true, ours)]
    return [*comparisons, compare(answers[0], answers[1], picture.name)]


def _golden_comparisons(both: Both, model: Artifact, reference: Artifact) -> list[Comparison]:
    """Both models on the golden frames of either bundle; only stages that see a picture in the same way."""
    true, ours = both.reference.stages, both.model.stages
    if len(true) != len(ours):
        return []
    comparisons = []
    for i, frame in enumerate(golden_frames(model) or golden_frames(reference)):
        pair = true[frame.stage], ours[frame.stage]
        if all(_fits(stage, frame) for stage in pair) and pair[0].spec.input.fit == pair[1].spec.input.fit:
            answers = [look_at_golden(stage, frame) for stage in pair]
            role = _ROLES[len(ours)][frame.stage]
            comparisons.append(compare(answers[0], answers[1], f"golden frame {i}", role))
    return comparisons


def _with_record(estimator: Estimator, frame: GoldenFrame, index: int) -> Comparison:
    stage = estimator.stages[frame.stage]
    true = recorded(stage.spec, stage.decoder, frame)
    role = _ROLES[len(estimator.stages)][frame.stage]
    return compare(true, look_at_golden(stage, frame), f"golden frame {index}", role)


def _fits(stage: Stage, frame: GoldenFrame) -> bool:
    entry = stage.spec.input
    return entry.height is None or (entry.height, entry.width) == frame.pixels.shape[1:3]


def _devices_of(target: str) -> set[str]:
    known = [load_runtime(name) for name in runtimes()]
    return {d for r in known if target in r.targets for d in r.devices}


def _name(frame: Frame) -> str:
    return f"{frame.source}, frame {frame.index}" if frame.is_video else frame.source
