"""The pickle machine: the same values as Python's own, and nothing executed."""

from __future__ import annotations

import os
import pickle
import re
import struct
import time
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from checkpoint_writers import Call, Name, pickled, put
from hypothesis import given
from hypothesis import strategies as st

from edgepose.checkpoints.mapped_file import map_file
from edgepose.checkpoints.pickle_machine import PickleMachine
from edgepose.checkpoints.pickle_records import Opaque
from edgepose.errors import CheckpointError, UnsafeCheckpointError


def load(tmp_path: Path, data: bytes) -> Any:
    file = map_file(put(tmp_path, "any.pkl", data))
    return PickleMachine(file, file.data, lambda identifier: ("persistent", identifier)).load()


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False)
    | st.text(max_size=10)
    | st.binary(min_size=1, max_size=10),  # before protocol 3 empty bytes are a call
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(-5, 5), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=plain, protocol=st.integers(0, 5))
def test_plain_data_of_every_protocol(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert load(folder, pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(6))
def test_ordered_dict_and_shared_values(tmp_path: Path, protocol: int) -> None:
    shared = [1, 2]
    value = load(tmp_path, pickle.dumps(OrderedDict([("b", shared), ("a", shared)]), protocol))
    assert list(value.items()) == [("b", [1, 2]), ("a", [1, 2])]
    assert value["a"] is value["b"]


def test_cycle(tmp_path: Path) -> None:
    value: list[Any] = []
    value.append(value)
    read = load(tmp_path, pickle.dumps(value))
    assert read[0] is read


# nothing is executed


class Evil:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_is_refused_by_name_and_not_made(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    with pytest.raises(UnsafeCheckpointError, match=r"posix\.mkdir"):
        load(tmp_path, pickle.dumps({"a": 1, "b": Evil(trap)}, protocol))
    assert not trap.exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (pickled(Call(Name("os", "system"), ("true",))), "os.system"),
        (pickled(Name("builtins", "eval")), "builtins.eval"),
        (pickled(Name("__builtin__", "exec")), "__builtin__.exec"),
        (pickled(Name("torch", "load")), "torch.load"),
        (pickled(Name("torch.nn.modules.conv", "Conv2d")), "torch.nn.modules.conv.Conv2d"),
        (pickled(Call(Name("builtins", "getattr"), (Name("torch", "Tensor"), "x"))), None),
        (pickled(Call(Name("builtins", "getattr"), ("text", "__class__"))), "builtins.getattr"),
        (b"\x80\x02ios\nsystem\n.", "os.system"),
        (b"\x80\x02(ios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"cposixpath\nos.system\n.", "posixpath.os.system"),
        (b"c\xc3\xa9\xff\n\x00\n.", "\\x00"),
    ],
)
def test_names_off_the_list_are_refused(tmp_path: Path, data: bytes, name: str | None) -> None:
    if name is None:  # an attribute of a class that is on the list is a record as inert as the class
        assert isinstance(load(tmp_path, data), Opaque)
        return
    with pytest.raises(UnsafeCheckpointError) as caught:
        load(tmp_path, data)
    assert name in str(caught.value)
    assert "any.pkl" in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "builtins.compile", "builtins.eval", "builtins.exec", "builtins.open", "builtins.__import__",
        "builtins.setattr", "builtins.map", "builtins.apply", "codecs.open", "copyreg.add_extension", "ctypes.CDLL",
        "functools.partial",
        "importlib.import_module", "marshal.loads", "nt.system", "numpy.load", "numpy.f2py.crackfortran.getlincoef",
        "numpy.testing._private.utils.runstring", "operator.attrgetter", "operator.methodcaller", "os.popen",
        "os.system", "pickle.loads", "posix.system", "pty.spawn", "runpy.run_path", "shutil.rmtree",
        "socket.create_connection", "subprocess.Popen", "sys.exit", "torch.hub.load", "torch.jit.load", "torch.load",
        "torch.classes.load_library", "torch.ops.load_library", "torch.storage._load_from_bytes", "types.CodeType",
        "types.FunctionType", "webbrowser.open",
    ],
)  # fmt: skip
def test_known_ways_to_run_code_are_refused(tmp_path: Path, name: str) -> None:
    module, _, function = name.rpartition(".")
    with pytest.raises(UnsafeCheckpointError, match=re.escape(name)):
        load(tmp_path, pickled(Call(Name(module, function), ("x",))))


