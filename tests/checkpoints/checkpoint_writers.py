"""Small writers of the checkpoint formats, so that the readers are tested without the frameworks."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# MXNet -------------------------------------------------------------------------------------------------------------

MXNET_FLAGS = {
    "float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6, "bool": 7, "int16": 8,
    "uint16": 9, "uint32": 10, "uint64": 11,
}  # fmt: skip


def _shape(shape: Sequence[int]) -> bytes:
    return struct.pack(f"<i{len(shape)}q", len(shape), *shape)


def mxnet_dense(array: Array, *, version: int = 2, flag: int | None = None) -> bytes:
    """An array record; ``version`` 0 to 3."""
    flag = MXNET_FLAGS[array.dtype.name] if flag is None else flag
    tail = struct.pack("<iii", 1, 0, flag) + array.tobytes()
    if version == 0:
        return struct.pack(f"<{array.ndim + 1}I", array.ndim, *array.shape) + tail
    magic = struct.pack("<I", {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}[version])
    return magic + (b"" if version == 1 else struct.pack("<i", 0)) + _shape(array.shape) + tail


def mxnet_sparse(kind: int, shape: Sequence[int], data: Array, *indices: Array) -> bytes:
    """A sparse record; ``kind`` 1 is row_sparse, 2 is csr."""
    head = struct.pack("<Ii", 0xF993FAC9, kind) + _shape(data.shape) + _shape(shape)
    head += struct.pack("<iii", 1, 0, MXNET_FLAGS[data.dtype.name])
    head += b"".join(struct.pack("<i", MXNET_FLAGS[i.dtype.name]) + _shape(i.shape) for i in indices)
    return head + data.tobytes() + b"".join(i.tobytes() for i in indices)


def mxnet_list(records: Sequence[bytes], names: Sequence[str]) -> bytes:
    """A list file."""
    packed = [struct.pack("<Q", len(name.encode())) + name.encode() for name in names]
    head = struct.pack("<QQQ", 0x112, 0, len(records))
    return head + b"".join(records) + struct.pack("<Q", len(names)) + b"".join(packed)


def mxnet_params(arrays: Mapping[str, Array], *, version: int = 2) -> bytes:
    """A ``.params`` file."""
    return mxnet_list([mxnet_dense(a, version=version) for a in arrays.values()], list(arrays))


# Protocol buffers and MindSpore ------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A variable-length integer."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number_field(number: int, value: int) -> bytes:
    """A field of one varint."""
    return varint(number << 3) + varint(value)


MINDSPORE_TYPES = {
    "bool": "Bool", "int8": "Int8", "int16": "Int16", "int32": "Int32", "int64": "Int64", "uint8": "UInt8",
    "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64", "float16": "Float16", "float32": "Float32",
    "float64": "Float64",
}  # fmt: skip


def mindspore_entry(name: str, dims: Iterable[int], kind: str, content: bytes) -> bytes:
    """One entry."""
    tensor = b"".join(number_field(1, d) for d in dims) + message(2, kind.encode()) + message(3, content)
    return message(1, message(1, name.encode()) + message(2, tensor))


def mindspore_ckpt(arrays: Mapping[str, Array], *, checksum: bool = False) -> bytes:
    """A ``.ckpt`` file."""
    data = b"".join(
        mindspore_entry(name, a.shape, MINDSPORE_TYPES[a.dtype.name], a.tobytes()) for name, a in arrays.items()
    )
    return data + (b"crc_num" + zlib.crc32(data).to_bytes(10, "big") if checksum else b"")


# Pickles and PyTorch -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A function or class named by a pickle."""

    module: str
    name: str


@dataclass(frozen=True)
class Call:
    """A call that a pickle asks for."""

    callee: Any
    arguments: Any


@dataclass(frozen=True)
class Persistent:
    """An object that a pickle keeps elsewhere."""

    identifier: Any


@dataclass(frozen=True)
class Ordered:
    """An OrderedDict."""

    items: Mapping[Any, Any]


