"""MXNet ``.params``."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import MXNET_FLAGS, mxnet_dense, mxnet_list, mxnet_params, mxnet_sparse, put
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.checkpoints import read_checkpoint
from edgepose.errors import CheckpointError

FORMATS = "fixtures/gluoncv_aimet/format"


def recipe(reference: Path) -> Any:
    """The generator of the fixtures' weights."""
    spec = importlib.util.spec_from_file_location("recipe", reference / "fixtures/gluoncv_aimet/recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# what MXNet wrote


@pytest.mark.parametrize("model", ["mobile_pose_mobilenetv2_1.0", "mobile_pose_mobilenetv3_small"])
def test_networks_written_by_mxnet(reference: Path, model: str) -> None:
    folder = reference / "fixtures/gluoncv_aimet"
    schema = json.loads((folder / "schema.json").read_bytes())[model]["params"]
    checkpoint = read_checkpoint(folder / f"{model}.params")
    assert checkpoint.format == "mxnet-params"
    assert {name: list(array.shape) for name, array in checkpoint.arrays.items()} == schema
    assert list(checkpoint.arrays) == list(schema)
    fill = recipe(reference).fill
    for name, array in checkpoint.arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, fill(model, name, tuple(schema[name])), err_msg=name)


def test_writer_of_these_tests_equals_mxnet(reference: Path) -> None:
    """So that what these tests write for themselves is what MXNet writes."""
    folder = reference / "fixtures/gluoncv_aimet"
    model = "mobile_pose_mobilenetv3_small"
    data = mxnet_params(read_checkpoint(folder / f"{model}.params").arrays)
    manifest = json.loads((folder / "manifest.json").read_bytes())[model]
    assert len(data) == manifest["params_bytes"]
    assert hashlib.sha256(data).hexdigest() == manifest["params_sha256"]


def test_all_types_written_by_mxnet(reference: Path) -> None:
    arrays = read_checkpoint(reference / FORMATS / "dtypes.params").arrays
    values = np.random.RandomState(0).rand(7, 2, 3) * 10
    types = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"]
    assert list(arrays) == [f"x.{kind}" for kind in types]
    for expected, kind in zip(values, types, strict=True):
        assert arrays[f"x.{kind}"].dtype == np.dtype(kind)
        np.testing.assert_array_equal(arrays[f"x.{kind}"], expected.astype(kind))


def test_rare_records_written_by_mxnet(reference: Path) -> None:
    folder = reference / FORMATS
    row = np.arange(6, dtype=np.float32).reshape(2, 3)

    sparse = read_checkpoint(folder / "sparse.params").arrays
    np.testing.assert_array_equal(sparse["csr"], [[0, 1, 0], [2, 0, 3]])
    assert sparse["rsp"].shape == (6, 3)
    np.testing.assert_array_equal(sparse["rsp"][[1, 4]], row)
    assert np.count_nonzero(sparse["rsp"]) == 5

    numpy_shapes = read_checkpoint(folder / "npshape.params").arrays
    assert {name: array.shape for name, array in numpy_shapes.items()} == {
        "scalar": (), "empty": (0, 4), "m": (2, 2), "b": (2,),
    }  # fmt: skip
    assert numpy_shapes["scalar"] == 3.5

    old = read_checkpoint(folder / "legacy_v1_v0.params")
    np.testing.assert_array_equal(old.arrays["w1"], row)
    np.testing.assert_array_equal(old.arrays["w0"], row)
    assert old.metadata["auxiliary"] == ["w0"]

    absent = read_checkpoint(folder / "with_none.params")
    np.testing.assert_array_equal(absent.arrays["w"], row)
    assert dict(absent.set_aside) == {"n": "no array was stored"}

    np.testing.assert_array_equal(
        read_checkpoint(folder / "bf16.params").arrays["b"], np.float32([1.5, -2.25, 3.140625])
    )
    unnamed = read_checkpoint(folder / "list.params")
    assert {name: array.shape for name, array in unnamed.arrays.items()} == {"0": (2,), "1": (1, 3)}
    assert unnamed.metadata["named"] is False
    assert dict(read_checkpoint(folder / "empty.params").arrays) == {}


def test_trained_pair_equals_its_twin(reference: Path) -> None:
    """The ONNX file beside it holds the same arrays bit for bit."""
    folder = reference / "data/weights/ultralight_simplepose"
    pair = read_checkpoint(folder / "Ultralight-Nano-SimplePose.params")
    twin = read_checkpoint(folder / "deploy.onnx")
    assert len(pair.arrays) == 291
    assert set(pair.arrays) == set(twin.arrays)
    for name, array in pair.arrays.items():
        np.testing.assert_array_equal(array, twin.arrays[name], err_msg=name)


# properties

arrays_of_any_type = st.sampled_from(sorted(MXNET_FLAGS)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
)


@given(
    arrays=st.dictionaries(st.text(min_size=1, max_size=8), arrays_of_any_type, max_size=4), version=st.integers(0, 3)
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrays: Any, version: int) -> None:
    path = put(tmp_path_factory.getbasetemp(), "any.params", mxnet_params(arrays, version=version))
    checkpoint = read_checkpoint(path)
    assert [name.split(":", 1)[-1] for name in arrays] == [name.split(":", 1)[-1] for name in checkpoint.arrays]
    for written, read in zip(arrays.values(), checkpoint.arrays.values(), strict=True):
        assert read.dtype == written.dtype
        assert read.tobytes() == written.tobytes()
        assert not read.flags.writeable


