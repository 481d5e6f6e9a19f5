"""Damaged graphs and symbols: only edgepose's own errors, whatever stands in them."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from record_mxnet_operators import values
from small_graphs import Network

from edgepose.checkpoints.mxnet_symbol import parse_symbol
from edgepose.errors import EdgePoseError
from edgepose.graph.mxnet.importer import translate
from edgepose.graph.passes import optimise

with np.load(Path(__file__).parent / "mxnet_operators.npz") as recorded:
    CASES: dict[str, Any] = json.loads(recorded["index"].tobytes())

KEYS = sorted({key for case in CASES.values() for node in case["symbol"]["nodes"] for key in node.get("attrs", {})})
OPERATORS = sorted({node["op"] for case in CASES.values() for node in case["symbol"]["nodes"]} - {"null"})
TEXTS = ["0", "-1", "2", "999999999999999999", "-999999999999999999", "(0, 0)", "(1, 1, 1, 1, 1)", "()", "None"]
TEXTS += ["True", "1e300", "nan", "(999999999999999999, 2)", "full", "prelu", "NHWC", "", "(-2, -2)"]
TEXTS += ["(0, -4, -1, -1)", "(-3, -3)"]


def small() -> bytes:
    net = Network(1, batch="batch")
    net.conv(bias=True)
    net.batch_norm()
    net.op("Clip", net.graph.constant(np.float32(0)), net.graph.constant(np.float32(6)))
    net.op("Reshape", net.graph.constant(np.array([0, 2, 2, 16, 16])))
    net.op("ReduceMean", axes=[1], keepdims=0)
    return net.build().SerializeToString()


SMALL = small()


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(SMALL) - 1), st.sampled_from(["set", "cut", "put"]), st.integers(0, 255)),
        min_size=1,
        max_size=4,
    )
)
def test_damaged_graphs(edits: list[tuple[int, str, int]]) -> None:
    data = bytearray(SMALL)
    for position, kind, byte in edits:
        at = position % len(data)
        if kind == "set":
            data[at] = byte
        elif kind == "cut":
            del data[at : at + 1 + byte % 8]
        else:
            data.insert(at, byte)
    try:
        model = onnx.ModelProto.FromString(bytes(data))
    except DecodeError:
        return
    with contextlib.suppress(EdgePoseError):
        optimise(model)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_symbols(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(CASES)))
    case = CASES[name]
    symbol = copy.deepcopy(case["symbol"])
    nodes = [node for node in symbol["nodes"] if node["op"] != "null"]
    for _ in range(data.draw(st.integers(1, 3))):
        node = data.draw(st.sampled_from(nodes))
        present = sorted(node.get("attrs", {})) or KEYS
        edit = data.draw(st.sampled_from(["value", "value", "value", "more", "less", "op", "input"]))
        if edit in ("value", "more"):
            key = data.draw(st.sampled_from(present if edit == "value" else KEYS))
            node.setdefault("attrs", {})[key] = data.draw(st.sampled_from(TEXTS))
        elif edit == "less":
            node.get("attrs", {}).pop(present[0], None)
        elif edit == "op":
            node["op"] = data.draw(st.sampled_from(OPERATORS))
        elif node["inputs"] and data.draw(st.booleans()):
            node["inputs"].pop()
        else:
            node["inputs"].append([0, data.draw(st.integers(0, 2)), 0])
    arrays = {n: values(name, n, shape) for n, shape in case["shapes"].items()}
    inputs = {n: arrays.pop(n).shape for n in ("data", "other") if n in arrays}
    with contextlib.suppress(EdgePoseError):
        translate(parse_symbol(json.dumps(symbol).encode(), "damaged", 1 << 26), arrays, inputs)
