"""``.safetensors``."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import put
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.checkpoints import read_checkpoint
from edgepose.errors import CheckpointError, DependencyError

safetensors = pytest.importorskip("safetensors", reason="the extra 'safetensors' is not installed")
save = pytest.importorskip("safetensors.numpy").save

TYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
]
ONE = np.float32([1, 2, 3])
arrays_of_any_type = st.sampled_from(TYPES).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


def packed(table: dict[str, Any], data: bytes) -> bytes:
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + data


@given(arrays=st.dictionaries(st.text(min_size=1, max_size=6), arrays_of_any_type, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrays: Any) -> None:
    arrays = {name: array for name, array in arrays.items() if name != "__metadata__"}
    checkpoint = read_checkpoint(put(tmp_path_factory.getbasetemp(), "any.safetensors", save(arrays)))
    assert checkpoint.format == "safetensors"
    assert set(checkpoint.arrays) == set(arrays)
    for name, array in checkpoint.arrays.items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()
        assert not array.flags.writeable


@pytest.mark.parametrize("size", [10, 60, 123, 274, 640, 0x4B50])
def test_size_of_the_header_is_not_taken_for_a_magic_number(tmp_path: Path, size: int) -> None:
    """274 is MXNet's magic number, 640 starts a pickle, 123 is a brace, 0x4b50 is PK."""
    data = packed({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}}, ONE.tobytes())
    header = data[8:-12]
    if size > len(header):
        data = struct.pack("<Q", size) + header.ljust(size) + ONE.tobytes()
        np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "h.safetensors", data)).arrays["w"], ONE)
    else:
        with pytest.raises(CheckpointError, match="not valid JSON"):
            read_checkpoint(put(tmp_path, "h.safetensors", struct.pack("<Q", size) + header[:size] + ONE.tobytes()))


def test_names_of_pytorch(tmp_path: Path) -> None:
    data = save({"module.bn.weight": ONE, "module.bn.num_batches_tracked": np.int64([3])}, metadata={"format": "pt"})
    checkpoint = read_checkpoint(put(tmp_path, "pt.safetensors", data))
    assert list(checkpoint.arrays) == ["bn.weight"]
    assert list(checkpoint.set_aside) == ["bn.num_batches_tracked"]
    assert checkpoint.metadata == {"wrapper": "module.", "entries": {"format": "pt"}}


def test_names_of_mindspore(tmp_path: Path) -> None:
    arrays = {"conv.weight": ONE, "moment1.conv.weight": ONE, "global_step": ONE}
    checkpoint = read_checkpoint(put(tmp_path, "ms.safetensors", save(arrays, metadata={"format": "ms"})))
    assert list(checkpoint.arrays) == ["conv.weight"]
    assert set(checkpoint.set_aside) == {"moment1.conv.weight", "global_step"}


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    table = {"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    checkpoint = read_checkpoint(put(tmp_path, "b.safetensors", packed(table, b"\xc0\x3f\x10\xc0")))
    np.testing.assert_array_equal(checkpoint.arrays["b"], np.float32([1.5, -2.25]))


def test_float8_is_set_aside(tmp_path: Path) -> None:
    table = {"f": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    path = put(tmp_path, "f.safetensors", packed(table, b"xx"))
    try:
        with safetensors.safe_open(str(path), framework="numpy"):
            pass
    except safetensors.SafetensorError:
        pytest.skip("this version of safetensors does not know the type")
    assert "F8_E4M3" in read_checkpoint(path).set_aside["f"]


@pytest.mark.parametrize(
    ("table", "data"),
    [
        ({"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, bytes(8)),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)),
        ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, bytes(4)),
        ({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}}, bytes(8)),
        ({"w": {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]}}, bytes(8)),
        ({"w": {"dtype": "NONE", "shape": [2], "data_offsets": [0, 8]}}, bytes(8)),
        ({"w": {"shape": [2]}}, bytes(8)),
        ({"w": 3}, bytes(8)),
        ({"__metadata__": {"a": 3}}, b""),
        ({"__metadata__": []}, b""),
    ],
)
def test_damage_is_refused(tmp_path: Path, table: dict[str, Any], data: bytes) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        read_checkpoint(put(tmp_path, "d.safetensors", packed(table, data)))


def test_header_that_would_exhaust_memory_is_refused(tmp_path: Path) -> None:
    entries = b",".join(b'"%d":{}' % i for i in range(300_000))
    header = b"{" + entries + b"}"
    with pytest.raises(CheckpointError, match="bytes of memory"):
        read_checkpoint(put(tmp_path, "m.safetensors", struct.pack("<Q", len(header)) + header))


def test_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(DependencyError, match=r"edgepose\[safetensors\]"):
        read_checkpoint(put(tmp_path, "w.safetensors", save({"w": ONE})))
