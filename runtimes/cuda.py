"""CUDA's runtime from Python: through NVIDIA's bindings, new or old, or through the C library itself.

Whatever the way, a call is its C name with its arguments; what C returns through pointers comes back as a tuple, and an
error code becomes a :class:`~edgepose.errors.DeviceError` that names the call.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from edgepose.errors import DeviceError

#: Names under which the C library lies, newest first; the plain name belongs to development packages.
_LIBRARIES = (*(f"libcudart.so.{major}" for major in ("13", "12", "11.0", "10.2")), "libcudart.so")
#: Modules of NVIDIA's bindings, newest first.
_MODULES = ("cuda.bindings.runtime", "cuda.cudart")
_NO_DRIVER = (
    "The NVIDIA driver must be installed and nvidia-smi must list the GPU (on a Jetson, flash JetPack);"
    " in a container, pass the GPU in, with --gpus all or --runtime nvidia. If it does, the CUDA that is called may be"
    " newer than the driver: install the one that nvidia-smi names."
)

# Values of driver_types.h.
HOST_TO_DEVICE = 1
DEVICE_TO_HOST = 2
_MEMORY_ALLOCATION = 2
_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16
_THREAD_LOCAL_CAPTURE = 1
_NON_BLOCKING = 1
#: The name is the first field of cudaDeviceProp in every version, and the structure never was as large as this.
_PROPERTIES_BYTES, _NAME_BYTES = 16384, 256

_HANDLE, _SIZE, _INT, _UNSIGNED = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint
_HANDLE_OUT, _INT_OUT = ctypes.POINTER(_HANDLE), ctypes.POINTER(_INT)
#: What a pointer to a result points to.
_RESULTS: Mapping[Any, Any] = {_HANDLE_OUT: _HANDLE, _INT_OUT: _INT}
#: Call -> types of its arguments, from the headers.
_SIGNATURES: Mapping[str, tuple[Any, ...]] = {
    "cudaGetDeviceCount": (_INT_OUT,),
    "cudaSetDevice": (_INT,),
    "cudaDeviceGetAttribute": (_INT_OUT, _INT, _INT),
    "cudaMalloc": (_HANDLE_OUT, _SIZE),
    "cudaFree": (_HANDLE,),
    "cudaMallocHost": (_HANDLE_OUT, _SIZE),
    "cudaFreeHost": (_HANDLE,),
    "cudaMemcpyAsync": (_HANDLE, _HANDLE, _SIZE, _INT, _HANDLE),
    "cudaStreamCreateWithFlags": (_HANDLE_OUT, _UNSIGNED),
    "cudaStreamSynchronize": (_HANDLE,),
    "cudaStreamDestroy": (_HANDLE,),
    "cudaStreamBeginCapture": (_HANDLE, _INT),
    "cudaStreamEndCapture": (_HANDLE, _HANDLE_OUT),
    "cudaGraphInstantiateWithFlags": (_HANDLE_OUT, _HANDLE, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_HANDLE, _HANDLE),
    "cudaGraphDestroy": (_HANDLE,),
    "cudaGraphExecDestroy": (_HANDLE,),
}
#: Arguments that the bindings want as members of an enum: call -> place -> enum.
_ENUMS: Mapping[str, Mapping[int, str]] = {
    "cudaMemcpyAsync": {3: "cudaMemcpyKind"},
    "cudaStreamBeginCapture": {1: "cudaStreamCaptureMode"},
}


class CudaError(DeviceError):
    """A call of CUDA's runtime failed."""

    def __init__(self, call: str, code: int, name: str, meaning: str) -> None:
        told = f" ({meaning})" if meaning and meaning != name else ""
        memory = code == _MEMORY_ALLOCATION
        super().__init__(
            f"{call} failed: {name}{told}.",
            hint="Close what else uses the GPU's memory, or take a smaller batch or input." if memory else None,
        )
        self.code = code


