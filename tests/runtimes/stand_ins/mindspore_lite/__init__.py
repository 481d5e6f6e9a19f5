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


class _Ascend:
    device_id = 0


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
            raise RuntimeError("dlopen libascend_kernel_plugin.so failed, error: libgraph.so")
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
        out = Tensor("out", inputs[0].shape, inputs[0].dtype)
        out.data = inputs[0].data * 2
        if self.runs > 1 and self.behaviour.get("shrink"):
            out.data = out.data[:, :1]
        return [out]
