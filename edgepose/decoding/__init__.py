"""Raw outputs -> keypoints.  One file a decoder, each as numpy and, where a target can take it, as ONNX nodes."""

from __future__ import annotations

import difflib
import importlib
from typing import cast

from ..errors import SpecError
from ..spec import PoseSpec
from .base import Decoder, Detections

__all__ = ["DECODERS", "WITH_THRESHOLD", "Decoder", "Detections", "build_decoder"]

#: Name in ``DecoderSpec.type`` -> module and class.  Each class is built from a PoseSpec.
DECODERS = {
    "heatmap": "heatmap:HeatmapDecoder",
    "simcc": "simcc:SimCCDecoder",
    "regression": "regression:RegressionDecoder",
    "movenet-single": "movenet:MoveNetSingleDecoder",
    "movenet-multi": "movenet:MoveNetMultiDecoder",
    "openpose": "openpose:OpenPoseDecoder",
    "associative-embedding": "associative_embedding:AssociativeEmbeddingDecoder",
    "yolo-pose": "yolo:YoloPoseDecoder",
    "yolox": "yolox:YoloXDecoder",
    "rtmo": "rtmo:RTMODecoder",
    "keypoints": "keypoints:KeypointsDecoder",
}

#: Decoders that leave out people below their option ``score_threshold``.
WITH_THRESHOLD = frozenset({"movenet-multi", "yolo-pose", "yolox", "rtmo"})


def build_decoder(spec: PoseSpec) -> Decoder:
    """The decoder that a spec names.

    Raises
    ------
    SpecError
        If there is no such decoder, or its options or outputs are wrong.
    """
    name = spec.decoder.type
    if name not in DECODERS:
        near = difflib.get_close_matches(name, DECODERS, n=1)
        raise SpecError(
            f"There is no decoder '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""),
            hint=f"Known decoders: {', '.join(DECODERS)}.",
        )
    module, class_name = DECODERS[name].split(":")
    return cast(Decoder, getattr(importlib.import_module(f".{module}", __name__), class_name)(spec))
