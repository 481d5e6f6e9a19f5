"""MXNet networks (``-symbol.json`` with ``.params``) -> ONNX."""

from .importer import import_mxnet

__all__ = ["import_mxnet"]
