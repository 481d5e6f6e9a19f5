"""PyTorch checkpoints: zip, legacy and tar."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import (
    REBUILD,
    STORAGES,
    Call,
    Name,
    Ordered,
    Persistent,
    TorchFile,
    pickled,
    put,
    tar_of,
    torch_legacy,
    torch_tar,
    torch_zip,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgepose.checkpoints import Checkpoint, read_checkpoint
from edgepose.errors import CheckpointError, UnsafeCheckpointError

ONE = np.float32([1, 2, 3])

# what PyTorch wrote


def test_trained_network(reference: Path) -> None:
    checkpoint = read_checkpoint(reference / "data/weights/lightweight_openpose/lightweight_openpose.pth")
    rows = json.loads((reference / "fixtures/simplepose_lwop/lwop_state_dict.json").read_bytes())
    expected = {name: tuple(shape) for name, shape in (rows.items() if isinstance(rows, dict) else rows)}
    assert checkpoint.format == "torch-zip"
    assert checkpoint.metadata["weights"] == "state_dict"
    assert len(checkpoint.arrays) + len(checkpoint.set_aside) == 250
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    assert set(checkpoint.set_aside) == counters
    assert {name: array.shape for name, array in checkpoint.arrays.items()} == {
        name: shape for name, shape in expected.items() if name not in counters
    }
    with zipfile.ZipFile(checkpoint.path) as archive:
        folder = archive.namelist()[0].split("/")[0]
        first = np.frombuffer(archive.read(f"{folder}/data/0"), np.float32)
    np.testing.assert_array_equal(checkpoint.arrays["model.0.0.weight"].ravel(), first)


def test_legacy_file_of_unknown_architecture(reference: Path) -> None:
    checkpoint = read_checkpoint(reference / "data/weights/formats/posenet_mobilenet_v1_050.pth")
    assert checkpoint.format == "torch-legacy"
    assert len(checkpoint.arrays) == 62
    assert checkpoint.arrays["features.conv0.conv.weight"].shape == (16, 3, 3, 3)
    assert all(np.isfinite(array).all() and array.any() for array in checkpoint.arrays.values())


def test_pickled_module_is_refused_by_name(reference: Path) -> None:
    with pytest.raises(UnsafeCheckpointError, match=r"unsafe_pickle_EfficientPoseRT\.pth.*'MainModel\.KitModel'"):
        read_checkpoint(reference / "data/weights/formats/unsafe_pickle_EfficientPoseRT.pth")


# properties

arrays_of_any_type = st.sampled_from(sorted(STORAGES)).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@pytest.mark.parametrize("writer", [torch_zip, torch_legacy, torch_tar])
@given(arrays=st.dictionaries(names, arrays_of_any_type, min_size=1, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, writer: Any, arrays: Any) -> None:
    checkpoint = read_checkpoint(put(tmp_path_factory.getbasetemp(), "any.pth", writer(arrays)))
    assert list(checkpoint.arrays) == list(arrays)
    for name, array in checkpoint.arrays.items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert array.tobytes() == arrays[name].tobytes()
        assert not array.flags.writeable


@given(data=st.data())
def test_views_equal_numpy(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any offset, shape and strides inside of a storage of 60 elements."""
    flat = np.arange(60, dtype=np.int16)
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    strides = data.draw(st.lists(st.integers(0, 4), min_size=len(shape), max_size=len(shape)))
    offset = data.draw(st.integers(0, 59 - sum((d - 1) * s for d, s in zip(shape, strides, strict=True) if d)))
    file = TorchFile()
    tensor = file.view(file.storage(flat.tobytes(), "ShortStorage", 60), offset, shape, strides)
    folder = tmp_path_factory.getbasetemp()
    (array,) = read_checkpoint(put(folder, "view.pth", file.zip({"w": tensor}))).arrays.values()
    expected = np.lib.stride_tricks.as_strided(flat[offset:], shape, [2 * s for s in strides])
    np.testing.assert_array_equal(array, expected)


# storages and types


def weights(tmp_path: Path, file: TorchFile, root: Any, **options: Any) -> Checkpoint:
    return read_checkpoint(put(tmp_path, "any.pth", file.zip(root, **options)))


def test_shared_storage_is_shared(tmp_path: Path) -> None:
    file = TorchFile()
    storage = file.storage(np.arange(6, dtype=np.float32).tobytes(), "FloatStorage", 6)
    root = {"a": file.view(storage, 0, (6,), (1,)), "b": file.view(storage, 1, (2, 2), (1, 2))}
    arrays = weights(tmp_path, file, root).arrays
    assert np.shares_memory(arrays["a"], arrays["b"])
    np.testing.assert_array_equal(arrays["b"], [[1, 3], [2, 4]])


