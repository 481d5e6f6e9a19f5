"""What ixRT's objects do, where they are not TensorRT's."""

from __future__ import annotations

import json
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx
from nvidia_stand_in import engine as theirs
from nvidia_stand_in import machine as state
from nvidia_stand_in.engine import HostMemory, Profile, Thing, TimingCache
from nvidia_stand_in.recorded import Interface
from onnx import TensorProto

MAGIC = b"stand-in plan of ixRT\n"
#: Operators that its documentation says it has not.
_MISSING = frozenset({"If", "Loop", "DynamicQuantizeLinear", "Silu", "Det"})
#: The newest opset that its public samples were made with.
_NEWEST_OPSET = 17


class Logger:
    """Prints; nothing else is known of it."""

    shown_as = "Logger"

    def __init__(self, api, severity):
        self.severity = severity

    def log(self, severity, text):
        if int(severity) <= int(self.severity):
            print(f"[IXRT][{severity.name}]: {text}", file=sys.stderr)


class Recorder:
    """Only to be derived from."""

    shown_as = "IErrorRecorder"

    def __init__(self, api):
        pass


class Heard:
    """A logger that tells the recorder of its owner too."""

    def __init__(self, owner, logger):
        self.owner, self.logger = weakref.ref(owner), logger

    def log(self, severity, text):
        self.logger.log(severity, text)
        owner = self.owner()
        if owner is not None and owner.error_recorder is not None:
            owner.error_recorder.report_error(owner.enum("ErrorCodeTRT", "UNSPECIFIED_ERROR"), text)


class Network(theirs.Network):
    error_recorder = None
    num_inputs = 1


class Parser(Thing):
    shown_as = "OnnxParser"

    def __init__(self, api, network, logger):
        super().__init__(api)
        self.network, self.errors, self.num_errors = network, [], 0

    def parse_from_file(self, model):
        return self.parse(Path(model).read_bytes())

    def parse(self, model):
        graph = onnx.load_model_from_string(bytes(model))
        if not self.network.has("EXPLICIT_BATCH"):
            self.errors = ["the network must have an explicit batch"]
        elif graph.opset_import[0].version > _NEWEST_OPSET:
            self.errors = [f"opset {graph.opset_import[0].version} is not supported"]
        else:
            problems = ((node, _refused(graph, node)) for node in graph.graph.node)
            self.errors = [f"{n.name or n.output[0]}: {text}" for n, text in problems if text]
        self.num_errors = len(self.errors)
        if not self.errors:
            self.network.graph, self.network.num_layers = graph, len(graph.graph.node)
        return not self.errors

    def get_error(self, index):
        """Something that can be printed."""
        return self.errors[index]


