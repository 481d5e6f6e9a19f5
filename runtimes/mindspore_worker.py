"""The process that MindSpore or MindSpore Lite runs in.

It is started as a program by another Python than ours, 3.7 perhaps, and may import nothing but NumPy and the vendor's
package.  It talks through its standard input and output: each message is the length of a JSON header as eight bytes,
little-endian, the header, and the arrays that the header lists one after another.  It ends when its input ends.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, cast

if __name__ == "__main__":
    # The folder of this file holds modules that are called like the vendors' packages.
    sys.path[:1] = []

import numpy as np

#: Longest header; a longer one is no message.
_LONGEST = 1 << 20


class GraphCell:
    """MindSpore's own runtime."""

    def __init__(self, engine: str, inputs: list[dict[str, Any]], options: dict[str, Any]) -> None:
        import mindspore

        mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target=options["target"])
        self._mindspore = mindspore
        self.version = mindspore.__version__
        self.inputs = inputs
        self._cell = mindspore.nn.GraphCell(mindspore.load(engine))

    def run(self, arrays: list[Any]) -> list[Any]:
        """Run once."""
        tensors = [self._mindspore.Tensor(a) for a in arrays]
        results = self._cell(*tensors)
        results = results if isinstance(results, (tuple, list)) else [results]
        return [r.asnumpy() for r in results]

    def placement(self) -> str:
        """What it runs on, as it says itself."""
        target = self._mindspore.get_context("device_target")
        return f"device target {target}, graph mode"


class Lite:
    """MindSpore Lite."""

    def __init__(self, engine: str, inputs: list[dict[str, Any]], options: dict[str, Any]) -> None:
        import mindspore_lite

        version = getattr(mindspore_lite, "__version__", None)
        self.version = version if isinstance(version, str) else getattr(mindspore_lite.version, "__version__", "")
        context = mindspore_lite.Context()
        context.target = [options["target"]]
        if options["target"] == "cpu":
            if options.get("threads"):
                context.cpu.thread_num = options["threads"]
            # Anything else computes with fewer digits on processors that can.
            context.cpu.precision_mode = "enforce_fp32"
        else:
            _set_up_ascend(context.ascend, options)
        self._model = mindspore_lite.Model()
        self._model.build_from_file(engine, mindspore_lite.ModelType.MINDIR, context)
        self._context = context
        self._kinds = {
            getattr(mindspore_lite.DataType, name.upper()): name
            for name in ("float32", "float16", "int8", "uint8", "int32", "int64", "bool")
            if hasattr(mindspore_lite.DataType, name.upper())
        }
        self.inputs = [
            {"name": t.name, "shape": list(t.shape), "dtype": self._kinds.get(t.dtype, "unknown")}
            for t in self._model.get_inputs()
        ]

    def run(self, arrays: list[Any]) -> list[Any]:
        """Run once."""
        tensors = self._model.get_inputs()
        for tensor, array in zip(tensors, arrays):  # noqa: B905 - Python 3.7
            tensor.set_data_from_numpy(np.ascontiguousarray(array))
        return [np.array(t.get_data_to_numpy()) for t in self._model.predict(tensors)]

    def placement(self) -> str:
        """What it runs on, as it says itself."""
        targets = ", ".join(self._context.target)
        if self._context.target == ["cpu"]:
            cpu = self._context.cpu
            return f"target {targets}, {cpu.precision_mode}, {cpu.thread_num} thread(s)"
        ascend = self._context.ascend
        provider = getattr(ascend, "provider", "")
        # It adds the CPU by itself, and does not tell what runs there.
        said = f"target {targets} (CPU as backup), device {ascend.device_id}, {ascend.precision_mode}"
        return said + (f", provider {provider}" if provider else "")


def _set_up_ascend(ascend: Any, options: dict[str, Any]) -> None:
    """Set the Ascend part of a context; what a version does not have it would take without a word."""
    wanted = {"device_id": options["index"], "precision_mode": options["precision_mode"]}
    if options["provider"]:
        wanted["provider"] = options["provider"]
    for name, value in wanted.items():
        if not hasattr(type(ascend), name):
            raise ValueError(f"this version of MindSpore Lite has no '{name}' for Ascend")
        setattr(ascend, name, value)
        if getattr(ascend, name) != value:
            raise ValueError(f"MindSpore Lite was told {name} = {value!r} and took {getattr(ascend, name)!r}")


BACKENDS = {"mindspore": GraphCell, "mindspore_lite": Lite}


def read(stream: IO[bytes]) -> tuple[dict[str, Any], list[Any]] | None:
    """The next message: header and arrays; None at the end."""
    length = int.from_bytes(_exactly(stream, 8), "little")
    if not 0 < length <= _LONGEST:
        return None
    header = json.loads(_exactly(stream, length).decode())
    arrays = []
    for described in header.get("arrays", ()):
        array = np.empty(described["shape"], described["dtype"])
        if array.size:
            _fill(stream, array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return header, arrays


def write(stream: IO[bytes], header: dict[str, Any], arrays: Any = ()) -> None:
    """Send a message."""
    arrays = [np.ascontiguousarray(a) for a in arrays]
    described = [{"shape": list(a.shape), "dtype": a.dtype.name} for a in arrays]
    text = json.dumps(dict(header, arrays=described)).encode()
    stream.write(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        if array.size:
            stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = bytearray(count)
    _fill(stream, memoryview(data))
    return bytes(data)


def _fill(stream: IO[bytes], view: memoryview) -> None:
    """Read until ``view`` is full."""
    done = 0
    while done < len(view):
        count = cast("Any", stream).readinto(view[done:])
        if not count:
            raise EOFError
        done += count


def brief(error: Exception) -> str:
    """What an exception says, in a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]


def main() -> None:
    """Open what the first message names, then run what the others bring."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What the vendor's libraries print must not get between the replies.
    os.dup2(2, 1)
    backend: Any = None
    while True:
        try:
            message = read(requests)
        except EOFError:
            message = None
        if message is None:
            # Not through the vendor's destructors, some of which crash.
            os._exit(0)
        header, arrays = message
        try:
            if backend is None:
                backend = BACKENDS[header["backend"]](header["engine"], header["inputs"], header["options"])
                said = {"inputs": backend.inputs, "version": backend.version, "placement": backend.placement()}
                write(replies, said)
            else:
                write(replies, {}, backend.run(arrays))
        except Exception as error:
            write(replies, {"error": brief(error)})


if __name__ == "__main__":
    main()