def test_bfloat16_is_widened_once(tmp_path: Path) -> None:
    file = TorchFile()
    storage = file.storage(struct.pack("<4H", 0x3FC0, 0xC010, 0, 0x8000), "BFloat16Storage", 4)
    root = {"a": file.view(storage, 0, (4,), (1,)), "b": file.view(storage, 0, (2, 2), (1, 2))}
    arrays = weights(tmp_path, file, root).arrays
    np.testing.assert_array_equal(arrays["a"], np.float32([1.5, -2.25, 0, -0.0]))
    assert np.signbit(arrays["a"][3])
    assert np.shares_memory(arrays["a"], arrays["b"])


def test_untyped_storage_takes_the_type_of_the_tensor(tmp_path: Path) -> None:
    """How PyTorch 2 writes the types that have no storage class."""
    file = TorchFile()
    bits = np.uint16([1, 2, 65535])
    file.storages["0"] = bits.tobytes()
    storage = Persistent(("storage", Name("torch.storage", "UntypedStorage"), "0", "cpu", 6))
    hooks = Call(Name("collections", "OrderedDict"), ())
    typed = Name("torch._utils", "_rebuild_tensor_v3")
    root = {
        "w": Call(typed, (storage, 0, (3,), (1,), False, hooks, Name("torch", "uint16"))),
        "f8": Call(typed, (storage, 0, (6,), (1,), False, hooks, Name("torch", "float8_e4m3fn"))),
    }
    checkpoint = weights(tmp_path, file, root)
    np.testing.assert_array_equal(checkpoint.arrays["w"], bits)
    assert "float8_e4m3fn" in checkpoint.set_aside["f8"]


def test_big_endian(tmp_path: Path) -> None:
    for suffix in ("zip", "legacy"):
        file = TorchFile()
        storage = file.storage(ONE.astype(">f4").tobytes(), "FloatStorage", 3)
        root = {"w": file.view(storage, 0, (3,), (1,))}
        data = file.zip(root, order="big") if suffix == "zip" else file.legacy(root, little_endian=False)
        np.testing.assert_array_equal(read_checkpoint(put(tmp_path, suffix, data)).arrays["w"], ONE)


def test_parameters_and_subclasses_are_their_tensors(tmp_path: Path) -> None:
    file = TorchFile()
    tensor = file.tensor(ONE)
    hooks = Call(Name("collections", "OrderedDict"), ())
    root = {
        "parameter": Call(Name("torch._utils", "_rebuild_parameter"), (tensor, True, hooks)),
        "with state": Call(Name("torch._utils", "_rebuild_parameter_with_state"), (tensor, True, hooks, {})),
        "subclass": Call(
            Name("torch._tensor", "_rebuild_from_type_v2"),
            (REBUILD, Name("torch.nn.parameter", "Parameter"), tensor.arguments, {}),
        ),
        "quantized": Call(Name("torch._utils", "_rebuild_qtensor"), (tensor, 0, (3,), (1,))),
    }
    checkpoint = weights(tmp_path, file, root)
    assert list(checkpoint.arrays) == ["parameter", "with state", "subclass"]
    assert all(np.array_equal(array, ONE) for array in checkpoint.arrays.values())
    assert checkpoint.set_aside == {"quantized": "no tensor"}


def test_view_of_a_legacy_storage(tmp_path: Path) -> None:
    file = TorchFile()
    data = np.arange(6, dtype=np.float32)
    whole = file.storage(data.tobytes(), "FloatStorage", 6)
    part = Persistent((*whole.identifier, ("1", 2, 3)))
    root = {"whole": file.view(whole, 0, (6,), (1,)), "part": file.view(part, 1, (2,), (1,))}
    arrays = read_checkpoint(put(tmp_path, "v.pth", file.legacy(root))).arrays
    np.testing.assert_array_equal(arrays["part"], [3, 4])


def test_deflated_archive(tmp_path: Path) -> None:
    data = torch_zip({"w": np.zeros(1000, np.float32), "v": ONE}, method=zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read_checkpoint(put(tmp_path, "d.pth", data)).arrays["v"], ONE)


# which of the things in the file are the weights


def taken(tmp_path: Path, root: Any, file: TorchFile) -> Checkpoint:
    return read_checkpoint(put(tmp_path, "nested.pth", file.zip(root)))


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (["state_dict"], "state_dict"),
        (["model_state_dict", "optimizer_state_dict"], "model_state_dict"),
        (["model"], "model"),
        (["net"], "net"),
        (["state_dict", "ema_state_dict"], "state_dict"),  # mmengine swaps them
        (["ema_state_dict"], "ema_state_dict"),
        (["state_dict", "state_dict_ema"], "state_dict_ema"),  # timm
        (["model", "model_ema"], "model_ema"),
        (["model", "ema"], "ema"),
        (["optimizer", "pose_network"], "pose_network"),
    ],
)
def test_preferred_key(tmp_path: Path, keys: list[str], expected: str) -> None:
    file = TorchFile()
    tensors = {key: {"w": file.tensor(ONE * index)} for index, key in enumerate(keys, 1)}
    checkpoint = taken(tmp_path, {"epoch": 3, **tensors}, file)
    assert checkpoint.metadata["weights"] == expected
    assert checkpoint.metadata["entries"] == {"epoch": 3}
    np.testing.assert_array_equal(checkpoint.arrays["w"], ONE * (keys.index(expected) + 1))
    assert set(checkpoint.set_aside) == set(keys) - {expected}