def _refused(graph, node):
    """Why a node is not taken: no importer, or quantisation that is not symmetric int8."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _MISSING:
        return f"unsupported operator: {node.op_type}"
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return ""
    constants = {t.name: t for t in graph.graph.initializer}
    stored = constants.get(node.input[0])
    if stored is not None and stored.data_type != TensorProto.INT8:
        return "stored values must be int8"
    zero = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None or zero.data_type != TensorProto.INT8 or onnx.numpy_helper.to_array(zero).any():
        return "only symmetric int8 is supported"
    channels = onnx.numpy_helper.to_array(constants[node.input[1]]).size
    axis = any(a.name == "axis" for a in node.attribute)
    if axis and stored is None:
        return "only the DequantizeLinear of an initializer may have an axis"
    return "scales per channel need an axis" if channels > 1 and not axis else ""


class Config(Thing):
    shown_as = "IBuilderConfig"

    def __init__(self, api):
        super().__init__(api)
        self.set, self.profiles, self.cache = set(), [], None

    def set_flag(self, flag):
        self.set.add(flag.name)

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        if len(self.profiles) > 1:
            state.machine.violation("ixRT crashes with more than one optimisation profile")
        return len(self.profiles) - 1

    create_timing_cache = theirs.Config.create_timing_cache
    set_timing_cache = theirs.Config.set_timing_cache
    get_timing_cache = theirs.Config.get_timing_cache


class Builder(Thing):
    shown_as = "Builder"
    error_recorder = None

    def __init__(self, api, logger):
        if not state.machine.driver:
            logger.log(api.names["ILogger.Severity"].ERROR, "no device is found")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(api)
        self.logger = Heard(self, logger)

    create_optimization_profile = theirs.Builder.create_optimization_profile

    def create_network(self, flags=0):
        known = self.api.names["NetworkDefinitionCreationFlag"].__members__
        if flags & ~sum(1 << int(f) for f in known.values()):
            state.machine.violation(f"create_network was given the flags {flags:b}, which ixRT has not")
        return Network(self.api, flags)

    def create_builder_config(self):
        return Config(self.api)

    def build_serialized_network(self, network, config):
        problem = self._problem(network, config)
        if problem:
            theirs.complain(self.logger, self.api, problem)
            return None
        if config.cache is not None:
            config.cache.data = config.cache.data or theirs._stamp(self.api) + b"algorithms"
        typed = network.has("STRONGLY_TYPED")
        head = {
            "version": self.api.data["version"],
            "flags": sorted(config.set),
            "typed": typed,
            "opset": network.graph.opset_import[0].version,
            "profile": config.profiles[0].shapes if config.profiles else {},
        }
        graph = _rounded(network.graph) if "FP16" in config.set else network.graph
        return HostMemory(self.api, MAGIC + json.dumps(head).encode() + b"\n" + graph.SerializeToString())

    def _problem(self, network, config):
        if network.graph is None:
            return "the network has no layers"
        graph, typed = network.graph.graph, network.has("STRONGLY_TYPED")
        if typed and config.set & {"FP16", "INT8", "BF16"}:
            return "precision flags are not allowed in a strongly typed network"
        if any(t.data_type == TensorProto.FLOAT16 for t in graph.initializer) and not typed:
            return "half precision tensors need a strongly typed network"
        if any(n.op_type == "QuantizeLinear" for n in graph.node) != ("INT8" in config.set):
            return "the flag INT8 and Q/DQ layers belong together"
        names = {t.name for t in graph.initializer}
        for value in graph.input:
            free = any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
            if value.name not in names and free and not any(value.name in p.shapes for p in config.profiles):
                return f"the input {value.name} is dynamic and has no profile"
        return ""


def _rounded(graph):
    """The graph with weights as half precision has them; what the flag allows, in small."""
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    for tensor in made.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
    return made


class Runtime(Thing):
    shown_as = "Runtime"
    error_recorder = None

    def __init__(self, api, logger):
        super().__init__(api)
        if not state.machine.driver:
            state.machine.violation("a Runtime was made without a driver: what it does next is not known")
        self.printer, self.logger = logger, Heard(self, logger)

    def deserialize_cuda_engine(self, data):
        state.machine.counted["deserialize"] += 1
        head, _, graph = bytes(data)[len(MAGIC) :].partition(b"\n")
        try:
            head = json.loads(head) if bytes(data).startswith(MAGIC) else {}
        except ValueError:
            head = {}
        if head.get("version") != self.api.data["version"]:
            failed = "h->version == IXRT_VERSION" if head else "h->magic == IXRT_MAGIC_NUMBER"
            theirs.complain(
                self.logger, self.api, f"[engine.cc:182 (IsEngineVerified) ] condition check failed at:{failed}"
            )
            return None
        try:
            return Engine(self.api, head, graph, self.printer)
        except Exception:
            theirs.complain(self.logger, self.api, "the plan is damaged")
            return None


class Engine(theirs.Engine):
    error_recorder = None

    def __init__(self, api, head, graph, logger):
        super().__init__(api, head, graph, logger)
        self.logger, self.num_bindings = Heard(self, logger), self.num_io_tensors

    def get_binding_name(self, index):
        return self.get_tensor_name(index)

    def get_profile_shape(self, profile, binding):
        return self.get_tensor_profile_shape(self.get_tensor_name(binding), profile)

    def create_execution_context(self):
        made = super().create_execution_context()
        return None if made is None else Context(self.api, self)


class Context(theirs.Context):
    error_recorder = None


_BEHAVIOUR = {
    t.shown_as: t
    for t in (
        Builder, Config, Context, Engine, HostMemory, Logger, Network, Parser, Profile, Recorder, Runtime, TimingCache,
    )
} | {"ILogger": object}  # fmt: skip


def make(version):
    """The module's names, alive, in a version of ixRT."""
    made = Interface("documented", _BEHAVIOUR, "ixrt")
    made.data["version"] = version
    severities = made.names["ILogger.Severity"].__members__
    for name, value in severities.items():
        setattr(made.names["Logger"], name, value)
    for name, item in made.names.items():
        if "." not in name:
            item.__module__ = "ixrt._C"
    return made
