"""Pre- and post-processing inside the ONNX graph.

A graph with both takes uint8 pictures as OpenCV reads them and gives keypoints; a device program needs neither numpy
nor edgepose.  Embed last: batch and opset may be changed afterwards, the input size may not, and half precision and
quantisation are for the network, not for what is added here (all of it is named ``edgepose.input/...`` and
``edgepose.decoder/...``).
"""

from __future__ import annotations

from collections.abc import Callable

from ..errors import GraphError
from ..model import PoseModel
from ..spec import PoseSpec
from .draft import Draft, opset_of
from .embed_check import prove_input, prove_poses
from .embed_decoder import check_decoder, embed_decoder
from .embed_input import check_input, embed_input
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
        no flip test then, because it averages raw outputs, and a ``score_threshold`` can be raised but not lowered.

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


def embeddable(spec: PoseSpec) -> tuple[bool, bool]:
    """Whether :func:`embed` takes ``pre`` and ``post`` for models of this contract.

    Raises
    ------
    SpecError
        If the spec is wrong.
    """
    return _passes(lambda: check_input(spec.input)), _passes(lambda: check_decoder(spec))


def default_embedding(target: str) -> tuple[bool, bool]:
    """What to put into the graph, ``pre`` and ``post``, where the user does not say.

    Measured from uint8 crops of 256 x 192 to keypoints, with hardly a network, on two threads of an AMD EPYC
    (``benchmarks/embed.py``; OpenVINO computing in float32; least time in numpy, and medians of paired differences):

    ==========================  ============  ============  =====================  =====================
    milliseconds                crops         all in numpy  pre in the graph       post in the graph
    ==========================  ============  ============  =====================  =====================
    ONNX Runtime 1.31 (onnx)    1             0.33          +0.04                  -0.02
    ONNX Runtime 1.31 (onnx)    8             1.78          +0.23                  +0.05
    OpenVINO 2026.4 (openvino)  1             0.68          -0.05                  +0.06
    OpenVINO 2026.4 (openvino)  8             5.04          -0.36                  +0.05
    ==========================  ============  ============  =====================  =====================

    * ``pre`` is the default for ``openvino``, where it is faster.  For ``onnx`` it is slower.
    * ``post`` is no default: it is not faster, and a graph without raw outputs has no flip test.
    * Nothing is the default for a target that was not measured.

    Beside a network all this is little: one crop through a ResNet-18 took 27 ms in OpenVINO, and the four forms could
    not be told apart.
    """
    return target == "openvino", False


def _passes(check: Callable[[], None]) -> bool:
    try:
        check()
    except GraphError:
        return False
    return True


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
