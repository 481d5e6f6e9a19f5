"""OpenVINO IR: ``.xml`` with its ``.bin``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft
from edgepose.graph.half import store_half
from edgepose.graph.passes.dead_code import remove_dead
from edgepose.graph.passes.wiring import Wiring
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe
from edgepose.quantization.scheme import Scheme

from .quantised import check_quantised

ENGINE = "model.xml"
WEIGHTS = "model.bin"
#: HardSwish is an operator since this version of the operator set.
HARD_SWISH_OPSET = 14
_FIRST = -(1 << 30)


class OpenVinoConverter:
    """Writes OpenVINO's intermediate representation.

    FP16 is how the weights of convolutions and matrix products are stored; they are computed with as float32.
    OpenVINO's own compression is not used: it rounds biases too, which doubles the error on trained networks.  INT8 is
    a calibrated graph with Q/DQ nodes.
    """

    name = "openvino"
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
    #: Biases are added in float at no cost, and any layer may give float.
    scheme = Scheme(bias="float", open_end=True)

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`."""
        if importlib.util.find_spec("openvino") is None:
            return Probe(False, "Python module openvino", remedy='pip install "edgepose[openvino]"')
        return Probe(True, "Python module openvino", f"openvino {version('openvino')}")

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`.  There are no options."""
        if options:
            raise ConversionError(f"The target 'openvino' has no option {', '.join(sorted(options))}.")
        if precision not in self.precisions:
            raise ConversionError(f"OpenVINO IR is written in {', '.join(self.precisions)}, not in {precision}.")
        if precision == "int8":
            check_quantised(model.graph)
        import openvino as ov

        try:
            network = ov.Core().read_model(_stored(model, precision).to_bytes())
            _name_ports(network, model)
            _name_layers(network)
            ov.save_model(network, folder / ENGINE, compress_to_fp16=False)
        except RuntimeError as error:  # the only class that OpenVINO raises
            raise ConversionError(f"OpenVINO {version('openvino')} refuses the graph: {_brief(error)}") from error
        notes = ("Weights are stored as float16 and computed with as float32.",) if precision == "fp16" else ()
        return Conversion(ENGINE, (ENGINE, WEIGHTS), {"openvino": version("openvino")}, notes)


def _stored(model: PoseModel, precision: str) -> PoseModel:
    graph = store_half(model.graph) if precision == "fp16" else model.graph
    return PoseModel(_with_hard_swish(_keeping_slices(graph)), model.spec, model.provenance)


def _keeping_slices(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Let slices in front of ``GatherElements`` start far before 0.

    OpenVINO (2026.4) takes a slice from 0 on for needless there, although the gathering may go along another axis, and
    then refuses its own graph.  It does not recognise a start that counts
    from the end; one that lies before the beginning is the beginning, by ONNX's definition.
    """
    gathered = {n.input[0] for n in graph.graph.node if n.op_type == "GatherElements"}
    if not any(n.op_type == "Slice" and n.output[0] in gathered for n in graph.graph.node):
        return graph
    draft = Draft(graph)
    for node in draft.graph.node:
        if node.op_type != "Slice" or node.output[0] not in gathered:
            continue
        starts = draft.constant(node.input[1])
        if starts is not None and not starts.any():
            node.input[1] = draft.add_constant(np.full_like(starts, _FIRST), f"{node.input[1]}.from_end")
    return draft.finish()


def _with_hard_swish(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Write x * HardSigmoid(x) as HardSwish, which OpenVINO (2026.4) computes with the layer before it, and in int8.

    It recognises other ways of writing it, not this one.
    """
    if not any(n.op_type == "HardSigmoid" for n in graph.graph.node):
        return graph
    draft = Draft(graph)
    if draft.opset < HARD_SWISH_OPSET:
        return graph
    uses = Wiring(draft.graph).uses
    gates = {n.output[0]: n.input[0] for n in draft.graph.node if _is_swish_gate(n) and uses.get(n.output[0]) == 1}
    for node in draft.graph.node:
        for gate, x in (node.input[:2], node.input[1::-1]) if node.op_type == "Mul" else ():
            if gates.get(gate) == x:
                node.op_type = "HardSwish"
                del node.input[:]
                node.input.append(x)
                break
    remove_dead(draft)
    return draft.finish()


def _is_swish_gate(node: onnx.NodeProto) -> bool:
    attributes = {a.name: a.f for a in node.attribute}
    slope, offset = attributes.get("alpha", 0.2), attributes.get("beta", 0.5)
    return node.op_type == "HardSigmoid" and abs(slope - 1 / 6) < 1e-6 and offset == 0.5


def _name_ports(network: Any, model: PoseModel) -> None:
    """Leave each input and output the one name that the graph has for it.

    A value that is passed through keeps the names of all its stages otherwise, in no order.
    """
    inputs = [i.name for i in model.graph.graph.input]
    weights = {t.name for t in model.graph.graph.initializer}
    wanted = [name for name in inputs if name not in weights]
    for ports, names in ((network.inputs, wanted), (network.outputs, [o.name for o in model.graph.graph.output])):
        for port, name in zip(ports, names, strict=True):
            if name not in port.get_names():
                raise ConversionError(f"OpenVINO has lost the name '{name}' of an input or output.")
            port.get_tensor().set_names({name})


def _name_layers(network: Any) -> None:
    """Name the layers that OpenVINO would number through the whole process, so that equal graphs give equal files."""
    for place, layer in enumerate(network.get_ordered_ops()):
        if layer.get_friendly_name() == layer.get_name():
            layer.set_friendly_name(f"{layer.get_type_name()}#{place}")


def _brief(error: Exception) -> str:
    """What OpenVINO says, without the places in its sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said or lines)[:400]
