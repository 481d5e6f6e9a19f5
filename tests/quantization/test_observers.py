"""What is kept of a tensor and the range that follows from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.quantization.histogram_ranges import SIGNED_LEVELS, UNSIGNED_LEVELS, divergences, mse_range
from edgepose.quantization.observers import BINS, MAX_BINS, METHODS, Histogram, Observer, observer_maker

Parts = list[np.ndarray]


def seen(method: str, parts: Parts, percentile: float = 99.99) -> Observer:
    observer = observer_maker(method, percentile)()
    for part in parts:
        observer.update(part, float(part.min()), float(part.max()))
    return observer


def range_of(method: str, parts: Parts, percentile: float = 99.99) -> tuple[float, float]:
    return seen(method, parts, percentile).range()


def recorded(kind: str) -> Parts:
    """The data that were given to MXNet 1.9.1 (NumPy's legacy streams do not change)."""
    r = np.random.RandomState(7)
    if kind == "normal":
        parts = [r.standard_normal(20000) for _ in range(4)]
    elif kind == "relu":
        parts = [np.maximum(r.standard_normal(20000), 0) for _ in range(4)]
    elif kind == "laplace":
        parts = [r.laplace(size=20000) for _ in range(4)]
    elif kind == "outlier":
        parts = [np.append(r.standard_normal(50000), [8.0 + i]) for i in range(3)]
    elif kind == "relu_heavy":
        parts = [np.maximum(r.standard_t(3, size=30000), 0) for _ in range(4)]
    else:
        parts = [r.standard_normal(20000) + 3 for _ in range(2)]
    return [p.astype(np.float32) for p in parts]


@pytest.mark.parametrize(
    ("kind", "threshold", "divergence", "bins"),
    [  # from MXNet's combine_histogram and calibrate_entropy
        ("normal", 4.021206378936768, 0.029972588643431664, 9057),
        ("relu", 3.8556015491485596, 0.014402317814528942, 9057),
        ("laplace", 9.684632301330566, 0.020500335842370987, 13921),
        ("outlier", 4.372453212738037, 0.008898577652871609, 10003),
        ("relu_heavy", 23.353191375732422, 0.0013415274443104863, 8001),
        ("shifted", 6.8123579025268555, 0.032659340649843216, 8001),
    ],
)
def test_entropy_is_that_of_mxnet(kind: str, threshold: float, divergence: float, bins: int) -> None:
    observer = seen("entropy", recorded(kind))
    assert isinstance(observer, Histogram)
    assert len(observer.counts) == bins
    low, high = observer.range()
    halves, found = divergences(observer.counts, UNSIGNED_LEVELS if low >= 0 else SIGNED_LEVELS)
    # MXNet sums thousands of float32 terms: its divergences are right to some 1e-5, so where they are flat the least of
    # them may be a neighbour.
    assert abs(max(-low, high) - threshold) <= 1.5 * observer.width
    assert found.min() == pytest.approx(divergence, abs=2e-5)
    place = round(threshold / observer.width - 0.5) - int(halves[0])
    assert found[place] - found.min() < 1e-5


def divergence_by_definition(counts: np.ndarray, half: int, levels: int) -> float:
    """MXNet's divergence of one candidate, bin by bin."""
    middle = len(counts) // 2
    p = counts[middle - half : middle + half + 1].astype(float)
    kept = p.copy()
    kept[0] = 0
    p[0] = counts[: middle - half + 1].sum()
    p[-1] += counts[middle + half + 1 :].sum()
    size = len(p) // levels
    q = np.zeros_like(p)
    for j in range(levels):
        group = slice(j * size, (j + 1) * size if j < levels - 1 else len(p))
        filled = np.count_nonzero(kept[group])
        if filled:
            q[group] = np.where(p[group] > 0, kept[group].sum() / filled, 0)
    smooth = []
    for values in (p, q):
        some = values > 0
        share = 1e-4 * int((~some).sum()) / max(int(some.sum()), 1)
        if not some.any() or share >= 1:
            return math.inf
        smooth.append(np.where(some, values - share, 1e-4) / values.sum())
    return float((smooth[0] * np.log(smooth[0] / smooth[1])).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), filled=st.integers(1, 2501), levels=st.sampled_from([255, 511]))