def test_weights_in_two_steps(tmp_path: Path) -> None:
    file = TorchFile()
    checkpoint = taken(tmp_path, {"ema": {"module": {"w": file.tensor(ONE)}, "updates": 5}, "model": {}}, file)
    assert checkpoint.metadata["weights"] == "ema.module"
    assert checkpoint.metadata["entries"] == {"ema.updates": 5}
    assert list(checkpoint.arrays) == ["w"]


def test_parts_of_a_network_are_joined(tmp_path: Path) -> None:
    file = TorchFile()
    root = {"backbone": {"w": file.tensor(ONE)}, "head": {"final": {"w": file.tensor(ONE)}}, "epoch": 1}
    checkpoint = taken(tmp_path, root, file)
    assert list(checkpoint.arrays) == ["backbone.w", "head.final.w"]
    assert checkpoint.set_aside == {"epoch": "no tensor"}


def test_wrappers_and_counters(tmp_path: Path) -> None:
    file = TorchFile()
    counter = file.tensor(np.int64(7))
    root = {"module._orig_mod.bn.weight": file.tensor(ONE), "module._orig_mod.bn.num_batches_tracked": counter}
    checkpoint = taken(tmp_path, Ordered(root), file)
    assert list(checkpoint.arrays) == ["bn.weight"]
    assert list(checkpoint.set_aside) == ["bn.num_batches_tracked"]
    assert checkpoint.metadata["wrapper"] == "module._orig_mod."
    file = TorchFile()
    mixed = taken(tmp_path, {"module.w": file.tensor(ONE), "v": file.tensor(ONE)}, file)
    assert list(mixed.arrays) == ["module.w", "v"]


def test_training_data_of_mmengine(tmp_path: Path) -> None:
    """Its history of losses names getattr, arrays of NumPy and a class of its own; none of them is made."""
    file = TorchFile()
    history = Name("mmengine.logging.history_buffer", "HistoryBuffer")
    array = Call(Name("numpy.core.multiarray", "_reconstruct"), (Name("numpy", "ndarray"), (0,), "b"))
    mean = Call(Name("__builtin__", "getattr"), (history, "mean"))
    root = {
        "meta": {"epoch": 210, "cfg": "model = dict()"},
        "message_hub": {
            "loss": Call(history, ()),
            "mean": mean,
            "x": array,
        },
        "state_dict": {"backbone.w": file.tensor(ONE)},
        "optimizer": {"state": {0: {"exp_avg": file.tensor(ONE)}}},
    }
    checkpoint = taken(tmp_path, root, file)
    assert list(checkpoint.arrays) == ["backbone.w"]
    assert checkpoint.set_aside == dict.fromkeys(["meta", "message_hub", "optimizer"], "state of the training")


# damage and refusals


def refused(tmp_path: Path, data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(put(tmp_path, "damaged.pth", data))
    assert "damaged.pth" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("offset", "shape", "strides", "words"),
    [
        (0, (4,), (1,), "outside of its storage"),
        (3, (), (), "outside of its storage"),
        (-1, (1,), (1,), "negative"),
        (0, (2, 2), (2, 1), "outside of its storage"),
        (0, (2,), (-1,), "negative"),
        (0, (-1,), (1,), "negative"),
        (0, (1 << 40, 1 << 40), (0, 0), "impossible shape"),
        (0, (1 << 34,), (0,), "bytes of memory"),
        (0, (2,), (1 << 62,), "outside of its storage"),
        (0, (1,) * 40, (1,) * 40, "described in a way"),
        (0, (3,), (1, 1), "described in a way"),
        (0, (3.0,), (1,), "described in a way"),
        (None, (3,), (1,), "described in a way"),
    ],
)
def test_views_are_checked(tmp_path: Path, offset: Any, shape: Any, strides: Any, words: str) -> None:
    file = TorchFile()
    storage = file.storage(ONE.tobytes(), "FloatStorage", 3)
    assert words in refused(tmp_path, file.zip({"w": file.view(storage, offset, shape, strides)}))


