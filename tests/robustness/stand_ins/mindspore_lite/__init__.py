"""Stands in for the vendor's package: a model that takes for ever to load, computing all the while."""

import enum

__version__ = "0.0.stand-in"


class DataType(enum.IntEnum):
    FLOAT32 = 43


class ModelType(enum.IntEnum):
    MINDIR = 0


class _Cpu:
    thread_num = 1
    precision_mode = "enforce_fp32"


class Context:
    def __init__(self):
        self.target = []
        self.cpu = _Cpu()


class Model:
    def build_from_file(self, path, model_type, context):
        while True:
            pass
