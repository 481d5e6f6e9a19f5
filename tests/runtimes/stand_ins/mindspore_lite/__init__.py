"""Stands in for the vendor's package: the same interface, and behaviour as a file beside the engine says.

Facts of the interface: MindSpore Lite 2.0.0, as installed from PyPI for Python 3.7.
"""

import enum
import json
import os
import sys
import time

import numpy as np

__version__ = "0.0.stand-in"


class DataType(enum.IntEnum):
    UNKNOWN = 0
    UINT8 = 37
    INT32 = 34
    FLOAT16 = 42
    FLOAT32 = 43


class ModelType(enum.IntEnum):
    MINDIR = 0
    MINDIR_LITE = 4


class _Cpu:
    thread_num = 2
    precision_mode = "enforce_fp32"


#: What the machine is like, in the environment: ``devices``, how many NPUs there are; ``newer``, whether the version is
#: one after 2.0, whose Ascend context has a provider.
_MACHINE = json.loads(os.environ.get("MSLITE_STAND_IN", "{}"))
_MODES = ("enforce_fp32", "preferred_fp32", "enforce_fp16", "enforce_origin", "preferred_optimal")


class _Ascend:
    # Attributes that it does not have are taken without a word, as by the original.
    def __init__(self):
        self._device, self._mode, self._provider = 0, "", ""

    @property
    def device_id(self):
        return self._device

    @device_id.setter
    def device_id(self, value):
        if type(value) is not int:
            raise TypeError("device_id must be int")
        if value < 0:
            raise ValueError("ascend_device_id must be a non-negative int.")
        self._device = value

    @property
    def precision_mode(self):
        return self._mode

    @precision_mode.setter
    def precision_mode(self, value):
        if value not in _MODES:
            raise ValueError(f"ascend_precision_mode must be in {list(_MODES)}, but got {value}.")
        self._mode = value


if _MACHINE.get("newer"):

    def _provider(self):
        return self._provider

    def _set_provider(self, value):
        if value not in ("", "ge"):
            raise ValueError("provider must be in ['', 'ge']")
        self._provider = value

    _Ascend.provider = property(_provider, _set_provider)


class Context:
    def __init__(self):
        self.target = []
        self.cpu = _Cpu()
        self.ascend = _Ascend()


class Tensor:
    def __init__(self, name, shape, dtype):
        self.name, self.shape, self.dtype = name, list(shape), dtype
        self.data = np.zeros(shape, dtype.name.lower())

    def set_data_from_numpy(self, array):
        if array.nbytes != self.data.nbytes:
            raise RuntimeError(f"data size not equal! Numpy size: {array.nbytes}, Tensor size: {self.data.nbytes}")
        self.data = array

    def get_data_to_numpy(self):
        return self.data


class Model:
    def build_from_file(self, path, model_type, context):
        assert model_type == ModelType.MINDIR
        with open(path + ".json") as stream:
            self.behaviour = json.load(stream)
        if "ascend" in context.target:
            if not _MACHINE.get("devices"):
                # As MindSpore Lite 2.0.0 does: the cause is in its log alone.
                missing = "libgraph.so: cannot open shared object file: No such file or directory"
                sys.stderr.write(f"[ERROR] dlopen libascend_kernel_plugin_python.so failed, error: {missing}\n")
                sys.stderr.flush()
                raise RuntimeError("build_from_file failed! Error is Common error code.")
            if context.ascend.device_id >= _MACHINE["devices"]:
                raise RuntimeError("build_from_file failed! Error is Common error code.")
        if self.behaviour.get("refuse"):
            raise RuntimeError("build_from_file failed! Error is\nCommon error code.")
        self.inputs = [Tensor(n, s, DataType[d.upper()]) for n, s, d in self.behaviour["inputs"]]
        self.runs = 0

    def get_inputs(self):
        return self.inputs

    def predict(self, inputs):
        self.runs += 1
        print("noise on standard output")
        sys.stdout.flush()
        os.write(1, b"noise of a library\n")
        if self.runs > 1:
            if self.behaviour.get("crash"):
                os.abort()
            if self.behaviour.get("fail"):
                raise RuntimeError("predict failed! Error is Common error code.")
            if self.behaviour.get("busy"):
                end = time.time() + 60
                while time.time() < end:
                    pass
        if "graph" in self.behaviour:
            return self._computed(inputs)
        out = Tensor("out", inputs[0].shape, inputs[0].dtype)
        out.data = inputs[0].data * 2
        if self.runs > 1 and self.behaviour.get("shrink"):
            out.data = out.data[:, :1]
        return [out]

    def _computed(self, inputs):
        """What ONNX Runtime gives for the graph that the engine was made of."""
        import onnxruntime

        session = onnxruntime.InferenceSession(self.behaviour["graph"], providers=["CPUExecutionProvider"])
        results = []
        for number, array in enumerate(session.run(None, {t.name: t.data for t in inputs})):
            results.append(Tensor(f"out{number}", array.shape, DataType[array.dtype.name.upper()]))
            results[-1].data = array
        return results
