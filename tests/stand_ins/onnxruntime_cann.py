"""Stands in for the package onnxruntime-cann: ONNX Runtime with a provider that has the documented options.

It computes on the CPU.  Where the provider cannot be made it goes on without, as version 1.24.4 does without CANN.
"""

import onnxruntime

PROVIDER, CPU = "CANNExecutionProvider", "CPUExecutionProvider"
OPTIONS = {
    "device_id": str.isdigit,
    "npu_mem_limit": str.isdigit,
    "arena_extend_strategy": ("kNextPowerOfTwo", "kSameAsRequested").__contains__,
    "enable_cann_graph": ("0", "1").__contains__,
    "dump_graphs": ("0", "1").__contains__,
    "dump_om_model": ("0", "1").__contains__,
    "precision_mode": (
        "force_fp32/cube_fp16in_fp32out", "force_fp16", "allow_fp32_to_fp16", "must_keep_origin_dtype",
        "allow_mix_precision",
    ).__contains__,
    "op_select_impl_mode": ("high_performance", "high_precision").__contains__,
    "optypelist_for_implmode": bool,
}  # fmt: skip

_Original = onnxruntime.InferenceSession


class InferenceSession:
    """A session that says it runs on the provider."""

    #: What the machine is like: whether CANN is found, and devices; and whether fallback cannot be switched off.
    works, devices, stubborn = True, 1, False

    def __init__(self, path, sess_options=None, providers=None, enable_fallback=1):
        names = [p if isinstance(p, str) else p[0] for p in providers]
        self.asked = {}
        for entry in providers:
            if not isinstance(entry, str) and entry[0] == PROVIDER:
                self.asked = entry[1]
        for name, value in self.asked.items():
            if name not in OPTIONS or not isinstance(value, str) or not OPTIONS[name](value):
                raise RuntimeError(f"Unknown or invalid provider option: {name}={value}")
        self._session = _Original(path, sess_options, providers=[CPU])
        if PROVIDER in names and (not self.works or int(self.asked["device_id"]) >= self.devices):
            if not enable_fallback and not self.stubborn:
                raise RuntimeError("provider_bridge.cc:1189 CreateFactory() create CANN ExecutionProvider fail")
            print("EP Error create CANN ExecutionProvider fail\nFalling back to ['CPUExecutionProvider'] and retrying.")
            names.remove(PROVIDER)
        self._names = names

    def __getattr__(self, name):
        return getattr(self._session, name)

    def get_providers(self):
        return self._names

    def get_provider_graph_assignment_info(self):
        found = self._session.get_provider_graph_assignment_info()
        return [_Renamed(part, self._names[0]) for part in found]


class _Renamed:
    def __init__(self, part, name):
        self.ep_name, self.get_nodes = name, part.get_nodes
