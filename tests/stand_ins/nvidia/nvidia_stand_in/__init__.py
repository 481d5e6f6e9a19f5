"""Stands in for TensorRT's and CUDA's Python bindings.

What a version offers comes from its recorded interface (``../interfaces``); anything else is refused as the bindings
would: an attribute with AttributeError, arguments with TypeError.  A plan holds the ONNX graph it was built from, and
ONNX Runtime computes what it gives.  Whatever would crash or corrupt memory there is written to the machine's
:attr:`~.machine.Machine.violations`, so that a test fails even where the caller would not notice.
"""
