"""MXNet operators and quantised networks against what MXNet 1.9.1 computed (see record_mxnet_operators.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_mxnet_operators import values

from edgepose.checkpoints.mxnet_symbol import SymbolGraph, parse_symbol
from edgepose.errors import GraphError
from edgepose.graph.mxnet import import_mxnet
from edgepose.graph.mxnet.importer import translate
from edgepose.graph.running import Runner

HERE = Path(__file__).parent
with np.load(HERE / "mxnet_operators.npz") as recorded:
    CASES: dict[str, Any] = json.loads(recorded["index"].tobytes())
    DATA = recorded["data"]


def parsed(symbol: dict[str, Any]) -> SymbolGraph:
    return parse_symbol(json.dumps(symbol).encode(), "case", 1 << 26)


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("name", sorted(CASES))
def test_operator_gives_what_mxnet_gave(name: str, opset: int) -> None:
    case = CASES[name]
    arrays = {n: values(name, n, shape) for n, shape in case["shapes"].items()}
    inputs = {n: arrays.pop(n) for n in ("data", "other") if n in arrays}
    shapes = {n: a.shape for n, a in inputs.items()}
    model, ranges = translate(parsed(case["symbol"]), arrays, shapes, opset=opset)
    outputs = list(Runner(model).run(inputs).values())
    assert not ranges
    assert len(outputs) == len(case["outputs"])
    for output, (at, shape) in zip(outputs, case["outputs"], strict=True):
        expected = DATA[at : at + int(np.prod(shape))].reshape(shape)
        assert output.shape == expected.shape
        np.testing.assert_allclose(output, expected, rtol=2e-5, atol=2e-5 * float(np.abs(expected).max()))


def test_dynamic_batch_gives_the_same_as_a_fixed_one() -> None:
    """Wherever the batch can stay dynamic, another batch than that of the example works."""
    refused = []
    for name, case in CASES.items():
        if len(case["shapes"]["data"]) != 4 or set(case["shapes"]) & {"other"}:
            continue
        arrays = {n: values(name, n, shape) for n, shape in case["shapes"].items()}
        data = arrays.pop("data")
        try:
            model, _ = translate(parsed(case["symbol"]), arrays, {"data": (None, *data.shape[1:])})
        except GraphError:
            refused.append(name)
            continue
        whole = Runner(model).run({"data": np.concatenate([data, data[:1]])})
        for output, (at, shape) in zip(whole.values(), case["outputs"], strict=True):
            if len(output) == len(data) + 1 and shape[0] == len(data):
                expected = DATA[at : at + int(np.prod(shape))].reshape(shape)
                tolerance = 2e-5 * float(np.abs(expected).max())
                np.testing.assert_allclose(output[: len(data)], expected, rtol=2e-5, atol=tolerance, err_msg=name)
    # This one writes the batch of its example out.
    assert refused == ["reshape-2,24,8"]


@pytest.mark.parametrize("name", ["plain", "fused"])
def test_quantised_network_becomes_its_float_network(name: str) -> None:
    with np.load(HERE / "mxnet_networks.npz") as networks:
        symbol = parse_symbol(networks[f"{name}/symbol"].tobytes(), name, 1 << 26)
        prefix = f"{name}/array/"
        arrays = {key.removeprefix(prefix): networks[key] for key in networks if key.startswith(prefix)}
        data, expected = networks[f"{name}/data"], networks[f"{name}/output"]
    model, ranges = import_mxnet(symbol, arrays, input_size=data.shape[2:])
    (output,) = Runner(model).run({"data": data}).values()
    # Weights that were stored as int8 with one scale carry their rounding: 1 / 254 of the largest one.
    assert np.abs(output - expected).max() < 0.02 * np.abs(expected).max()
    nodes = {value for node in model.graph.node for value in node.output} | {"data"}
    noted = [
        (node.number("min_calib_range"), node.number("max_calib_range"))
        for node in symbol.nodes
        if "min_calib_range" in node.attrs
    ]
    assert set(ranges) <= nodes
    assert sorted(ranges.values()) == sorted(noted)
    assert not [node.op_type for node in model.graph.node if "uant" in node.op_type]
