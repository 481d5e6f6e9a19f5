"""What TensorRT's parser does: it takes a graph, or says what it does not take."""

from __future__ import annotations

import onnx
from onnx import TensorProto

from . import machine as state

_TYPES = {
    TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT8: "INT8", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.UINT8: "UINT8", TensorProto.BOOL: "BOOL",
}  # fmt: skip
_LAYERS = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "Relu": "ACTIVATION", "Sigmoid": "ACTIVATION",
    "Add": "ELEMENTWISE", "Mul": "ELEMENTWISE", "MaxPool": "POOLING", "Cast": "CAST", "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE", "Constant": "CONSTANT", "MatMul": "MATRIX_MULTIPLY",
}  # fmt: skip

#: Operators of ONNX for which NVIDIA's parser has no importer.
_MISSING = frozenset({"BitShift", "Det", "MaxUnpool", "StringNormalizer", "TfIdfVectorizer"})


class Thing:
    """What stands behind an object; ``shown_as`` is its class in the interface."""

    shown_as = ""

    def __init__(self, api):
        self.api = api
        state.machine.objects.add(self)

    def enum(self, name, member):
        return self.api.names[name].__members__[member]


def complain(logger, api, text):
    """Log an error as the library does."""
    logger.log(api.names["ILogger.Severity"].ERROR, text)


class Logger:
    """Only to be derived from."""


class Tensor(Thing):
    shown_as = "ITensor"

    def __init__(self, api, name, kind):
        super().__init__(api)
        self.name, self.dtype = name, self.enum("DataType", kind)


class Layer(Thing):
    shown_as = "ILayer"

    def __init__(self, api, node, kinds):
        super().__init__(api)
        known = api.names["LayerType"].__members__
        self.name, self.type = node.name, known.get(_LAYERS.get(node.op_type, "SHUFFLE"), known["SHUFFLE"])
        self.outputs = [Tensor(api, o, kinds.get(o, "FLOAT")) for o in node.output]
        self.num_outputs, self.precision = len(self.outputs), None

    def get_output(self, index):
        return self.outputs[index]


class Network(Thing):
    shown_as = "INetworkDefinition"

    def __init__(self, api, flags):
        super().__init__(api)
        self.flags, self.graph, self.layers, self.num_layers, self.name = flags, None, [], 0, ""

    def get_layer(self, index):
        return self.layers[index]

    def has(self, flag):
        known = self.api.names["NetworkDefinitionCreationFlag"].__members__
        return flag in known and bool(self.flags >> int(known[flag]) & 1)


class ParserError(Thing):
    shown_as = "ParserError"

    def __init__(self, api, place, node, code, text):
        super().__init__(api)
        self.values = {"node": place, "code": self.enum("ErrorCode", code), "desc": text}
        self.values |= {"node_name": node.name, "node_operator": node.op_type}

    def node(self):
        return self.values["node"]

    def code(self):
        return self.values["code"]

    def desc(self):
        return self.values["desc"]

    def node_name(self):
        return self.values["node_name"]

    def node_operator(self):
        return self.values["node_operator"]


class Parser(Thing):
    shown_as = "OnnxParser"

    def __init__(self, api, network, logger):
        super().__init__(api)
        self.network, self.logger, self.errors, self.num_errors = network, logger, [], 0

    def parse(self, model, path=None):
        if self.api.data["version"].startswith("8.") and not self.network.has("EXPLICIT_BATCH"):
            complain(self.logger, self.api, "[network.cpp::checkExplicit] the network must have an explicit batch")
            return False
        graph = onnx.load_model_from_string(bytes(model))
        kinds = _kinds(graph)
        for place, node in enumerate(graph.graph.node):
            text = _refused(graph, node, kinds)
            if text:
                code = "UNSUPPORTED_NODE" if "importer" in text else "INVALID_NODE"
                self.errors.append(ParserError(self.api, place, node, code, text))
        self.num_errors = len(self.errors)
        if not self.errors:
            self.network.graph = graph
            self.network.layers = [Layer(self.api, n, kinds) for n in graph.graph.node]
            self.network.num_layers = len(self.network.layers)
        return not self.errors

    def get_error(self, index):
        return self.errors[index]


def _kinds(graph):
    """Element type of each value."""
    inferred = onnx.shape_inference.infer_shapes(graph)
    values = (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    kinds = {v.name: _TYPES.get(v.type.tensor_type.elem_type, "FLOAT") for v in values}
    return kinds | {t.name: _TYPES.get(t.data_type, "FLOAT") for t in graph.graph.initializer}


def _refused(graph, node, kinds):
    """Why the parser does not take a node; what was seen of NVIDIA's own parser."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _MISSING:
        return f"No importer registered for op: {node.op_type}. Attempted to import as plugin."
    if node.op_type != "Cast" and any(kinds.get(i) == "UINT8" for i in node.input):
        return "first input has type UInt8 but must have type Float, Half, BFloat16, Int8, Int64, Int32, or Bool."
    constants = {t.name: t for t in graph.graph.initializer}
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        if node.op_type == "DequantizeLinear" and kinds.get(node.input[0]) == "INT32":
            return "input has type Int32 but must have type Int8 or FP8."
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero is not None and onnx.numpy_helper.to_array(zero).any():
            return "Assertion failed: non-zero zero point."
    return ""
