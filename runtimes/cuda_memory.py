"""What a session holds of CUDA, each thing released exactly once and in the right order."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepose.errors import DeviceError

from .cuda import DEVICE_TO_HOST, HOST_TO_DEVICE, Cuda


class Buffer:
    """Memory of the device with pinned memory of the host beside it.

    Attributes
    ----------
    address
        Of the device's memory.
    host
        The host's memory, uint8.
    """

    def __init__(self, address: int, host_address: int, size: int) -> None:
        self.address = address
        self.host_address = host_address
        self.host = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host_address))

    def view(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """The beginning of the host's memory as an array."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        array: npt.NDArray[Any] = self.host[:size].view(kind).reshape(shape)
        return array


class Holdings:
    """Device memory, pinned memory, a stream and graphs of one device.

    Parameters
    ----------
    cuda
        CUDA's runtime.
    device
        Number of the GPU.

    Attributes
    ----------
    stream
        The stream that everything goes through.
    """

    def __init__(self, cuda: Cuda, device: int) -> None:
        self._cuda = cuda
        self._device = device
        self._release: list[tuple[str, Any]] = []
        self.here()
        self.stream = self._keep("cudaStreamDestroy", cuda.new_stream())

    def here(self) -> None:
        """Make the device that of this thread: CUDA keeps one for each thread, and begins with the first."""
        self._cuda.call("cudaSetDevice", self._device)

    def buffer(self, size: int) -> Buffer:
        """Memory of ``size`` bytes on both sides.

        Raises
        ------
        CudaError
            If there is not so much; what was there before stays.
        """
        size = max(size, 1)
        address = self._keep("cudaFree", self._cuda.call("cudaMalloc", size)[0])
        return Buffer(address, self._keep("cudaFreeHost", self._cuda.call("cudaMallocHost", size)[0]), size)

    def upload(self, buffer: Buffer, size: int) -> None:
        """Put the copy of the first ``size`` bytes to the device into the stream."""
        self._cuda.call("cudaMemcpyAsync", buffer.address, buffer.host_address, size, HOST_TO_DEVICE, self.stream)

    def download(self, buffer: Buffer, size: int) -> None:
        """Put the copy of the first ``size`` bytes from the device into the stream."""
        self._cuda.call("cudaMemcpyAsync", buffer.host_address, buffer.address, size, DEVICE_TO_HOST, self.stream)

    def wait(self) -> None:
        """Wait until the stream is done."""
        self._cuda.call("cudaStreamSynchronize", self.stream)

    @contextlib.contextmanager
    def recording(self) -> Any:
        """Record what the block puts into the stream; gives a list that holds the graph afterwards.

        Raises
        ------
        CudaError
            If something in it cannot be recorded.
        """
        recorded: list[Any] = []
        self._cuda.begin_capture(self.stream)
        try:
            yield recorded
        except BaseException:
            # The recording must end, whatever came of it.
            with contextlib.suppress(DeviceError):
                self._cuda.call("cudaGraphDestroy", self._cuda.call("cudaStreamEndCapture", self.stream)[0])
            raise
        graph = self._cuda.call("cudaStreamEndCapture", self.stream)[0]
        try:
            made = self._cuda.call("cudaGraphInstantiateWithFlags", graph, 0)[0]
        finally:
            self._cuda.call("cudaGraphDestroy", graph)
        recorded.append(self._keep("cudaGraphExecDestroy", made))

    def launch(self, graph: Any) -> None:
        """Put a recorded graph into the stream."""
        self._cuda.call("cudaGraphLaunch", graph, self.stream)

    def close(self) -> None:
        """Release everything, the newest first; may be called twice.  What fails does not keep the rest."""
        with contextlib.suppress(DeviceError):
            self.here()
            if self._release:
                self.wait()
        while self._release:
            name, handle = self._release.pop()
            with contextlib.suppress(DeviceError):
                self._cuda.call(name, handle)

    def _keep(self, release: str, handle: Any) -> Any:
        self._release.append((release, handle))
        return handle
