"""The operator table: what each ONNX operator becomes."""

from __future__ import annotations

import onnx

from edgepose.graph.draft import Draft
from edgepose.graph.inference import check_and_infer

from .elementwise import OPERATORS as ELEMENTWISE
from .layers import OPERATORS as LAYERS
from .lowering import Lowering, Operator
from .pooling import OPERATORS as POOLING
from .program import Program
from .resizing import OPERATORS as RESIZING
from .selecting import OPERATORS as SELECTING
from .shaping import OPERATORS as SHAPING

OPERATORS: dict[str, Operator] = {**ELEMENTWISE, **LAYERS, **POOLING, **RESIZING, **SELECTING, **SHAPING}


def lower(graph: onnx.ModelProto, *, keep_stored: bool = False) -> Program:
    """Write a graph as calls of MindSpore's primitives.

    Parameters
    ----------
    graph
        A simplified graph (:func:`edgepose.graph.passes.optimise`) of fixed batch and size.
    keep_stored
        Whether weights that are stored as float16 or bytes stay so, with a cast behind them.

    Raises
    ------
    ConversionError
        If it cannot be written; the nodes and operators in the way are named.
    """
    draft = Draft(graph)
    check_and_infer(draft)
    return Lowering(draft, keep_stored).run(OPERATORS)
