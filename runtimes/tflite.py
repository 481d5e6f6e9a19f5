"""TFLite on the CPU, through LiteRT or tflite-runtime, whichever is installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

from .feeds import check_feeds
from .options import refuse_unknown, whole_number

_DEVICES = ("cpu",)
_OPTIONS = ("threads",)
#: Packages with an interpreter -> module, in order of preference.
_PACKAGES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}
_INSTALL = 'pip install "edgepose[tflite]"'
_IDENTIFIER = b"TFL3"


class Tflite:
    """Opens ``.tflite`` files."""

    name = "tflite"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"tflite": (".tflite",)})
    devices: Sequence[str] = _DEVICES

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = "Python module ai_edge_litert or tflite_runtime"
        package = _package()
        if package is None:
            return Probe(False, looked_for, remedy=_INSTALL)
        found = f"{package} {version(package)}"
        if package == "tflite-runtime" and int(np.__version__.partition(".")[0]) >= 2:
            # Its interpreter was built for NumPy 1 and ends the process under NumPy 2.
            return Probe(
                False, looked_for, f"{found}, which cannot work with NumPy {np.__version__}", f"{_INSTALL}, or numpy<2"
            )
        return Probe(True, looked_for, found)

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        Options
        -------
        threads : int
            Threads of one run; by default one for each CPU that the process may use.
        """
        if device.name not in _DEVICES or device.index:
            raise DeviceError(f"TFLite cannot use the device '{device}' here.", hint="Use --device cpu.")
        refuse_unknown("TFLite", options, _OPTIONS)
        threads = whole_number("TFLite", options, "threads") or _own_cpus()
        probe = self.probe()
        package = _package()
        if not probe.available or package is None:
            raise DeviceError(f"TFLite is not available: {probe.found or probe.looked_for}.", hint=probe.remedy)
        try:
            with open(engine, "rb") as stream:
                header = stream.read(8)
        except OSError as error:
            raise DeviceError(f"Cannot read '{engine}': {error.strerror or error}.") from error
        if header[4:] != _IDENTIFIER:
            raise DeviceError(f"'{engine}' is not a TFLite file.")
        module = importlib.import_module(f"{_PACKAGES[package]}.interpreter")
        try:
            interpreter = module.Interpreter(model_path=str(engine), num_threads=threads)
            interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"TFLite cannot load '{engine}': {_brief(error)}") from error
        return TfliteSession(interpreter, str(engine), f"{package} {version(package)}", threads)


class TfliteSession:
    """A loaded TFLite graph.

    An integer input with quantisation parameters takes float32 as well, which is then quantised; an integer output
    with such parameters is given as float32.
    """

    def __init__(self, interpreter: Any, engine: str, package: str, threads: int) -> None:
        self._interpreter: Any = interpreter
        self._engine = engine
        self._input_details = interpreter.get_input_details()
        self._output_details = interpreter.get_output_details()
        self._shapes = {d["name"]: tuple(int(n) for n in d["shape"]) for d in self._input_details}
        self.inputs: Sequence[TensorInfo] = tuple(_info(d) for d in self._input_details)
        self.outputs: Sequence[TensorInfo] = tuple(_info(d, output=True) for d in self._output_details)
        self.placement = f"{package} cpu, {_kernels(interpreter)}, {threads} thread(s)"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        if self._interpreter is None:
            raise DeviceError(f"The session of '{self._engine}' is closed.")
        given = {name: np.asarray(array) for name, array in feeds.items()}
        for detail in self._input_details:
            array = given.get(detail["name"])
            if array is not None and array.dtype == np.float32 and _scale(detail) is not None:
                given[detail["name"]] = _quantised(array, detail)
        check_feeds(self._engine, self.inputs, given)
        try:
            self._fit_shapes(given)
            for detail in self._input_details:
                self._interpreter.set_tensor(detail["index"], given[detail["name"]])
            self._interpreter.invoke()
            return {d["name"]: _real(self._interpreter.get_tensor(d["index"]), d) for d in self._output_details}
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"TFLite failed on '{self._engine}': {_brief(error)}") from error

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._interpreter = None

    def _fit_shapes(self, given: Mapping[str, Tensor]) -> None:
        changed = False
        for detail in self._input_details:
            name, wanted = detail["name"], given[detail["name"]].shape
            if self._shapes[name] != wanted:
                self._interpreter.resize_tensor_input(detail["index"], wanted)
                self._shapes[name] = wanted
                changed = True
        if changed:
            self._interpreter.allocate_tensors()


def _package() -> str | None:
    return next((p for p, module in _PACKAGES.items() if importlib.util.find_spec(module) is not None), None)


def _own_cpus() -> int:
    """CPUs that the process may use; the interpreter would take one."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _kernels(interpreter: Any) -> str:
    """Whose kernels run, as the interpreter's own list of operators says."""
    listed = getattr(interpreter, "_get_ops_details", None)
    if listed is None:
        return "kernels not told"
    parts = sum(operator["op_name"] == "DELEGATE" for operator in listed())
    return f"XNNPACK in {parts} part(s)" if parts else "built-in kernels"


def _info(detail: Mapping[str, Any], *, output: bool = False) -> TensorInfo:
    """Name, shape and type; -1 in the signature is a dynamic length."""
    signature = detail.get("shape_signature")
    lengths = detail["shape"] if signature is None or not len(signature) else signature
    shape = tuple(None if n < 0 else int(n) for n in lengths)
    dtype = "float32" if output and _scale(detail) is not None else np.dtype(detail["dtype"]).name
    return TensorInfo(detail["name"], shape, dtype)


def _scale(detail: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Scales and zero points, shaped for the tensor, of a quantised input or output; None where there are none."""
    facts = detail["quantization_parameters"]
    scales = np.asarray(facts["scales"], np.float32)
    if not scales.size or not np.issubdtype(detail["dtype"], np.integer):
        return None
    zeros = np.asarray(facts["zero_points"], np.float32)
    if scales.size > 1:
        shape = [1] * len(detail["shape"])
        shape[facts["quantized_dimension"]] = scales.size
        scales, zeros = scales.reshape(shape), zeros.reshape(shape)
    return scales, zeros


def _quantised(array: Tensor, detail: Mapping[str, Any]) -> Tensor:
    found = _scale(detail)
    assert found is not None
    limits = np.iinfo(detail["dtype"])
    codes: Tensor = np.clip(np.rint(array / found[0]) + found[1], limits.min, limits.max).astype(detail["dtype"])
    return codes


def _real(array: Tensor, detail: Mapping[str, Any]) -> Tensor:
    found = _scale(detail)
    return array if found is None else ((array.astype(np.float32) - found[1]) * found[0]).astype(np.float32)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
