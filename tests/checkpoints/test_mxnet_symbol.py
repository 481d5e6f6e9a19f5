"""MXNet's symbol JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from edgepose.checkpoints.mxnet_symbol import SymbolNode, SymbolOutput, parse_symbol
from edgepose.errors import CheckpointError

ALLOWED = 64 << 20


def document(**changes: Any) -> dict[str, Any]:
    """A convolution with an array, as MXNet 1.9 writes it."""
    nodes = [
        {"op": "null", "name": "data", "inputs": []},
        {"op": "null", "name": "w", "attrs": {"__shape__": "(4, 0, 3, 3)"}, "inputs": []},
        {
            "op": "Convolution",
            "name": "conv",
            "attrs": {"kernel": "(3, 3)", "no_bias": "True", "num_filter": "4", "eps": "1e-05"},
            "inputs": [[0, 0, 0], [1, 0, 0]],
        },
    ]
    return {
        "nodes": nodes,
        "arg_nodes": [0, 1],
        "heads": [[2, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10901]},
        **changes,
    }


def parse(value: Any) -> Any:
    return parse_symbol(json.dumps(value).encode(), "net-symbol.json", ALLOWED)


def test_graph_is_given_as_it_stands() -> None:
    graph = parse(document())
    assert [(node.op, node.name, node.is_variable) for node in graph.nodes] == [
        ("null", "data", True),
        ("null", "w", True),
        ("Convolution", "conv", False),
    ]
    assert graph.nodes[2].inputs == (SymbolOutput(0, 0), SymbolOutput(1, 0))
    assert graph.heads == (SymbolOutput(2, 0),)
    assert graph.arguments == (0, 1)
    assert [node.name for node in graph.variables] == ["data", "w"]
    assert graph.mxnet_version == "1.9.1"


@pytest.mark.parametrize("key", ["attr", "param", "attrs"])
def test_attributes_of_every_age(key: str) -> None:
    old = document()
    old["nodes"][2][key] = old["nodes"][2].pop("attrs")
    assert parse(old).nodes[2].attrs["kernel"] == "(3, 3)"


def test_param_and_attr_together_are_one_table() -> None:
    """MXNet 0.8 kept the operator's own attributes in ``param`` and the user's in ``attr``."""
    old = document()
    old["nodes"][2]["param"] = {"kernel": "(5, 5)"}
    old["nodes"][2]["attr"] = {"ctx_group": "dev1"}
    del old["nodes"][2]["attrs"]
    assert dict(parse(old).nodes[2].attrs) == {"kernel": "(5, 5)", "ctx_group": "dev1"}


def test_subgraphs_are_parsed() -> None:
    outer = document()
    outer["nodes"][2]["subgraphs"] = [document()]
    assert parse(outer).nodes[2].subgraphs[0].nodes[2].op == "Convolution"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1, 1)", (1, 1)),
        ("[1,2,3]", (1, 2, 3)),
        ("(64L, 0L)", (64, 0)),
        ("(5,)", (5,)),
        ("()", ()),
        ("7", (7,)),
        ("(0,-4,-1)", (0, -4, -1)),
    ],
)
def test_integers(text: str, expected: tuple[int, ...]) -> None:
    assert SymbolNode("Reshape", "r", {"shape": text}, ()).integers("shape") == expected


@pytest.mark.parametrize("text", ["", "(1, None)", "1.5", "(1, 1", "__import__('os')", "9" * 40, "((1,),)"])
def test_integers_refuses_anything_else(text: str) -> None:
    with pytest.raises(CheckpointError, match="Node 'r'"):
        SymbolNode("Reshape", "r", {"shape": text}, ()).integers("shape")


def test_getters() -> None:
    node = SymbolNode("BatchNorm", "bn", {"eps": "1e-05", "fix_gamma": "False", "axis": "1", "wrong": "nan"}, ())
    assert node.number("eps") == 1e-5
    assert node.flag("fix_gamma") is False
    assert node.integer("axis") == 1
    assert node.flag("use_global_stats", False) is False
    assert node.number("momentum", 0.9) == 0.9
    for getter in (node.number, node.flag, node.integer):
        with pytest.raises(CheckpointError, match="wrong"):
            getter("wrong")
        with pytest.raises(CheckpointError, match="has no attribute 'absent'"):
            getter("absent")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": []}, "no output"),
        ({"heads": [[3, 0, 0]]}, "no output of one of the 3 nodes"),
        ({"heads": [[True, 0]]}, "not [node, output]"),
        ({"nodes": {}}, "no MXNet network"),
        ({"nodes": ["x"]}, "node 0 is no object"),
        ({"nodes": [{"op": "null"}]}, "no operator or no name"),
        ({"arg_nodes": [2]}, "which is no variable"),
        ({"arg_nodes": [-1]}, "not a list of node positions"),
    ],
)
def test_what_is_wrong_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)):
        parse(document(**change))


def test_inputs_come_from_earlier_nodes() -> None:
    cyclic = document()
    cyclic["nodes"][2]["inputs"] = [[2, 0, 0]]
    with pytest.raises(CheckpointError, match="node 2: inputs"):
        parse(cyclic)


def test_deep_subgraphs_are_refused() -> None:
    inner = document()
    for _ in range(20):
        outer = document()
        outer["nodes"][2]["subgraphs"] = [inner]
        inner = outer
    with pytest.raises(CheckpointError, match="nested deeper"):
        parse(inner)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100000, b"\xff\xfe", b"[1]", b"{}", b'{"a":' * 5000])
def test_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(CheckpointError):
        parse_symbol(text, "net-symbol.json", ALLOWED)


def test_memory_is_bounded_before_parsing() -> None:
    with pytest.raises(CheckpointError, match="bytes of memory"):
        parse_symbol(b'{"nodes":[' + b"{}," * 1000000 + b'{}],"heads":[]}', "net-symbol.json", ALLOWED)


def test_deploy_graphs(reference: Path) -> None:
    files = sorted((reference / "fixtures/gluoncv_aimet/deploy").glob("*-symbol.json"))
    assert len(files) == 16
    for file in files:
        graph = parse_symbol(file.read_bytes(), file.name, ALLOWED)
        names = [node.name for node in graph.variables]
        assert names[0] == "data"
        assert graph.arguments == tuple(i for i, node in enumerate(graph.nodes) if node.is_variable)
        assert graph.mxnet_version == "1.9.1"
        if "quantized" not in file.name:
            structural = json.loads(file.with_name(file.name.replace("-symbol", "-names")).read_bytes())
            assert sorted(names[1:]) == sorted(name.split(":", 1)[1] for name in structural)
