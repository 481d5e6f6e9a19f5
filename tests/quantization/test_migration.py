"""Migration of outliers into weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_networks import SIZE, Net, constant, nets, outputs, pictures

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.errors import InputError
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.aimet_config import read_config
from edgepose.quantization.migration import balancing_factors, migrate, migration_factors
from edgepose.quantization.simulation import simulate
from edgepose.quantization.tapping import Taps, batches
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

#: Largest change of an output, as a part of the largest output, that is rounding of the factors.
ROUNDING = 1e-5


def _attention(seed: int, *, spread: float, bias: bool = True) -> PoseModel:
    """Tokens of rows of pixels through a normalisation, gated attention of queries and keys, and a residual head."""
    net = Net(seed)
    net.conv(4, name="stem")
    graph, rng = net.graph, net.rng

    def weight(name: str, *shape: int) -> str:
        array = rng.standard_normal(shape) / np.sqrt(shape[0])
        return graph.constant(array.astype(np.float32), name)

    def channels(name: str, width: int) -> str:
        return graph.constant(np.exp(spread * rng.standard_normal(width)).astype(np.float32), name)

    tokens = graph.op("Reshape", net.x, graph.constant(np.array([0, 4 * SIZE, SIZE], np.int64), "tokens"))
    x = graph.op("MatMul", tokens, weight("lift", SIZE, 12))
    gain = [channels("gain", 12)] + ([weight("shift", 12)] if bias else [])
    y = graph.op("LayerNormalization", x, *gain, axis=-1)
    z = graph.op("Relu", graph.op("MatMul", y, weight("inner", 12, 8)))
    query = graph.op("Add", graph.op("Mul", z, channels("gamma0", 8)), weight("beta0", 8))
    key = graph.op("Add", graph.op("Mul", z, channels("gamma1", 8)), weight("beta1", 8))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 2, 1]), name="scores")
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), z)
    out = graph.op("MatMul", mixed, weight("out", 8, 12))
    added = graph.op("Add", graph.op("Mul", x, channels("residual", 12)), out, name="added")
    heads = [graph.op("MatMul", added, weight(f"head{i}", 12, 6), name=f"logits{i}") for i in range(2)]
    graph.output(graph.op("Add", *heads), "heatmaps", ("batch", 4 * SIZE, 6))
    entry = InputSpec("data", SIZE, SIZE, Crop(), mean=(120.0, 115.0, 100.0), std=(60.0, 58.0, 57.0))
    return PoseModel(graph.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 3.0]), st.booleans(), st.sampled_from([0.0, 0.5, 0.8, 1.0]))
def test_the_network_computes_what_it_did(seed: int, spread: float, bias: bool, alpha: float) -> None:
    model = _attention(seed, spread=spread, bias=bias)
    before, after = outputs(model), outputs(migrate(model, pictures(4), alpha=alpha))
    assert np.abs(after - before).max() <= ROUNDING * np.abs(before).max()


def test_channels_become_alike() -> None:
    model = _attention(1, spread=2.5)
    migrated = migrate(model, pictures(), alpha=1.0)
    changed = ["gain", "shift", "inner", "gamma0", "beta0", "gamma1", "beta1", "residual", "out", "head0", "head1"]
    for name in changed:
        assert np.any(constant(migrated, name).shape != constant(model, name).shape) or np.any(
            constant(migrated, name) != constant(model, name)
        ), name
    values = {}
    (feed,) = batches(model, pictures(2))
    for key, network in (("before", model), ("after", migrated)):
        seen = Taps(network.graph, ["LayerNormalization", "added"]).run(feed)
        values[key] = {n: np.abs(v).reshape(-1, v.shape[-1]).max(axis=0) for n, v in seen.items()}
    for name in ("LayerNormalization", "added"):
        ratios = [values[k][name].max() / np.median(values[k][name]) for k in ("before", "after")]
        assert ratios[1] < 1.6 < 2.5 < ratios[0]


def test_int8_loses_less_afterwards() -> None:
    """A normalisation with a few loud channels, whose weights are small, as they grow in training."""
    config = read_config("w8a8-per-channel")
    errors = {"before": 0.0, "after": 0.0}
    for seed in range(4):
        net = Net(seed)
        net.conv(4, name="stem")
        graph, rng = net.graph, net.rng
        gain = np.where(np.arange(SIZE) % 8 == 0, 60.0, 1.0).astype(np.float32)
        x = graph.op("LayerNormalization", net.x, graph.constant(gain, "gain"), axis=-1)
        weight = (rng.standard_normal((SIZE, 8)) / gain[:, None]).astype(np.float32)
        graph.output(graph.op("MatMul", x, graph.constant(weight, "weight")), "heatmaps", ("batch", 4, SIZE, 8))
        entry = InputSpec("data", SIZE, SIZE, Crop(), mean=(120.0, 115.0, 100.0), std=(60.0, 58.0, 57.0))
        model = PoseModel(graph.build(), PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17))
        reference = outputs(model)
        for key, network in (("before", model), ("after", migrate(model, pictures()))):
            found = outputs(simulate(network, pictures(), config).model)
            errors[key] += float(np.square(found - reference).mean() / np.square(reference).mean())
    assert errors["after"] < 0.5 * errors["before"]


def test_attention_of_rtmpose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "architectures"))
    from synthetic_weights import fill

    arrays = fill(examine({}, "rtmpose_t").expected)
    built = build_network(arrays, options=BuildOptions(batch=1))
    model = PoseModel(optimise(built.graph), built.spec)
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 256, (1, 256, 192, 3), dtype=np.uint8)]
    migrated = migrate(model, crops)
    (feed,) = batches(model, crops)
    before, after = Runner(model.graph).run(feed), Runner(migrated.graph).run(feed)
    for name, value in before.items():
        assert np.abs(after[name] - value).max() <= ROUNDING * np.abs(value).max()
    old = {t.name: t.SerializeToString() for t in model.graph.graph.initializer}
    new = {t.name: t.SerializeToString() for t in migrated.graph.graph.initializer}
    changed = {name for name in new if new[name] != old.get(name)}
    assert {"head.gau.gamma.0", "head.gau.gamma.1", "head.cls_x.weight", "head.cls_y.weight"} <= changed
    assert {"head.mlp.1.weight", "head.gau.uv.weight"} <= changed


magnitudes = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e6)), min_size=1, max_size=8)


@given(magnitudes, st.floats(0, 1), st.integers(0, 100))
def test_factors(activation: list[float], alpha: float, seed: int) -> None:
    x = np.array(activation)
    w = np.random.default_rng(seed).uniform(0.1, 10, len(x))
    factors = migration_factors(x, w, alpha)
    assert np.all(np.isfinite(factors) & (factors > 0))
    assert np.all(factors[x == 0] == 1)
    used = x > 0
    if used.any():
        wanted = x[used] ** alpha / w[used] ** (1 - alpha)
        np.testing.assert_allclose(factors[used], wanted / np.exp(np.log(wanted).mean()), rtol=1e-6)
    balanced = balancing_factors(x, w)
    np.testing.assert_allclose((x / balanced)[used], (w * balanced)[used], rtol=1e-6)


@settings(max_examples=5, deadline=None)
@given(nets())
def test_networks_without_products_stay_as_they_are(model) -> None:
    assert migrate(model, pictures(2)) is model


def test_alpha_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match="alpha"):
        migrate(_attention(0, spread=1.0), pictures(2), alpha=1.5)
    with pytest.raises(InputError, match="no samples"):
        migrate(_attention(0, spread=1.0), [])
