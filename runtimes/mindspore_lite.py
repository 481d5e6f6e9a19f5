"""MindSpore Lite: MindIR files, here where the package can be imported, else in a process of the Python that has it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.interpreters import find_interpreter
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

from .ascend_devices import check_index
from .mindir_ports import Ports, read_ports
from .mindspore_process import RemoteEngine
from .mindspore_session import MindSporeSession, fixed_inputs
from .mindspore_worker import Lite, brief
from .options import choice, refuse_unknown, whole_number

PYTHON = "EDGEPOSE_MSLITE_PYTHON"
#: Kind of device -> MindSpore Lite's name for it.
_TARGETS = {"cpu": "cpu", "ascend310": "ascend", "ascend310p": "ascend", "ascend310b": "ascend"}
_CPU_OPTIONS, _ASCEND_OPTIONS = ("threads",), ("precision_mode", "provider")
#: Of the Ascend context; the first is what MindSpore Lite takes where nothing is said.
PRECISION_MODES = ("enforce_fp16", "enforce_fp32", "preferred_fp32", "enforce_origin", "preferred_optimal")
#: Of the Ascend context: its own, or the graph engine.
PROVIDERS = ("", "ge")
#: The version of the format that MindSpore Lite 2.0 reads; its errors name it.
_OLDEST = 1
_REMEDY = (
    "On PyPI it is for Python 3.7 alone: python3.7 -m venv lite; lite/bin/pip install mindspore-lite==2.0.0;"
    f" export {PYTHON}=$PWD/lite/bin/python. Other wheels: https://www.mindspore.cn/lite"
)


class MindSporeLite:
    """Opens ``.mindir`` files."""

    name = "mindspore-lite"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"mindir": (".mindir",)})
    devices: Sequence[str] = tuple(_TARGETS)

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = f"Python package mindspore_lite, here or in the Python that {PYTHON} names"
        found = find_interpreter("mindspore_lite", PYTHON)
        if found is None:
            return Probe(False, looked_for, remedy=_REMEDY)
        return Probe(True, looked_for, f"mindspore-lite {found.version} ({found.program})")

    def refuses(self, engine: Path) -> str:
        """See :class:`edgepose.plugins.Choosing`."""
        found = find_interpreter("mindspore_lite", PYTHON)
        version = read_ports(engine).version
        if found is not None and found.version.startswith("2.0.") and version > _OLDEST:
            return f"mindspore-lite {found.version} reads MindIR of version {_OLDEST}, and this file has {version}."
        return ""

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        Options
        -------
        threads : int
            Threads on the CPU; by default as many as MindSpore Lite chooses.
        precision_mode : str
            On Ascend: ``enforce_fp16`` (default), ``enforce_fp32``, ``preferred_fp32``, ``enforce_origin`` or
            ``preferred_optimal``.
        provider : str
            On Ascend: ``ge`` for the graph engine, which newer versions have.
        """
        if device.name not in _TARGETS or (device.name == "cpu" and device.index):
            raise DeviceError(f"MindSpore Lite cannot use the device '{device}' here.", hint="Use --device cpu.")
        on_cpu = device.name == "cpu"
        refuse_unknown("MindSpore Lite", options, _CPU_OPTIONS if on_cpu else _ASCEND_OPTIONS)
        settings = {
            "target": _TARGETS[device.name],
            "index": device.index,
            "threads": whole_number("MindSpore Lite", options, "threads"),
        }
        if not on_cpu:
            settings["precision_mode"] = choice("MindSpore Lite", options, "precision_mode", PRECISION_MODES)
            settings["provider"] = choice("MindSpore Lite", options, "provider", PROVIDERS)
            check_index(device)
        ports = read_ports(engine)
        opening = {
            "backend": "mindspore_lite",
            "engine": str(engine.resolve()),
            "inputs": fixed_inputs(str(engine), ports),
            "options": settings,
        }
        loaded = _LocalEngine(opening) if importlib.util.find_spec("mindspore_lite") else _remote(self, opening)
        try:
            agreed = _agreed(str(engine), ports, loaded.inputs)
            return MindSporeSession(loaded, str(engine), agreed, f"mindspore-lite {loaded.version} {loaded.placement}")
        except DeviceError:
            loaded.close()
            raise


class _LocalEngine:
    """MindSpore Lite in this process."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        self._path = opening["engine"]
        try:
            self._lite: Lite | None = Lite(opening["engine"], opening["inputs"], opening["options"])
        except Exception as error:  # its exceptions have no common base
            raise DeviceError(f"MindSpore Lite cannot load '{self._path}': {brief(error)}") from error
        self.inputs = self._lite.inputs
        self.version = self._lite.version
        self.placement = self._lite.placement()

    def run(self, arrays: list[Tensor]) -> list[Tensor]:
        assert self._lite is not None
        try:
            return self._lite.run(arrays)
        except Exception as error:  # as above
            raise DeviceError(f"MindSpore Lite failed on '{self._path}': {brief(error)}") from error

    def close(self) -> None:
        self._lite = None


def _remote(runtime: MindSporeLite, opening: Mapping[str, Any]) -> RemoteEngine:
    interpreter = find_interpreter("mindspore_lite", PYTHON)
    if interpreter is None:
        probe = runtime.probe()
        raise DeviceError(f"{probe.looked_for}: not found.", hint=probe.remedy)
    return RemoteEngine(interpreter, opening)


def _agreed(path: str, ports: Ports, declared: Sequence[Mapping[str, Any]]) -> Ports:
    """The file's inputs in the engine's order, after comparing them: the engine may have turned them to NHWC."""
    inputs = list(ports.inputs)
    by_name = {i.name: i for i in inputs}
    if {d["name"] for d in declared} == set(by_name):
        inputs = [by_name[d["name"]] for d in declared]
    theirs = [TensorInfo(i.name, tuple(d["shape"]), d["dtype"]) for i, d in zip(inputs, declared, strict=False)]
    if theirs != inputs or len(inputs) != len(declared):
        raise DeviceError(f"MindSpore Lite declares other inputs than the file '{path}': {list(declared)}.")
    return Ports(tuple(inputs), ports.outputs, ports.version)
