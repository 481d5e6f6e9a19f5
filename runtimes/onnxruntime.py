"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

_PROVIDERS = {"cpu": "CPUExecutionProvider"}
_OPTIONS = {"threads"}
# Warnings of the optimiser about foreign graphs are not the user's business; errors arrive as exceptions.
_ERRORS_ONLY = 3


class OnnxRuntime:
    """Opens ``.onnx`` files."""

    name = "onnxruntime"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"onnx": (".onnx",)})
    devices: Sequence[str] = tuple(_PROVIDERS)

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        if importlib.util.find_spec("onnxruntime") is None:
            return Probe(False, "Python module onnxruntime", remedy="pip install onnxruntime")
        # The module comes from differently named packages, one for each set of providers.
        owners = packages_distributions().get("onnxruntime", [])
        found = ", ".join(f"{owner} {version(owner)}" for owner in dict.fromkeys(owners))
        return Probe(True, "Python module onnxruntime", found or "of unknown version")

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        Options
        -------
        threads : int
            Threads of one run; by default as many as ONNX Runtime chooses, the physical cores.
        """
        if device.name not in _PROVIDERS or device.index:
            raise DeviceError(f"ONNX Runtime cannot use the device '{device}' here.", hint="Use --device cpu.")
        unknown = sorted(set(options) - _OPTIONS)
        if unknown:
            raise DeviceError(f"ONNX Runtime has no option {', '.join(unknown)}.", hint="Options: threads.")
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        if "threads" in options:
            settings.intra_op_num_threads = int(options["threads"])
        provider = _PROVIDERS[device.name]
        try:
            session = ort.InferenceSession(str(engine), settings, providers=[provider])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise DeviceError(f"ONNX Runtime cannot load '{engine}': {_first_line(error)}") from error
        used = session.get_providers()
        if used[:1] != [provider]:
            raise DeviceError(f"ONNX Runtime was asked for {provider} and uses {', '.join(used)} instead.")
        return OnnxRuntimeSession(session, str(engine))


class OnnxRuntimeSession:
    """A loaded ONNX graph."""

    def __init__(self, session: Any, engine: str) -> None:
        self._session: Any = session
        self._engine = engine
        self.inputs: Sequence[TensorInfo] = tuple(_info(i) for i in session.get_inputs())
        self.outputs: Sequence[TensorInfo] = tuple(_info(o) for o in session.get_outputs())
        self.placement = f"onnxruntime {', '.join(session.get_providers())}"

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        if self._session is None:
            raise DeviceError(f"The session of '{self._engine}' is closed.")
        try:
            results = self._session.run(None, dict(feeds))
        except Exception as error:  # as above
            raise DeviceError(f"ONNX Runtime failed on '{self._engine}': {_first_line(error)}") from error
        return {info.name: np.asarray(value) for info, value in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._session = None


def _info(node: Any) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else None for d in node.shape)
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorInfo(node.name, shape, {"float": "float32", "double": "float64"}.get(dtype, dtype))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