def _emit(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        packed = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(packed)]) + packed
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_emit, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(_emit, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(_emit(k) + _emit(v) for k, v in value.items()) + b"u"
    if isinstance(value, Ordered):
        empty = _emit(Call(Name("collections", "OrderedDict"), ()))
        return empty + b"(" + b"".join(_emit(k) + _emit(v) for k, v in value.items.items()) + b"u"
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        return _emit(value.callee) + _emit(value.arguments) + b"R"
    if isinstance(value, Persistent):
        return _emit(value.identifier) + b"Q"
    raise TypeError(value)


def pickled(value: Any) -> bytes:
    """A pickle of protocol 2."""
    return b"\x80\x02" + _emit(value) + b"."


STORAGES = {
    "float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage",
    "int32": "IntStorage", "int16": "ShortStorage", "int8": "CharStorage", "uint8": "ByteStorage",
    "bool": "BoolStorage", "complex64": "ComplexFloatStorage", "complex128": "ComplexDoubleStorage",
}  # fmt: skip
REBUILD = Name("torch._utils", "_rebuild_tensor_v2")


class TorchFile:
    """Collects storages while the object that refers to them is put together."""

    def __init__(self) -> None:
        self.storages: dict[str, bytes] = {}
        self.counts: dict[str, int] = {}

    def storage(self, data: bytes, kind: str, count: int) -> Persistent:
        """A reference to a new storage."""
        key = str(len(self.storages))
        self.storages[key], self.counts[key] = data, count
        return Persistent(("storage", Name("torch", kind), key, "cpu", count))

    def tensor(self, array: Array) -> Call:
        """A contiguous tensor in a storage of its own."""
        strides = tuple(s // array.itemsize for s in np.empty(array.shape, array.dtype).strides)
        return self.view(self.storage(array.tobytes(), STORAGES[array.dtype.name], array.size), 0, array.shape, strides)

    def view(self, storage: Persistent, offset: int, shape: Sequence[int], strides: Sequence[int]) -> Call:
        """A view of a storage."""
        hooks = Call(Name("collections", "OrderedDict"), ())
        return Call(REBUILD, (storage, offset, tuple(shape), tuple(strides), False, hooks))

    def zip(self, root: Any, *, folder: str = "archive", order: str = "little", method: int = 0) -> bytes:
        """The file as PyTorch writes it since 1.6."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            archive.writestr(f"{folder}/data.pkl", pickled(root))
            archive.writestr(f"{folder}/byteorder", order)
            for key, data in self.storages.items():
                archive.writestr(f"{folder}/data/{key}", data)
            archive.writestr(f"{folder}/version", "3\n")
        return stream.getvalue()

    def legacy(self, root: Any, *, little_endian: bool = True) -> bytes:
        """The file as PyTorch wrote it before 1.6."""
        facts = {
            "protocol_version": 1001,
            "little_endian": little_endian,
            "type_sizes": {"short": 2, "int": 4, "long": 4},
        }
        head = pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled(facts)
        body = pickled(_with_views(root)) + pickled(list(self.storages))
        return head + body + b"".join(struct.pack("<q", self.counts[k]) + d for k, d in self.storages.items())


def _with_views(value: Any) -> Any:
    """The old format adds to each storage whether it is a view of another."""
    if isinstance(value, Persistent):
        return value if len(value.identifier) > 5 else Persistent((*value.identifier, None))
    if isinstance(value, Call):
        return Call(value.callee, _with_views(value.arguments))
    if isinstance(value, Ordered):
        return Ordered(_with_views(dict(value.items)))
    if isinstance(value, dict):
        return {k: _with_views(v) for k, v in value.items()}
    return tuple(map(_with_views, value)) if isinstance(value, tuple) else value


def torch_zip(arrays: Mapping[str, Array], **options: Any) -> bytes:
    """A state dict as a zip archive."""
    file = TorchFile()
    return file.zip(Ordered({name: file.tensor(array) for name, array in arrays.items()}), **options)


def torch_legacy(arrays: Mapping[str, Array]) -> bytes:
    """A state dict as pickles."""
    file = TorchFile()
    return file.legacy(Ordered({name: file.tensor(array) for name, array in arrays.items()}))


def torch_tar(arrays: Mapping[str, Array]) -> bytes:
    """A state dict as a tar archive."""
    storages, tensors = pickled(len(arrays)), pickled(len(arrays))
    for index, array in enumerate(arrays.values()):
        storages += pickled((index, "cpu", Name("torch", STORAGES[array.dtype.name])))
        storages += struct.pack("<q", array.size) + array.tobytes()
        strides = [s // array.itemsize for s in np.empty(array.shape, array.dtype).strides]
        tensors += pickled((1000 + index, index, Name("torch", "FloatTensor")))
        tensors += struct.pack(f"<i4x{2 * array.ndim + 1}q", array.ndim, *array.shape, *strides, 0)
    storages += pickled([])
    root = Ordered({name: Persistent(1000 + index) for index, name in enumerate(arrays)})
    return tar_of({"sys_info": pickled({}), "pickle": pickled(root), "tensors": tensors, "storages": storages})


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """A tar archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        end = archive.offset
    return stream.getvalue()[: end + 1024]  # two empty blocks end an archive; tarfile writes up to twenty


# safetensors and ONNX ----------------------------------------------------------------------------------------------


def onnx_model(arrays: Mapping[str, Array]) -> bytes:
    """A model whose initialisers these are."""
    import onnx
    from onnx import helper, numpy_helper

    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [value], tensors)
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    return data


def put(folder: Path, name: str, data: bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(data)
    return path
