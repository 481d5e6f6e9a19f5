"""CUDA's runtime as CoreX gives it."""

from iluvatar_stand_in.cudart import bindings as _bindings

globals().update(_bindings())
