"""PoseSpec and keypoint sets."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepose.errors import SpecError
from edgepose.keypoints import COCO_17, KEYPOINT_SETS, KeypointSet
from edgepose.spec import Crop, DecoderSpec, FixedHeight, InputSpec, Letterbox, PoseSpec, Stretch

SPEC = PoseSpec(
    InputSpec("input", 256, 192, Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    DecoderSpec("heatmap", {"heatmaps": "output"}, {"refine": "quarter"}),
    COCO_17,
    {"conv0": (-1.5, 2.0)},
)
FITS = [
    Crop(1.1, "udp"),
    Letterbox(640, 64, "top-left", 0, "cubic", upscale=False),
    FixedHeight(368, 8, 368, "top-left", 128, "cubic", resize_after_normalise=True),
    Stretch(496, 384, "area"),
]


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f.kind)
def test_json_round_trip(fit: Any) -> None:
    spec = SPEC.replace(input=dataclasses.replace(SPEC.input, fit=fit))
    assert PoseSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("keypoints", KEYPOINT_SETS.values(), ids=lambda k: k.name)
def test_known_sets_mirror_left_and_right(keypoints: KeypointSet) -> None:
    flipped = [keypoints.names[i] for i in keypoints.flip_indices]
    for name, other in zip(keypoints.names, flipped, strict=True):
        if name.startswith("left_"):
            assert other == name.replace("left_", "right_", 1)
    assert KeypointSet.from_dict(json.loads(json.dumps(keypoints.to_dict()))) == keypoints


def _changed(path: str, value: Any) -> dict[str, Any]:
    data = SPEC.to_dict()
    node: Any = data
    *way, last = path.split(".")
    for key in way:
        node = node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", 2),
        ("surprise", 1),
        ("input", ...),
        ("input.name", ...),
        ("input.height", "256"),
        ("input.height", True),
        ("input.height", 0),
        ("input.height", None),
        ("input.layout", "NHCW"),
        ("input.dtype", "uint8"),
        ("input.color", "rgb"),
        ("input.mean", [1, 2]),
        ("input.mean", [1, 2, float("nan")]),
        ("input.std", [1, 0, 1]),
        ("input.std", "abc"),
        ("input.fit.kind", "crops"),
        ("input.fit.padding", -1),
        ("input.fit.pading", 1.25),
        ("input.fit", None),
        ("decoder.type", ""),
        ("decoder.outputs", {}),
        ("decoder.outputs", {"heatmaps": 3}),
        ("decoder", []),
        ("keypoints", "coco18"),
        ("keypoints", 17),
        ("keypoints.names", []),
        ("keypoints.names", ["a", "a"]),
        ("keypoints.sigmas", [0.1]),
        ("keypoints.skeleton", [[0, 99]]),
        ("keypoints.flip_pairs", [[0, 1], [1, 2]]),
        ("calibration", {"x": [1]}),
    ],
)
def test_a_wrong_field_is_a_clear_error(path: str, value: Any) -> None:
    with pytest.raises(SpecError) as caught:
        PoseSpec.from_dict(_changed(path, value))
    assert len(str(caught.value)) > 20


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
leaves = st.sampled_from(
    [
        *("version", "input", "input.height", "input.fit", "input.fit.kind", "input.mean", "decoder"),
        *("decoder.outputs", "decoder.options", "keypoints", "keypoints.names", "keypoints.skeleton", "calibration"),
    ]
)


@given(leaves, json_values)
def test_any_json_is_a_spec_or_a_spec_error(path: str, value: Any) -> None:
    try:
        spec = PoseSpec.from_dict(_changed(path, value))
    except SpecError:
        return
    assert PoseSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 100_000, "{}"])
def test_text_that_is_no_spec(text: str) -> None:
    with pytest.raises(SpecError):
        PoseSpec.from_json(text)
