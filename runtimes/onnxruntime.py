"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

from .options import choice, refuse_unknown, whole_number

_CPU = "CPUExecutionProvider"
#: Kind of device -> providers that run there, the usual one first.
_PROVIDERS: Mapping[str, Sequence[str]] = {
    "cpu": (_CPU, "DnnlExecutionProvider", "XnnpackExecutionProvider", "ACLExecutionProvider")
}
_OPTIONS = ("threads", "spinning", "provider")
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
        spinning : str
            ``on`` (default): threads that wait keep their cores busy, which is fastest where nothing else runs;
            ``off``: they sleep, a few per cent slower and kinder to what else runs.
        provider : str
            Execution provider by its name in ONNX Runtime; by default its own kernels for the device.  Operators that
            another provider cannot run are run by ONNX Runtime's own; the placement says how many.
        """
        if device.name not in _PROVIDERS or device.index:
            raise DeviceError(f"ONNX Runtime cannot use the device '{device}' here.", hint="Use --device cpu.")
        refuse_unknown("ONNX Runtime", options, _OPTIONS)
        provider = choice("ONNX Runtime", options, "provider", _PROVIDERS[device.name])
        threads = whole_number("ONNX Runtime", options, "threads")
        spinning = choice("ONNX Runtime", options, "spinning", ("on", "off"))
        import onnxruntime as ort

        # ONNX Runtime itself would warn, and use another.
        present = ort.get_available_providers()
        if provider not in present:
            raise DeviceError(
                f"This ONNX Runtime has no {provider}; it has {', '.join(present)}.",
                hint="Install a build of onnxruntime that has it.",
            )
        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        if threads is not None:
            settings.intra_op_num_threads = threads
        if spinning == "off":
            settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            session = ort.InferenceSession(str(engine), settings, providers=list(dict.fromkeys((provider, _CPU))))
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise DeviceError(f"ONNX Runtime cannot load '{engine}': {first_line(error)}") from error
        session.disable_fallback()
        used = session.get_providers()
        assigned = assigned_operators(session)
        if used[:1] != [provider] or (assigned and not assigned[provider]):
            really = ", ".join(assigned or used)
            raise DeviceError(f"ONNX Runtime was asked for {provider} and uses {really} instead.")
        threads_used = session.get_session_options().intra_op_num_threads
        return OnnxRuntimeSession(session, str(engine), _placement(assigned, used, threads_used))


class OnnxRuntimeSession:
    """A loaded ONNX graph."""

    def __init__(self, session: Any, engine: str, placement: str) -> None:
        self._session: Any = session
        self._engine = engine
        self.inputs: Sequence[TensorInfo] = tuple(_info(i) for i in session.get_inputs())
        self.outputs: Sequence[TensorInfo] = tuple(_info(o) for o in session.get_outputs())
        self.placement = placement

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        if self._session is None:
            raise DeviceError(f"The session of '{self._engine}' is closed.")
        try:
            results = self._session.run(None, dict(feeds))
        except Exception as error:  # as above
            raise DeviceError(f"ONNX Runtime failed on '{self._engine}': {first_line(error)}") from error
        return {info.name: np.asarray(value) for info, value in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._session = None


def _version() -> str:
    import onnxruntime as ort

    return str(ort.__version__)


def assigned_operators(session: Any) -> Counter[str]:
    """Provider -> how many operators it runs, as the session tells; empty where ONNX Runtime is too old to tell."""
    counts: Counter[str] = Counter()
    if hasattr(session, "get_provider_graph_assignment_info"):
        for part in session.get_provider_graph_assignment_info():
            counts[part.ep_name] += len(part.get_nodes())
    return counts


def _placement(assigned: Mapping[str, int], used: Sequence[str], threads: int) -> str:
    parts = [f"{provider} {count} operators" for provider, count in assigned.items()] or list(used)
    told = f"{threads} thread(s)" if threads else "as many threads as it chooses"
    return f"onnxruntime {_version()} {', '.join(parts)}, {told}"


def _info(node: Any) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else None for d in node.shape)
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorInfo(node.name, shape, {"float": "float32", "double": "float64"}.get(dtype, dtype))


def first_line(error: Exception) -> str:
    """What ONNX Runtime says, without the rest."""
    return str(error).strip().split("\n")[0]
