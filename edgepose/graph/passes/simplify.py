"""The optional step through onnxsim."""

from __future__ import annotations

import onnx

from ...errors import DependencyError, GraphError


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Run onnxsim over a model.

    edgepose's own passes do what pose networks need; onnxsim knows more patterns that exporters leave behind.

    Raises
    ------
    DependencyError
        If onnxsim is not installed.
    GraphError
        If it fails.
    """
    try:
        import onnxsim
    except ImportError as error:
        raise DependencyError("onnxsim", "Simplifying a graph", "simplify") from error
    try:
        # Its own comparison of before and after is left out: every conversion ends with ours.
        simplified, _ = onnxsim.simplify(model, check_n=0)
    except Exception as error:  # it raises whatever its C++ core throws
        raise GraphError(f"onnxsim {onnxsim.__version__} failed: {' '.join(str(error).split())[:300]}") from error
    result: onnx.ModelProto = simplified
    return result