def test_extension_registry_and_unknown_opcodes_are_refused(tmp_path: Path) -> None:
    for opcode in (b"\x82\x01", b"\x83\x01\x01", b"\x84\x01\x01\x01\x01", b"\x97", b"\x98", b"\xff"):
        with pytest.raises(CheckpointError, match="makes no sense"):
            load(tmp_path, b"\x80\x02" + opcode + b".")


# bounds

NESTED_TUPLES = b"\x80\x02)" + b"2\x86" * 100000 + b"."
TUPLES_AS_KEYS = b"\x80\x02}K\1" + b"2\x86" * 200 + b"Ns."
MEMO_BOMB = b"\x80\x02]" + b"".join(b"q%c](h%ch%ce" % (i % 256, i % 256, i % 256) for i in range(50000)) + b"."
LISTS_IN_LISTS = b"\x80\x02" + b"(" * 300000 + b"l" * 300000 + b"."
SAME_PAIRS = (
    b"\x80\x02](" + b"X\1\0\0\0aN\x86" * 20000 + b"eq\0" + b"0ccollections\nOrderedDict\nh\0\x85R" * 20000 + b"."
)
BOMBS = {
    "nested tuples": NESTED_TUPLES,
    "tuples as keys": TUPLES_AS_KEYS,
    "memo": MEMO_BOMB,
    "lists in lists": LISTS_IN_LISTS,
    "the same pairs again and again": SAME_PAIRS,
    "empty dicts": b"\x80\x02" + b"}" * 2_000_000 + b".",
    "empty lists": b"\x80\x02(" + b"]" * 2_000_000 + b"l.",
    "marks": b"\x80\x02" + b"(" * 2_000_000 + b".",
    "memo entries": b"\x80\x02N" + b"".join(b"r" + struct.pack("<I", i) for i in range(500000)) + b".",
    "colliding integers": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (i * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for i in range(1 << 16))
    + b"u.",
    "claimed length": b"\x80\x02\x8d" + struct.pack("<Q", 1 << 62) + b".",
    "claimed bytes": b"\x80\x02\x8e" + struct.pack("<Q", (1 << 64) - 1) + b".",
    "long integer": b"\x80\x02\x8b" + struct.pack("<I", 1 << 20) + b"\x7f" * (1 << 20) + b".",
    "decimal integer": b"L" + b"9" * 4000 + b"L\n.",
    "endless line": b"c" + b"a" * 1_000_000,
    "wide text": b"\x80\x02X" + struct.pack("<I", 10_000_003) + b"a" * 9_999_999 + "😀".encode() + b".",
    "popped values": b"\x80\x02" + b"N0" * 3_000_000 + b"N.",
    "protocol bytes": b"\x80\x02" * 3_000_000 + b"N.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_bounded(tmp_path: Path, name: str) -> None:
    """Each is read or refused within the memory and time that its size explains."""
    data = BOMBS[name]
    path = put(tmp_path, "any.pkl", data)
    tracemalloc.start()
    started = time.process_time()
    try:
        file = map_file(path)
        PickleMachine(file, file.data, lambda identifier: None).load()
    except CheckpointError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= 4 * len(data) + (64 << 20)
    assert time.process_time() - started < 30  # a second or two, several times that under tracing on a slow machine


def test_truncated_everywhere(tmp_path: Path) -> None:
    data = pickle.dumps({"a": [1, 2.5, "text"], "b": (None, True, b"bytes"), "c": OrderedDict(x=1 << 70)}, 4)
    for end in range(len(data)):
        with pytest.raises(CheckpointError):
            load(tmp_path, data[:end] or b"\x80")


@given(data=st.binary(max_size=64))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    try:
        load(tmp_path_factory.getbasetemp(), b"\x80\x02" + data)
    except CheckpointError as error:
        assert str(error)  # noqa: PT017
