"""A small top-down network, to plant faults in."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from edgepose.architectures import BuildOptions, build_network
from edgepose.bundle import BundleStage, finish_bundle, writing_bundle
from edgepose.conversion import golden_frame
from edgepose.golden import GOLDEN, write_golden
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel

ARCHITECTURE = "mindspore_simple_pose_resnet50"
#: Blocks of the four stages of a ResNet-50, and their planes: an eighth of the real ones.
STAGES = ((3, 8), (4, 16), (6, 32), (3, 64))
STEM, HEAD, SIZE = 16, 16, (128, 96)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for leaf in ("gamma", "beta", "moving_mean", "moving_variance"):
        yield f"{name}.{leaf}", (width,)


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "conv1.weight", (STEM, 3, 7, 7)
    yield from _norm("bn1", STEM)
    width = STEM
    for stage, (blocks, planes) in enumerate(STAGES, 1):
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            layers = ((width, planes, 1), (planes, planes, 3), (planes, 4 * planes, 1))
            for number, (inside, out, kernel) in enumerate(layers, 1):
                yield f"{prefix}.conv{number}.weight", (out, inside, kernel, kernel)
                yield from _norm(f"{prefix}.bn{number}", out)
            if block == 0:
                yield f"{prefix}.down_sample_layer.0.weight", (4 * planes, width, 1, 1)
                yield from _norm(f"{prefix}.down_sample_layer.1", 4 * planes)
            width = 4 * planes
    for i in range(3):
        yield f"deconv_layers.deconv_{i}.deconv.weight", (width, HEAD, 4, 4)
        yield from _norm(f"deconv_layers.deconv_{i}.bn", HEAD)
        width = HEAD
    yield "final_layer.weight", (17, HEAD, 1, 1)
    yield "final_layer.bias", (17,)


def arrays() -> dict[str, npt.NDArray[np.float32]]:
    """Weights that belong to their names, such that activations neither die nor explode."""
    made = {}
    for name, shape in _shapes():
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
        leaf = name.rpartition(".")[2]
        scale, offset = {
            "gamma": (0.1, 0.6),
            "moving_variance": (0.1, 1.0),
            "beta": (0.05, 0.0),
            "bias": (0.05, 0.0),
            "moving_mean": (0.1, 0.0),
        }.get(leaf, (np.sqrt(2 / np.prod(shape[1:])), 0.0))
        made[name] = np.asarray(offset + scale * (np.abs(noise) if offset else noise), np.float32)
    return made


def network(architecture: str = ARCHITECTURE) -> PoseModel:
    """The network as it is converted."""
    built = build_network(arrays(), architecture, BuildOptions(input_size=SIZE))
    return PoseModel(optimise(built.graph), built.spec, {"architecture": architecture})


def with_input(model: PoseModel, **changes: Any) -> PoseModel:
    return _with(model, input=dataclasses.replace(model.spec.input, **changes))


def with_decoder(model: PoseModel, **options: Any) -> PoseModel:
    decoder = model.spec.decoder
    return _with(model, decoder=dataclasses.replace(decoder, options={**decoder.options, **options}))


def with_weight(model: PoseModel, name: str, change: Any) -> PoseModel:
    """The array ``name`` put through ``change``."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    tensor = next(t for t in graph.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return PoseModel(graph, model.spec, model.provenance)


def write_bundle(
    folder: Path, model: PoseModel, *, engine: PoseModel | None = None, precision: str = "fp32", golden: bool = True
) -> Path:
    """A bundle whose golden outputs are those of ``model``; its engine may be another."""
    with writing_bundle(folder) as inside:
        (engine or model).save(inside / "model.onnx")
        if golden:
            write_golden(inside / GOLDEN, [golden_frame(model, inside)])
        finish_bundle(
            inside, folder.name, [BundleStage("pose", "onnx", precision, "model.onnx", (engine or model).spec)]
        )
    return folder


def _with(model: PoseModel, **changes: Any) -> PoseModel:
    return PoseModel(model.graph, model.spec.replace(**changes), model.provenance)
