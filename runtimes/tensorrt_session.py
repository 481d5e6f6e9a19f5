"""Running a plan through the interface that TensorRT has had since 8.5: tensors by name, addresses, one stream."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgepose.errors import DeviceError
from edgepose.plugins import Tensor, TensorInfo

from .cuda import Cuda
from .cuda_memory import Buffer, Holdings
from .feeds import check_feeds
from .tensorrt_api import VendorApi

#: Element types by their names in the interface.
_TYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "UINT8": "uint8",
    "BOOL": "bool",
}  # fmt: skip
#: The only profile that plans of edgepose have.
_PROFILE = 0


@dataclass(frozen=True)
class Port:
    """An input or output of a plan.

    Attributes
    ----------
    info
        As the session declares it.
    least, most
        Smallest and largest shape.
    """

    info: TensorInfo
    least: tuple[int, ...]
    most: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the largest shape."""
        return int(np.prod(self.most, dtype=np.int64)) * np.dtype(self.info.dtype).itemsize


@dataclass(frozen=True)
class Loading:
    """How a plan is opened.

    Attributes
    ----------
    device
        Number of the GPU.
    dla_core
        The DLA core that the plan uses, or None.
    host_code
        Whether it may bring a library of its own.
    remedy
        What to do when it cannot be opened.
    """

    device: int
    dla_core: int | None = None
    host_code: bool = False
    remedy: str = ""


