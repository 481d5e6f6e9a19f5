"""Files that MindSpore itself writes, compared with what MindSpore itself reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepose.checkpoints import read_checkpoint
from edgepose.errors import CheckpointError

mindspore: Any = pytest.importorskip("mindspore", reason="MindSpore is needed to compare with it")
pytestmark = pytest.mark.conformance

TYPES = [
    "float16",
    "float32",
    "float64",
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


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_every_type(tmp_path: Path, checked: bool, suffix: str) -> None:
    arrays = {kind: np.array([[0, 1, 2], [3, 100, 127]]).astype(kind) for kind in TYPES}
    entries = [{"name": f"net.{kind}", "data": mindspore.Tensor(array)} for kind, array in arrays.items()]
    entries.append({"name": "net.scalar", "data": mindspore.Tensor(np.float32(0.5))})
    path = tmp_path / f"all.{suffix}"
    mindspore.save_checkpoint(entries, str(path), crc_check=checked, format=suffix)
    checkpoint = read_checkpoint(path)
    read = mindspore.load_checkpoint(str(path), format=suffix)
    assert set(checkpoint.arrays) == set(read)
    for kind, array in arrays.items():
        assert checkpoint.arrays[f"net.{kind}"].dtype == array.dtype
        np.testing.assert_array_equal(checkpoint.arrays[f"net.{kind}"], array)
    assert checkpoint.arrays["net.scalar"] == np.float32(0.5)
    if suffix == "ckpt":
        assert checkpoint.metadata["checksum"] is checked


def test_network_under_training(tmp_path: Path) -> None:
    network = mindspore.nn.SequentialCell(mindspore.nn.Conv2d(3, 4, 3), mindspore.nn.BatchNorm2d(4))
    optimizer = mindspore.nn.Adam(network.trainable_params())
    path = tmp_path / "training.ckpt"
    mindspore.save_checkpoint(optimizer, str(path), append_dict={"epoch_num": 3, "note": "hello"})
    checkpoint = read_checkpoint(path)
    weights = {p.name: p for p in network.trainable_params()}
    assert set(checkpoint.arrays) == set(weights)
    for name, parameter in weights.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], parameter.asnumpy())
    assert {f"moment1.{name}" for name in weights} <= set(checkpoint.set_aside)
    assert {"beta1_power", "epoch_num"} <= set(checkpoint.set_aside)
    assert checkpoint.metadata["strings"]["note"] == "hello"


@pytest.mark.parametrize("mode", ["AES-GCM", "AES-CBC", "SM4-CBC"])
def test_encrypted_file_is_refused(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "secret.ckpt"
    entries = [{"name": "w", "data": mindspore.Tensor(np.ones(3, np.float32))}]
    mindspore.save_checkpoint(entries, str(path), enc_key=b"0123456789abcdef", enc_mode=mode)
    with pytest.raises(CheckpointError, match=f"encrypted MindSpore file .{mode}."):
        read_checkpoint(path)
