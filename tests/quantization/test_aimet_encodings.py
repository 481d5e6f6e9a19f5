"""AIMET's encodings, against those that its native library made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.errors import InputError
from edgepose.quantization.aimet_encodings import (
    Encoding,
    Grid,
    Histogram,
    fake_quantise,
    histogram_of,
    percentile_encoding,
    tf_encoding,
    tf_enhanced_encoding,
)

#: Agreement of the recorded encodings with an independent computation in single precision.
TOLERANCE = 2e-5
#: The library quantised this array in place (tf, 8 bits, asymmetric) before it was stored, so it holds the result of
#: fake quantisation instead of the data.  The extremes of the data follow from two of its encodings.
OVERWRITTEN = "skew"
OVERWRITTEN_MAX = 12.07882308959961
OVERWRITTEN_MIN = OVERWRITTEN_MAX - 12.762773394584656


@pytest.fixture(scope="module")
def recorded(reference: Path) -> tuple[dict[str, dict[str, float]], dict[str, list[np.ndarray]]]:
    folder = reference / "fixtures" / "gluoncv_aimet"
    expected = json.loads((folder / "aimet_encodings_expected.json").read_text())
    data: dict[str, list[np.ndarray]] = {}
    with np.load(folder / "aimet_encodings_inputs.npz") as arrays:
        for name in arrays:
            data.setdefault(name.split(".")[0], []).append(arrays[name])
    return expected, data


def _grid(key: str) -> Grid:
    _, _, bits, symmetric, strict, unsigned = key.split("|")
    return Grid(int(bits), symmetric == "sym1", strict == "strict1", unsigned == "uns1")


def _check(encoding: Encoding | None, expected: dict[str, float], key: str) -> None:
    assert encoding is not None
    found = [encoding.minimum, encoding.maximum, encoding.scale, encoding.offset]
    assert found == pytest.approx([expected[k] for k in ("min", "max", "delta", "offset")], abs=TOLERANCE), key


def test_tf_encodings_are_those_of_the_library(recorded) -> None:
    expected, data = recorded
    cases = {k: v for k, v in expected.items() if k.split("|")[1] == "tf"}
    assert len(cases) == 72
    for key, value in cases.items():
        name = key.split("|")[0]
        low, high = min(a.min() for a in data[name]), max(a.max() for a in data[name])
        if name == OVERWRITTEN:
            low, high = OVERWRITTEN_MIN, OVERWRITTEN_MAX
        _check(tf_encoding(low, high, _grid(key)), value, key)


def test_tf_enhanced_encodings_are_those_of_the_library(recorded) -> None:
    expected, data = recorded
    cases = {k: v for k, v in expected.items() if k.split("|")[1] == "tf_enhanced" and k.split("|")[0] != OVERWRITTEN}
    assert len(cases) == 64
    for key, value in cases.items():
        histogram = Histogram()
        for array in data[key.split("|")[0]]:
            histogram.update(array)
        _check(tf_enhanced_encoding(histogram, _grid(key)), value, key)


def test_fake_quantisation_is_that_of_the_library_to_the_last_bit(recorded) -> None:
    _, data = recorded
    (quantised,) = data[OVERWRITTEN]
    encoding = tf_encoding(OVERWRITTEN_MIN, OVERWRITTEN_MAX, Grid())
    assert len(np.unique(quantised)) > 100
    np.testing.assert_array_equal(fake_quantise(quantised, encoding), quantised)


def test_ties_are_rounded_away_from_zero_and_the_float_below_one_half_is_not() -> None:
    encoding = Encoding(0.0, 255.0, 1.0, 0)
    values = np.array([0.5, 1.5, 2.5, np.nextafter(np.float32(0.5), np.float32(0)), 254.5, 300, -3], np.float32)
    assert fake_quantise(values, encoding).tolist() == [1, 2, 3, 0, 255, 255, 0]


def test_symmetric_grids() -> None:
    assert tf_encoding(-1.0, 0.5, Grid(symmetric=True)).offset == -128
    assert tf_encoding(0.1, 0.5, Grid(symmetric=True)).offset == 0
    strict = tf_encoding(-1.27, 0.5, Grid(symmetric=True, strict=True))
    assert (strict.minimum, strict.maximum, strict.offset) == (pytest.approx(-1.27), pytest.approx(1.27), -127)


grids = st.builds(Grid, st.integers(2, 16), st.booleans(), st.booleans(), st.booleans())
arrays = hnp.arrays(
    np.float32, st.integers(1, 300), elements=st.floats(-1e4, 1e4, width=32).map(lambda v: 0 if abs(v) < 1e-3 else v)
)


@settings(max_examples=60, deadline=None)
@given(arrays, grids)
def test_fake_quantisation_stays_on_the_grid_and_moves_nothing_inside_by_more_than_half_a_step(values, grid) -> None:
    for encoding in (
        tf_encoding(values.min(), values.max(), grid),
        tf_enhanced_encoding(histogram_of(values), grid),
        tf_enhanced_encoding(histogram_of(values), grid, shrinking=True),
        percentile_encoding(histogram_of(values), grid, 99.0),
    ):
        assert encoding is not None
        assert encoding.scale > 0
        quantised = fake_quantise(values, encoding).astype(np.float64)
        # float32 holds a value of the size of the range to 2^-24 of it; three roundings.
        slack = 4 * max(abs(encoding.minimum), abs(encoding.maximum)) * 2.0**-24 + encoding.scale * 2.0**-6
        inside = (values >= encoding.minimum) & (values <= encoding.maximum)
        assert np.all(np.abs(quantised - values)[inside] <= encoding.scale / 2 + slack)
        assert quantised.min() >= encoding.minimum - slack
        assert quantised.max() <= encoding.maximum + slack
        steps = quantised / encoding.scale
        assert np.all(np.abs(steps - np.round(steps)) <= 2.0**-6)


def test_the_old_search_finds_other_grids() -> None:
    values = np.random.default_rng(1).laplace(size=4000).astype(np.float32)
    old, new = (tf_enhanced_encoding(histogram_of(values), Grid(4), shrinking=s) for s in (True, False))
    assert old is not None
    assert new is not None
    assert old != new


def test_a_histogram_keeps_the_bins_of_the_first_tensor_that_is_not_zero() -> None:
    histogram = Histogram()
    assert not histogram.seen
    assert tf_enhanced_encoding(histogram, Grid()) is None
    assert percentile_encoding(histogram, Grid()) is None
    histogram.update(np.zeros(5, np.float32))
    assert histogram.left is None
    histogram.update(np.array([-1, 1], np.float32))
    left = histogram.left
    assert left is not None
    assert left[0] == -3.0
    histogram.update(np.array([100, 0], np.float32))
    np.testing.assert_array_equal(histogram.left, left)
    # Each tensor weighs the same; half of the second one lies beyond the bins.
    assert histogram.density.sum() == pytest.approx(0.75)


def test_every_second_value_counts_with_a_stride_of_two() -> None:
    values = np.arange(10, dtype=np.float32)
    histogram = Histogram()
    histogram.update(values, stride=2)
    np.testing.assert_array_equal(histogram.density, histogram_of(values[::2]).density)


def test_percentile_cuts_off_outliers() -> None:
    values = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    values[0] = 40.0
    wide, narrow = (percentile_encoding(histogram_of(values), Grid(), p) for p in (100.0, 99.9))
    assert wide is not None
    assert narrow is not None
    assert wide.maximum > 39 > 5 > narrow.maximum > 2


@pytest.mark.parametrize("bits", [1, 17, 0, -8])
def test_other_bit_widths_are_refused(bits: int) -> None:
    with pytest.raises(InputError, match="bit width"):
        Grid(bits)


def test_data_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        histogram_of(np.array([1, np.nan], np.float32))
    with pytest.raises(InputError, match="no grid"):
        Encoding(0.0, float("inf"), 1.0, 0)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("value", [1025.0, -1025.0, 3e7, 1e-30, -1e-30])
def test_a_constant_tensor_has_an_encoding_though_its_bins_are_too_narrow_for_float32(
    value: float, symmetric: bool
) -> None:
    found = tf_enhanced_encoding(histogram_of(np.full(8, value, np.float32)), Grid(8, symmetric))
    assert found is not None
    assert found.minimum <= 0 <= found.maximum
    assert found.scale > 0
