"""What a target that takes INT8 as a calibrated graph is given."""

from __future__ import annotations

import onnx

from edgepose.errors import ConversionError


def check_quantised(graph: onnx.ModelProto) -> None:
    """Refuse a graph that has not been quantised.

    Raises
    ------
    ConversionError
        If it has no Q/DQ nodes.
    """
    if not any(node.op_type == "DequantizeLinear" for node in graph.graph.node):
        raise ConversionError(
            "The graph is not quantised, so it cannot be written as int8.",
            hint="Calibrate it: edgepose convert MODEL --precision int8 --calibration FOLDER.",
        )
