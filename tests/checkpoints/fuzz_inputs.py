"""Small files of every format, and ways to damage them."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from checkpoint_writers import (
    Call,
    Name,
    Ordered,
    TorchFile,
    mindspore_ckpt,
    mindspore_entry,
    mxnet_dense,
    mxnet_list,
    mxnet_params,
    mxnet_sparse,
    onnx_model,
    pickled,
    tar_of,
    torch_legacy,
    torch_tar,
    torch_zip,
)
from hypothesis import strategies as st

_A, _B = np.arange(6, dtype=np.float32).reshape(2, 3), np.int64([1, 2])
ARRAYS = {"conv.weight": _A, "bn.num_batches_tracked": _B, "scalar": np.float32(2)}


def _sparse() -> bytes:
    csr = mxnet_sparse(2, (2, 3), np.float32([1, 2, 3]), np.int64([0, 1, 3]), np.int64([1, 0, 2]))
    rows = mxnet_sparse(1, (6, 3), _A, np.int64([1, 4]))
    return mxnet_list([csr, rows, mxnet_dense(np.uint16([1, 2]), flag=12), mxnet_dense(_A, version=3)], list("abcd"))


def _mindspore() -> bytes:
    odd = mindspore_entry("b", (2,), "BFloat16", bytes(4)) + mindspore_entry("s", (0,), "str", "hi".encode("utf-32-le"))
    sliced = mindspore_entry("z", (4,), "Int16", bytes(4)) * 2
    return mindspore_ckpt(ARRAYS) + odd + sliced


def _nested_torch(kind: str) -> bytes:
    file = TorchFile()
    storage = file.storage(np.arange(8, dtype=np.uint16).tobytes(), "BFloat16Storage", 8)
    hooks = Call(Name("collections", "OrderedDict"), ())
    weights = {
        "module.a": file.view(storage, 1, (2, 3), (1, 2)),
        "module.b": Call(Name("torch._utils", "_rebuild_parameter"), (file.view(storage, 0, (2,), (0,)), True, hooks)),
    }
    root = {"state_dict": Ordered(weights), "optimizer": {"state": {0: {"m": file.tensor(_A)}}}, "epoch": 3, "x": 1.5}
    return file.zip(root) if kind == "zip" else file.legacy(root)


def _npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=_A, b=np.asfortranarray(_A))
    return stream.getvalue()


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, _A)
    return stream.getvalue()


def _safetensors() -> bytes:
    header = (
        b'{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},'
        b'"b":{"dtype":"BF16","shape":[2],"data_offsets":[24,28]}}'
    )
    return struct.pack("<Q", len(header)) + header + _A.tobytes() + bytes(4)


SEEDS: dict[str, bytes] = {
    "mxnet": mxnet_params({"arg:a": _A, "aux:b": _A}),
    "mxnet oldest": mxnet_list([mxnet_dense(_A, version=0), mxnet_dense(_A, version=1)], ["a", "b"]),
    "mxnet sparse": _sparse(),
    "mindspore": _mindspore(),
    "mindspore checked": mindspore_ckpt(ARRAYS, checksum=True),
    "torch zip": torch_zip(ARRAYS),
    "torch zip nested": _nested_torch("zip"),
    "torch legacy": torch_legacy(ARRAYS),
    "torch legacy nested": _nested_torch("legacy"),
    "torch tar": torch_tar({"a": _A}),
    "onnx": onnx_model({"a": _A, "b": _B}),
    "npz": _npz(),
    "npy": _npy(),
    "safetensors": _safetensors(),
}

#: Numbers at which lengths and offsets go wrong.
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 1 << 24, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 63) - 1]
EDGES += [1 << 63, (1 << 64) - 1]
Damage = Callable[[bytes], bytes]


def _at(data: bytes, where: float) -> int:
    return int(where * len(data))


def damage_of(kind: str, where: float, size: int, value: int, other: float) -> Damage:
    """One way to damage bytes; positions are given as fractions of the length."""

    def apply(data: bytes) -> bytes:
        at = _at(data, where)
        if kind == "number":
            width = (1, 2, 4, 8)[size % 4]
            return data[:at] + (value % (1 << 8 * width)).to_bytes(width, "little") + data[at + width :]
        if kind == "flip":
            return data[:at] + bytes(b ^ 1 << size % 8 for b in data[at : at + 1]) + data[at + 1 :]
        if kind == "cut":
            return data[:at] + data[at + size :]
        if kind == "repeat":
            return data[:at] + data[at : at + size] * (2 + value % 50) + data[at + size :]
        if kind == "move":
            to = _at(data, other)
            return data[:to] + data[at : at + size] + data[to + size :]
        if kind == "insert":
            return data[:at] + value.to_bytes(8, "little")[: 1 + size % 8] + data[at:]
        return data[:at]

    return apply


damages = st.builds(
    damage_of,
    st.sampled_from(["number", "number", "flip", "flip", "cut", "repeat", "move", "insert", "truncate"]),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 64),
    st.sampled_from(EDGES) | st.integers(0, 255),
    st.floats(0, 1, exclude_max=True),
)


def rechecked(data: bytes) -> bytes:
    """A zip archive with the checksums of its stored members set to what their content has."""
    fixed = bytearray(data)
    position = data.find(b"PK\1\2")
    while position >= 0 and position + 46 <= len(data):
        (packed,) = struct.unpack_from("<I", data, position + 20)
        (header,) = struct.unpack_from("<I", data, position + 42)
        if header + 30 <= len(data):
            start = header + 30 + sum(struct.unpack_from("<HH", data, header + 26))
            struct.pack_into("<I", fixed, position + 16, zlib.crc32(data[start : start + packed]))
        position = data.find(b"PK\1\2", position + 1)
    return bytes(fixed)


# pickles put together from opcodes

_SHORT = st.binary(max_size=6)


def _with_length(opcode: bytes, form: str) -> st.SearchStrategy[bytes]:
    return st.one_of(
        _SHORT.map(lambda text: opcode + struct.pack(form, len(text)) + text),
        st.sampled_from(EDGES).map(lambda n: opcode + struct.pack(form, n % (1 << 8 * struct.calcsize(form)))),
    )


_NAMES = [
    b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nFloatStorage\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n", b"ccollections\nOrderedDict\n", b"ctorch\nSize\n",
    b"c_codecs\nencode\n", b"cbuiltins\ngetattr\n", b"cbuiltins\nset\n", b"ctorch\nfloat16\n", b"cos\nsystem\n",
]  # fmt: skip
opcodes: st.SearchStrategy[bytes] = st.one_of(
    st.sampled_from([bytes([c]) for c in b"N\x88\x89])}t)\x85\x86\x87(012ldaesu\x8f\x90\x91\x94R\x81\x92b\x93oQ."]),
    st.sampled_from(_NAMES),
    st.sampled_from([b"q\0", b"h\0", b"q\1", b"h\1", b"r\2\0\0\0", b"j\2\0\0\0", b"p3\n", b"g3\n"]),
    st.integers(0, 255).map(lambda n: b"K" + bytes([n])),
    st.integers(0, 65535).map(lambda n: b"M" + struct.pack("<H", n)),
    st.integers(-(1 << 31), (1 << 31) - 1).map(lambda n: b"J" + struct.pack("<i", n)),
    st.integers(-(1 << 70), 1 << 70).map(lambda n: b"L%dL\n" % n),
    st.floats().map(lambda x: b"G" + struct.pack(">d", x)),
    st.sampled_from([b"I01\n", b"I00\n", b"I7\n", b"F1.5\n", b"S'ab'\n", b"Vab\n", b"Fnan\n", b"X\7\0\0\0storage"]),
    *(_with_length(o, f) for o, f in [(b"X", "<I"), (b"U", "<B"), (b"T", "<I"), (b"\x8c", "<B"), (b"\x8d", "<Q")]),
    *(_with_length(o, f) for o, f in [(b"B", "<I"), (b"C", "<B"), (b"\x8e", "<Q"), (b"\x96", "<Q")]),
    *(_with_length(o, f) for o, f in [(b"\x8a", "<B"), (b"\x8b", "<I")]),
    st.just(b"\x95" + bytes(8)),
)
pickles = st.lists(opcodes, max_size=40).map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")


def legacy_around(pickle: bytes) -> bytes:
    """A PyTorch file whose object is this pickle, with one storage."""
    facts = pickled(0x1950A86A20F9469CFC6C) + pickled(1001) + pickled({"little_endian": True})
    return facts + pickle + pickled(["0"]) + struct.pack("<q", 6) + _A.tobytes()


def zip_around(pickle: bytes) -> bytes:
    """The same as an archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/data/0", _A.tobytes())
    return stream.getvalue()


def tar_around(pickle: bytes) -> bytes:
    """The same as a tar archive; each part of it is the pickle."""
    return tar_of({"storages": pickle, "tensors": pickle, "pickle": pickle})
