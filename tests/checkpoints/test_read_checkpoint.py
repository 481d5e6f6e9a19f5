"""The way in: which format a file is of, and what is said when it is of none."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import (
    mindspore_ckpt,
    mxnet_params,
    onnx_model,
    put,
    torch_legacy,
    torch_tar,
    torch_zip,
)

from edgepose.checkpoints import read_checkpoint
from edgepose.checkpoints.mxnet_symbol import SymbolGraph
from edgepose.errors import CheckpointError

ARRAYS = {"conv.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def network(*names: str) -> bytes:
    nodes: list[dict[str, Any]] = [{"op": "null", "name": name, "inputs": []} for name in ("data", *names)]
    nodes.append({"op": "FullyConnected", "name": "fc", "inputs": [[i, 0, 0] for i in range(len(nodes))]})
    return json.dumps({"nodes": nodes, "arg_nodes": [0], "heads": [[len(nodes) - 1, 0, 0]]}).encode()


@pytest.mark.parametrize(
    ("writer", "expected"),
    [
        (mxnet_params, "mxnet-params"),
        (mindspore_ckpt, "mindspore-ckpt"),
        (torch_zip, "torch-zip"),
        (torch_legacy, "torch-legacy"),
        (torch_tar, "torch-legacy"),
        (onnx_model, "onnx"),
    ],
)
@pytest.mark.parametrize("name", ["weights", "weights.ckpt", "weights.params"])
def test_format_is_told_from_the_content(tmp_path: Path, writer: Any, expected: str, name: str) -> None:
    checkpoint = read_checkpoint(str(put(tmp_path, name, writer(ARRAYS))))
    assert checkpoint.format == expected
    assert checkpoint.path == tmp_path / name
    np.testing.assert_array_equal(checkpoint.arrays["conv.weight"], ARRAYS["conv.weight"])


def test_numpy_archive_of_mxnet_2(tmp_path: Path) -> None:
    arrays = {"a.weight": ARRAYS["conv.weight"], "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    np.savez(tmp_path / "net.params.npz", **arrays)
    checkpoint = read_checkpoint(tmp_path / "net.params.npz")
    assert checkpoint.format == "mxnet-params"
    assert checkpoint.metadata["container"] == "npz"
    for name, array in arrays.items():
        np.testing.assert_array_equal(checkpoint.arrays[name], array)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "packed.npz").arrays["a.weight"], arrays["a.weight"])
    np.save(tmp_path / "one.npy", arrays["fortran"])
    np.testing.assert_array_equal(read_checkpoint(tmp_path / "one.npy").arrays["0"], arrays["fortran"])


def test_numpy_archive_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="not of plain numbers"):
        read_checkpoint(tmp_path / "objects.npz")


def test_bfloat16_of_mxnet_2(tmp_path: Path) -> None:
    header = b"{'descr': [('bfloat16', '<u2')], 'fortran_order': False, 'shape': (2,), }"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\xc0\x3f\x10\xc0"
    np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "b.npy", data)).arrays["0"], np.float32([1.5, -2.25]))


# MXNet deploy pairs


@pytest.mark.parametrize(
    ("params", "symbol"),
    [
        ("net-0000.params", "net-symbol.json"),
        ("net-0123.params", "net-symbol.json"),
        ("net.params", "net-symbol.json"),
        ("net.params", "net.json"),
        ("net-e2c7b1ad.params", "net-e2c7b1ad-symbol.json"),
    ],
)
def test_network_beside_its_arrays(tmp_path: Path, params: str, symbol: str) -> None:
    put(tmp_path, params, mxnet_params({"arg:w": ARRAYS["conv.weight"]}))
    put(tmp_path, symbol, network("w"))
    from_arrays, from_network = read_checkpoint(tmp_path / params), read_checkpoint(tmp_path / symbol)
    for checkpoint in (from_arrays, from_network):
        assert isinstance(checkpoint.graph, SymbolGraph)
        assert [node.name for node in checkpoint.graph.nodes] == ["data", "w", "fc"]
        assert checkpoint.path == tmp_path / params
        assert checkpoint.metadata["symbol"] == symbol
        np.testing.assert_array_equal(checkpoint.arrays["w"], ARRAYS["conv.weight"])


def test_network_can_be_named(tmp_path: Path) -> None:
    params = put(tmp_path, "net.params", mxnet_params({"w": ARRAYS["conv.weight"]}))
    symbol = put(tmp_path, "elsewhere.json", network("w"))
    assert read_checkpoint(params).graph is None
    assert read_checkpoint(params, symbol=symbol).graph is not None
    with pytest.raises(CheckpointError, match="none of its variables"):
        read_checkpoint(params, symbol=put(tmp_path, "other.json", network("v")))
    with pytest.raises(CheckpointError, match="no MXNet file"):
        read_checkpoint(put(tmp_path, "net.pth", torch_zip(ARRAYS)), symbol=symbol)


def test_files_beside_that_do_not_belong(tmp_path: Path) -> None:
    """Training code saves arrays under structural names, which the exported network does not know."""
    params = put(tmp_path, "net.params", mxnet_params({"features.0.weight": ARRAYS["conv.weight"]}))
    put(tmp_path, "net-symbol.json", network("w"))
    checkpoint = read_checkpoint(params)
    assert checkpoint.graph is None
    assert checkpoint.metadata["symbol_not_used"] == "net-symbol.json"
    (tmp_path / "net-symbol.json").unlink()
    put(tmp_path, "net.json", b'{"names": ["a"]}')
    assert read_checkpoint(params).graph is None


def test_name_that_is_too_long_with_another_ending(tmp_path: Path) -> None:
    params = put(tmp_path, "n" * 245 + ".params", mxnet_params({"w": ARRAYS["conv.weight"]}))
    assert read_checkpoint(params).graph is None


def test_network_without_one_file_of_arrays(tmp_path: Path) -> None:
    symbol = put(tmp_path, "net-symbol.json", network("w"))
    with pytest.raises(CheckpointError, match=r"no weights beside it[^$]*net-0000\.params"):
        read_checkpoint(symbol)
    for epoch in (1, 2):
        put(tmp_path, f"net-000{epoch}.params", mxnet_params({"w": ARRAYS["conv.weight"]}))
    with pytest.raises(CheckpointError, match=r"net-0001\.params, net-0002\.params"):
        read_checkpoint(symbol)


def test_deploy_pair_of_mxnet(reference: Path) -> None:
    folder = reference / "data/weights/ultralight_simplepose"
    checkpoint = read_checkpoint(folder / "Ultralight-Nano-SimplePose.json")
    assert checkpoint.path.name == "Ultralight-Nano-SimplePose.params"
    variables = {node.name for node in checkpoint.graph.variables}
    assert variables == {"data", *checkpoint.arrays}


# what cannot be read


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert path.name in str(caught.value)
    return str(caught.value)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path)
    assert "does not exist" in refused(tmp_path / "absent")
    assert "is empty" in refused(put(tmp_path, "empty", b""))
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    assert "is a link to 'nowhere', which does not exist" in refused(link)
    loop = tmp_path / "loop"
    loop.symlink_to("loop")
    assert "loop" in refused(loop)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")
    assert "Cannot read" in refused(tmp_path / ("a" * 300))
    good = tmp_path / "good-link"
    good.symlink_to(put(tmp_path, "net.params", mxnet_params(ARRAYS)))
    assert list(read_checkpoint(good).arrays) == ["conv.weight"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = put(tmp_path, "closed", b"x")
    path.chmod(0)
    assert "Permission denied" in refused(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"pose_id,score\n1,2\n", "no known format"),
        (bytes(100), "no known format"),
        (b"\x20\0\0\0TFL3" + bytes(40), "TensorFlow Lite"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"\x0a\x050.1.1\x12\x09MindSpore*\x061.10.0", "MindIR"),
        (b"PK\5\6" + bytes(18), "zip archive of nothing"),
        (b'{"nodes": 3}', "no weights beside it"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, words: str) -> None:
    assert words in refused(put(tmp_path, "file", data))


def test_known_formats_are_listed(tmp_path: Path) -> None:
    message = refused(put(tmp_path, "file", b"hello"))
    for name in ("MXNet", "MindSpore", "PyTorch", ".safetensors", ".onnx"):
        assert name in message


def test_zip_of_something_else(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
        archive.writestr("simple_pose.params", mxnet_params(ARRAYS))
    assert re.search(r"simple_pose\.params[^$]*unpack it", refused(tmp_path / "zoo.zip"))


def test_weights_of_the_reference_folder(reference: Path) -> None:
    """Every file is read, or refused with a word that fits."""
    expected = {
        "formats/checkpoint_lenet-1_1875.ckpt": ("mindspore-ckpt", 8),
        "formats/tbnet_epoch0.ckpt": ("mindspore-ckpt", 2),
        "formats/posenet_mobilenet_v1_050.pth": ("torch-legacy", 62),
        "lightweight_openpose/lightweight_openpose.pth": ("torch-zip", 217),
        "person_detector/yolox_nano.onnx": ("onnx", 236),
        "ultralight_simplepose/Ultralight-Nano-SimplePose.params": ("mxnet-params", 291),
        "ultralight_simplepose/Ultralight-Nano-SimplePose.json": ("mxnet-params", 291),
        "ultralight_simplepose/deploy.onnx": ("onnx", 291),
    }
    folder = reference / "data/weights"
    for name, (kind, count) in expected.items():
        checkpoint = read_checkpoint(folder / name)
        assert (checkpoint.format, len(checkpoint.arrays)) == (kind, count), name
    others = {
        "formats/tbnet.mindir": "MindIR",
        "formats/unsafe_pickle_EfficientPoseRT.pth": "MainModel.KitModel",
        "movenet/movenet_single_pose_lightning_ptq.tflite": "TensorFlow Lite",
        "movenet/ref.csv": "no known format",
        "movenet/squat.bmp": "no known format",
        "README.md": "no known format",
    }
    for name, words in others.items():
        assert words in refused(folder / name)
