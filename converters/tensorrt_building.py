"""From ONNX to a plan through TensorRT's builder, whatever its version: what it has is asked of it, never its number.

The graph comes in the form of its precision: with float16 inside for ``fp16``, with Q/DQ nodes for ``int8``.  Builders
that are told by flags what they may do get the flags, and layers that the graph keeps in float32 are pinned to it;
builders without the flags take the types from the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import onnx

from edgepose.errors import ConversionError

from .tensorrt_options import BuildOptions
from .tensorrt_profiles import Shapes

_MEBIBYTE = 1 << 20
#: Layers whose arithmetic the builder chooses; others move data.
_ARITHMETIC = frozenset({
    "CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "FULLY_CONNECTED", "ELEMENTWISE", "ACTIVATION", "UNARY",
    "REDUCE", "SOFTMAX", "SCALE", "POOLING", "RESIZE", "NORMALIZATION", "PARAMETRIC_RELU", "TOPK",
})  # fmt: skip
_FLAGS = {"fp16": "FP16", "int8": "INT8"}
_HARDWARE = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
#: Problems of a graph that are told in full; the rest is counted.
_TOLD_PROBLEMS = 3


class VendorApi(Protocol):
    """A vendor's module with TensorRT's interface, as its runtime finds it.

    Attributes
    ----------
    module
        The module.
    title, version
        How to call it.
    logger
        What its objects are made with.
    """

    @property
    def module(self) -> Any: ...

    @property
    def title(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def logger(self) -> Any: ...

    def watch(self, thing: Any) -> Any:
        """An object of the module, which reports its errors from now on where the logger does not hear them."""
        ...

    def said(self) -> str:
        """The errors that it reported since this was asked last."""
        ...


@dataclass(frozen=True)
class Order:
    """What to build.

    Attributes
    ----------
    graph
        The ONNX file, in the form of its precision.
    precision
        ``fp32``, ``fp16`` or ``int8``.
    profile
        Smallest, usual and largest shape of each dynamic input.
    options
        The rest.
    """

    graph: bytes
    precision: str
    profile: Mapping[str, Shapes] = field(default_factory=dict)
    options: BuildOptions = field(default_factory=BuildOptions)


@dataclass(frozen=True)
class Built:
    """What was built.

    Attributes
    ----------
    plan
        The engine's file.
    facts
        What bounds its use: ``any_version``, ``any_gpu``, ``dla_core``.
    notes
        What the builder was told, a sentence each.
    """

    plan: bytes
    facts: Mapping[str, Any]
    notes: tuple[str, ...]


def build_plan(api: VendorApi, order: Order) -> Built:
    """Build a plan.

    Raises
    ------
    ConversionError
        If the parser or the builder refuses, or an option is not in this version.
    """
    trt = api.module
    try:
        builder = trt.Builder(api.logger)
    except (TypeError, RuntimeError) as error:  # what it raises without a driver
        raise ConversionError(f"{api.title} {api.version} cannot work here: {api.said()}.") from error
    flag = _FLAGS.get(order.precision)
    by_flag = flag is not None and hasattr(trt.BuilderFlag, flag)
    network, typed = _network(trt, builder, strongly_typed=not by_flag and flag is not None)
    parse_graph(api, network, order.graph, "Try another --opset, --embed none, or --simplify.", _problem)
    config = builder.create_builder_config()
    notes = [f"Built by {api.title} {api.version}."]
    if by_flag:
        config.set_flag(getattr(trt.BuilderFlag, str(flag)))
        notes.append(f"The builder was allowed {flag}.")
        if order.precision == "fp16" and order.options.dla_core is None:
            pinned = _pin_floats(trt, network, config)
            notes += [f"{pinned} layers that the graph keeps in float32 were pinned to it."] if pinned else []
    elif flag is not None and not typed:
        raise ConversionError(f"{api.title} {api.version} can build neither {flag} nor strongly typed networks.")
    elif typed:
        notes.append("The builder takes the element types from the graph.")
    if order.precision != "int8" and hasattr(trt.BuilderFlag, "TF32"):
        # Its products have ten bits for float32's twenty-three, and it is on by default.
        config.clear_flag(trt.BuilderFlag.TF32)
    notes += _apply(api, builder, config, order)
    _add_profile(api, builder, config, order.profile)
    with _timing_cache(api, config, order.options.timing_cache):
        made = builder.build_serialized_network(network, config)
    if made is None:
        raise ConversionError(f"{api.title} {api.version} cannot build the engine: {api.said()}.")
    facts = {
        "any_version": order.options.version_compatible,
        "any_gpu": order.options.hardware_compatible or "",
        "dla_core": order.options.dla_core,
    }
    return Built(bytes(made), facts, tuple(notes))


def _network(trt: Any, builder: Any, *, strongly_typed: bool) -> tuple[Any, bool]:
    """An empty network, and whether it takes its types from the graph."""
    known = trt.NetworkDefinitionCreationFlag
    bits = 0
    if hasattr(known, "EXPLICIT_BATCH"):
        bits |= 1 << int(known.EXPLICIT_BATCH)
    # Versions that have no precision flags are strongly typed, whether told so or not.
    typed = hasattr(known, "STRONGLY_TYPED") and (strongly_typed or not hasattr(trt.BuilderFlag, "FP16"))
    if typed:
        bits |= 1 << int(known.STRONGLY_TYPED)
    return builder.create_network(bits), typed


def parse_graph(api: VendorApi, network: Any, graph: bytes, hint: str, problem: Callable[[Any, Any], str]) -> None:
    """Give a graph to the vendor's parser.

    Parameters
    ----------
    api
        The vendor's software.
    network
        An empty network definition.
    graph
        The ONNX file.
    hint
        What to try if it is refused.
    problem
        Words for one error of the parser, from the error and the graph's nodes.

    Raises
    ------
    ConversionError
        If it is refused; the message names operators, nodes and reasons.
    """
    parser = api.module.OnnxParser(network, api.logger)
    if parser.parse(graph):
        return
    nodes = onnx.load_model_from_string(graph).graph.node
    problems = [problem(parser.get_error(i), nodes) for i in range(parser.num_errors)]
    told = "; ".join(dict.fromkeys(problems[:_TOLD_PROBLEMS])) or api.said()
    more = f" ({len(problems) - _TOLD_PROBLEMS} more)" if len(problems) > _TOLD_PROBLEMS else ""
    raise ConversionError(f"{api.title} {api.version} does not take the graph: {told}{more}.", hint=hint)


def _problem(error: Any, nodes: Any) -> str:
    """One error of the parser: operator, node and reason."""
    place = error.node()
    node = nodes[place] if 0 <= place < len(nodes) else None
    # Newer versions say it themselves.
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    name = error.node_name() if hasattr(error, "node_name") else ""
    operator, name = operator or (node.op_type if node else ""), name or (node.name if node else "")
    where = f"{operator} '{name}'" if operator else "the graph"
    return f"{where}: {' '.join(error.desc().split())} ({error.code().name})"


def _pin_floats(trt: Any, network: Any, config: Any) -> int:
    """Keep the layers in float32 whose results are float32 in the graph; how many there are."""
    if not hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"):
        return 0
    pinned = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in _ARITHMETIC and layer.get_output(0).dtype == trt.DataType.FLOAT:
            layer.precision = trt.DataType.FLOAT
            pinned += 1
    if pinned:
        config.set_flag(trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)
    return pinned


def _apply(api: VendorApi, builder: Any, config: Any, order: Order) -> Iterator[str]:
    """Carry out the options, each or none; gives what was done."""
    trt, options = api.module, order.options

    def need(present: bool, option: str) -> None:
        if not present:
            raise ConversionError(f"{api.title} {api.version} has no option {option}.", hint="Leave it out.")

    if options.workspace is not None:
        need(hasattr(trt, "MemoryPoolType") and hasattr(config, "set_memory_pool_limit"), "workspace")
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace * _MEBIBYTE)
        yield f"Layers may use {options.workspace} MiB of workspace."
    if options.version_compatible:
        need(hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"), "version_compatible")
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        yield "Newer versions take the engine too, with the runtime's option host_code=on."
    if options.hardware_compatible is not None:
        level = _HARDWARE[options.hardware_compatible]
        present = hasattr(trt, "HardwareCompatibilityLevel") and hasattr(trt.HardwareCompatibilityLevel, level)
        need(present, f"hardware_compatible={options.hardware_compatible}")
        config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
        yield f"Other GPUs take the engine too: {options.hardware_compatible}."
    if options.dla_core is not None:
        need(hasattr(trt, "DeviceType") and hasattr(trt.BuilderFlag, "GPU_FALLBACK"), "dla_core")
        cores = int(getattr(builder, "num_DLA_cores", 0))
        if options.dla_core >= cores:
            raise ConversionError(f"There is no DLA core {options.dla_core} here; {api.title} finds {cores}.")
        if order.precision == "fp32":
            raise ConversionError("A DLA computes in FP16 and INT8 only.", hint="Use --precision fp16.")
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
        yield f"Built for DLA core {options.dla_core}; what it cannot do runs on the GPU."


def _add_profile(api: VendorApi, builder: Any, config: Any, profile: Mapping[str, Shapes]) -> None:
    if not profile:
        return
    limits = builder.create_optimization_profile()
    try:
        for name, (least, usual, most) in profile.items():
            limits.set_shape(name, least, usual, most)
        place = config.add_optimization_profile(limits)
    except (ValueError, RuntimeError) as error:
        raise ConversionError(f"{api.title} {api.version} refuses the shapes {dict(profile)}: {error}.") from error
    if place < 0:
        raise ConversionError(f"{api.title} {api.version} refuses the shapes {dict(profile)}: {api.said()}.")


@contextlib.contextmanager
def _timing_cache(api: VendorApi, config: Any, file: str | None) -> Iterator[None]:
    """Use and update a timing cache."""
    if file is None:
        yield
        return
    if not hasattr(config, "create_timing_cache"):
        raise ConversionError(f"{api.title} {api.version} has no option timing_cache.", hint="Leave it out.")
    from edgepose.files import write_whole

    path = Path(file)
    try:
        known = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ConversionError(f"Cannot read the timing cache '{path}': {error.strerror or error}.") from error
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        raise ConversionError(
            f"{api.title} {api.version} refuses the timing cache '{path}': {api.said()}.",
            hint="It is from another version or GPU; give another file.",
        )
    yield
    write_whole(path, bytes(config.get_timing_cache().serialize()))
