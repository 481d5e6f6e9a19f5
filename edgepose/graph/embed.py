"""Pre- and post-processing inside the ONNX graph.

A graph with both takes uint8 pictures as OpenCV reads them and gives keypoints; a device program needs neither numpy
nor edgepose.  Embed last: batch and opset may be changed afterwards, the input size may not, and half precision and
quantisation are for the network, not for what is added here (all of it is named ``edgepose.input/...`` and
``edgepose.decoder/...``).
"""

from __future__ import annotations

from ..errors import GraphError
from ..model import PoseModel
from .draft import Draft, opset_of
from .embed_check import prove_input, prove_poses
from .embed_decoder import embed_decoder
from .embed_input import embed_input
from .inference import check_and_infer
from .passes import OLDEST_OPSET


def embed(model: PoseModel, *, pre: bool = False, post: bool = False) -> PoseModel:
    """Put the input side, the decoder or both into the graph.

    Parameters
    ----------
    model
        The model; it is not changed.
    pre
        The graph takes uint8 pixels N x H x W x BGR, as :class:`edgepose.fitting.Fitted` has them, and does colour
        order, normalisation and layout itself.
    post
        The graph gives ``keypoints`` and ``scores`` (and ``boxes``) as
        :class:`~edgepose.decoding.keypoints.KeypointsDecoder` reads them: float32 [N, K, 3] and [N] for one person in
        each element of the batch, [N, P, K, 3], [N, P] and [N, P, 4] for a network with P places for people.
        Decoders: ``heatmap`` with refine ``quarter`` or ``none``, ``simcc`` without ``dark``, ``regression``,
        ``movenet-single``, ``movenet-multi``.  Outputs in half precision are decoded in single precision.  There is
        no flip test then, because it averages raw outputs.

    Returns
    -------
    PoseModel
        With the spec of the new graph.  Both graphs were run in ONNX Runtime and gave the same people, to 1e-3 px and
        1e-5 in score.

    Raises
    ------
    GraphError
        If this model cannot have it inside; the message says what stands in the way.
    SpecError
        If the spec is wrong.
    """
    if not (pre or post):
        return model
    opset = opset_of(model.graph)
    if opset < OLDEST_OPSET:
        raise GraphError(
            f"The graph has opset {opset}; pre- and post-processing need {OLDEST_OPSET} or newer.",
            hint=f"Convert it with --opset {OLDEST_OPSET} or newer.",
        )
    if pre:
        model = _with_input(model)
    return _with_decoder(model) if post else model


def _with_input(model: PoseModel) -> PoseModel:
    draft = Draft(model.graph)
    check_and_infer(draft)
    spec = model.spec.replace(input=embed_input(draft, model.spec.input))
    if spec == model.spec:
        return model
    check_and_infer(draft)
    graph = draft.finish()
    prove_input(model.graph, model.spec, graph, spec)
    return PoseModel(graph, spec, model.provenance)


def _with_decoder(model: PoseModel) -> PoseModel:
    draft = Draft(model.graph)
    check_and_infer(draft)
    spec = embed_decoder(draft, model.spec)
    check_and_infer(draft)
    graph = draft.finish()
    prove_poses(model.graph, model.spec, graph, spec)
    return PoseModel(graph, spec, model.provenance)
