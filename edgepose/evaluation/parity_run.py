"""Running a model and its reference on the same pictures, and comparing their answers.

Golden frames are used where they fit both models; they need no reference, because the bundle holds the reference's
outputs.  Pictures go through the whole chain of each model.  Top-down networks look at the same boxes, those given or
the reference's own detector's, so that their people belong together by number; a detector is compared by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact, StageSource, resolve
from ..bundle import BundleStage
from ..decoding import build_decoder
from ..devices import AUTO
from ..errors import DependencyError, DeviceError, InputError, PluginError
from ..estimator import Estimator, Stage
from ..golden import GOLDEN, GoldenFrame, read_golden
from ..loading import load
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
        with load(artifact, device=device, runtime=runtime) as estimator:
            return Parity([_with_record(estimator, f, i) for i, f in enumerate(frames)])
    reference_artifact = resolve(against, against_spec)
    pictures, unreadable = read_pictures(images, boxes)
    with (
        load(artifact, device=device, runtime=runtime) as estimator,
        load_reference(reference_artifact, device) as reference,
    ):
        same_keypoints(reference.stages[-1].spec, estimator.stages[-1].spec)
        comparisons = _golden_comparisons(estimator, reference, artifact, reference_artifact)
        if not comparisons and not pictures and not unreadable:
            pictures = [sample()]
        for picture in pictures:
            comparisons += compare_on_picture(estimator, reference, picture)
    return Parity(comparisons, unreadable)


def measure_conversion(model: PoseModel, folder: Path, stages: Sequence[BundleStage]) -> dict[str, Any]:
    """Run what a converter wrote on the golden frames, against the graph that it was made from.

    Parameters
    ----------
    model
        The FP32 graph.
    folder
        Where the engine and ``golden.npz`` are; the bundle need not be finished.
    stages
        The bundle's one stage.

    Returns
    -------
    dict
        Plain data for ``measured["parity"]`` of the manifest: ``status`` is ``"executed"``, with what
        :meth:`.parity.Parity.to_dict` gives, ``frames``, ``device``, ``runtime`` and ``reference``; or
        ``"not executed"`` with the ``reason``, where nothing here runs such an engine.

    Raises
    ------
    EdgePoseError
        If the engine loads and then fails, or gives something else than its spec says.
    """
    stage = stages[-1]
    source = StageSource(folder / stage.engine, stage.target, stage.precision, stage.spec)
    try:
        estimator = load(Artifact(stage.engine, [source]))
    except (DeviceError, PluginError, DependencyError) as error:
        return {"status": "not executed", "reason": error.message}
    with estimator:
        frames = [f for f in read_golden(folder / GOLDEN) if f.stage == len(stages) - 1]
        decoder = build_decoder(model.spec)
        comparisons = [
            compare(recorded(model.spec, decoder, f), look_at_golden(estimator.stages[-1], f), f"golden frame {i}")
            for i, f in enumerate(frames)
        ]
        return {
            "status": "executed",
            **Parity(comparisons).to_dict(),
            "frames": len(frames),
            "device": str(estimator.device),
            "runtime": estimator.placement,
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


def load_reference(artifact: Artifact, device: str) -> Estimator:
    """Load a reference on the CPU, or on ``device`` if it does not run on the CPU."""
    if all("cpu" in _devices_of(s.target) for s in artifact.stages):
        return load(artifact, device="cpu")
    return load(artifact, device=device)


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


def boxes_for(picture: Picture, estimators: Iterable[Estimator]) -> Boxes:
    """Boxes of the people in a picture: those given, or what the first model that finds people by itself finds.

    Raises
    ------
    InputError
        If there are none and no model finds people by itself.
    """
    if picture.boxes is not None:
        return picture.boxes
    for estimator in estimators:
        if not estimator.stages[0].spec.is_top_down:
            return estimator.boxes(picture.image)[0]
    raise InputError(
        f"Both models look at one person at a time, and there are no person boxes for '{picture.name}'.",
        hint="Give them with --boxes FILE; 'edgepose run --json FILE' writes such a file.",
    )


def compare_on_picture(model: Estimator, reference: Estimator, picture: Picture) -> list[Comparison]:
    """Compare two models on a picture, stage by stage where both have the same number of stages."""
    comparisons = []
    if len(model.stages) == len(reference.stages) == 2:
        first, second = reference.stages[0], model.stages[0]
        seen = [look(s, picture.image, None) for s in (first, second)]
        comparisons.append(compare(seen[0], seen[1], picture.name, "detector"))
    last = reference.stages[-1], model.stages[-1]
    boxes: Boxes | None = None
    if any(s.spec.is_top_down for s in last):
        boxes = boxes_for(picture, (reference, model))
        if not len(boxes):
            return [*comparisons, Comparison(picture.name, "pose")]
    true, found = (look(s, picture.image, boxes) for s in last)
    return [*comparisons, compare(true, found, picture.name)]


def _golden_comparisons(
    model: Estimator, reference: Estimator, model_artifact: Artifact, reference_artifact: Artifact
) -> list[Comparison]:
    """Both models on the golden frames of either bundle; only stages that see a picture in the same way."""
    if len(model.stages) != len(reference.stages):
        return []
    frames = golden_frames(model_artifact) or golden_frames(reference_artifact)
    comparisons = []
    for i, frame in enumerate(frames):
        true, found = reference.stages[frame.stage], model.stages[frame.stage]
        if _fits(true, frame) and _fits(found, frame) and true.spec.input.fit == found.spec.input.fit:
            comparisons.append(
                compare(
                    look_at_golden(true, frame),
                    look_at_golden(found, frame),
                    f"golden frame {i}",
                    _ROLES[len(model.stages)][frame.stage],
                )
            )
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
