"""What the targets with TensorRT's builder have in common: the graph's form, building here or writing a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

from edgepose.errors import ConversionError, DeviceError, InputError, PluginError
from edgepose.files import write_whole
from edgepose.graph.half import compute_half, widen_stored
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe, runtime
from edgepose.quantization.scheme import Scheme

from .sample_feeds import sample_feeds
from .tensorrt_building import Built, Order, VendorApi, build_plan
from .tensorrt_options import BuildOptions, read_options
from .tensorrt_profiles import check_profile, profile_shapes
from .uint8_inputs import cast_first

RECIPE_FORMAT = "edgepose.recipe"
RECIPE = "model.recipe.json"
GRAPH = "model.onnx"
RECORD_ENDING = ".json"
_VERSION = 1
_MAX_RECIPE_BYTES = 1 << 20

#: What TensorRT and its relatives take: symmetric int8 everywhere, and no bias in int32.
SYMMETRIC = Scheme(activations="int8", symmetric=True, per_channel=True, bias="float")


class PlanOpener(Protocol):
    """The runtime of the same name, which knows where the vendor's software and the GPU are."""

    def api(self) -> VendorApi:
        """The vendor's module; a DeviceError if it is not here."""
        ...

    def place(self, index: int = 0) -> object:
        """Software and GPU; a DeviceError if one is not here."""
        ...

    def record(self, index: int, facts: Mapping[str, Any], rebuild: str) -> str:
        """The record to be written beside a plan that was built here."""
        ...


