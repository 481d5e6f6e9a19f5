"""An ``.om`` on a device: what it takes and gives, its buffers, running it, and releasing all of it."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.errors import DeviceError
from edgepose.plugins import Tensor, TensorInfo

from . import acl_process
from .acl_calls import Acl

#: ``aclDataType`` -> NumPy's name.
DTYPES = {
    0: "float32",
    1: "float16",
    2: "int8",
    3: "int32",
    4: "uint8",
    6: "int16",
    7: "uint16",
    8: "uint32",
    9: "int64",
    10: "uint64",
    11: "float64",
    12: "bool",
}
#: The input by which a model of several batches or sizes is told which one is meant.
PROFILE_INPUT = "ascend_mbatch_shape_data"
_HUGE_FIRST = 0
_HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = 1, 2, 3
#: ``aclrtRunMode``: this program runs on the device itself, whose memory is all there is.
_ON_DEVICE = 0
#: Bytes.  No tensor of a network for an edge device is larger; a file that declares one is damaged.
_LARGEST = 2 << 30
#: Names that ``atc`` gives to outputs: operator, number of its output, name in the ONNX graph.
_OUTPUT_NAME = re.compile(r"[^:]*:\d+:(.+)")


@dataclass(frozen=True)
class Port:
    """An input or output on the device.

    Attributes
    ----------
    info
        Its name, shape (None where it is one of several) and element type.
    size
        Bytes of its buffer.
    pointer
        Address of its buffer.
    """

    info: TensorInfo
    size: int
    pointer: int


class OmModel:
    """A model loaded on a device, with buffers that are used again for each run.

    Parameters
    ----------
    acl
        pyACL, initialised.
    path
        The file.
    index
        Number of the device.
    output_names
        Names of the outputs in the ONNX graph, in its order, for versions of CANN that do not keep them.

    Attributes
    ----------
    inputs, outputs
        What it takes and gives, the profile input left out.
    batches
        The batch sizes to choose from; empty if it is of one.
    sizes
        The heights and widths to choose from; empty if it is of one.

    Raises
    ------
    DeviceError
        If it cannot be loaded or there is not enough memory; all that was taken has been given back then.
    """

    def __init__(self, acl: Acl, path: Path, index: int, output_names: Sequence[str] = ()) -> None:
        self._acl, self._path, self._pid = acl, path, os.getpid()
        self._lock = threading.Lock()
        self._releases: list[Callable[[], object]] = []
        self._profile: Port | None = None
        self._profile_index = -1
        self.batches: Sequence[int] = ()
        self.sizes: Sequence[tuple[int, int]] = ()
        acl_process.register(id(self), self._end)
        with self._lock:
            try:
                self._open(index, output_names)
            except BaseException:
                self._release(quietly=True)
                raise

    def run(self, arrays: Sequence[Tensor], profile: tuple[int, ...] | None) -> list[Tensor]:
        """Run once.

        Parameters
        ----------
        arrays
            One for each of :attr:`inputs`, of its type; of the chosen profile's shape, or shorter in the batch.
        profile
            The batch size, or height and width; None for a model without a choice.

        Raises
        ------
        DeviceError
            If a call fails.
        """
        with self._current():
            for port, array in zip(self.inputs_on_device, arrays, strict=True):
                if array.nbytes > port.size:
                    raise DeviceError(
                        f"The input '{port.info.name}' of '{self._path}' has {port.size} bytes, not {array.nbytes}."
                    )
                data = np.ascontiguousarray(array)
                self._call("rt.memcpy", port.pointer, port.size, data.ctypes.data, data.nbytes, self._kinds[0])
            if profile is not None:
                name = "mdl.set_dynamic_batch_size" if len(profile) == 1 else "mdl.set_dynamic_hw_size"
                self._call(name, self._id, self._input_set, self._profile_index, *profile)
            self._call("mdl.execute", self._id, self._input_set, self._output_set)
            return [self._result(i, port, profile is not None) for i, port in enumerate(self.outputs_on_device)]

    def close(self) -> None:
        """Release everything; may be called twice.

        Raises
        ------
        DeviceError
            If a call fails; the rest has been released nevertheless.
        """
        with self._lock:
            self._release()

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What it must be fed."""
        return tuple(p.info for p in self.inputs_on_device)

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What it gives."""
        return tuple(p.info for p in self.outputs_on_device)

    def _open(self, index: int, output_names: Sequence[str]) -> None:
        acl = self._acl
        acl_process.set_device(acl, index)
        self._releases.append(lambda: acl_process.reset_device(acl, index))
        context = acl.call(f"Cannot open device {index}", "rt.create_context", index)
        self._context = context
        self._on_release("rt.destroy_context", context)
        on_device = acl.call(f"Cannot open device {index}", "rt.get_run_mode") == _ON_DEVICE
        self._kinds = (_DEVICE_TO_DEVICE,) * 2 if on_device else (_HOST_TO_DEVICE, _DEVICE_TO_HOST)
        self._id = self._call("mdl.load_from_file", str(self._path))
        self._on_release("mdl.unload", self._id)
        self._desc = self._call("mdl.create_desc")
        self._on_release("mdl.destroy_desc", self._desc)
        self._call("mdl.get_desc", self._desc, self._id)
        self._input_set, inputs = self._ports("input")
        self._output_set, outputs = self._ports("output")
        self.inputs_on_device = [p for p in inputs if p.info.name != PROFILE_INPUT]
        self.outputs_on_device = [_renamed(p, n) for p, n in zip(outputs, _names(outputs, output_names), strict=True)]
        self._profile_index = next((i for i, p in enumerate(inputs) if p.info.name == PROFILE_INPUT), -1)
        if self._profile_index >= 0:
            self._read_profiles()
            if self.batches:
                self.outputs_on_device = [_of_any_batch(p) for p in self.outputs_on_device]

    def _read_profiles(self) -> None:
        batch = self._call("mdl.get_dynamic_batch", self._desc)
        self.batches = sorted({int(b) for b in batch.get("batch", ())[: int(batch.get("batchCount", 0))]})
        if not self.batches:
            # The index is reserved; its documented value is -1.
            found = self._call("mdl.get_dynamic_hw", self._desc, -1)
            self.sizes = [(int(h), int(w)) for h, w in found.get("hw", ())[: int(found.get("hwCount", 0))]]
        if not self.batches and not self.sizes:
            raise DeviceError(
                f"'{self._path}' has dynamic dimensions of a kind that edgepose does not run.",
                hint="Convert it with profiles of the batch (--dynamic_batch_size) or of the size"
                " (--dynamic_image_size), or of one shape.",
            )

    def _ports(self, side: str) -> tuple[int, list[Port]]:
        """The dataset of all inputs or all outputs, with a buffer in each."""
        dataset = self._call("mdl.create_dataset")
        self._on_release("mdl.destroy_dataset", dataset)
        ports = []
        for i in range(self._call(f"mdl.get_num_{side}s", self._desc)):
            dims = self._call(f"mdl.get_{side}_dims", self._desc, i)
            name = str(dims["name"])
            if self._acl.has(f"mdl.get_{side}_name_by_index"):
                name = str(self._call(f"mdl.get_{side}_name_by_index", self._desc, i) or name)
            code = self._call(f"mdl.get_{side}_data_type", self._desc, i)
            if code not in DTYPES:
                raise DeviceError(f"The {side} '{name}' of '{self._path}' has the unknown element type {code}.")
            size = int(self._call(f"mdl.get_{side}_size_by_index", self._desc, i))
            if not 0 < size <= _LARGEST:
                raise DeviceError(f"The {side} '{name}' of '{self._path}' has {size} bytes, which cannot be.")
            pointer = self._call("rt.malloc", size, _HUGE_FIRST)
            self._on_release("rt.free", pointer)
            buffer = self._call("create_data_buffer", pointer, size)
            self._on_release("destroy_data_buffer", buffer)
            self._call("mdl.add_dataset_buffer", dataset, buffer)
            shape = tuple(int(d) if int(d) >= 0 else None for d in dims["dims"])
            ports.append(Port(TensorInfo(name, shape, DTYPES[code]), size, pointer))
        return dataset, ports

    def _result(self, index: int, port: Port, dynamic: bool) -> Tensor:
        shape: Sequence[int | None] = port.info.shape
        if dynamic:
            shape = [int(d) for d in self._call("mdl.get_cur_output_dims", self._desc, index)["dims"]]
        if any(d is None or d < 0 for d in shape):
            raise DeviceError(f"'{self._path}' does not say what shape its output '{port.info.name}' has.")
        result: Tensor = np.empty([d or 0 for d in shape], port.info.dtype)
        if result.nbytes > port.size:
            raise DeviceError(f"The output '{port.info.name}' of '{self._path}' is larger than its buffer.")
        self._call("rt.memcpy", result.ctypes.data, result.nbytes, port.pointer, result.nbytes, self._kinds[1])
        return result

    @contextlib.contextmanager
    def _current(self) -> Iterator[None]:
        """Hold the model, with its context made this thread's."""
        with self._lock:
            acl_process.check_process()
            if not self._releases:
                raise DeviceError(f"The session of '{self._path}' is closed.")
            self._call("rt.set_context", self._context)
            yield

    def _call(self, name: str, *arguments: Any) -> Any:
        verb = "run" if name in ("mdl.execute", "rt.set_context", "rt.memcpy") else "load"
        return self._acl.call(f"Cannot {verb} '{self._path}'", name, *arguments)

    def _on_release(self, name: str, handle: int) -> None:
        self._releases.append(lambda: self._acl.call(f"Cannot release '{self._path}'", name, handle))

    def _release(self, quietly: bool = False) -> None:
        """Give back all that was taken, the last first, whatever fails on the way."""
        acl_process.unregister(id(self))
        failures: list[DeviceError] = []
        steps, self._releases = self._releases, []
        if self._pid != os.getpid():
            # In a process that was forked from ours there is nothing of it to release.
            return
        if len(steps) > 1:
            steps.append(lambda: self._acl.call(f"Cannot release '{self._path}'", "rt.set_context", self._context))
        while steps:
            try:
                steps.pop()()
            except DeviceError as error:
                failures.append(error)
        if failures and not quietly:
            raise failures[0]

    def _end(self, seconds: float) -> bool:
        """Release within so many seconds; say whether it was done."""
        if not self._lock.acquire(timeout=seconds):
            return False
        try:
            self._release(quietly=True)
        finally:
            self._lock.release()
        return True


def _names(ports: Sequence[Port], recorded: Sequence[str]) -> list[str]:
    """Names in the ONNX graph: as ``atc`` has kept them, else as they were recorded, else as they are."""
    names = [found.group(1) if (found := _OUTPUT_NAME.fullmatch(p.info.name)) else p.info.name for p in ports]
    if recorded and len(recorded) == len(ports) and set(recorded) != set(names):
        return list(recorded)
    return names


def _renamed(port: Port, name: str) -> Port:
    return Port(TensorInfo(name, port.info.shape, port.info.dtype), port.size, port.pointer)


def _of_any_batch(port: Port) -> Port:
    """The port, its batch left open, whichever batch the description names."""
    info = port.info
    return Port(TensorInfo(info.name, (None, *info.shape[1:]), info.dtype), port.size, port.pointer)
