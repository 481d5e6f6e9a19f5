"""ONNX Runtime's CANN provider: ONNX files on Ascend devices."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session

from .ascend_devices import DEVICES, check_index
from .onnxruntime import OnnxRuntimeSession, assigned_operators, first_line
from .options import choice, refuse_unknown

PROVIDER = "CANNExecutionProvider"
_CPU = "CPUExecutionProvider"
_NAME = "ONNX Runtime with CANN"
#: As the provider's documentation lists them; the first is its default.
PRECISION_MODES = (
    "force_fp16",
    "force_fp32/cube_fp16in_fp32out",
    "allow_fp32_to_fp16",
    "must_keep_origin_dtype",
    "allow_mix_precision",
)
IMPLEMENTATIONS = ("high_performance", "high_precision")
_REMEDY = (
    "In an environment of its own, because it takes the place of onnxruntime and is built for NumPy 1:"
    " pip install onnxruntime-cann 'numpy<2'; and set CANN's environment:"
    " source /usr/local/Ascend/ascend-toolkit/set_env.sh"
)
_NOT_MADE = "create CANN ExecutionProvider fail"
_NO_CANN = (
    "CANN's libraries or the driver are not found: npu-smi info must list the card, and set_env.sh must have been"
    " sourced."
)
_ERRORS_ONLY = 3


class OnnxRuntimeCann:
    """Opens ``.onnx`` files on Ascend devices, compiling them when they are opened."""

    name = "onnxruntime-cann"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"onnx": (".onnx",)})
    devices: Sequence[str] = DEVICES

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = f"an onnxruntime with the {PROVIDER}"
        if importlib.util.find_spec("onnxruntime") is None:
            return Probe(False, looked_for, remedy=_REMEDY)
        try:
            present = importlib.import_module("onnxruntime").get_available_providers()
        except Exception as error:  # extension modules fail in any way
            return Probe(False, looked_for, f"onnxruntime, which cannot be imported: {first_line(error)}", _REMEDY)
        owners = packages_distributions().get("onnxruntime", [])
        found = ", ".join(f"{owner} {version(owner)}" for owner in dict.fromkeys(owners))
        if PROVIDER not in present:
            return Probe(False, looked_for, f"{found or 'onnxruntime'} without it", _REMEDY)
        return Probe(True, looked_for, found or "onnxruntime of unknown version")

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        Options
        -------
        precision_mode : str
            ``force_fp16`` (default), ``must_keep_origin_dtype``, ...: see :data:`PRECISION_MODES`.
        op_select_impl_mode : str
            ``high_performance`` (default) or ``high_precision``.
        """
        if device.name not in self.devices:
            raise DeviceError(f"{_NAME} cannot use the device '{device}'.", hint=f"Devices: {', '.join(self.devices)}.")
        refuse_unknown(_NAME, options, ("precision_mode", "op_select_impl_mode"))
        mode = choice(_NAME, options, "precision_mode", PRECISION_MODES)
        provider_options = {
            "device_id": str(device.index),
            # Operator by operator it has no deconvolution; as a graph it has.
            "enable_cann_graph": "1",
            "precision_mode": mode,
            "op_select_impl_mode": choice(_NAME, options, "op_select_impl_mode", IMPLEMENTATIONS),
        }
        probe = self.probe()
        if not probe.available:
            raise DeviceError(
                f"{_NAME} is not available: {probe.found or probe.looked_for + ' is not here'}.", hint=probe.remedy
            )
        check_index(device)
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = _ERRORS_ONLY
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            # By itself it prints that the provider cannot be made, and goes on with the CPU.
            session = ort.InferenceSession(
                str(engine), settings, providers=[(PROVIDER, provider_options), _CPU], enable_fallback=0
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            if _NOT_MADE in str(error):
                raise DeviceError(f"{_NAME} cannot use the device '{device}': {_NOT_MADE}.", hint=_NO_CANN) from error
            raise DeviceError(f"{_NAME} cannot load '{engine}': {first_line(error)}") from error
        session.disable_fallback()
        used = list(session.get_providers())
        assigned = assigned_operators(session)
        if used[:1] != [PROVIDER] or (assigned and not assigned[PROVIDER]):
            raise DeviceError(
                f"{_NAME} was asked for the device '{device}' and uses {', '.join(assigned or used)} instead.",
                hint=_NO_CANN,
            )
        operators = ", ".join(f"{name} {count} operators" for name, count in assigned.items()) or ", ".join(used)
        placement = f"onnxruntime {ort.__version__} {operators}, device {device.index}, {mode}"
        return OnnxRuntimeSession(session, str(engine), placement)
