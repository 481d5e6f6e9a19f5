"""Keypoints that the graph has decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgepose.decoding import build_decoder
from edgepose.decoding.keypoints import KeypointsDecoder
from edgepose.errors import DecodeError, SpecError
from edgepose.keypoints import COCO_17
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

SIZE = (256, 192)


def decoder(*roles: str, **options: Any) -> KeypointsDecoder:
    outputs = {role: role for role in roles or ("keypoints", "scores")}
    spec = PoseSpec(InputSpec("input", *SIZE, Crop()), DecoderSpec("keypoints", outputs, options), COCO_17)
    built = build_decoder(spec)
    assert isinstance(built, KeypointsDecoder)
    return built


def random(*lead: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "keypoints": rng.random((*lead, 17, 3), np.float32),
        "scores": np.linspace(0.9, 0.1, int(np.prod(lead)), dtype=np.float32).reshape(lead),
    }


def test_one_person_in_each_element() -> None:
    outputs = random(3)
    outputs["scores"][1] = 0
    found = decoder().decode(outputs, SIZE)
    assert [len(f.scores) for f in found] == [1, 1, 1]
    np.testing.assert_array_equal(np.concatenate([f.keypoints for f in found]), outputs["keypoints"])
    np.testing.assert_array_equal(np.concatenate([f.scores for f in found]), outputs["scores"])
    assert found[0].boxes is None


def test_places_for_people() -> None:
    outputs = random(2, 4)
    outputs["scores"][:] = [[0.2, 0, 0.7, 0.2], [0, -1, 0, 0]]
    outputs["boxes"] = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    first, second = decoder("keypoints", "scores", "boxes").decode(outputs, SIZE)
    np.testing.assert_array_equal(first.scores, np.float32([0.7, 0.2, 0.2]))
    np.testing.assert_array_equal(first.keypoints, outputs["keypoints"][0, [2, 0, 3]])
    assert first.boxes is not None
    np.testing.assert_array_equal(first.boxes, outputs["boxes"][0, [2, 0, 3]])
    assert second.keypoints.shape == (0, 17, 3)
    assert len(second.scores) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(value: float) -> None:
    outputs = random(2)
    outputs["keypoints"][0, 3, 1] = outputs["scores"][1] = value
    first, second = decoder().decode(outputs, SIZE)
    assert first.keypoints[0, 3].tolist() == [0, 0, 0]
    assert np.count_nonzero(first.keypoints[0, :, 2]) == 16
    assert second.scores.tolist() == [0]
    outputs = random(1, 3)
    outputs["boxes"] = np.ones((1, 3, 4), np.float32)
    outputs["boxes"][0, 1, 2] = outputs["scores"][0, 2] = value
    (found,) = decoder("keypoints", "scores", "boxes").decode(outputs, SIZE)
    assert len(found.scores) == 1


def test_the_given_arrays_stay() -> None:
    outputs = random(1)
    outputs["keypoints"][0, 0, 0] = np.nan
    before = {role: a.copy() for role, a in outputs.items()}
    decoder().decode(outputs, SIZE)
    for role, array in outputs.items():
        np.testing.assert_array_equal(array, before[role])


def test_nothing() -> None:
    assert decoder().decode(random(0), SIZE) == []
    (empty,) = decoder().decode(random(1, 0), SIZE)
    assert empty.keypoints.shape == (0, 17, 3)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({"keypoints": (2, 16, 3), "scores": (2,)}, "keypoints"),
        ({"keypoints": (2, 17, 2), "scores": (2,)}, "keypoints"),
        ({"keypoints": (17, 3), "scores": (1,)}, "keypoints"),
        ({"keypoints": (2, 17, 3), "scores": (2, 1)}, "scores"),
        ({"keypoints": (2, 17, 3), "scores": (3,)}, "belong together"),
        ({"keypoints": (2, 6, 17, 3), "scores": (2, 5)}, "belong together"),
        ({"keypoints": (2, 17, 3)}, "scores"),
        ({"scores": (2,)}, "keypoints"),
    ],
)
def test_wrong_shapes(shapes: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decoder().decode({role: np.zeros(shape, np.float32) for role, shape in shapes.items()}, SIZE)


def test_boxes_that_belong_to_others() -> None:
    outputs = {**random(2, 6), "boxes": np.zeros((2, 5, 4), np.float32)}
    with pytest.raises(DecodeError, match="belong together"):
        decoder("keypoints", "scores", "boxes").decode(outputs, SIZE)


def test_flip_test_is_refused() -> None:
    with pytest.raises(DecodeError, match="raw outputs") as error:
        decoder().merge_flip(random(1), random(1))
    assert "--embed" in str(error.value)


@pytest.mark.parametrize("roles", [("keypoints",), ("scores",), ("keypoints", "scores", "poses")])
def test_wrong_roles(roles: tuple[str, ...]) -> None:
    with pytest.raises(SpecError):
        decoder(*roles)


def test_no_options() -> None:
    with pytest.raises(SpecError):
        decoder(score_threshold=0.1)
