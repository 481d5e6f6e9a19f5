"""MindSpore on the CPU: MindIR files through its GraphCell.

MindSpore always runs in a process of its own.  Its environment has to be set before it is imported and would slow down
other engines in the same process, and its wheels need NumPy 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.interpreters import find_interpreter
from edgepose.plugins import Probe, Session

from .mindir_ports import read_ports
from .mindspore_process import RemoteEngine
from .mindspore_session import MindSporeSession, fixed_inputs
from .options import refuse_unknown

PYTHON = "EDGEPOSE_MINDSPORE_PYTHON"
_TARGETS = {"cpu": "CPU"}
#: With the widest vectors, MindSpore's convolutions are its reference code: 94 ms of ResNet-18 SimplePose became 5 s.
_ENVIRONMENT = {"ONEDNN_MAX_CPU_ISA": "AVX2", "GLOG_v": "3"}


class MindSpore:
    """Opens ``.mindir`` files."""

    name = "mindspore"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"mindir": (".mindir",)})
    devices: Sequence[str] = tuple(_TARGETS)

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = f"Python package mindspore, here or in the Python that {PYTHON} names"
        found = find_interpreter("mindspore", PYTHON)
        if found is None:
            return Probe(False, looked_for, remedy='pip install "edgepose[mindspore]"')
        return Probe(True, looked_for, f"mindspore {found.version} ({found.program})")

    def refuses(self, engine: Path) -> str:
        """See :class:`edgepose.plugins.Choosing`."""
        if read_ports(engine).fused:
            return "MindSpore does not know the operators of MindSpore Lite's converter."
        return ""

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.  There are no options."""
        if device.name not in _TARGETS or device.index:
            raise DeviceError(f"MindSpore cannot use the device '{device}' here.", hint="Use --device cpu.")
        refuse_unknown("MindSpore", options, ())
        interpreter = find_interpreter("mindspore", PYTHON)
        if interpreter is None:
            probe = self.probe()
            raise DeviceError(f"{probe.looked_for}: not found.", hint=probe.remedy)
        ports = read_ports(engine)
        opening = {
            "backend": "mindspore",
            "engine": str(engine.resolve()),
            "inputs": fixed_inputs(str(engine), ports),
            "options": {"target": _TARGETS[device.name]},
        }
        # What the user has set stays.
        environment = {k: v for k, v in _ENVIRONMENT.items() if k not in os.environ}
        remote = RemoteEngine(interpreter, opening, environment)
        try:
            return MindSporeSession(remote, str(engine), ports, f"mindspore {remote.version} {remote.placement}")
        except DeviceError:
            remote.close()
            raise
