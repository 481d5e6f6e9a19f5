"""Whatever single array of a checkpoint is wrong or missing, it is noticed."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from synthetic_weights import Array

from edgepose.architectures import examine

ARCHITECTURES = ("pose_hrnet_w32", "rtmpose_t", "lightweight_openpose_2", "aimet_pose")


def empty(shape: tuple[int, ...]) -> Array:
    """An array that takes no memory."""
    return np.broadcast_to(np.float32(0), shape)


@functools.cache
def complete(architecture: str) -> dict[str, Array]:
    return {name: empty(shape) for name, shape in examine({}, architecture).expected.items()}


lengths = st.sampled_from([0, 1, 2, 3, 5, 7, 16, 17, 32, 48, 96, 128, 384, 512, 70_000, 1 << 40])
# What a file can hold: without elements, or with fewer than memory has bytes.
wrong_shapes = st.lists(lengths, max_size=5).map(tuple).filter(lambda s: math.prod(n or 1 for n in s) < 1 << 60)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_wrong_shape_is_noticed(architecture: str, data: st.DataObject) -> None:
    arrays = complete(architecture)
    name = data.draw(st.sampled_from(sorted(arrays)))
    shape = data.draw(wrong_shapes)
    assume(shape != arrays[name].shape)
    fit = examine({**arrays, name: empty(shape)}, architecture)
    assert fit.mismatch.count >= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_missing_array_is_named(architecture: str, data: st.DataObject) -> None:
    arrays = complete(architecture)
    name = data.draw(st.sampled_from(sorted(arrays)))
    fit = examine({n: a for n, a in arrays.items() if n != name})
    assert fit.architecture == architecture
    assert fit.mismatch.missing == {name: arrays[name].shape}
    assert fit.mismatch.count == 1
