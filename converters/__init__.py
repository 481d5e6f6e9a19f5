"""Converters of edgepose: ONNX graph and spec -> a target's engine.  One file a target."""
