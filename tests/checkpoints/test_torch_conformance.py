"""Files that PyTorch itself writes, compared with what PyTorch itself reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_writers import put, torch_legacy, torch_tar, torch_zip

from edgepose.checkpoints import Checkpoint, read_checkpoint
from edgepose.errors import CheckpointError, UnsafeCheckpointError

torch = pytest.importorskip("torch", reason="PyTorch is needed to compare with it: pip install torch")
pytestmark = pytest.mark.conformance

CONTAINERS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(tmp_path: Path, value: Any, zipped: bool, **options: Any) -> Checkpoint:
    path = tmp_path / "saved.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == ("torch-zip" if zipped else "torch-legacy")
    return checkpoint


def same(array: Any, tensor: Any) -> None:
    """The array equals the tensor, bfloat16 widened."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.float()
    expected = tensor.detach().contiguous().numpy()
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    assert np.ascontiguousarray(array).tobytes() == expected.tobytes()


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ConvTranspose2d(8, 4, 4), torch.nn.Linear(4, 2)
    )


@CONTAINERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_state_dict(tmp_path: Path, zipped: bool, protocol: int) -> None:
    state = network().state_dict()
    checkpoint = saved(tmp_path, state, zipped, pickle_protocol=protocol)
    assert set(checkpoint.set_aside) == {"1.num_batches_tracked"}
    assert [*checkpoint.arrays] == [name for name in state if not name.endswith("tracked")]
    for name, array in checkpoint.arrays.items():
        same(array, state[name])


DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "uint16", "uint32", "uint64",
]  # fmt: skip


@CONTAINERS
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(tmp_path: Path, zipped: bool, dtype: str) -> None:
    numbers = torch.tensor([[0, 1, 2], [3, 100, 127]]).to(getattr(torch, dtype))
    state = {"a": numbers, "scalar": numbers[1, 1].clone(), "empty": numbers[:0].clone()}
    checkpoint = saved(tmp_path, state, zipped)
    for name, tensor in state.items():
        same(checkpoint.arrays[name], tensor)


@CONTAINERS
def test_types_without_an_array(tmp_path: Path, zipped: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = {
            "w": torch.ones(2),
            "sparse": torch.eye(3).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "meta": torch.ones(2, device="meta"),
        }
        if zipped:
            state["float8"] = torch.ones(4).to(torch.float8_e4m3fn)
        checkpoint = saved(tmp_path, state, zipped)
    assert list(checkpoint.arrays) == ["w"]
    assert set(checkpoint.set_aside) == set(state) - {"w"}


@CONTAINERS
def test_views(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(60, dtype=torch.float32)
    cube = base.view(3, 4, 5)
    state = {
        "whole": base,
        "cube": cube,
        "transposed": cube.permute(2, 0, 1),
        "part": cube[1:, ::2, 3],
        "expanded": base[7:8].expand(6),
        "offset": base[11:],
        "empty": cube[:, 4:],
        "channels last": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "bfloat16": torch.randn(4, 6).bfloat16().t(),
    }
    checkpoint = saved(tmp_path, state, zipped)
    for name, tensor in state.items():
        same(checkpoint.arrays[name], tensor)
    assert np.shares_memory(checkpoint.arrays["whole"], checkpoint.arrays["transposed"])


@CONTAINERS
def test_training_checkpoint(tmp_path: Path, zipped: bool) -> None:
    model = torch.nn.DataParallel(network())
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    sum(p.square().sum() for p in model.parameters()).backward()
    optimizer.step()
    scheduler.step()
    value = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "rng": torch.get_rng_state(),
        "iter": 370000,
        "current_epoch": 12.5,
    }
    checkpoint = saved(tmp_path, value, zipped)
    assert checkpoint.metadata["weights"] == "state_dict"
    assert checkpoint.metadata["wrapper"] == "module."
    assert checkpoint.metadata["entries"] == {"iter": 370000, "current_epoch": 12.5}
    state = {name.removeprefix("module."): tensor for name, tensor in value["state_dict"].items()}
    assert set(checkpoint.arrays) == {name for name in state if not name.endswith("tracked")}
    for name, array in checkpoint.arrays.items():
        same(array, state[name])


@CONTAINERS
def test_parameters(tmp_path: Path, zipped: bool) -> None:
    parameter = torch.nn.Parameter(torch.randn(3, 2))
    annotated = torch.nn.Parameter(torch.randn(2))
    annotated.note = "python attribute"
    tensor = torch.randn(2)
    tensor.note = "python attribute"
    state = {"plain": parameter, "annotated": annotated, "tensor": tensor}
    checkpoint = saved(tmp_path, state, zipped)
    for name, value in state.items():
        same(checkpoint.arrays[name], value)


@CONTAINERS
def test_whole_module_is_refused(tmp_path: Path, zipped: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(network(), tmp_path / "module.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsafeCheckpointError, match=r"'torch\.nn\.modules\.container\.Sequential'"):
        read_checkpoint(tmp_path / "module.pth")


def test_script_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.ReLU()).save(str(tmp_path / "script.pt"))
    with pytest.raises(CheckpointError, match="TorchScript program"):
        read_checkpoint(tmp_path / "script.pt")


def test_file_without_checksums(tmp_path: Path) -> None:
    from torch.serialization import get_crc32_options, set_crc32_options

    before = get_crc32_options()
    set_crc32_options(False)
    try:
        checkpoint = saved(tmp_path, {"w": torch.arange(5)}, True)
    finally:
        set_crc32_options(before)
    same(checkpoint.arrays["w"], torch.arange(5))


@pytest.mark.parametrize("writer", [torch_zip, torch_legacy, torch_tar])
def test_writers_of_these_tests_are_understood_by_pytorch(tmp_path: Path, writer: Any) -> None:
    """So that what the other tests write for themselves is what PyTorch writes; it no longer writes tar archives."""
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "h": np.float16([1, 2]), "n": np.array(3)}
    path = put(tmp_path, "written.pth", writer(arrays))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.load(path, map_location="cpu", weights_only=False)
    checkpoint = read_checkpoint(path)
    assert list(state) == list(arrays) == list(checkpoint.arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(state[name].numpy(), array)
        same(checkpoint.arrays[name], state[name])


def test_trained_networks(reference: Path) -> None:
    for name, key in [
        ("lightweight_openpose/lightweight_openpose.pth", "state_dict"),
        ("formats/posenet_mobilenet_v1_050.pth", None),
    ]:
        state = torch.load(reference / "data/weights" / name, map_location="cpu", weights_only=True)
        state = state if key is None else state[key]
        checkpoint = read_checkpoint(reference / "data/weights" / name)
        assert set(state) == {*checkpoint.arrays, *checkpoint.set_aside}
        for array_name, array in checkpoint.arrays.items():
            same(array, state[array_name])