class _Backend(Protocol):
    source: str

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]: ...

    def gpu(self, device: int) -> Gpu: ...


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes
    ----------
    name
        As the driver calls it; boards with different GPUs may share one.
    compute_capability
        ``8.7`` for instance.
    multiprocessors
        How many it has.
    """

    name: str
    compute_capability: str
    multiprocessors: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability}, {self.multiprocessors} multiprocessors)"


class Cuda:
    """CUDA's runtime.

    Parameters
    ----------
    backend
        What it is called through.
    no_driver
        What to do where it finds no GPU.

    Attributes
    ----------
    source
        What it is called through: a Python module or a library.
    """

    def __init__(self, backend: _Backend, no_driver: str = _NO_DRIVER) -> None:
        self._backend = backend
        self._no_driver = no_driver
        self.source = backend.source

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        """Call ``name``.

        Raises
        ------
        CudaError
            If it gives an error code.
        """
        return self._backend.call(name, *arguments)

    def device_count(self) -> int:
        """How many GPUs there are, at least one.  To be asked first: other calls may crash without a driver.

        Raises
        ------
        DeviceError
            If there is no driver or no GPU.
        """
        try:
            count = int(self.call("cudaGetDeviceCount")[0])
        except DeviceError as error:
            raise DeviceError(f"CUDA finds no GPU: {error.message}", hint=self._no_driver) from error
        if count < 1:
            raise DeviceError("CUDA finds no GPU.", hint=self._no_driver)
        return count

    def gpu(self, device: int) -> Gpu:
        """Which GPU ``device`` is.

        Raises
        ------
        DeviceError
            If there is no driver or no such GPU.
        """
        count = self.device_count()
        if not 0 <= device < count:
            listed = "only GPU 0" if count == 1 else f"GPUs 0 to {count - 1}"
            raise DeviceError(f"There is no GPU {device} here; CUDA finds {listed}.")
        return self._backend.gpu(device)

    def begin_capture(self, stream: Any) -> None:
        """Record what goes into ``stream``, as far as this thread puts it there, in place of running it."""
        self.call("cudaStreamBeginCapture", stream, _THREAD_LOCAL_CAPTURE)

    def new_stream(self) -> Any:
        """A stream that does not wait for the default one."""
        return self.call("cudaStreamCreateWithFlags", _NON_BLOCKING)[0]


class _Bindings:
    """A module of NVIDIA's bindings: calls return a tuple that begins with the error code."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.source = str(module.__name__)

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        wanted = _ENUMS.get(name, {})
        given = [getattr(self._module, wanted[i])(a) if i in wanted else a for i, a in enumerate(arguments)]
        try:
            code, *results = getattr(self._module, name)(*given)
        except (AttributeError, RuntimeError, OSError) as error:  # the library behind the bindings lacks it, or is gone
            raise DeviceError(f"{name} cannot be called through {self.source}: {error}.") from error
        if code.value:
            # CoreX's bindings have no texts, names only.
            meaning = self._module.cudaGetErrorString(code)[1] if hasattr(self._module, "cudaGetErrorString") else b""
            raise CudaError(name, int(code.value), str(code.name), meaning.decode() if meaning else "")
        return tuple(results)

    def gpu(self, device: int) -> Gpu:
        found = self.call("cudaGetDeviceProperties", device)[0]
        name = found.name.decode(errors="replace") if isinstance(found.name, bytes) else str(found.name)
        return Gpu(name.rstrip("\0"), f"{found.major}.{found.minor}", int(found.multiProcessorCount))


class _Library:
    """The C library."""

    def __init__(self, library: Any, source: str) -> None:
        self._library = library
        self.source = source

    def call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        kinds = _SIGNATURES[name]
        given = iter(arguments)
        results: list[Any] = []
        passed: list[Any] = []
        for kind in kinds:
            if kind in _RESULTS:
                results.append(_RESULTS[kind]())
                passed.append(ctypes.byref(results[-1]))
            else:
                passed.append(next(given))
        self._check(name, self._function(name, kinds)(*passed))
        return tuple(r.value for r in results)

    def gpu(self, device: int) -> Gpu:
        space = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        name = "cudaGetDeviceProperties"
        self._check(name, self._function(name, (_HANDLE, _INT))(ctypes.addressof(space), device))
        major, minor, processors = (
            int(self.call("cudaDeviceGetAttribute", which, device)[0]) for which in (_MAJOR, _MINOR, _MULTIPROCESSORS)
        )
        called = space.raw[:_NAME_BYTES].split(b"\0")[0].decode(errors="replace")
        return Gpu(called, f"{major}.{minor}", processors)

    def _function(self, name: str, taken: tuple[Any, ...]) -> Callable[..., int]:
        try:
            function: Any = getattr(self._library, name)
        except AttributeError as error:
            raise DeviceError(f"{self.source} has no {name}.", hint="Install a newer CUDA.") from error
        function.argtypes, function.restype = taken, _INT
        return function  # type: ignore[no-any-return]

    def _check(self, name: str, code: int) -> None:
        if not code:
            return
        told = []
        for asked in ("cudaGetErrorName", "cudaGetErrorString"):
            function: Any = getattr(self._library, asked)
            function.argtypes, function.restype = (_INT,), ctypes.c_char_p
            told.append((function(code) or b"").decode(errors="replace"))
        raise CudaError(name, code, told[0] or f"error {code}", told[1])


def find_cuda() -> Cuda:
    """CUDA's runtime, by NVIDIA's bindings if they are installed, else by the C library.

    Raises
    ------
    DeviceError
        If neither is here.
    """
    plain = ctypes.util.find_library("cudart")
    for found in ways_to_cuda(_MODULES, (*_LIBRARIES, *([plain] if plain else []))):
        return found
    raise DeviceError(
        f"CUDA's runtime is not here: neither the Python module {_MODULES[0]} nor the library {_LIBRARIES[-1]}.",
        hint='Install CUDA (on a Jetson it comes with JetPack), or: pip install "cuda-bindings".',
    )


def ways_to_cuda(modules: Sequence[str], libraries: Sequence[str], no_driver: str = _NO_DRIVER) -> Iterator[Cuda]:
    """Each way to CUDA's runtime that is here, the modules first.

    Parameters
    ----------
    modules, libraries
        Where to look, in this order.
    no_driver
        What to do where it finds no GPU.
    """
    for name in modules:
        try:
            yield Cuda(_Bindings(importlib.import_module(name)), no_driver)
        except (ImportError, RuntimeError, OSError):  # not installed, or without its library
            continue
    for name in libraries:
        try:
            yield Cuda(_Library(ctypes.CDLL(name), name), no_driver)
        except OSError:
            continue
