"""From ONNX to a plan through ixRT's builder, with the calls and flags that its vendor's own programs use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepose.errors import ConversionError
from edgepose.files import write_whole

from .tensorrt_building import Built, Order, VendorApi, parse_graph
from .tensorrt_profiles import Shapes

#: Precision -> flags; what is left in float of an INT8 graph is computed in half precision, as the vendor has it.
_FLAGS: Mapping[str, tuple[str, ...]] = {"fp32": (), "fp16": ("FP16",), "int8": ("INT8", "FP16")}
#: Nothing of ixRT outlives its version, and it was not tried whether a plan outlives its card.
FACTS: Mapping[str, Any] = {"any_version": False, "any_gpu": "", "dla_core": None}


def build_engine(api: VendorApi, order: Order) -> Built:
    """Build a plan.

    Raises
    ------
    ConversionError
        If the parser or the builder refuses, or an option is not in this version.
    """
    try:
        builder = api.watch(api.module.Builder(api.logger))
    except (TypeError, RuntimeError) as error:  # what a constructor of pybind11 raises
        raise ConversionError(f"{api.title} {api.version} cannot work here: {api.said()}.") from error
    try:
        return _built(api, builder, order)
    except (AttributeError, TypeError) as error:  # what a missing call or another signature is in pybind11
        raise ConversionError(
            f"{api.title} {api.version} has another interface than its vendor's programs use: {error}.",
            hint="Report it; the vendor's tool may do, with the option via=ixrtexec.",
        ) from error


def _built(api: VendorApi, builder: Any, order: Order) -> Built:
    ixrt = api.module
    network = api.watch(builder.create_network(_network_bits(api, typed=order.options.strongly_typed)))
    parse_graph(api, network, order.graph, "Try --embed none, or --simplify.", _problem)
    config = builder.create_builder_config()
    notes = [f"Built by {api.title} {api.version}."]
    if order.options.strongly_typed:
        notes.append("The builder takes the element types from the graph.")
    else:
        for flag in _FLAGS[order.precision]:
            if not hasattr(ixrt.BuilderFlag, flag):
                raise ConversionError(f"{api.title} {api.version} cannot build {order.precision}: it has no {flag}.")
            config.set_flag(getattr(ixrt.BuilderFlag, flag))
            notes.append(f"The builder was allowed {flag}.")
    _add_profile(api, builder, config, order.profile)
    with _timing_cache(api, config, order.options.timing_cache):
        made = builder.build_serialized_network(network, config)
    if made is None:
        raise ConversionError(f"{api.title} {api.version} cannot build the engine: {api.said()}.")
    return Built(bytes(made), FACTS, tuple(notes))


def _network_bits(api: VendorApi, *, typed: bool) -> int:
    known = api.module.NetworkDefinitionCreationFlag
    bits = 1 << int(known.EXPLICIT_BATCH)
    if typed:
        if not hasattr(known, "STRONGLY_TYPED"):
            raise ConversionError(f"{api.title} {api.version} has no option strongly_typed.", hint="Leave it out.")
        bits |= 1 << int(known.STRONGLY_TYPED)
    return bits


def _problem(error: Any, nodes: Any) -> str:
    """One error of the parser.  It is known that it can be printed; what TensorRT's has beside is told if it has it."""
    place = int(error.node()) if hasattr(error, "node") else -1
    where = f"{nodes[place].op_type} '{nodes[place].name}': " if 0 <= place < len(nodes) else ""
    said = error.desc() if hasattr(error, "desc") else error
    return where + " ".join(str(said).split())


def _add_profile(api: VendorApi, builder: Any, config: Any, profile: Mapping[str, Shapes]) -> None:
    """The only profile: with a second one, ixRT was seen to crash."""
    if not profile:
        return
    limits = builder.create_optimization_profile()
    try:
        for name, shapes in profile.items():
            limits.set_shape(name, *(list(shape) for shape in shapes))
        place = config.add_optimization_profile(limits)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConversionError(f"{api.title} {api.version} refuses the shapes {dict(profile)}: {error}.") from error
    # The vendor's programs do not look at what it gives; a negative number would be a refusal.
    if isinstance(place, int) and place < 0:
        raise ConversionError(f"{api.title} {api.version} refuses the shapes {dict(profile)}: {api.said()}.")


@contextmanager
def _timing_cache(api: VendorApi, config: Any, file: str | None) -> Iterator[None]:
    """Use and update a timing cache."""
    if file is None:
        yield
        return
    path = Path(file)
    try:
        known = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise ConversionError(f"Cannot read the timing cache '{path}': {error.strerror or error}.") from error
    cache = config.create_timing_cache(known)
    # Likewise; False would be a refusal.
    if cache is None or config.set_timing_cache(cache, False) is False:
        raise ConversionError(
            f"{api.title} {api.version} refuses the timing cache '{path}': {api.said()}.",
            hint="It is from another version or card; give another file.",
        )
    yield
    write_whole(path, bytes(config.get_timing_cache().serialize()))