@given(bits=hnp.arrays("uint16", (5,)))
def test_bfloat16_is_widened_exactly(tmp_path_factory: pytest.TempPathFactory, bits: Any) -> None:
    path = put(tmp_path_factory.getbasetemp(), "bf16.params", mxnet_list([mxnet_dense(bits, flag=12)], ["b"]))
    (array,) = read_checkpoint(path).arrays.values()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array.view(np.uint32), bits.astype(np.uint32) << 16)


def test_large_file_is_not_copied(tmp_path: Path) -> None:
    path = put(tmp_path, "large.params", mxnet_params({f"w{i}": np.zeros((1 << 18,), np.float32) for i in range(16)}))
    read_checkpoint(path)
    tracemalloc.start()
    try:
        checkpoint = read_checkpoint(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(checkpoint.arrays) == 16
    assert peak < 1 << 18  # of a file of 16 MiB


# names


def test_prefixes_are_taken_off_if_all_have_them(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    exported = read_checkpoint(put(tmp_path, "a.params", mxnet_params({"arg:w": one, "aux:m": one})))
    assert list(exported.arrays) == ["w", "m"]
    assert exported.metadata["auxiliary"] == ["m"]
    mixed = read_checkpoint(put(tmp_path, "b.params", mxnet_params({"arg:w": one, "m": one})))
    assert list(mixed.arrays) == ["arg:w", "m"]
    clashing = read_checkpoint(put(tmp_path, "c.params", mxnet_params({"arg:w": one, "aux:w": one})))
    assert list(clashing.arrays) == ["arg:w", "aux:w"]


# damage


def damaged(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(put(tmp_path, "damaged.params", data))
    assert "damaged.params" in str(caught.value)
    return str(caught.value)


def test_damage_is_named(tmp_path: Path) -> None:
    one = np.ones((2, 3), np.float32)
    good = mxnet_params({"w": one})
    assert "bytes follow" in damaged(tmp_path, good + b"\0")
    assert "2 names" in damaged(tmp_path, mxnet_list([mxnet_dense(one)], ["a", "b"]))
    assert "same name" in damaged(tmp_path, mxnet_list([mxnet_dense(one)] * 2, ["a", "a"]))
    assert "element type 99" in damaged(tmp_path, mxnet_list([mxnet_dense(one, flag=99)], ["a"]))
    assert "other bytes than 0 and 1" in damaged(tmp_path, mxnet_list([mxnet_dense(np.uint8([2]), flag=7)], ["a"]))
    assert "no text" in damaged(tmp_path, good[:-1] + b"\xff")
    assert "which no version of MXNet writes" in damaged(
        tmp_path, good.replace(b"\xc9\xfa\x93\xf9", b"\xff\xff\xff\xff")
    )
    assert "storage type 7" in damaged(tmp_path, good.replace(b"\xc9\xfa\x93\xf9\0", b"\xc9\xfa\x93\xf9\7"))
    assert "claims 9223372036854775808 arrays" in damaged(tmp_path, struct.pack("<QQQ", 0x112, 0, 1 << 63))


@pytest.mark.parametrize("dims", [(1 << 40,), (1 << 62, 4), (-1,), (0, 1 << 62, 1 << 62), (1 << 31, 1 << 31)])
def test_impossible_shapes(tmp_path: Path, dims: tuple[int, ...]) -> None:
    shape = struct.pack(f"<i{len(dims)}q", len(dims), *dims)
    record = struct.pack("<Ii", 0xF993FAC9, 0) + shape + struct.pack("<iii", 1, 0, 0)
    damaged(tmp_path, mxnet_list([record], ["w"]))


def test_sparse_indices_are_checked(tmp_path: Path) -> None:
    data, rows = np.ones((2, 3), np.float32), np.int64([1, 6])
    assert "outside" in damaged(tmp_path, mxnet_list([mxnet_sparse(1, (6, 3), data, rows)], ["w"]))
    assert "do not fit" in damaged(tmp_path, mxnet_list([mxnet_sparse(1, (6, 4), data, rows - 1)], ["w"]))
    values, columns = np.ones(3, np.float32), np.int64([1, 0, 2])
    for starts in ([0, 1, 4], [1, 1, 3], [0, 4, 3], [0, -1, 3], [0, 2**63 - 1, -2, 3]):
        rows_of_csr = (len(starts) - 1, 3)
        damaged(tmp_path, mxnet_list([mxnet_sparse(2, rows_of_csr, values, np.int64(starts), columns)], ["w"]))
    assert "columns outside" in damaged(
        tmp_path, mxnet_list([mxnet_sparse(2, (2, 2), values, np.int64([0, 1, 3]), columns)], ["w"])
    )


def test_sparse_array_of_huge_dense_form_is_set_aside(tmp_path: Path) -> None:
    record = mxnet_sparse(1, (1 << 30, 3), np.ones((1, 3), np.float32), np.int64([5]))
    checkpoint = read_checkpoint(put(tmp_path, "huge.params", mxnet_list([record], ["table"])))
    assert not checkpoint.arrays
    assert "sparse" in checkpoint.set_aside["table"]