@example(seed=0, filled=1, levels=255)
@example(seed=1, filled=3, levels=511)
def test_divergences_are_those_of_the_definition(seed: int, filled: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.zeros(2501, np.int64)
    counts[rng.choice(2501, filled, replace=False)] = rng.geometric(0.02, filled)
    halves, found = divergences(counts, levels)
    assert halves[0] == levels // 2
    assert halves[-1] == 1250
    for i in (0, 1, len(halves) // 3, len(halves) // 2, len(halves) - 1, *rng.integers(0, len(halves), 5)):
        expected = divergence_by_definition(counts, int(halves[i]), levels)
        assert found[i] == pytest.approx(expected, rel=1e-6, abs=1e-7)


values = hnp.arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(-1e4, 1e4, width=32, allow_nan=False, allow_subnormal=False),
)


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(values, min_size=1, max_size=4), method=st.sampled_from(["naive", "entropy", "percentile", "mse"])
)
def test_ranges_lie_within_the_extremes(parts: Parts, method: str) -> None:
    low, high = range_of(method, parts)
    everything = np.concatenate(parts)
    assert float(everything.min()) <= low <= high <= float(everything.max())


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(values, min_size=1, max_size=4))
def test_histograms_lose_nothing(parts: Parts) -> None:
    observer = seen("mse", parts)
    assert isinstance(observer, Histogram)
    assert observer.counts.sum() == sum(p.size for p in parts)
    assert len(observer.counts) % 2 == 1
    assert len(observer.counts) <= MAX_BINS
    if observer.width:
        reach = max(abs(observer.low), abs(observer.high))
        assert observer.width * len(observer.counts) / 2 >= reach * (1 - 1e-6)


def test_a_tiny_first_picture_does_not_take_the_memory() -> None:
    rng = np.random.default_rng(0)
    parts = [np.float32(1e-6) * rng.standard_normal(1000).astype(np.float32), rng.standard_normal(10**5, np.float32)]
    observer = seen("percentile", parts, 99.0)
    assert isinstance(observer, Histogram)
    assert BINS < len(observer.counts) <= MAX_BINS
    # 0.5 per cent of a normal distribution lie on either side.
    np.testing.assert_allclose(observer.range(), (-2.57, 2.57), atol=0.05)
    counts = observer.counts[len(observer.counts) // 2 + np.array([-1, 0, 1])]
    assert counts[1] >= 1000 > counts[0] + counts[2]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros(method: str) -> None:
    assert range_of(method, [np.zeros(50, np.float32)] * 2) == (0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_before_the_first_values_count(method: str) -> None:
    rng = np.random.default_rng(1)
    parts = [np.zeros(1000, np.float32), rng.standard_normal(1000).astype(np.float32)]
    low, high = range_of(method, parts)
    assert -4 < low < -1
    assert 1 < high < 4


@pytest.mark.parametrize("method", ["entropy", "percentile", "mse"])
@pytest.mark.parametrize("value", [3.0, -3.0, 1e-35, 1e30])
def test_a_constant_tensor_keeps_its_value(method: str, value: float) -> None:
    low, high = range_of(method, [np.full(100, value, np.float32)] * 2)
    assert low == pytest.approx(value, rel=1e-3)
    assert high == pytest.approx(value, rel=1e-3)


def test_percentile_leaves_out_what_it_says() -> None:
    rng = np.random.default_rng(2)
    data = rng.standard_normal(200_000).astype(np.float32)
    assert range_of("percentile", [data], 100) == (float(data.min()), float(data.max()))
    for percentile in (90.0, 99.0, 99.9):
        low, high = range_of("percentile", [data], percentile)
        assert np.mean((data >= low) & (data <= high)) == pytest.approx(percentile / 100, abs=2e-4)
        expected = np.percentile(data, [(100 - percentile) / 2, (100 + percentile) / 2])
        # In the tails neighbouring values are some bins apart.
        np.testing.assert_allclose((low, high), expected, atol=5 * 2 * 4.6 / BINS)
    positive = np.maximum(data, 0)
    assert range_of("percentile", [positive], 99.0)[0] == 0
    assert range_of("percentile", [positive], 99.0)[1] == pytest.approx(np.percentile(positive, 99), abs=2e-3)


def squared_error(data: np.ndarray, low: float, high: float) -> float:
    """Of 8 bits with zero as a level."""
    step = (max(high, 0) - min(low, 0)) / 255
    zero = round(-min(low, 0) / step)
    levels = np.clip(np.rint(data / step) + zero, 0, 255) - zero
    return float(((levels * step - data) ** 2).mean())


@pytest.mark.parametrize("heavy", [1.5, 2.5, 4.0, 30.0])
@pytest.mark.parametrize("relu", [False, True])
def test_mse_is_the_best_of_all_ranges(heavy: float, relu: bool) -> None:
    data = np.random.default_rng(5).standard_t(heavy, 60_000).astype(np.float32)
    data = np.clip(np.maximum(data, 0) if relu else data, -200, 200)
    low, high = range_of("mse", [data])
    found = squared_error(data, low, high)
    fractions = np.linspace(0.01, 1, 60)
    least = min(
        squared_error(data, float(data.min() * a), float(data.max() * b))
        for a in (fractions if not relu else [1.0])
        for b in fractions
    )
    # The error inside is modelled as a twelfth of the squared step, not rounded value by value.
    assert found < 1.05 * least


def test_mse_keeps_almost_all_of_even_data() -> None:
    counts = np.full(BINS, 100, np.int64)
    low, high = mse_range(counts, 1.0, -4000.4, 4000.4)
    # What is cut off errs by its small distance, all the rest gains.
    assert -4000.4 <= low == pytest.approx(-4000, rel=0.01)
    assert 4000.4 >= high == pytest.approx(4000, rel=0.01)
