"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

from .feeds import check_feeds
from .options import choice, refuse_unknown, whole_number

_DEVICES = {"cpu": "CPU"}
_OPTIONS = ("threads", "mode", "streams")
_MODES = ("latency", "throughput")
#: Layers whose arithmetic decides the accuracy.  Others move data, or compute in float32 whatever the hint says.
_HEAVY = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})


class OpenVino:
    """Opens ``.xml`` files, with their ``.bin`` beside them."""

    name = "openvino"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"openvino": (".xml",)})
    devices: Sequence[str] = tuple(_DEVICES)

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        if importlib.util.find_spec("openvino") is None:
            return Probe(False, "Python module openvino", remedy='pip install "edgepose[openvino]"')
        return Probe(True, "Python module openvino", f"openvino {version('openvino')}")

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        Options
        -------
        threads : int
            Threads of all streams together; by default as many as OpenVINO chooses, the physical cores.
        mode : str
            ``latency``, one picture as fast as possible (default), or ``throughput``, as many pictures as possible
            through several streams (see :meth:`OpenVinoSession.run_many`).
        streams : int
            How many runs go on at once; by default what the mode needs.
        """
        if device.name not in _DEVICES or device.index:
            raise DeviceError(f"OpenVINO cannot use the device '{device}' here.", hint="Use --device cpu.")
        refuse_unknown("OpenVINO", options, _OPTIONS)
        # Without the hint, CPUs with bfloat16 instructions compute in bfloat16: three digits instead of seven.
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": choice("OpenVINO", options, "mode", _MODES).upper(),
        }
        for option, key in (("threads", "INFERENCE_NUM_THREADS"), ("streams", "NUM_STREAMS")):
            number = whole_number("OpenVINO", options, option)
            if number is not None:
                settings[key] = number
        if not engine.with_suffix(".bin").is_file():
            raise DeviceError(
                f"'{engine}' lacks its weights, '{engine.with_suffix('.bin').name}'.",
                hint="Both files belong side by side in one folder.",
            )
        import openvino as ov

        core = ov.Core()
        try:
            compiled = core.compile_model(core.read_model(engine), _DEVICES[device.name], settings)
            precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            if precision != "f32":
                raise DeviceError(f"OpenVINO was asked to compute in f32 and computes in {precision} instead.")
            return OpenVinoSession(compiled, str(engine), str(core.get_property("CPU", "FULL_DEVICE_NAME")).strip())
        except RuntimeError as error:  # the only class that OpenVINO raises
            raise DeviceError(f"OpenVINO cannot load '{engine}': {_brief(error)}") from error


class OpenVinoSession:
    """A compiled network.

    Attributes
    ----------
    inputs, outputs
        See :class:`edgepose.plugins.Session`.
    placement
        Device, precision, streams and threads, as the compiled network tells them.
    parallel
        How many runs :meth:`run_many` keeps going at once.
    """

    def __init__(self, compiled: Any, engine: str, processor: str) -> None:
        self._compiled: Any = compiled
        self._engine = engine
        self._request: Any = compiled.create_infer_request()
        self.inputs: Sequence[TensorInfo] = tuple(_info(p) for p in compiled.inputs)
        self.outputs: Sequence[TensorInfo] = tuple(_info(p) for p in compiled.outputs)
        self.parallel = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        self.placement = _placement(compiled, processor)

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        self._check(feeds)
        try:
            self._request.infer(dict(feeds), share_inputs=True)
            return self._results(self._request)
        except RuntimeError as error:
            raise self._failed(error) from error

    def run_many(self, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
        """Run several inputs, :attr:`parallel` of them at once.

        Parameters
        ----------
        batches
            The feeds of each run, as for :meth:`run`; read only as far as there are free requests.

        Yields
        ------
        dict of str to ndarray
            Outputs, in the order of the inputs.

        Raises
        ------
        DeviceError
            If the engine refuses or fails.
        """
        idle = [self._compiled.create_infer_request() for _ in range(self.parallel)] if self._compiled else []
        # The feeds are kept beside their request: it reads them where they lie.
        running: deque[tuple[Any, Mapping[str, Tensor]]] = deque()
        try:
            for feeds in batches:
                self._check(feeds)
                if not idle:
                    idle.append(running[0][0])
                    yield self._finished(running)
                request = idle.pop()
                self._start(request, feeds)
                running.append((request, feeds))
            while running:
                yield self._finished(running)
        finally:
            for request, _ in running:
                request.wait()

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._request = self._compiled = None

    def _start(self, request: Any, feeds: Mapping[str, Tensor]) -> None:
        try:
            request.start_async(dict(feeds), share_inputs=True)
        except RuntimeError as error:
            raise self._failed(error) from error

    def _finished(self, running: deque[tuple[Any, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
        request, _ = running.popleft()
        try:
            request.wait()
            return self._results(request)
        except RuntimeError as error:
            raise self._failed(error) from error

    def _results(self, request: Any) -> dict[str, Tensor]:
        # A copy: the next run writes into the same memory.
        return {info.name: np.array(request.get_output_tensor(i).data) for i, info in enumerate(self.outputs)}

    def _check(self, feeds: Mapping[str, Tensor]) -> None:
        if self._compiled is None:
            raise DeviceError(f"The session of '{self._engine}' is closed.")
        check_feeds(self._engine, self.inputs, feeds)

    def _failed(self, error: Exception) -> DeviceError:
        return DeviceError(f"OpenVINO failed on '{self._engine}': {_brief(error)}")


def _placement(compiled: Any, processor: str) -> str:
    def value(key: str) -> Any:
        return compiled.get_property(key)

    devices = ", ".join(value("EXECUTION_DEVICES"))
    streams, threads = value("NUM_STREAMS"), value("INFERENCE_NUM_THREADS")
    mode = str(value("PERFORMANCE_HINT")).rpartition(".")[2].lower()
    kinds = ", ".join(_arithmetic(compiled)) or value("INFERENCE_PRECISION_HINT").get_type_name()
    return f"openvino {devices} ({processor}), {kinds}, {mode}, {streams} stream(s), {threads} thread(s)"


def _arithmetic(compiled: Any) -> list[str]:
    """Element types of the kernels of the convolutions and matrix products, as the runtime's own graph says."""
    found = set()
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        if "layerType" in facts and "primitiveType" in facts and facts["layerType"].astype(str) in _HEAVY:
            # 'brgconv_avx512_f32'.  The field runtimePrecision tells how the weights are stored.
            found.add(facts["primitiveType"].astype(str).rpartition("_")[2].lower())
    return sorted(found)


def _info(port: Any) -> TensorInfo:
    names = sorted(port.get_names()) or [port.get_node().get_friendly_name()]
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.get_partial_shape())
    return TensorInfo(names[0], shape, np.dtype(port.get_element_type().to_dtype()).name)


def _brief(error: Exception) -> str:
    """What OpenVINO says, without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said or lines)[:400]