class PlanConverter:
    """Writes plans, or recipes for them.  Subclasses say of which vendor.

    Attributes
    ----------
    name, precisions, scheme
        See :class:`edgepose.plugins.Converter`.
    title
        The vendor's name for its software.
    engine
        Name of the plan's file.
    options
        Options that the target has.
    late
        Whether a plan can be built later, when it is loaded on the device.
    """

    name = ""
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
    scheme: Scheme | None = SYMMETRIC
    title = ""
    engine = "model.engine"
    options: Sequence[str] = ()
    late = True

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`.  Where the software is not here, the device will build."""
        looked_for = f"{self.title} and a GPU" if self.late else self.title
        try:
            return Probe(True, looked_for, str(self._opener().place()))
        except (DeviceError, PluginError) as error:
            if self.late:
                return Probe(True, looked_for, f"none; engines are built on the device ({error.message})")
            return Probe(False, looked_for, remedy=error.hint or error.message)

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`; for the options :class:`.tensorrt_options.BuildOptions`."""
        order, told = self._order(model, precision, options)
        opener = self._builder_here(order.options)
        if opener is None:
            return self._recipe(folder, order, told)
        api = opener.api()
        built = self._built(api, order)
        write_whole(folder / self.engine, built.plan)
        record = self.engine + RECORD_ENDING
        write_whole(folder / record, opener.record(0, built.facts, self._command(model, precision)).encode())
        tools = {self.name: api.version, "onnx": version("onnx")}
        return Conversion(self.engine, (self.engine, record), tools, (*built.notes, *told))

    def recipe_hash(self, recipe: Path) -> str:
        """Hash of a recipe and its graph.

        Raises
        ------
        InputError
            If one is damaged.
        """
        data = self._read_recipe(recipe)
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def build_recipe(self, recipe: Path, api: VendorApi) -> tuple[bytes, Mapping[str, Any], Sequence[str]]:
        """Carry out a recipe.

        Parameters
        ----------
        recipe
            Its file.
        api
            The vendor's module.

        Returns
        -------
        tuple
            The plan, what bounds its use (see :class:`.tensorrt_building.Built`) and notes.

        Raises
        ------
        InputError
            If it is damaged.
        ConversionError
            If it cannot be built.
        """
        data = self._read_recipe(recipe)
        options = read_options(self.title, data["options"], self.options)
        graph = (recipe.parent / data["graph"]).read_bytes()
        built = self._built(api, Order(graph, data["precision"], check_profile(data["profile"]), options))
        return built.plan, built.facts, built.notes

    def _order(self, model: PoseModel, precision: str, options: Mapping[str, Any]) -> tuple[Order, tuple[str, ...]]:
        """What to build, and what the user should know of it."""
        if precision not in self.precisions:
            raise ConversionError(f"{self.title} is built in {', '.join(self.precisions)}, not in {precision}.")
        read = read_options(self.title, options, self.options)
        profile = profile_shapes(model, read, list(options))
        ready, kept = self._form(model, precision, read)
        shapes = [
            f"'{name}' may be {list(least)} to {list(most)}, best {list(usual)}."
            for name, (least, usual, most) in profile.items()
        ]
        return Order(ready.to_bytes(), precision, profile, read), (*kept, *shapes)

    def _form(self, model: PoseModel, precision: str, options: BuildOptions) -> tuple[PoseModel, tuple[str, ...]]:
        """The graph in the form that the builder takes, and what the user should know of it."""
        return in_form(model, precision)

    def _built(self, api: VendorApi, order: Order) -> Built:
        """Build the engine."""
        return build_plan(api, order)

    def _opener(self) -> PlanOpener:
        return cast(PlanOpener, runtime(self.name))

    def _builder_here(self, options: BuildOptions) -> PlanOpener | None:
        """Who knows the software and the GPU, if it is to be built here."""
        if options.build == "on-device":
            return None
        try:
            opener = self._opener()
            opener.place()
        except (DeviceError, PluginError) as error:
            if options.build == "here" or not self.late:
                raise ConversionError(f"The engine cannot be built here: {error.message}", hint=error.hint) from error
            return None
        return opener

    def _recipe(self, folder: Path, order: Order, notes: Sequence[str]) -> Conversion:
        if order.options.timing_cache is not None:
            raise ConversionError(
                "A timing cache is a file of the machine that builds, and the engine will be built on the device.",
                hint="Leave the option timing_cache out.",
            )
        data = {
            "format": RECIPE_FORMAT,
            "version": _VERSION,
            "target": self.name,
            "graph": GRAPH,
            "sha256": hashlib.sha256(order.graph).hexdigest(),
            "precision": order.precision,
            "profile": order.profile,
            "options": order.options.built(),
        }
        write_whole(folder / GRAPH, order.graph)
        write_whole(folder / RECIPE, (json.dumps(data, indent=1) + "\n").encode())
        told = f"Not built here: {self.title} builds the engine on the device when it is loaded for the first time."
        return Conversion(RECIPE, (RECIPE, GRAPH), {"onnx": version("onnx")}, (told, *notes))

    def _read_recipe(self, recipe: Path) -> dict[str, Any]:
        try:
            if recipe.stat().st_size > _MAX_RECIPE_BYTES:
                raise InputError(f"'{recipe}' is too large for a recipe.")
            data = json.loads(recipe.read_bytes())
            if not isinstance(data, dict) or (data["format"], data["version"]) != (RECIPE_FORMAT, _VERSION):
                raise InputError(f"'{recipe}' is no recipe that this edgepose reads.")
            if data["target"] != self.name or data["precision"] not in self.precisions:
                raise InputError(f"'{recipe}' is a recipe for {data['target']} in {data['precision']}.")
            if not isinstance(data["options"], dict) or Path(data["graph"]).name != data["graph"]:
                raise InputError(f"'{recipe}' is not well formed.")
            if "timing_cache" in data["options"]:  # it would be written, wherever it is
                raise InputError(f"'{recipe}' names a file outside the bundle.")
            check_profile(data["profile"])
            found = hashlib.sha256((recipe.parent / data["graph"]).read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"Cannot read '{error.filename}': {error.strerror or error}.") from error
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise InputError(f"'{recipe}' is damaged: {error!r}.", hint="Copy the bundle again.") from error
        if found != data["sha256"]:
            raise InputError(
                f"'{recipe}' belongs to another graph than '{data['graph']}'.", hint="Copy the bundle again."
            )
        return data

    def _command(self, model: PoseModel, precision: str) -> str:
        checkpoint = str(model.provenance.get("checkpoint") or "CHECKPOINT")
        return f"edgepose convert {checkpoint} --to {self.name} --precision {precision}"


def in_form(model: PoseModel, precision: str) -> tuple[PoseModel, tuple[str, ...]]:
    """The graph in the form of its precision (that of ``int8`` arrives in it), and what stays float32 in ``fp16``."""
    graph = cast_first(widen_stored(model.graph))
    kept: tuple[str, ...] = ()
    if precision == "fp16":
        half = compute_half(graph, sample_feeds(model))
        graph, kept = half.graph, _by_reason(half.kept)
    return PoseModel(graph, model.spec, model.provenance), kept


def _by_reason(kept: Sequence[str]) -> tuple[str, ...]:
    """What stays float32, a sentence for each reason in place of one for each operator."""
    operators: dict[str, list[str]] = {}
    for line in kept:
        operator, _, rest = line.partition(", ")
        operators.setdefault(rest.rpartition(":")[0], []).append(operator)
    return tuple(f"Stays float32, {reason}: {', '.join(names)}." for reason, names in operators.items())
