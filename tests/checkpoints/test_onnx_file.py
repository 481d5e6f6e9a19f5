"""ONNX models as checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from checkpoint_writers import message, number_field, onnx_model, put, varint
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from memory_of import peak_of_reading
from onnx import TensorProto, helper, numpy_helper

from edgepose.checkpoints import read_checkpoint
from edgepose.errors import CheckpointError

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
ONE = np.float32([[1, 2], [3, 4]])


def model_of(*tensors: TensorProto) -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], list(tensors))
    data: bytes = helper.make_model(graph).SerializeToString()
    return data


# what others wrote


def test_foreign_models(reference: Path) -> None:
    for path in ("person_detector/yolox_nano.onnx", "ultralight_simplepose/deploy.onnx"):
        checkpoint = read_checkpoint(reference / "data/weights" / path)
        model = onnx.load(reference / "data/weights" / path)
        assert checkpoint.format == "onnx"
        assert checkpoint.graph == model
        assert list(checkpoint.arrays) == [tensor.name for tensor in model.graph.initializer]
        for tensor in model.graph.initializer:
            np.testing.assert_array_equal(checkpoint.arrays[tensor.name], numpy_helper.to_array(tensor))
        assert checkpoint.metadata["opsets"] == {"ai.onnx": model.opset_import[0].version}


# properties

arrays_of_any_type = st.sampled_from(TYPES).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays=st.dictionaries(st.text(min_size=1, max_size=6), arrays_of_any_type, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrays: Any) -> None:
    path = put(tmp_path_factory.getbasetemp(), "any.onnx", onnx_model(arrays))
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.arrays) == list(arrays)
    for name, array in checkpoint.arrays.items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()
        assert not array.flags.writeable


@given(array=arrays_of_any_type)
def test_elements_given_as_numbers(tmp_path_factory: pytest.TempPathFactory, array: Any) -> None:
    """The other way to store a tensor: typed fields in place of bytes."""
    array = np.nan_to_num(array)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = helper.make_tensor("w", kind, array.shape, array.ravel().tolist())
    assert not tensor.HasField("raw_data")
    path = put(tmp_path_factory.getbasetemp(), "typed.onnx", model_of(tensor))
    np.testing.assert_array_equal(read_checkpoint(path).arrays["w"], array)


def test_many_numbers(tmp_path: Path) -> None:
    """More than one block of the decoder, of every length of varint."""
    numbers = np.random.default_rng(0).integers(-(1 << 63), 1 << 63, 60000) >> np.arange(60000) % 64
    tensor = helper.make_tensor("w", TensorProto.INT64, numbers.shape, numbers.tolist())
    np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "m.onnx", model_of(tensor))).arrays["w"], numbers)


# the rare cases


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    bits = [0x3FC0, 0xC010, 0x8000]
    raw = TensorProto(name="raw", data_type=TensorProto.BFLOAT16, dims=[3], raw_data=np.uint16(bits).tobytes())
    typed = TensorProto(name="typed", data_type=TensorProto.BFLOAT16, dims=[3], int32_data=bits)
    arrays = read_checkpoint(put(tmp_path, "b.onnx", model_of(raw, typed))).arrays
    for array in arrays.values():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, np.float32([1.5, -2.25, -0.0]))


def test_types_without_an_array_are_set_aside(tmp_path: Path) -> None:
    tensors = [
        TensorProto(name="s", data_type=TensorProto.STRING, dims=[1], string_data=[b"x"]),
        TensorProto(name="f8", data_type=TensorProto.FLOAT8E4M3FN, dims=[1], raw_data=b"x"),
        TensorProto(name="i4", data_type=TensorProto.INT4, dims=[2], raw_data=b"x"),
        TensorProto(name="new", data_type=99, dims=[1], raw_data=b"x"),
    ]
    checkpoint = read_checkpoint(put(tmp_path, "t.onnx", model_of(*tensors)))
    assert not checkpoint.arrays
    assert {name: reason.split()[3].rstrip(",") for name, reason in checkpoint.set_aside.items()} == {
        "s": "STRING", "f8": "FLOAT8E4M3FN", "i4": "INT4", "new": "99",
    }  # fmt: skip


def test_fields_in_another_order(tmp_path: Path) -> None:
    """Protocol buffers have no order; this model does not start with its version."""
    model = onnx.load_from_string(onnx_model({"w": ONE}))
    graph = model.graph.SerializeToString()
    data = message(7, graph) + message(8, number_field(2, 17)) + number_field(1, 8)
    np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "o.onnx", data)).arrays["w"], ONE)


# data in other files


def external(location: str, **place: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **place}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_data_are_taken_in(tmp_path: Path) -> None:
    put(tmp_path, "weights.bin", b"1234" + ONE.tobytes() + b"56")
    path = put(tmp_path, "e.onnx", model_of(external("weights.bin", offset="4", length="16")))
    checkpoint = read_checkpoint(path)
    np.testing.assert_array_equal(checkpoint.arrays["w"], ONE)
    tensor = checkpoint.graph.graph.initializer[0]
    assert tensor.data_location == TensorProto.DEFAULT
    assert not tensor.external_data
    np.testing.assert_array_equal(numpy_helper.to_array(tensor), ONE)


def test_external_data_cannot_leave_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = put(tmp_path, "secret.bin", ONE.tobytes())
    (folder / "link.bin").symlink_to(secret)
    (folder / "loop").symlink_to("loop")
    for location in (
        "../secret.bin",
        str(secret),
        "link.bin",
        "x/../../secret.bin",
        "",
        ".",
        "loop",
        "a\0b",
        "a" * 5000,
    ):
        path = put(folder, "e.onnx", model_of(external(location)))
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_checkpoint(put(folder, "e.onnx", model_of(external("absent.bin"))))
    for place in ({"offset": "-1"}, {"offset": "99"}, {"length": "99"}, {"length": "9" * 30}, {"offset": "٣"}):
        put(folder, "here.bin", ONE.tobytes())
        with pytest.raises(CheckpointError):
            read_checkpoint(put(folder, "e.onnx", model_of(external("here.bin", **place))))


# damage


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (TensorProto(name="w", data_type=1, dims=[3], raw_data=b"1234"), "has 4 bytes"),
        (TensorProto(name="w", data_type=1, dims=[3], float_data=[1]), "has 4 bytes"),
        (TensorProto(name="w", data_type=1, dims=[-1], raw_data=b""), "negative dimension"),
        (TensorProto(name="w", data_type=1, dims=[1 << 40] * 2, raw_data=b""), "impossible shape"),
        (TensorProto(name="w", data_type=1, dims=[1] * 40, raw_data=b"1234"), "more than 32 dimensions"),
        (TensorProto(name="w", data_type=3, dims=[1], int32_data=[300]), "no int8"),
        (TensorProto(name="w", data_type=9, dims=[1], raw_data=b"\2"), "other bytes than 0 and 1"),
    ],
)
def test_damage_is_named(tmp_path: Path, tensor: TensorProto, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(put(tmp_path, "d.onnx", model_of(tensor)))


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="twice"):
        read_checkpoint(put(tmp_path, "d.onnx", model_of(*[numpy_helper.from_array(ONE, "w")] * 2)))


def _nested(depth: int) -> bytes:
    graph = b""
    for _ in range(depth):
        graph = message(1, message(5, message(6, graph)))
    return number_field(1, 8) + message(7, graph)


SMALL_MESSAGES = number_field(1, 8) + message(7, b"\x0a\0" * 2_000_000)
BOMBS = {
    "empty nodes": SMALL_MESSAGES,
    "empty strings": number_field(1, 8) + message(7, message(1, b"\x0a\0" * 2_000_000)),
    "small numbers": number_field(1, 8) + message(7, message(5, message(7, bytes(8_000_000)))),
    "numbers one by one": number_field(1, 8) + message(7, message(5, b"\x38\1" * 4_000_000)),
    "small 32-bit numbers": number_field(1, 8) + message(7, message(5, message(5, bytes(8_000_000)))),
    "nested graphs": _nested(5000),
    "unknown fields": number_field(1, 8) + message(7, b"") + (varint(1000 << 3 | 2) + b"\0") * 1_000_000,
    "long text": number_field(1, 8) + message(7, message(2, b"a" * 30_000_000)),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from the kernel")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(tmp_path: Path, name: str) -> None:
    """By the memory of the whole process, because the protobuf library allocates outside of Python's books."""
    path = put(tmp_path, "bomb.onnx", BOMBS[name])
    peak, _ = peak_of_reading(path)
    assert peak <= 4 * len(BOMBS[name]) + (64 << 20)
