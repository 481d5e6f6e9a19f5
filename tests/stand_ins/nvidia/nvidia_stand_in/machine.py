"""A machine with GPUs: memory, streams whose work waits until somebody waits for it, and graphs."""

# ruff: noqa: N802 - the functions have the names that CUDA gives them

from __future__ import annotations

import atexit
import ctypes
import itertools
import json
import os
import threading
import time
import weakref
from collections import Counter
from pathlib import Path

#: Settings of a process that a test starts, as JSON.
SETTINGS = "NVIDIA_STAND_IN"
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
OUT_OF_MEMORY, INVALID_VALUE, INSUFFICIENT_DRIVER, NO_DEVICE, INVALID_DEVICE = 2, 1, 35, 100, 101
INVALID_HANDLE, NOT_SUPPORTED_IN_CAPTURE = 400, 900
_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16


class Stream:
    """Work for a device, in its order; nothing is done before somebody waits."""

    def __init__(self, device):
        self.device, self.waiting, self.recording = device, [], None


class Machine:
    """One process on a machine.

    Attributes
    ----------
    version
        Of TensorRT's interface.
    gpus
        Name, compute capability, bytes of memory and number of multiprocessors of each.
    driver
        Whether there is one.
    failing
        Call -> which of its calls fails, counted from 1.
    dla_cores
        How many there are.
    delay
        Seconds before each call, in which other threads run.
    report
        File to which violations and what was not given back are written when the process ends.
    violations
        What was done that must not be.
    """

    def __init__(self):
        self.version, self.driver, self.dla_cores, self.report, self.delay = "10.3", True, 0, "", 0.0
        self.gpus = [("Orin", "8.7", 1 << 30, 16)]
        self.failing, self.violations, self.counted = {}, [], Counter()
        self.device_memory, self.host_memory, self.streams, self.graphs, self.executables = {}, {}, {}, {}, {}
        self.gone, self.objects = [], weakref.WeakSet()
        self.thread, self.lock = threading.local(), threading.RLock()
        self._addresses = itertools.count(0x7F00_0000_0000, 0x100_0000)
        for name, value in json.loads(os.environ.get(SETTINGS, "{}")).items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    def living(self):
        """What was not given back."""
        kinds = ("device_memory", "host_memory", "streams", "graphs", "executables")
        found = {kind: len(getattr(self, kind)) for kind in kinds if getattr(self, kind)}
        objects = sorted(type(o).__name__ for o in self.objects)
        return {**found, **({"objects": objects} if objects else {})}

    def violation(self, what):
        self.violations.append(what)

    def call(self, name, *arguments):
        """Error code and results of a call of CUDA's runtime."""
        if self.delay:
            time.sleep(self.delay)
        with self.lock:
            self.counted[name] += 1
            if not self.driver:
                return (INSUFFICIENT_DRIVER,)
            if self.failing.get(name) == self.counted[name]:
                return (OUT_OF_MEMORY if "Malloc" in name else INVALID_VALUE,)
            if not self.gpus:
                return (NO_DEVICE,)
            return getattr(self, name)(*arguments)

    # What follows is called as CUDA calls it.

    def cudaGetDeviceCount(self):
        return 0, len(self.gpus)

    def cudaSetDevice(self, device):
        if not 0 <= device < len(self.gpus):
            return (INVALID_DEVICE,)
        self.thread.device = device
        return (0,)

    def cudaDeviceGetAttribute(self, attribute, device):
        major, minor = self.gpus[device][1].split(".")
        return 0, {_MAJOR: int(major), _MINOR: int(minor), _MULTIPROCESSORS: self.gpus[device][3]}[attribute]

    def cudaMalloc(self, size):
        used = sum(len(block) for device, block in self.device_memory.values() if device == self.here())
        if used + size > self.gpus[self.here()][2]:
            return (OUT_OF_MEMORY,)
        address = next(self._addresses)
        self.device_memory[address] = self.here(), bytearray(b"\xcd" * size)
        return 0, address

    def cudaFree(self, address):
        return self._release(self.device_memory, address, "device memory")

    def cudaMallocHost(self, size):
        block = (ctypes.c_uint8 * size)()
        ctypes.memset(block, 0xCD, size)
        self.host_memory[ctypes.addressof(block)] = block
        return 0, ctypes.addressof(block)

    def cudaFreeHost(self, address):
        block = self.host_memory.get(address)
        if block is not None:
            # Whoever still looks at it shall see that it is gone; the block itself stays, a crash would prove less.
            ctypes.memset(block, 0xDD, len(block))
            self.gone.append(block)
        return self._release(self.host_memory, address, "pinned memory")

    def cudaStreamCreateWithFlags(self, flags):
        if flags not in (0, 1):
            return (INVALID_VALUE,)
        return 0, self._new(self.streams, Stream(self.here()))

    def cudaStreamDestroy(self, stream):
        if stream in self.streams and self.streams[stream].waiting:
            self.violation("a stream was destroyed with work in it")
        return self._release(self.streams, stream, "stream")

    def cudaStreamSynchronize(self, stream):
        found = self._get(self.streams, stream, "stream")
        if found is None:
            return (INVALID_HANDLE,)
        if found.recording is not None:
            return (NOT_SUPPORTED_IN_CAPTURE,)
        work, found.waiting = found.waiting, []
        for step in work:
            step()
        return (0,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        on_device, on_host = (target, source) if kind == HOST_TO_DEVICE else (source, target)
        if kind not in (HOST_TO_DEVICE, DEVICE_TO_HOST):
            return (INVALID_VALUE,)

        def copy():
            block, memory = self.block(on_device, size), self.host_memory.get(on_host)
            if memory is None or size > len(memory):
                self.violation(f"copied {size} bytes from or to memory of the host that is not pinned, or too small")
            elif block is not None and kind == HOST_TO_DEVICE:
                block[:size] = bytes(memory[:size])
            elif block is not None:
                ctypes.memmove(memory, bytes(block[:size]), size)

        return self.enqueue(stream, copy)

    def cudaStreamBeginCapture(self, stream, mode):
        found = self._get(self.streams, stream, "stream")
        if found is None or found.recording is not None or mode not in (0, 1, 2):
            return (INVALID_VALUE,)
        if found.waiting:
            self.violation("a recording began while the stream had work in it")
        found.recording = []
        return (0,)

    def cudaStreamEndCapture(self, stream):
        found = self._get(self.streams, stream, "stream")
        if found is None or found.recording is None:
            return (INVALID_VALUE,)
        recorded, found.recording = found.recording, None
        return 0, self._new(self.graphs, recorded)

    def cudaGraphInstantiateWithFlags(self, graph, flags):
        recorded = self._get(self.graphs, graph, "graph")
        return (INVALID_VALUE,) if recorded is None or flags else (0, self._new(self.executables, list(recorded)))

    def cudaGraphLaunch(self, executable, stream):
        recorded = self._get(self.executables, executable, "executable graph")
        return (INVALID_VALUE,) if recorded is None else self.enqueue(stream, *recorded)

    def cudaGraphDestroy(self, graph):
        return self._release(self.graphs, graph, "graph")

    def cudaGraphExecDestroy(self, executable):
        return self._release(self.executables, executable, "executable graph")

    # What stands behind it.

    def here(self):
        """The device of this thread; the first one until it is set."""
        return getattr(self.thread, "device", 0)

    def enqueue(self, stream, *steps):
        found = self._get(self.streams, stream, "stream")
        if found is None:
            return (INVALID_HANDLE,)
        if found.device != self.here():
            self.violation(f"a stream of GPU {found.device} was used by a thread that is on GPU {self.here()}")
        (found.waiting if found.recording is None else found.recording).extend(steps)
        return (0,)

    def block(self, address, size):
        """Memory of the device, at least ``size`` bytes."""
        found = self.device_memory.get(address)
        if found is None or len(found[1]) < size:
            self.violation(f"{size} bytes of device memory at {address} were used, which are freed or too few")
            return None
        return found[1]

    def _new(self, kind, thing):
        handle = next(self._addresses)
        kind[handle] = thing
        return handle

    def _get(self, kind, handle, name):
        if handle not in kind:
            self.violation(f"a {name} was used that does not exist")
        return kind.get(handle)

    def _release(self, kind, handle, name):
        if kind.pop(handle, None) is None:
            self.violation(f"a {name} was released twice, or never made")
            return (INVALID_VALUE,)
        return (0,)


#: The machine of this process; tests put another in its place.
machine = Machine()


def reset(**settings):
    """A new machine."""
    global machine
    machine = Machine()
    for name, value in settings.items():
        assert hasattr(machine, name), name
        setattr(machine, name, value)
    return machine


def _write_report():
    if machine.report:
        left = {k: v for k, v in machine.living().items() if k != "objects"}
        Path(machine.report).write_text(json.dumps({"violations": machine.violations, "left": left}))


# Registered first, so it runs last.
atexit.register(_write_report)
