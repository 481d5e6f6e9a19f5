"""CUDA's runtime in its three forms: the bindings new and old, and the C library."""

from __future__ import annotations

import ctypes
import enum
import json
import re
import types

from . import machine as state
from .recorded import INTERFACES

#: Arguments that the bindings want as members of an enum are written ``name: enum`` in the recorded signature.
_ENUM_ARGUMENT = re.compile(r"^\w+: (\w+)$")
_MEANINGS = {0: b"no error", 2: b"out of memory", 35: b"CUDA driver version is insufficient for CUDA runtime version"}
_HANDLE, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_OUT = ctypes.POINTER
#: C prototypes of driver_types.h and cuda_runtime_api.h; what is returned through pointers comes first.
_PROTOTYPES = {
    "cudaGetDeviceCount": (1, _OUT(_INT)),
    "cudaSetDevice": (0, _INT),
    "cudaDeviceGetAttribute": (1, _OUT(_INT), _INT, _INT),
    "cudaMalloc": (1, _OUT(_HANDLE), _SIZE),
    "cudaFree": (0, _HANDLE),
    "cudaMallocHost": (1, _OUT(_HANDLE), _SIZE),
    "cudaFreeHost": (0, _HANDLE),
    "cudaMemcpyAsync": (0, _HANDLE, _HANDLE, _SIZE, _INT, _HANDLE),
    "cudaStreamCreateWithFlags": (1, _OUT(_HANDLE), ctypes.c_uint),
    "cudaStreamSynchronize": (0, _HANDLE),
    "cudaStreamDestroy": (0, _HANDLE),
    "cudaStreamBeginCapture": (0, _HANDLE, _INT),
    "cudaStreamEndCapture": (1, _HANDLE, _OUT(_HANDLE)),
    "cudaGraphInstantiateWithFlags": (1, _OUT(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cudaGraphLaunch": (0, _HANDLE, _HANDLE),
    "cudaGraphDestroy": (0, _HANDLE),
    "cudaGraphExecDestroy": (0, _HANDLE),
}


def bindings(version):
    """Names of the module of bindings of a version: functions, and the enums that their arguments want."""
    data = json.loads((INTERFACES / f"cuda_{version}.json").read_text())
    names = {name: enum.IntEnum(name, members) for name, members in data["enums"].items()}

    def function(name, signature):
        wanted = [p.strip() for p in signature[1:-1].split(",") if p.strip()]

        def call(*given):
            if len(given) != len(wanted):
                raise TypeError(f"{name}() takes {len(wanted)} arguments, {len(given)} were given")
            for argument, parameter in zip(given, wanted, strict=True):
                kind = _ENUM_ARGUMENT.match(parameter)
                if kind and kind[1] in names and not isinstance(argument, names[kind[1]]):
                    raise TypeError(f"{name}(): '{parameter}' was given {argument!r}")
            if name in ("cudaGetErrorString", "cudaGetErrorName"):
                code = int(given[0])
                text = _MEANINGS.get(code, b"unknown") if name.endswith("String") else given[0].name.encode()
                return names["cudaError_t"](0), text
            if name == "cudaGetDeviceProperties":
                return _properties(names, *given)
            code, *results = state.machine.call(name, *(int(a) for a in given))
            return (names["cudaError_t"](code), *(results or [None] * _returned(name)))

        return call

    for name, signature in data["functions"].items():
        names[name] = function(name, signature)
    return names


def _returned(name):
    return _PROTOTYPES[name][0]


def _properties(names, device):
    code, *_ = state.machine.call("cudaGetDeviceCount")
    error = names["cudaError_t"]
    if code or not 0 <= device < len(state.machine.gpus):
        return error(code or state.INVALID_DEVICE), None
    name, capability, _, processors = state.machine.gpus[device]
    major, minor = map(int, capability.split("."))
    found = {"name": name.encode(), "major": major, "minor": minor, "multiProcessorCount": processors}
    return error(0), types.SimpleNamespace(**found)


class FakeCuda:
    """The C library: functions that are called through its calling convention."""

    def __init__(self):
        self._kept = []

    def __getattr__(self, name):
        made = self._make(name)
        setattr(self, name, made)
        return made

    def _make(self, name):
        if name in ("cudaGetErrorString", "cudaGetErrorName"):
            names = json.loads((INTERFACES / "cuda_12.9.json").read_text())["enums"]["cudaError_t"]
            told = {code: n.encode() for n, code in names.items()} if name.endswith("Name") else _MEANINGS
            return ctypes.CFUNCTYPE(ctypes.c_char_p, _INT)(lambda code: told.get(code, b"unknown"))
        if name == "cudaGetDeviceProperties":
            return ctypes.CFUNCTYPE(_INT, _HANDLE, _INT)(self._properties)
        if name not in _PROTOTYPES:
            raise AttributeError(f"undefined symbol: {name}")
        returned, *kinds = _PROTOTYPES[name]
        places = [i for i, kind in enumerate(kinds) if isinstance(kind, type) and issubclass(kind, ctypes._Pointer)]
        assert len(places) == returned

        def call(*given):
            code, *results = state.machine.call(name, *(a or 0 for i, a in enumerate(given) if i not in places))
            for place, result in zip(places, results, strict=False):
                given[place][0] = result
            return code

        return ctypes.CFUNCTYPE(_INT, *kinds)(call)

    @staticmethod
    def _properties(space, device):
        if not 0 <= device < len(state.machine.gpus):
            return state.INVALID_DEVICE
        name = state.machine.gpus[device][0].encode()
        ctypes.memmove(space, name + b"\0", len(name) + 1)
        return 0
