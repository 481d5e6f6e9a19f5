"""Bringing graphs of old exporters into the form that everything else expects."""

from __future__ import annotations

from ..draft import Draft
from .constants import inline_constants
from .wiring import attributes_of, set_attribute


def prepare(draft: Draft) -> int:
    """Make constants constants, and mend what is known to be wrong in exported graphs.

    Returns
    -------
    int
        How many things changed.
    """
    return inline_constants(draft) + _mend_batch_norm(draft)


def _mend_batch_norm(draft: Draft) -> int:
    """Statistics by channel that are declared as statistics by element.

    MXNet's exporter wrote ``spatial=0``, which before opset 9 asks for arrays of the shape C x H x W, beside arrays of
    the shape C.  They can only be read by channel; ONNX Runtime does so as long as it fuses the normalisation away, and
    refuses the node where it does not.
    """
    mended = 0
    for node in draft.graph.node:
        if node.op_type != "BatchNormalization" or attributes_of(node).get("spatial", 1) != 0:
            continue
        scale = draft.constants().get(node.input[1])
        if scale is not None and len(scale.dims) == 1:
            set_attribute(node, "spatial", None)
            mended += 1
    return mended
