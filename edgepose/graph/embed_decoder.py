"""The decoder inside the graph: keypoints come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto

from ..decoding.heatmap_onnx import emit_heatmap
from ..decoding.movenet_onnx import emit_movenet_multi, emit_movenet_single
from ..decoding.nodes import Nodes, PoseNodes
from ..decoding.regression_onnx import emit_regression
from ..decoding.simcc_onnx import emit_simcc
from ..errors import GraphError
from ..spec import DecoderSpec, PoseSpec
from .builder import GraphBuilder
from .draft import Draft
from .embed_splice import dimensions, finish_part, free_name, splice

PREFIX = "edgepose.decoder"

Emitter = Callable[[Nodes, PoseSpec, Mapping[str, str], str], PoseNodes]

#: Decoder -> what writes it as nodes, and the rank of its outputs.
_EMITTERS: dict[str, tuple[Emitter, int]] = {
    "heatmap": (emit_heatmap, 4),
    "simcc": (emit_simcc, 3),
    "regression": (emit_regression, 3),
    "movenet-single": (emit_movenet_single, 4),
    "movenet-multi": (emit_movenet_multi, 3),
}


def embed_decoder(draft: Draft, spec: PoseSpec) -> PoseSpec:
    """Let a graph give keypoints in place of the outputs that the decoder reads; other outputs stay.

    The raw outputs remain in the graph as inner values of the same name; one that has the name of a new output gets
    another one.  The draft must have inferred shapes.

    Returns
    -------
    PoseSpec
        With decoder ``keypoints``.

    Raises
    ------
    GraphError
        If this decoder has no form as nodes, or the graph's outputs are not what the decoder reads.
    SpecError
        If the decoder's options are wrong.
    """
    kind = spec.decoder.type
    if kind == "keypoints":
        raise GraphError("The decoder is inside this graph already.", hint="Leave 'post' out of --embed.")
    if kind not in _EMITTERS:
        raise GraphError(
            f"The decoder '{kind}' cannot be put into the graph; those that can are {', '.join(_EMITTERS)}.",
            hint="Leave 'post' out of --embed.",
        )
    emit, rank = _EMITTERS[kind]
    given = {o.name: o for o in draft.graph.output}
    missing = [name for name in spec.decoder.outputs.values() if name not in given]
    if missing:
        raise GraphError(
            f"The graph has no output {', '.join(map(repr, missing))}; it has {', '.join(given)}.",
            hint="The spec belongs to another graph.",
        )
    part = _build(draft, spec, emit, {role: (given[name], rank) for role, name in spec.decoder.outputs.items()})

    for i in reversed(range(len(draft.graph.output))):
        if draft.graph.output[i].name in spec.decoder.outputs.values():
            del draft.graph.output[i]
    renamed = {o.name: free_name(draft, o.name) for o in part.graph.output}
    bound = {_inner(role): renamed.get(name, name) for role, name in spec.decoder.outputs.items()}
    bound[_inner(_PICTURE)] = spec.input.name
    splice(draft, part, {**bound, **{name: name for name in renamed}}, PREFIX)
    draft.graph.output.extend(part.graph.output)
    return spec.replace(
        decoder=DecoderSpec("keypoints", {name: name for name in renamed}),
        calibration={renamed.get(name, name): bounds for name, bounds in spec.calibration.items()},
    )


_PICTURE = "picture"


def _inner(role: str) -> str:
    """What the part calls its inputs: a name that none of its outputs has."""
    return f"raw:{role}"


def _build(
    draft: Draft, spec: PoseSpec, emit: Emitter, outputs: Mapping[str, tuple[onnx.ValueInfoProto, int]]
) -> onnx.ModelProto:
    """The decoder as a graph from the raw outputs, and the picture where its size matters, to keypoints."""
    builder = GraphBuilder("decoder", draft.opset)
    nodes = Nodes(builder)
    raw = {}
    for role, (value, rank) in outputs.items():
        half = value.type.tensor_type.elem_type == TensorProto.FLOAT16
        name = nodes.input(_inner(role), dimensions(value, rank), "float16" if half else "float32")
        raw[role] = nodes.cast(name, "float32") if half else name
    batch = nodes.shape(_inner(next(iter(outputs))))[0]
    poses = emit(nodes, spec, raw, _input_size(nodes, draft, spec))
    keypoints = 0 if spec.keypoints is None else len(spec.keypoints)
    people = (batch,) if poses.boxes is None else (batch, nodes.shape(_inner("poses"))[1])
    builder.output(poses.keypoints, "keypoints", (*people, keypoints, 3))
    builder.output(poses.scores, "scores", people)
    if poses.boxes is not None:
        builder.output(poses.boxes, "boxes", (*people, 4))
    return finish_part(builder)


def _input_size(nodes: Nodes, draft: Draft, spec: PoseSpec) -> str:
    """float32 [2]: width and height of the network input in pixels."""
    entry = spec.input
    if entry.height is not None and entry.width is not None:
        return nodes.constant([entry.width, entry.height])
    value = next((i for i in draft.graph.input if i.name == entry.name), None)
    if value is None:
        raise GraphError(f"The graph has no input '{entry.name}'.", hint="The spec belongs to another graph.")
    dtype = "uint8" if value.type.tensor_type.elem_type == TensorProto.UINT8 else "float32"
    picture = nodes.input(_inner(_PICTURE), dimensions(value, 4), dtype)
    height = 1 if entry.layout == "NHWC" else 2
    return nodes.cast(nodes.lengths(picture, height + 1, height), "float32")
