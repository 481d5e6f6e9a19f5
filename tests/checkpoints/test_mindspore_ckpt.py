"""MindSpore ``.ckpt``."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import MINDSPORE_TYPES, message, mindspore_ckpt, mindspore_entry, put, varint
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.checkpoints import read_checkpoint
from edgepose.errors import CheckpointError

FIXTURES = "fixtures/simplepose_lwop"

# what MindSpore wrote


@pytest.mark.parametrize(("name", "checked"), [("ckpt_misc.ckpt", False), ("ckpt_misc_crc.ckpt", True)])
def test_types_written_by_mindspore(reference: Path, name: str, checked: bool) -> None:
    checkpoint = read_checkpoint(reference / FIXTURES / name)
    expected = np.load(reference / FIXTURES / "ckpt_misc_expected.npz")
    assert checkpoint.format == "mindspore-ckpt"
    assert checkpoint.metadata["checksum"] is checked
    for key in expected.files:
        assert checkpoint.arrays[key].dtype == expected[key].dtype
        assert checkpoint.arrays[key].shape == expected[key].shape
        np.testing.assert_array_equal(checkpoint.arrays[key], expected[key])
    assert set(checkpoint.arrays) - set(expected.files) == {"lr", "flag"}
    assert set(checkpoint.set_aside) == {"note", "epoch_num"}
    assert checkpoint.metadata["strings"] == {"note": "hello"}


def test_network_written_by_mindspore(reference: Path) -> None:
    folder = reference / FIXTURES
    spec = importlib.util.spec_from_file_location("synth", folder / "synth.py")
    assert spec is not None
    assert spec.loader is not None
    synth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(synth)
    checkpoint = read_checkpoint(folder / "simple_pose_div8_mindspore210.ckpt")
    rows = json.loads((folder / "simple_pose_div8_params.json").read_bytes())
    assert [name for name, _, _ in rows] == list(checkpoint.arrays)
    for name, shape, torch_name in rows:
        np.testing.assert_array_equal(checkpoint.arrays[name], synth.synth_tensor(torch_name, tuple(shape)))


def test_files_of_old_versions(reference: Path) -> None:
    folder = reference / "data/weights/formats"
    lenet = read_checkpoint(folder / "checkpoint_lenet-1_1875.ckpt")
    assert {name: array.shape for name, array in lenet.arrays.items()} == {
        "conv1.weight": (6, 1, 5, 5), "conv2.weight": (16, 6, 5, 5), "fc1.weight": (120, 400), "fc1.bias": (120,),
        "fc2.weight": (84, 120), "fc2.bias": (84,), "fc3.weight": (10, 84), "fc3.bias": (10,),
    }  # fmt: skip
    assert len(lenet.arrays) + len(lenet.set_aside) == 18
    assert lenet.set_aside["moments.fc3.bias"] == "optimizer state of 'fc3.bias'"
    assert "counter" in lenet.set_aside["learning_rate"]
    tbnet = read_checkpoint(folder / "tbnet_epoch0.ckpt")
    assert {name: array.shape for name, array in tbnet.arrays.items()} == {
        "entity_emb_matrix.embedding_table": (5233, 26), "relation_emb_matrix.embedding_table": (4, 26, 26),
    }  # fmt: skip
    with pytest.raises(CheckpointError, match="MindIR model"):
        read_checkpoint(folder / "tbnet.mindir")


# properties

arrays_of_any_type = st.sampled_from(sorted(MINDSPORE_TYPES)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4))
)
names = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=12).filter(str.isprintable)


@given(arrays=st.dictionaries(names, arrays_of_any_type, min_size=1, max_size=4), checksum=st.booleans())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, arrays: Any, checksum: bool) -> None:
    path = put(tmp_path_factory.getbasetemp(), "any.ckpt", mindspore_ckpt(arrays, checksum=checksum))
    checkpoint = read_checkpoint(path)
    read = dict(checkpoint.arrays)
    assert set(read) | set(checkpoint.set_aside) == set(arrays)
    for name, array in read.items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()


# the rare cases


def test_slices_are_put_together(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    pieces = [
        mindspore_entry("w", whole.shape, "Float32", part.tobytes()) for part in (whole[:1], whole[1:3], whole[3:])
    ]
    data = b"".join([*pieces, mindspore_entry("b", (2,), "Float32", bytes(8))])
    checkpoint = read_checkpoint(put(tmp_path, "sliced.ckpt", data))
    np.testing.assert_array_equal(checkpoint.arrays["w"], whole)
    assert list(checkpoint.arrays) == ["w", "b"]


def test_scalars_of_both_ages(tmp_path: Path) -> None:
    data = mindspore_entry("new", (), "Int32", b"\7\0\0\0") + mindspore_entry("old", (0,), "Int32", b"\7\0\0\0")
    data += mindspore_entry("none", (0,), "Int32", b"")
    arrays = read_checkpoint(put(tmp_path, "scalars.ckpt", data)).arrays
    assert arrays["new"].shape == arrays["old"].shape == ()
    assert arrays["new"] == arrays["old"] == 7
    assert arrays["none"].shape == (0,)


def test_packed_dimensions(tmp_path: Path) -> None:
    tensor = message(1, varint(2) + varint(3)) + message(2, b"Int8") + message(3, bytes(range(6)))
    data = message(1, message(1, b"w") + message(2, tensor))
    np.testing.assert_array_equal(
        read_checkpoint(put(tmp_path, "packed.ckpt", data)).arrays["w"], np.arange(6).reshape(2, 3)
    )


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    data = mindspore_entry("w", (2,), "BFloat16", b"\xc0\x3f\x10\xc0")
    np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "b.ckpt", data)).arrays["w"], np.float32([1.5, -2.25]))


def test_training_state_is_set_aside_only_beside_its_weight(tmp_path: Path) -> None:
    one = np.ones(2, np.float32)
    names_in_file = [
        "conv.weight",
        "moment1.conv.weight",
        "moment2.conv.weight",
        "beta1_power",
        "moment1.other",
        "stat.x",
    ]
    checkpoint = read_checkpoint(put(tmp_path, "adam.ckpt", mindspore_ckpt(dict.fromkeys(names_in_file, one))))
    assert list(checkpoint.arrays) == ["conv.weight", "moment1.other", "stat.x"]
    assert set(checkpoint.set_aside) == {"moment1.conv.weight", "moment2.conv.weight", "beta1_power"}


def test_maps_and_text_are_set_aside(tmp_path: Path) -> None:
    data = mindspore_entry("w", (1,), "Float32", bytes(4))
    data += message(1, message(1, b"table") + message(3, b""))
    data += mindspore_entry("note", (0,), "str", "é!".encode("utf-32-le"))
    checkpoint = read_checkpoint(put(tmp_path, "map.ckpt", data))
    assert list(checkpoint.arrays) == ["w"]
    assert "map" in checkpoint.set_aside["table"]
    assert checkpoint.metadata["strings"] == {"note": "é!"}


@pytest.mark.parametrize(("first", "mode"), [(0xD8, "AES-GCM"), (0xD9, "AES-CBC"), (0xDA, "SM4-CBC")])
def test_encrypted_file_is_refused(tmp_path: Path, first: int, mode: str) -> None:
    with pytest.raises(CheckpointError, match=rf"encrypted MindSpore file \({mode}\)[^$]*dec_key"):
        read_checkpoint(put(tmp_path, "secret.ckpt", bytes([first, 0x5E, 0x3A, 0x7F]) + bytes(range(80))))


# damage


def test_checksum_is_checked(tmp_path: Path) -> None:
    data = bytearray(mindspore_ckpt({"w": np.arange(8, dtype=np.float32)}, checksum=True))
    data[30] ^= 1
    with pytest.raises(CheckpointError, match="checksum"):
        read_checkpoint(put(tmp_path, "crc.ckpt", bytes(data)))


W = mindspore_entry("w", (2,), "Float32", bytes(8))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (mindspore_entry("w", (2,), "Int4", bytes(1)), "4-bit integers"),
        (mindspore_entry("w", (2,), "Quaternion", bytes(8)), "unknown type 'Quaternion'"),
        (mindspore_entry("w", (2,), "Float32", bytes(7)), "has 7 bytes"),
        (mindspore_entry("w", (-1,), "Float32", b""), "negative dimension"),
        (mindspore_entry("w", (1 << 40, 1 << 40), "Float32", bytes(8)), "impossible shape"),
        (mindspore_entry("w", (1,) * 40, "Float32", bytes(4)), "40 dimensions|more than 32 dimensions"),
        (W + W, "twice"),
        (W + mindspore_entry("v", (2,), "Float32", bytes(8)) + W, "twice"),
        (mindspore_entry("w", (0,), "str", b"\0\0\0\xff"), "no text"),
        (message(1, message(1, b"w")), "no name or no array"),
        (W + message(2, b""), "unknown field 2"),
        (W + b"\x0b", "wire type 3"),
        (W[:-1], "cut off"),
    ],
)
def test_damage_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(CheckpointError, match=words):
        read_checkpoint(put(tmp_path, "damaged.ckpt", data))
