"""A model as ``edgepose eval --simulate`` measures it: every network of it on AIMET's grids."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..artifact import Artifact, StageSource
from ..errors import InputError
from ..graph.half import widen_stored
from ..graph.passes import optimise
from ..model import PoseModel
from .aimet_config import SimulationConfig
from .bias_correction import correct_biases
from .data import CalibrationSet, calibration_set
from .dead_channels import settle_dead_channels
from .equalisation import equalise, fold_high_biases
from .simulation import quantised_weights, simulate

#: Samples that empirical bias correction looks at; their values inside the network are in memory.
CORRECTION_SAMPLES = 16


@dataclass(frozen=True)
class SimulationOptions:
    """How a model is simulated.

    Attributes
    ----------
    config
        Which tensors are quantised, and how.
    calibration
        A folder of pictures, a COCO JSON (with ``images``), a video, or golden frames.
    images
        Folder of the pictures of a COCO JSON.
    limit
        Calibration samples, at most.
    settle_dead_channels
        First take constant channels out of the layers that read them; AIMET has no such thing.
    equalise
        Then cross-layer equalisation; ReLU6 is replaced by ReLU, as AIMET does.
    fold_high_biases
        Then fold high biases into the next layers.
    correct_biases
        Then empirical bias correction.
    """

    config: SimulationConfig
    calibration: str | Path
    images: str | Path | None = None
    limit: int = 500
    settle_dead_channels: bool = False
    equalise: bool = False
    fold_high_biases: bool = False
    correct_biases: bool = False


def simulated_artifact(
    artifact: Artifact, folder: Path, options: SimulationOptions, on_sample: Callable[[], object] = lambda: None
) -> tuple[Artifact, list[dict[str, Any]]]:
    """Simulate every network of a model.

    Parameters
    ----------
    artifact
        The model: float32 ONNX graphs.
    folder
        Where the simulated graphs are written.
    options
        How.
    on_sample
        Called after each calibration sample of each network.

    Returns
    -------
    tuple
        The simulated model, and what each network was calibrated with.

    Raises
    ------
    EdgePoseError
        If a network is no float32 ONNX graph, or cannot be calibrated.
    """
    stages: list[StageSource] = []
    records = []
    for index, stage in enumerate(artifact.stages):
        if stage.target != "onnx" or stage.precision != "fp32":
            raise InputError(
                f"'{stage.engine.name}' is a {stage.precision} engine of the target '{stage.target}';"
                " simulation needs a float32 ONNX graph.",
                hint="Convert the checkpoint with: edgepose convert CHECKPOINT --to onnx",
            )
        samples = calibration_set(options.calibration, stage.spec, images=options.images, limit=options.limit)
        model = PoseModel.from_onnx(stage.engine, stage.spec)
        model = PoseModel(optimise(widen_stored(model.graph)), model.spec, model.provenance)
        simulated = _simulated(model, samples, options, on_sample)
        engine = simulated.save(folder / f"{index}-{stage.engine.name}")
        stages.append(dataclasses.replace(stage, engine=engine, precision="simulated"))
        records.append(samples.record)
    return Artifact(f"{artifact.name} (simulated)", stages), records


def _simulated(
    model: PoseModel, samples: CalibrationSet, options: SimulationOptions, on_sample: Callable[[], object]
) -> PoseModel:
    if options.settle_dead_channels:
        model = settle_dead_channels(model)
    if options.equalise:
        model = equalise(model, replace_relu6=True)
    if options.fold_high_biases:
        model = fold_high_biases(model, samples)
    if options.correct_biases:
        few = calibration_set(
            options.calibration,
            model.spec,
            images=options.images,
            limit=min(options.limit, CORRECTION_SAMPLES),
        )
        model = correct_biases(model, quantised_weights(model, options.config), few)
    return simulate(model, samples, options.config, on_sample=on_sample).model