def test_storages_are_checked(tmp_path: Path) -> None:
    file = TorchFile()
    claimed = file.storage(ONE.tobytes(), "FloatStorage", 1 << 40)
    assert "outside of its 12 bytes" in refused(tmp_path, file.zip({"w": file.view(claimed, 0, (3,), (1,))}))
    assert "40 elements" in refused(tmp_path, _renumbered(TorchFile(), 40))
    file = TorchFile()
    missing = Persistent(("storage", Name("torch", "FloatStorage"), "../../etc/passwd", "cpu", 3))
    assert "missing from the zip archive" in refused(tmp_path, file.zip({"w": file.view(missing, 0, (3,), (1,))}))
    file = TorchFile()
    wrong = Persistent(("module", "x", "y", "z", 3))
    assert "a storage is described" in refused(tmp_path, file.zip({"w": file.view(wrong, 0, (3,), (1,))}))
    for kind in ("QInt8Storage", "QUInt4x2Storage"):
        file = TorchFile()
        storage = file.storage(bytes(3), kind, 3)
        file_with_two = {"w": file.view(storage, 0, (3,), (1,)), "v": file.tensor(ONE)}
        assert kind in weights(tmp_path, file, file_with_two).set_aside["w"]


def _renumbered(file: TorchFile, count: int) -> bytes:
    tensor = file.tensor(ONE)
    file.counts["0"] = count
    return file.legacy({"w": tensor})


def test_files_without_named_weights(tmp_path: Path) -> None:
    file = TorchFile()
    assert "a single tensor" in refused(tmp_path, file.zip(file.tensor(ONE)))
    assert "a list" in refused(tmp_path, file.zip([file.tensor(ONE)]))
    assert "no tensors" in refused(tmp_path, file.zip({"epoch": 1}))
    assert "no tensors" in refused(tmp_path, file.zip({"optimizer": {"state": {"w": file.tensor(ONE)}}}))
    assert "'argparse.Namespace'" in refused(tmp_path, file.zip(Call(Name("argparse", "Namespace"), ())))
    assert "not one that torch.save wrote" in refused(tmp_path, pickled({"w": 1}))
    doubled = b"\x80\x02)" + b"2\x86" * 200 + b"."  # to print it would take for ever
    assert "unknown protocol" in refused(tmp_path, pickled(0x1950A86A20F9469CFC6C) + doubled)
    assert "unknown protocol 7" in refused(tmp_path, pickled(0x1950A86A20F9469CFC6C) + pickled(7))


def test_programs_are_refused(tmp_path: Path) -> None:
    file = TorchFile()
    path = put(tmp_path, "script.pt", file.zip({"w": file.tensor(ONE)}))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/constants.pkl", pickled(()))
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_checkpoint(path)


@pytest.mark.parametrize("container", ["zip", "legacy", "tar"])
def test_code_is_refused_in_every_container(tmp_path: Path, container: str) -> None:
    root = {"w": Call(Name("os", "system"), ("true",))}
    file = TorchFile()
    data = {
        "zip": file.zip(root),
        "legacy": file.legacy(root),
        "tar": tar_of({"storages": pickled(0) + pickled([]), "tensors": pickled(0), "pickle": pickled(root)}),
    }[container]
    with pytest.raises(UnsafeCheckpointError, match=r"os\.system"):
        read_checkpoint(put(tmp_path, "evil.pth", data))


def test_damaged_archives(tmp_path: Path) -> None:
    good = torch_zip({"w": ONE})
    flipped = bytearray(good)
    flipped[good.index(ONE.tobytes())] ^= 1
    assert "checksum of 'archive/data/0'" in refused(tmp_path, bytes(flipped))
    assert "without its directory" in refused(tmp_path, good[:-30])
    tar = bytearray(torch_tar({"w": ONE}))
    tar[0] ^= 1
    assert "checksum" in refused(tmp_path, bytes(tar))
    assert "without storages and tensors" in refused(tmp_path, tar_of({"pickle": b"x"}))


def test_zip_bomb_is_refused(tmp_path: Path) -> None:
    file = TorchFile()
    storage = file.storage(bytes(200 << 20), "ByteStorage", 200 << 20)
    data = file.zip({"w": file.view(storage, 0, (200 << 20,), (1,))}, method=zipfile.ZIP_DEFLATED)
    assert len(data) < 1 << 20
    assert "bytes of memory" in refused(tmp_path, data)


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """Members that share their data would let a small file cost any amount of work."""
    data = torch_zip({"a": np.zeros(1000, np.float32), "b": np.zeros(1000, np.float32)})
    directory = data.index(b"PK\1\2")
    entries = [data.index(f"archive/data/{key}".encode(), directory) - 46 for key in (0, 1)]
    forged = bytearray(data)
    for entry in entries:
        struct.pack_into("<II", forged, entry + 20, len(data) - 200, len(data) - 200)
    assert "overlap" in refused(tmp_path, bytes(forged))
