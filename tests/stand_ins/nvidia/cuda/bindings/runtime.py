"""CUDA's runtime as ``cuda-bindings`` 13.4 gives it."""

from nvidia_stand_in.cudart import bindings as _bindings

globals().update(_bindings("13.4"))
