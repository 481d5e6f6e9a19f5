"""What TensorRT's objects do: build a plan that holds the graph, and compute it on the machine's memory."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto

from . import machine as state
from .parsing import Layer, Logger, Network, Parser, ParserError, Tensor, Thing, complain
from .recorded import Dims, Interface

MAGIC = b"stand-in plan\n"


class HostMemory(Thing):
    shown_as = "IHostMemory"

    def __init__(self, api, data):
        super().__init__(api)
        self.data, self.nbytes, self.dtype = data, len(data), None

    def __bytes__(self):
        return self.data


class Profile(Thing):
    shown_as = "IOptimizationProfile"

    def __init__(self, api):
        super().__init__(api)
        self.shapes = {}

    def set_shape(self, name, least, usual, most):
        if not all(a <= b <= c for a, b, c in zip(least, usual, most, strict=True)):
            raise ValueError("Shape provided for min is inconsistent with other shapes.")
        self.shapes[name] = [list(least), list(usual), list(most)]


class TimingCache(Thing):
    shown_as = "ITimingCache"

    def __init__(self, api, data):
        super().__init__(api)
        self.data = data

    def serialize(self):
        return HostMemory(self.api, self.data)


class Config(Thing):
    shown_as = "IBuilderConfig"

    def __init__(self, api):
        super().__init__(api)
        self.set, self.pools, self.profiles, self.cache = {"TF32"}, {}, [], None
        self.DLA_core, self.hardware_compatibility_level = -1, None
        self.default_device_type = self.enum("DeviceType", "GPU")

    def set_flag(self, flag):
        self.set.add(flag.name)

    def clear_flag(self, flag):
        self.set.discard(flag.name)

    def get_flag(self, flag):
        return flag.name in self.set

    def set_memory_pool_limit(self, pool, size):
        self.pools[pool.name] = size

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, data):
        return TimingCache(self.api, bytes(data))

    def set_timing_cache(self, cache, ignore_mismatch):
        if cache.data and not cache.data.startswith(_stamp(self.api)) and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache


def _stamp(api):
    return f"timing cache of {api.data['version']} on {state.machine.gpus[0][0]}\n".encode()


class Builder(Thing):
    shown_as = "Builder"

    def __init__(self, api, logger):
        if not state.machine.driver and not api.data["source"].startswith("tensorrt-rtx"):
            complain(logger, api, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        super().__init__(api)
        self.logger, self.num_DLA_cores = logger, state.machine.dla_cores

    def create_network(self, flags=0):
        known = self.api.names["NetworkDefinitionCreationFlag"].__members__
        if flags >> len(known) and flags & ~sum(1 << int(f) for f in known.values()):
            state.machine.violation(f"create_network was given the flags {flags:b}, which this version has not")
        return Network(self.api, flags)

    def create_builder_config(self):
        return Config(self.api)

    def create_optimization_profile(self):
        return Profile(self.api)

    def build_serialized_network(self, network, config):
        problem = self._problem(network, config)
        if problem:
            complain(self.logger, self.api, problem)
            return None
        if config.cache is not None:
            config.cache.data = config.cache.data or _stamp(self.api) + b"tactics"
        level = config.hardware_compatibility_level
        head = {
            "version": self.api.data["version"],
            "gpu": state.machine.gpus[0][:2] if state.machine.gpus else None,
            "flags": sorted(config.set),
            "typed": network.has("STRONGLY_TYPED"),
            "pools": config.pools,
            "level": "NONE" if level is None else level.name,
            "dla": config.DLA_core if config.default_device_type.name == "DLA" else None,
            "profile": config.profiles[0].shapes if config.profiles else {},
            "pinned": [layer.name for layer in network.layers if layer.precision is not None],
        }
        return HostMemory(self.api, MAGIC + json.dumps(head).encode() + b"\n" + network.graph.SerializeToString())

    def _problem(self, network, config):
        if network.graph is None:
            return "the network has no layers"
        graph = network.graph.graph
        flags = self.api.names["BuilderFlag"].__members__
        typed = network.has("STRONGLY_TYPED") or "FP16" not in flags
        if typed and config.set & {"FP16", "INT8"}:
            return "precision flags are not allowed in a strongly typed network"
        halves = any(t.data_type == TensorProto.FLOAT16 for t in graph.initializer)
        if halves and not typed and "FP16" not in config.set:
            return "network has FP16 tensors and the builder flag FP16 is not set"
        if not typed and "INT8" not in config.set and any(n.op_type == "QuantizeLinear" for n in graph.node):
            return "Q/DQ layers need the builder flag INT8"
        names = {t.name for t in graph.initializer}
        for value in graph.input:
            free = any(not d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
            if value.name not in names and free and not any(value.name in p.shapes for p in config.profiles):
                return (
                    f"Network has dynamic or shape inputs ({value.name}), but no optimization profile has been defined."
                )
        if config.pools.get("WORKSPACE", 1 << 30) < 2 << 20:
            return "Could not find any implementation for a node: not enough workspace"
        if config.default_device_type.name == "DLA" and not config.set & {"FP16", "INT8"} and not typed:
            return "DLA needs FP16 or INT8"
        return ""


class Runtime(Thing):
    shown_as = "Runtime"

    def __init__(self, api, logger):
        super().__init__(api)
        if not state.machine.driver:
            state.machine.violation("a Runtime was made without a driver: what it does next is a crash")
        self.logger, self.DLA_core, self.engine_host_code_allowed = logger, -1, False

    def deserialize_cuda_engine(self, data):
        state.machine.counted["deserialize"] += 1
        if not bytes(data).startswith(MAGIC):
            complain(self.logger, self.api, "stdArchiveReader: Error Code 1: Serialization (magic tag does not match)")
            return None
        head, _, graph = bytes(data)[len(MAGIC) :].partition(b"\n")
        try:
            head = json.loads(head)
        except ValueError:
            complain(self.logger, self.api, "the plan is damaged")
            return None
        mobile = "VERSION_COMPATIBLE" in head["flags"]
        if head["version"] != self.api.data["version"] and not (mobile and self.engine_host_code_allowed):
            complain(self.logger, self.api, f"plan of version {head['version']}, this is {self.api.data['version']}")
            return None
        if mobile and not self.engine_host_code_allowed:
            complain(self.logger, self.api, "the plan has host code, which is not allowed")
            return None
        if head["dla"] is not None and self.DLA_core < 0:
            complain(self.logger, self.api, "the plan is for a DLA, and no DLA core was chosen")
            return None
        try:
            return Engine(self.api, head, graph, self.logger)
        except Exception:
            complain(self.logger, self.api, "the plan is damaged")
            return None


class Engine(Thing):
    shown_as = "ICudaEngine"

    def __init__(self, api, head, graph, logger):
        super().__init__(api)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 4, 1
        # The graph as it is: rewritten Q/DQ graphs round otherwise.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self.head, self.graph, self.logger = head, graph, logger
        self.inputs = {i.name: i for i in self.session.get_inputs()}
        self.ports = {**self.inputs, **{o.name: o for o in self.session.get_outputs()}}
        self.num_io_tensors, self.shapes = len(self.ports), {}
        self.num_optimization_profiles = 1

    def get_tensor_name(self, index):
        return list(self.ports)[index]

    def get_tensor_mode(self, name):
        return self.enum("TensorIOMode", "INPUT" if name in self.inputs else "OUTPUT")

    def get_tensor_shape(self, name):
        return Dims(d if isinstance(d, int) else -1 for d in self.ports[name].shape)

    def get_tensor_dtype(self, name):
        kind = self.ports[name].type
        names = {
            "tensor(float)": "FLOAT",
            "tensor(float16)": "HALF",
            "tensor(uint8)": "UINT8",
            "tensor(int64)": "INT64",
        }
        return self.enum("DataType", {**names, "tensor(int32)": "INT32"}[kind])

    def get_tensor_location(self, name):
        return self.enum("TensorLocation", "DEVICE")

    def get_tensor_format(self, name):
        return self.enum("TensorFormat", "LINEAR")

    def get_tensor_profile_shape(self, name, profile):
        assert profile == 0
        return [Dims(s) for s in self.head["profile"][name]]

    def create_execution_context(self):
        state.machine.counted["context"] += 1
        if state.machine.failing.get("context") == state.machine.counted["context"]:
            complain(self.logger, self.api, "Requested amount of GPU memory could not be allocated")
            return None
        return Context(self.api, self)

    def run(self, feeds):
        return dict(zip([o.name for o in self.session.get_outputs()], self.session.run(None, feeds), strict=True))

    def numpy_type(self, name):
        return {"float": "float32", "double": "float64"}.get(k := self.ports[name].type[7:-1], k)


class Context(Thing):
    shown_as = "IExecutionContext"

    def __init__(self, api, engine):
        super().__init__(api)
        self.engine, self.addresses = engine, {}
        self.given = {n: tuple(engine.get_tensor_shape(n)) for n in engine.inputs}

    def set_input_shape(self, name, shape):
        limits = self.engine.head["profile"].get(name)
        fixed = self.engine.get_tensor_shape(name)
        low, high = (limits[0], limits[2]) if limits else (fixed, fixed)
        if len(shape) != len(low) or not all(a <= d <= b for a, d, b in zip(low, shape, high, strict=True)):
            complain(
                self.engine.logger, self.api, f"Static dimension mismatch while setting input shape {tuple(shape)}"
            )
            return False
        self.given[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name):
        if name in self.given:
            return Dims(self.given[name])
        if any(d < 0 for shape in self.given.values() for d in shape):
            return self.engine.get_tensor_shape(name)
        return Dims(self._shapes()[name])

    def set_tensor_address(self, name, address):
        if name not in self.engine.ports:
            complain(self.engine.logger, self.api, f"there is no tensor {name}")
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream):
        state.machine.counted["execute"] += 1
        missing = set(self.engine.ports) - set(self.addresses)
        if missing or any(d < 0 for shape in self.given.values() for d in shape):
            complain(self.engine.logger, self.api, f"not all addresses or shapes are set: {missing}")
            return False
        if state.machine.failing.get("execute") == state.machine.counted["execute"]:
            complain(self.engine.logger, self.api, "Cuda Runtime (an illegal memory access was encountered)")
            return False
        given, shapes, addresses = dict(self.given), self._shapes(), dict(self.addresses)

        def work():
            feeds = {}
            for name, shape in given.items():
                kind = np.dtype(self.engine.numpy_type(name))
                size = int(np.prod(shape)) * kind.itemsize
                block = state.machine.block(addresses[name], size)
                if block is None:
                    return
                feeds[name] = np.frombuffer(bytes(block[:size]), kind).reshape(shape)
            for name, array in self.engine.run(feeds).items():
                assert array.shape == tuple(shapes[name])
                block = state.machine.block(addresses[name], array.nbytes)
                if block is not None:
                    block[: array.nbytes] = np.ascontiguousarray(array).tobytes()

        return state.machine.enqueue(stream, work) == (0,)

    def _shapes(self):
        """Shapes of the outputs for the shapes of the inputs that are set."""
        key = tuple(sorted(self.given.items()))
        if key not in self.engine.shapes:
            self.engine.shapes[key] = _inferred(self.engine.graph, self.given) or self._computed()
        return self.engine.shapes[key]

    def _computed(self):
        feeds = {n: np.zeros(s, self.engine.numpy_type(n)) for n, s in self.given.items()}
        return {n: a.shape for n, a in self.engine.run(feeds).items()}


def _inferred(graph, given):
    """Shapes of the outputs as far as ONNX can tell them; None if it cannot tell all."""
    graph = onnx.load_model_from_string(graph)
    del graph.graph.value_info[:]
    for value in graph.graph.input:
        for dimension, length in zip(value.type.tensor_type.shape.dim, given.get(value.name, ()), strict=False):
            dimension.dim_value = length
    for value in graph.graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes = {}
    for value in onnx.shape_inference.infer_shapes(graph, data_prop=True).graph.output:
        found = value.type.tensor_type
        if not found.HasField("shape") or not all(d.HasField("dim_value") for d in found.shape.dim):
            return None
        shapes[value.name] = tuple(d.dim_value for d in found.shape.dim)
    return shapes


_BEHAVIOUR = {
    t.shown_as: t
    for t in (
        Builder, Config, Context, Engine, HostMemory, Layer, Network, Parser, ParserError, Profile, Runtime, Tensor,
        TimingCache,
    )
} | {"ILogger": Logger}  # fmt: skip


def make(version):
    """The interface of a version, alive."""
    return Interface(version, _BEHAVIOUR)
