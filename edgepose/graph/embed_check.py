"""Proving that a graph with its input side or decoder inside gives the poses that numpy gives without."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from ..decoding import Detections, build_decoder
from ..errors import GraphError
from ..fitting import to_tensor
from ..spec import PoseSpec
from .check import difference
from .inference import shape_of
from .running import Runner, Tensor

Pixels = npt.NDArray[np.uint8]

#: What may differ, in pixels of the network input and in scores (of 1, or of the score where it is larger).
PIXEL_TOLERANCE, SCORE_TOLERANCE = 1e-3, 1e-5

_BLOCK = 8
#: (height, width) of the pictures for a network of dynamic size.
_DYNAMIC_SIZES = ((96, 128), (128, 96))


def prove_input(plain: onnx.ModelProto, spec: PoseSpec, embedded: onnx.ModelProto, now: PoseSpec) -> None:
    """Run a graph without and one with its input side on random pictures and compare the outputs.

    Raises
    ------
    GraphError
        If a graph does not run, or the outputs differ.
    """
    pictures = _pictures(plain, spec)
    pairs = list(zip(_run(plain, spec, pictures), _run(embedded, now, pictures), strict=True))
    for name in pairs[0][0]:
        difference(name, [(before[name], after[name]) for before, after in pairs])


def prove_poses(plain: onnx.ModelProto, spec: PoseSpec, embedded: onnx.ModelProto, now: PoseSpec) -> None:
    """Run a graph without and one with its decoder on random pictures and compare the people.

    Raises
    ------
    GraphError
        If a graph does not run, or the people differ.
    """
    pictures = _pictures(plain, spec)
    before, after = (
        [
            _people(outputs, contract, picture)
            for outputs, picture in zip(_run(graph, contract, pictures), pictures, strict=True)
        ]
        for graph, contract in ((plain, spec), (embedded, now))
    )
    for wanted, found in zip(before, after, strict=True):
        for one, other in zip(wanted, found, strict=True):
            compare_people(one, other)


def _run(model: onnx.ModelProto, spec: PoseSpec, pictures: list[Pixels]) -> list[dict[str, Tensor]]:
    runner = Runner(model)
    return [runner.run({spec.input.name: to_tensor(pixels, spec.input)}) for pixels in pictures]


def _people(outputs: dict[str, Tensor], spec: PoseSpec, pixels: Pixels) -> list[Detections]:
    raw = {role: np.asarray(outputs[name], np.float32) for role, name in spec.decoder.outputs.items()}
    return build_decoder(spec).decode(raw, (pixels.shape[1], pixels.shape[2]))


def _pictures(model: onnx.ModelProto, spec: PoseSpec) -> list[Pixels]:
    """Two batches of pictures in the size that the graph takes, random blocks with noise; uint8 [B, H, W, 3]."""
    entry = next(i for i in model.graph.input if i.name == spec.input.name)
    batch = (shape_of(entry) or (None,))[0]
    pictures = []
    for seed, size in enumerate(_DYNAMIC_SIZES):
        height, width = spec.input.height or size[0], spec.input.width or size[1]
        count = batch if isinstance(batch, int) else 1 + seed
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 256, (count, -(-height // _BLOCK), -(-width // _BLOCK), 3), dtype=np.int16)
        blocks = blocks.repeat(_BLOCK, 1).repeat(_BLOCK, 2)[:, :height, :width]
        pictures.append(np.asarray(np.clip(blocks + rng.integers(-30, 31, blocks.shape), 0, 255), np.uint8))
    return pictures


def compare_people(wanted: Detections, found: Detections) -> None:
    """Compare what two decoders found in one element of a batch.

    Raises
    ------
    GraphError
        If they differ by more than :data:`PIXEL_TOLERANCE` or :data:`SCORE_TOLERANCE`.
    """
    if len(wanted.scores) != len(found.scores):
        raise GraphError(f"The graph finds {len(found.scores)} people where numpy finds {len(wanted.scores)}.")
    scores = [np.concatenate([d.keypoints[..., 2].ravel(), d.scores]) for d in (wanted, found)]
    points = [np.concatenate([d.keypoints[..., :2].ravel(), _boxes(d)]) for d in (wanted, found)]
    for what, (one, other), scale, allowed in (
        ("positions", points, 1.0, PIXEL_TOLERANCE),
        ("scores", scores, np.maximum(1, np.abs(scores[0])), SCORE_TOLERANCE),
    ):
        largest = float((np.abs(one - other) / scale).max(initial=0))
        if not largest <= allowed:  # a NaN is a difference
            raise GraphError(f"The graph's {what} differ from numpy's by up to {largest:.3g}; {allowed:g} is allowed.")


def _boxes(found: Detections) -> npt.NDArray[np.float32]:
    return np.zeros(0, np.float32) if found.boxes is None else found.boxes.ravel()
