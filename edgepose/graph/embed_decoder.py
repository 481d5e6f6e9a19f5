"""The decoder inside the graph: keypoints come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
from onnx import helper

from ..decoding import build_decoder
from ..decoding.heatmap_onnx import check_heatmap, emit_heatmap
from ..decoding.movenet_onnx import check_movenet_multi, emit_movenet_multi, emit_movenet_single
from ..decoding.nodes import Nodes, PoseNodes
from ..decoding.regression_onnx import emit_regression
from ..decoding.simcc_onnx import check_simcc, emit_simcc
from ..decoding.topdown import keypoint_set
from ..errors import GraphError
from ..spec import DecoderSpec, PoseSpec
from .builder import GraphBuilder
from .draft import Draft
from .embed_splice import dimensions, finish_part, free_name, splice

PREFIX = "edgepose.decoder"


@dataclass(frozen=True)
class Form:
    """A decoder as nodes.

    Attributes
    ----------
    emit
        Writes it: (nodes, spec, role -> raw output, float32 [2] width and height of the input) -> people.
    shape
        Number of keypoints -> shape of its raw outputs, None for any length.
    check
        Raises GraphError if the options in a spec cannot be written.
    """

    emit: Callable[[Nodes, PoseSpec, Mapping[str, str], str], PoseNodes]
    shape: Callable[[int], tuple[int | None, ...]]
    check: Callable[[PoseSpec], object] = build_decoder


_FORMS = {
    "heatmap": Form(emit_heatmap, lambda count: (None, count, None, None), check_heatmap),
    "simcc": Form(emit_simcc, lambda count: (None, count, None), check_simcc),
    "regression": Form(emit_regression, lambda count: (None, count, None)),
    "movenet-single": Form(emit_movenet_single, lambda count: (None, 1, count, 3)),
    "movenet-multi": Form(emit_movenet_multi, lambda count: (None, None, 3 * count + 5), check_movenet_multi),
}


def check_decoder(spec: PoseSpec) -> None:
    """Whether a decoder has a form as nodes.

    Raises
    ------
    GraphError
        If it has none.
    SpecError
        If its options are wrong.
    """
    kind = spec.decoder.type
    if kind == "keypoints":
        raise GraphError("The decoder is inside this graph already.", hint="Leave 'post' out of --embed.")
    if kind not in _FORMS:
        raise GraphError(
            f"The decoder '{kind}' cannot be put into the graph; those that can are {', '.join(_FORMS)}.",
            hint="Leave 'post' out of --embed.",
        )
    _FORMS[kind].check(spec)


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
    check_decoder(spec)
    given = {o.name: o for o in draft.graph.output}
    missing = [name for name in spec.decoder.outputs.values() if name not in given]
    if missing:
        raise GraphError(
            f"The graph has no output {', '.join(map(repr, missing))}; it has {', '.join(given)}.",
            hint="The spec belongs to another graph.",
        )
    part = _build(draft, spec, {role: given[name] for role, name in spec.decoder.outputs.items()})

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


def _build(draft: Draft, spec: PoseSpec, outputs: Mapping[str, onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The decoder as a graph from the raw outputs, and the picture where its size matters, to keypoints."""
    form = _FORMS[spec.decoder.type]
    count = len(keypoint_set(spec))
    builder = GraphBuilder("decoder", draft.opset)
    nodes = Nodes(builder)
    raw = {}
    for role, value in outputs.items():
        dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        name = nodes.input(_inner(role), dimensions(value, form.shape(count)), dtype)
        raw[role] = name if dtype == "float32" else nodes.cast(name, "float32")
    poses = form.emit(nodes, spec, raw, _input_size(nodes, draft, spec))
    batch, places, *_ = nodes.shape(next(iter(raw.values())))
    people = (batch,) if poses.boxes is None else (batch, places)
    builder.output(poses.keypoints, "keypoints", (*people, count, 3))
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
    picture = nodes.input(_inner(_PICTURE), dimensions(value, (None,) * 4), entry.dtype)
    height = 1 if entry.layout == "NHWC" else 2
    return nodes.cast(nodes.lengths(picture, height + 1, height), "float32")
