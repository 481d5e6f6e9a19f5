"""Simulated quantisation: where AIMET's quantisers stand, what they compute, and the files that describe them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_networks import Net, constant, heatmaps, nets, outputs, pictures, trained

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.errors import InputError
from edgepose.graph.draft import Draft
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.aimet_config import PRESETS, parse_config, read_config
from edgepose.quantization.aimet_encodings import Grid, fake_quantise, tf_encoding
from edgepose.quantization.aimet_files import AimetEncodings, encodings_of, read_encodings, write_encodings
from edgepose.quantization.aimet_placement import place
from edgepose.quantization.bias_correction import correct_biases
from edgepose.quantization.equalisation import equalise
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.simulation import insert_grids, quantised_weights, simulate

W8A8 = read_config("aimet-w8a8")


def _small(**options) -> Net:
    net = Net(1, **options)
    net.conv(6, name="first")
    net.op("Relu")
    net.conv(6, 1, bias=False, name="second")
    net.conv(4, 1, name="head")
    return net


# ---- where ----


def test_quantisers_of_the_model_zoos_network_are_those_that_aimet_makes() -> None:
    """Counted with aimet-torch 2.42 and the configuration of release 1.19."""
    arrays = {n: np.zeros(s, np.float32) for n, s in examine({}, "aimet_pose").expected.items()}
    draft = Draft(build_network(arrays, options=BuildOptions(input_size=(128, 128), batch=1)).graph)
    sites = place(draft, W8A8)
    kinds = {o: n.op_type for n in draft.graph.node for o in n.output}
    assert len(sites.weights) == 62
    assert all(name.endswith(".weight") and site.axis is None for name, site in sites.weights.items())
    made = [kinds[name] for name in sites.outputs]
    assert (made.count("Relu"), made.count("Conv"), len(made)) == (32, 30, 62)
    assert [kinds.get(name) for name in sites.inputs] in ([None, "Concat"], ["Concat", None])


def test_nothing_is_quantised_inside_a_supergroup() -> None:
    draft = Draft(_small().build().graph)
    sites = place(draft, W8A8)
    assert set(sites.outputs) == {"Relu", "second", "heatmaps"}
    assert set(sites.inputs) == {"data"}
    assert set(sites.weights) == {"first.weight", "second.weight", "head.weight"}


def test_a_value_that_others_read_keeps_its_quantiser() -> None:
    net = Net(2)
    before = net.conv(6, name="first")
    net.op("Relu")
    net.op("Add", before)
    net.conv(4, 1, name="head")
    sites = place(Draft(net.build().graph), W8A8)
    assert {"first", "Relu", "Add", "heatmaps"} == set(sites.outputs)


def test_pixels_and_decoding_are_left_alone() -> None:
    net = Net(3)
    net.op("Mul", net.graph.constant(np.float32(2.0)))
    net.conv(4, name="only")
    net.op("Sigmoid")
    net.op("Mul", net.graph.constant(np.float32(100.0)))
    sites = place(Draft(net.build().graph), W8A8)
    assert (set(sites.inputs), set(sites.outputs)) == ({"Mul"}, {"only", "Sigmoid"})


def test_the_order_of_a_configurations_parts() -> None:
    data = json.loads(json.dumps(PRESETS["aimet-w8a8"]))
    data["op_type"] = {
        "Conv": {
            "is_output_quantized": "False",
            "per_channel_quantization": "True",
            "params": {"bias": {"is_quantized": "True"}, "weight": {"is_symmetric": "True"}},
            "supported_kernels": [
                {"activation": {"bitwidth": 16, "dtype": "int"}, "param": {"bitwidth": 4, "dtype": "int"}}
            ],
        }
    }
    data["model_output"] = {"is_output_quantized": "True"}
    data["model_input"] = {"is_input_quantized": "False"}
    sites = place(Draft(_small().build().graph), parse_config(data))
    assert set(sites.outputs) == {"Relu", "heatmaps"}
    assert not sites.inputs
    assert set(sites.weights) == {f"{n}.weight" for n in ("first", "second", "head")} | {"first.bias", "head.bias"}
    weight, bias = sites.weights["first.weight"], sites.weights["first.bias"]
    assert (weight.axis, weight.grid.symmetric, weight.grid.bits, bias.grid.symmetric) == (0, True, 4, False)


# ---- what ----


def test_the_graph_computes_what_aimet_would() -> None:
    """Against the same arithmetic written out with NumPy, layer by layer; convolutions 1 x 1."""
    net = Net(4)
    net.conv(6, 1, name="first")
    net.op("Relu")
    net.conv(4, 1, name="head")
    model = net.build()
    simulation = simulate(model, pictures(), W8A8)
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    weights = quantised_weights(model, W8A8)
    for name, array in weights.items():
        (encoding,) = simulation.encodings.parameters[name]
        np.testing.assert_array_equal(array, fake_quantise(constant(model, name), encoding))
        assert len(np.unique(array)) <= 256
    grids = simulation.encodings.activations
    value = fake_quantise(x, grids["data"]).astype(np.float64)
    value = np.einsum("oi,bihw->bohw", weights["first.weight"][:, :, 0, 0], value)
    value = np.maximum(value + constant(model, "first.bias").reshape(-1, 1, 1), 0)
    value = fake_quantise(value, grids["Relu"]).astype(np.float64)
    value = np.einsum("oi,bihw->bohw", weights["head.weight"][:, :, 0, 0], value)
    value = fake_quantise(value + constant(model, "head.bias").reshape(-1, 1, 1), grids["heatmaps"])
    found = Runner(simulation.model.graph).run({"data": x})["heatmaps"]
    steps = np.abs(found - value) / grids["heatmaps"].scale
    # Sums in another order may fall on the other side of a tie, once for the inner value and once for the output.
    assert steps.max() <= 2.001
    assert np.mean(steps > 0.001) < 0.01


def test_activations_are_looked_at_with_quantised_weights() -> None:
    model = _small().build()
    config = parse_config({**PRESETS["w4a8"], "quant_scheme": "tf"})
    quantised = simulate(model, pictures(), config).encodings.activations["Relu"]
    draft = Draft(model.graph)
    for name, array in quantised_weights(model, config).items():
        draft.put_constant(name, array)
    draft.graph.output.add(name="Relu")
    runner = Runner(draft)
    mean, std = (np.array(v, np.float32) for v in (model.spec.input.mean, model.spec.input.std))
    batches = [(p[..., ::-1].astype(np.float32) - mean) / std for p in pictures()]
    largest = max(runner.run({"data": b.transpose(0, 3, 1, 2)})["Relu"].max() for b in batches)
    assert quantised.maximum == pytest.approx(tf_encoding(0.0, float(largest), Grid()).maximum, rel=1e-5)


@settings(max_examples=10, deadline=None)
@given(nets(spreads=(0.0,)), st.sampled_from(["aimet-w8a8", "w8a8-per-channel"]))
def test_interface_stays_and_sixteen_bits_are_nearly_float(model, preset) -> None:
    fine = parse_config({**PRESETS[preset], "quant_scheme": "tf", "default_param_bw": 16, "default_output_bw": 16})
    found = simulate(model, pictures(4), fine)
    assert [i.name for i in found.model.graph.graph.input] == ["data"]
    assert [o.name for o in found.model.graph.graph.output] == ["heatmaps"]
    x = np.concatenate(pictures(4))[..., ::-1].astype(np.float32)
    mean, std = (np.array(v, np.float32) for v in (model.spec.input.mean, model.spec.input.std))
    feed = {"data": ((x - mean) / std).transpose(0, 3, 1, 2)}
    before, after = (Runner(m.graph).run(feed)["heatmaps"] for m in (model, found.model))
    assert np.abs(after - before).max() <= 2e-2 * max(np.abs(before).max(), 1e-6)


def test_fewer_bits_cost_more_and_grids_by_channel_less() -> None:
    model = _small(spread=1.5).build()
    reference = outputs(model)
    errors = {}
    for preset in PRESETS:
        found = outputs(simulate(model, pictures(), read_config(preset)).model)
        errors[preset] = np.square(found - reference).mean()
    assert errors["aimet-w8a8"] < errors["w4a8"]
    assert errors["w4a8-per-channel"] < errors["w4a8"]
    assert errors["w8a8-per-channel"] < errors["w4a8-per-channel"]
    assert errors["w8a8-symmetric"] < errors["w4a8-symmetric"]


@settings(max_examples=15, deadline=None)
@given(
    st.floats(-100, 100),
    st.floats(0, 100),
    st.builds(Grid, st.sampled_from([2, 4, 8, 12, 16]), st.booleans(), st.booleans()),
    st.integers(0, 1000),
)
def test_nodes_do_to_a_value_what_fake_quantisation_does_to_the_last_bit(low, span, grid, seed) -> None:
    """In ONNX Runtime, as it is used, on values around ties and beyond the range."""
    model = _small().build()
    encoding = tf_encoding(low, low + span, grid)
    rng = np.random.default_rng(seed)
    ties = encoding.scale * (rng.integers(0, grid.steps + 1, (2, 2, 16, 16)) + encoding.offset + 0.5)
    others = rng.uniform(2 * encoding.minimum - 1, 2 * encoding.maximum + 1, (2, 1, 16, 16))
    x = np.concatenate([ties, others], axis=1).astype(np.float32)
    draft = Draft(model.graph)
    insert_grids(draft, {"data": encoding})
    (target,) = {n.output[0] for n in draft.graph.node if n.op_type == "Mul"}
    draft.graph.output.add(name=target)

    session = onnxruntime.InferenceSession(draft.finish().SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run([target], {"data": x})
    np.testing.assert_array_equal(found, fake_quantise(x, encoding))


def test_a_trained_network_keeps_its_peaks(reference: Path) -> None:
    """Ultralight-SimplePose: 8 bits move few of the clear peaks, 4 most, and fewer after the repairs."""
    model, train, val = trained(reference)
    wanted = heatmaps(model, val)
    flat = wanted.reshape(*wanted.shape[:2], -1)
    clear = flat.max(axis=2) > 0.3

    def moved(network: PoseModel, name: str) -> float:
        found = heatmaps(simulate(network, train, read_config(name)).model, val).reshape(flat.shape)
        (y0, x0), (y1, x1) = (np.divmod(maps.argmax(axis=2), wanted.shape[3]) for maps in (flat, found))
        return float(np.mean(np.hypot(x1 - x0, y1 - y0)[clear] > 2))

    assert moved(model, "aimet-w8a8") < 0.1
    assert moved(model, "w4a8") > 0.5
    equalised = equalise(model, replace_relu6=True)
    corrected = correct_biases(equalised, quantised_weights(equalised, read_config("w4a8")), train)
    assert moved(corrected, "w4a8") < 0.5


def test_quantised_networks_are_refused() -> None:
    net = _small()
    scale = net.graph.constant(np.float32(0.1))
    zero = net.graph.constant(np.uint8(0))
    net.op("QuantizeLinear", scale, zero)
    net.op("DequantizeLinear", scale, zero)
    with pytest.raises(InputError, match="quantised already"):
        simulate(net.build(), pictures(), W8A8)


def test_samples_and_weights_must_be_there_and_finite() -> None:
    model = _small().build()
    with pytest.raises(InputError, match="no samples"):
        simulate(model, [], W8A8)
    nothing = json.loads(json.dumps(PRESETS["aimet-w8a8"]))
    nothing["defaults"]["ops"] = nothing["defaults"]["params"] = nothing["model_input"] = {}
    with pytest.raises(InputError, match="quantises nothing"):
        simulate(model, pictures(), parse_config(nothing))
    for tensor in model.graph.graph.initializer:
        if tensor.name == "first.bias":
            tensor.raw_data = np.full(6, np.nan, np.float32).tobytes()
    with pytest.raises(InputError, match="not finite"):
        simulate(model, pictures(), W8A8)


# ---- configurations ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"defaults": {"ops": {"is_output_quantised": "True"}}}, "Unknown field"),
        ({"defaults": {"ops": {"is_output_quantized": "yes"}}}, "must be"),
        ({"default_param_bw": 33}, "bit width"),
        ({"quant_scheme": "best"}, "quant_scheme"),
        ({"extra": 1}, "Unknown field"),
        ({"supergroups": [{"ops": []}]}, "no configuration"),
        ({"defaults": 3}, "no configuration"),
        ({"op_type": {"Conv": 3}}, "no configuration"),
    ],
)
def test_configurations_that_are_not_well_formed_are_refused(change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config({**PRESETS["aimet-w8a8"], **change})


def test_presets_are_the_files_that_the_model_zoo_used() -> None:
    per_tensor, per_channel = read_config("aimet-w8a8"), read_config("w4a8-per-channel")
    assert (per_tensor.scheme, per_tensor.per_channel, per_tensor.parameters_symmetric) == ("tf_enhanced", False, False)
    assert (per_channel.scheme, per_channel.per_channel, per_channel.parameters_symmetric) == (
        "tf_enhanced",
        True,
        True,
    )
    assert (per_tensor.parameter_bits, per_channel.parameter_bits, per_channel.output_bits) == (8, 4, 8)
    assert per_tensor.output_grid("ReduceMean") is not None
    assert per_channel.output_grid("ReduceMean") is None


def test_configuration_files(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(PRESETS["w4a8"]))
    assert read_config(path) == read_config("w4a8")
    for text in ("", "{", "[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(InputError, match=r"own\.json"):
            read_config(path)
    with pytest.raises(InputError, match="Cannot read") as caught:
        read_config(tmp_path / "none")
    assert "aimet-w8a8" in str(caught.value)


# ---- encodings files ----


@pytest.mark.parametrize("version", ["0.5.1", "0.6.1", "1.0.0"])
@pytest.mark.parametrize("preset", ["aimet-w8a8", "w4a8-per-channel"])
def test_encodings_files_hold_what_was_written(tmp_path: Path, version: str, preset: str) -> None:
    written = simulate(_small().build(), pictures(), read_config(preset)).encodings
    path = write_encodings(tmp_path / "net.encodings", written, version)
    assert json.loads(path.read_text())["version"] == version
    found = read_encodings(path)
    assert found.parameters.keys() == written.parameters.keys()
    assert found.activations.keys() == written.activations.keys()
    pairs = [(found.activations[n], e) for n, e in written.activations.items()]
    pairs += [p for n, es in written.parameters.items() for p in zip(found.parameters[n], es, strict=True)]
    for a, b in pairs:
        assert (a.scale, a.offset, a.bits, a.symmetric) == (b.scale, b.offset, b.bits, b.symmetric)
        assert (a.minimum, a.maximum) == pytest.approx((b.minimum, b.maximum), rel=1e-6, abs=1e-6)


def test_files_of_aimet_are_read(tmp_path: Path) -> None:
    entry = {
        "bitwidth": 8,
        "dtype": "int",
        "is_symmetric": "False",
        "max": 1.0,
        "min": 0.0,
        "offset": 0,
        "scale": 1 / 255,
    }
    path = tmp_path / "a.encodings"
    path.write_text(
        json.dumps(
            {
                "version": "0.6.1",
                "activation_encodings": {"a": [entry], "f": [{"bitwidth": 16, "dtype": "float"}]},
                "param_encodings": {"w": [entry, entry], "b": [{**entry, "bitwidth": 32}]},
                "excluded_layers": [],
                "quantizer_args": {"dtype": "int"},
            }
        )
    )
    found = read_encodings(path)
    assert (set(found.activations), len(found.parameters["w"]), found.untouched) == ({"a"}, 2, {"f", "b"})
    assert found.ranges().tensors == {"a": (0.0, 1.0)}
    path.write_text(json.dumps({"layer.weight": [entry]}))
    assert set(read_encodings(path).parameters) == {"layer.weight"}
    record = {"name": "a", "dtype": "INT", "bw": 8, "is_sym": False, "scale": [0.5], "offset": [-10]}
    path.write_text(json.dumps({"version": "1.0.0", "activation_encodings": [record], "param_encodings": []}))
    assert read_encodings(path).ranges().tensors == {"a": (-5.0, 122.5)}


_ENTRY = {"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "max": 1, "min": 0, "offset": 0, "scale": 0.1}


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        3,
        "x",
        {"activation_encodings": {"a": [{**_ENTRY, "scale": 0}]}},
        {"activation_encodings": {"a": [{**_ENTRY, "scale": "x"}]}},
        {"activation_encodings": {"a": [{**_ENTRY, "min": float("nan")}]}},
        {"activation_encodings": {"a": [{**_ENTRY, "offset": 1e300}]}},
        {"activation_encodings": {"a": [{**_ENTRY, "bitwidth": 1}]}},
        {"activation_encodings": {"a": [_ENTRY, _ENTRY]}},
        {"activation_encodings": {"a": _ENTRY}},
        {"activation_encodings": {"a": [3]}},
        {"activation_encodings": [{"name": "a", "dtype": "INT", "bw": 8, "scale": [1, 2], "offset": [0]}]},
        {"activation_encodings": [{"name": "a", "dtype": "INT", "bw": 8, "scale": [], "offset": []}]},
        {"activation_encodings": [[1]]},
        {"param_encodings": {"w": [_ENTRY, {"bitwidth": 16, "dtype": "float"}]}},
    ],
)
def test_files_that_are_no_encodings_are_refused(tmp_path: Path, data) -> None:
    path = tmp_path / "bad.encodings"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"bad\.encodings"):
        read_encodings(path)


def test_damaged_encodings_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.encodings"
    for text in ("", "{", "[" * (10 * sys.getrecursionlimit())):
        path.write_text(text)
        with pytest.raises(InputError, match="not JSON"):
            read_encodings(path)
    with pytest.raises(InputError, match="Cannot read"):
        read_encodings(tmp_path / "none")
    with pytest.raises(InputError, match="version"):
        write_encodings(tmp_path / "x", AimetEncodings({}), "2.0.0")


def test_ranges_become_encodings_and_back() -> None:
    ranges = Ranges({"a": (-1.0, 2.0), "b": (0.0, 4.0)}, "naive")
    back = encodings_of(ranges).ranges()
    assert back.method == "aimet"
    for name, (low, high) in ranges.tensors.items():
        step = (high - low) / 255
        assert back.tensors[name] == pytest.approx((low, high), abs=step / 2)
    with pytest.raises(InputError, match="none for activations"):
        AimetEncodings({}).ranges()