class LoadedPlan:
    """A plan on a GPU, with its memory.

    Parameters
    ----------
    api
        The vendor's module.
    cuda
        CUDA's runtime, whose devices were counted: without a driver the vendor's would crash.
    data
        The plan.
    name
        What to call it in messages.
    loading
        The rest.

    Raises
    ------
    DeviceError
        If it is no plan for this version and GPU, there is too little memory, or it has inputs or outputs that cannot
        be served; nothing is held then.
    """

    def __init__(self, api: VendorApi, cuda: Cuda, data: bytes, name: str, loading: Loading) -> None:
        self._api, self._name = api, name
        self._runtime: Any = None
        self._engine: Any = None
        self._context: Any = None
        self._graph: Any = None
        self.lock = threading.Lock()
        self.closed = False
        self._holdings = Holdings(cuda, loading.device)
        try:
            # Nothing of these in local variables: an exception that somebody keeps would keep them alive.
            self._runtime = api.watch(api.module.Runtime(api.logger))
            self._engine = self._deserialised(data, loading)
            self._context = self._new_context()
            names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
            given = {n for n in names if self._engine.get_tensor_mode(n) == api.module.TensorIOMode.INPUT}
            self.inputs = [self._input(n) for n in names if n in given]
            self.outputs = [self._output(n) for n in names if n not in given]
            self.is_static = all(None not in port.info.shape for port in self.inputs)
            self._buffers = {port.info.name: self._connect(port) for port in (*self.inputs, *self.outputs)}
        except BaseException:
            self.close()
            raise

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once; the shapes must be within the plan's limits.  To be called with the lock held."""
        self._holdings.here()
        for name, array in feeds.items():
            self._buffers[name].view(array.shape, array.dtype)[...] = array
        shapes = {port.info.name: port.most for port in self.outputs}
        try:
            if self._graph is not None:
                self._holdings.launch(self._graph)
            else:
                if not self.is_static:
                    for name, array in feeds.items():
                        self._set_shape(name, array.shape)
                    shapes = {name: self._shape_now(name) for name in shapes}
                self._enqueue({n: a.nbytes for n, a in feeds.items()}, shapes)
        finally:
            # After an error too: what is still under way reads memory that the next run writes.
            self._holdings.wait()
        return {
            port.info.name: self._buffers[port.info.name].view(shapes[port.info.name], port.info.dtype).copy()
            for port in self.outputs
        }

    def record(self) -> None:
        """Record a run as a CUDA graph and replay it from now on.

        Raises
        ------
        DeviceError
            If the plan has dynamic shapes, or something in it cannot be recorded.
        """
        if not self.is_static:
            raise DeviceError(
                f"'{self._name}' has dynamic shapes; a CUDA graph needs fixed ones.",
                hint="Convert it with --batch 1 and a fixed --input-size, or leave the option cuda_graph out.",
            )
        sizes = {port.info.name: port.size for port in self.inputs}
        shapes = {port.info.name: port.most for port in self.outputs}
        self._holdings.here()
        # What is set up lazily must not become a part of the recording.
        self._enqueue(sizes, shapes)
        self._holdings.wait()
        with self._holdings.recording() as recorded:
            self._enqueue(sizes, shapes)
        self._graph = recorded[0]

    def close(self) -> None:
        """Release everything; may be called twice.  Waits for a run that is under way."""
        with self.lock:
            if self.closed:
                return
            self.closed = True
            # The context first, it uses the engine and our memory; then the memory; the vendor's runtime last.
            self._context = None
            self._holdings.close()
            self._engine = None
            self._runtime = None

    def _deserialised(self, data: bytes, loading: Loading) -> Any:
        if loading.dla_core is not None:
            self._runtime.DLA_core = loading.dla_core
        if loading.host_code:
            if not hasattr(self._runtime, "engine_host_code_allowed"):
                raise DeviceError(f"{self._api.title} {self._api.version} has no plans with code for the host.")
            self._runtime.engine_host_code_allowed = True
        engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise DeviceError(
                f"{self._api.title} {self._api.version} cannot load '{self._name}': {self._api.said()}.",
                hint=loading.remedy,
            )
        return engine

    def _new_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise DeviceError(
                f"{self._api.title} cannot make room to run '{self._name}': {self._api.said()}.",
                hint="Close what else uses the GPU's memory, or take a smaller batch or input.",
            )
        return context

    def _enqueue(self, sizes: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, size in sizes.items():
            self._holdings.upload(self._buffers[name], size)
        if not self._context.execute_async_v3(int(self._holdings.stream)):
            raise DeviceError(f"{self._api.title} failed on '{self._name}': {self._api.said()}.")
        for port in self.outputs:
            size = int(np.prod(shapes[port.info.name], dtype=np.int64)) * np.dtype(port.info.dtype).itemsize
            self._holdings.download(self._buffers[port.info.name], size)

    def _input(self, name: str) -> Port:
        info = self._info(name)
        if None not in info.shape:
            shape = tuple(d for d in info.shape if d is not None)
            return Port(info, shape, shape)
        least, _, most = (tuple(s) for s in self._profile_shapes(name))
        self._set_shape(name, most)
        return Port(info, least, most)

    def _output(self, name: str) -> Port:
        shape = self._shape_now(name)
        return Port(self._info(name), shape, shape)

    def _info(self, name: str) -> TensorInfo:
        kind = self._engine.get_tensor_dtype(name)
        if kind.name not in _TYPES:
            raise DeviceError(f"'{self._name}': '{name}' has the element type {kind.name}, which numpy has not.")
        self._check_storage(name)
        shape = tuple(self._engine.get_tensor_shape(name))
        return TensorInfo(name, tuple(None if d < 0 else int(d) for d in shape), _TYPES[kind.name])

    def _profile_shapes(self, name: str) -> Sequence[Sequence[int]]:
        """Smallest, usual and largest shape of an input."""
        shapes: Sequence[Sequence[int]] = self._engine.get_tensor_profile_shape(name, _PROFILE)
        return shapes

    def _check_storage(self, name: str) -> None:
        """Refuse what does not lie in the GPU's memory row by row."""
        if self._engine.get_tensor_location(name) != self._api.module.TensorLocation.DEVICE:
            raise DeviceError(f"'{self._name}': '{name}' is a shape, not a picture; such plans are not supported.")
        if self._engine.get_tensor_format(name) != self._api.module.TensorFormat.LINEAR:
            raise DeviceError(
                f"'{self._name}': '{name}' is not stored row by row ({self._engine.get_tensor_format_desc(name)}).",
                hint="Build the plan without --inputIOFormats and --outputIOFormats.",
            )

    def _shape_now(self, name: str) -> tuple[int, ...]:
        shape = tuple(int(d) for d in self._context.get_tensor_shape(name))
        if any(d < 0 for d in shape):
            raise DeviceError(
                f"'{self._name}': how long the output '{name}' is depends on the picture; such plans are not supported."
            )
        return shape

    def _set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if not self._context.set_input_shape(name, shape):
            raise DeviceError(f"{self._api.title} refuses the shape {list(shape)} of '{name}': {self._api.said()}.")

    def _connect(self, port: Port) -> Buffer:
        buffer = self._holdings.buffer(port.size)
        if not self._context.set_tensor_address(port.info.name, buffer.address):
            raise DeviceError(f"{self._api.title} refuses the memory of '{port.info.name}': {self._api.said()}.")
        return buffer


class PlanSession:
    """A plan that serves; see :class:`edgepose.plugins.Session`.

    Runs from several threads are taken one after the other.  A session that is forgotten, or open when the interpreter
    ends, is closed, after the run that is under way.
    """

    def __init__(self, plan: LoadedPlan, name: str, placement: str) -> None:
        self._plan, self._name = plan, name
        self._finalizer = weakref.finalize(self, plan.close)
        self.inputs: Sequence[TensorInfo] = tuple(p.info for p in plan.inputs)
        self.outputs: Sequence[TensorInfo] = tuple(p.info for p in plan.outputs)
        self.placement = placement

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`.

        Batches larger than the plan takes are run in parts, smaller ones are filled up, where the batch is dynamic.
        """
        check_feeds(self._name, self.inputs, feeds)
        self._check_limits(feeds)
        with self._plan.lock:
            if self._plan.closed:
                raise DeviceError(f"The session of '{self._name}' is closed.")
            least, most = self._batches()
            count = len(next(iter(feeds.values()))) if feeds else 0
            if most is None or least <= count <= most:
                return self._plan.run(feeds)
            if not count:
                raise DeviceError(f"'{self._name}' was fed a batch of nothing.")
            parts = []
            for start in range(0, count, most):
                size = min(most, count - start)
                part = {n: _filled(a[start : start + size], least) for n, a in feeds.items()}
                parts.append({n: a[:size] for n, a in self._plan.run(part).items()})
            return {n: np.concatenate([p[n] for p in parts]) for n in parts[0]}

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._finalizer()

    def _batches(self) -> tuple[int, int | None]:
        """Smallest and largest batch; None for the largest where it is fixed."""
        ports = (*self._plan.inputs, *self._plan.outputs)
        if not all(p.info.shape and p.info.shape[0] is None for p in ports):
            return 1, None
        return max(p.least[0] for p in self._plan.inputs), min(p.most[0] for p in self._plan.inputs)

    def _check_limits(self, feeds: Mapping[str, Tensor]) -> None:
        first = 0 if self._batches()[1] is None else 1
        for port in self._plan.inputs:
            shape = feeds[port.info.name].shape
            for least, length, most in list(zip(port.least, shape, port.most, strict=True))[first:]:
                if not least <= length <= most:
                    raise DeviceError(
                        f"'{self._name}' takes '{port.info.name}' from {list(port.least)} to {list(port.most)}"
                        f" and was fed {list(shape)}.",
                        hint="Convert it again with the options min_size and max_size, or min_batch and max_batch.",
                    )


def _filled(array: Tensor, least: int) -> npt.NDArray[Any]:
    if len(array) >= least:
        return array
    return np.concatenate([array, np.zeros((least - len(array), *array.shape[1:]), array.dtype)])
