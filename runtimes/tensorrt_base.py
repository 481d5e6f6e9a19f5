"""What the runtimes with TensorRT's interface have in common: finding software and GPU, opening plans and recipes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, cast

from edgepose.devices import Device
from edgepose.errors import ConversionError, DeviceError, PluginError
from edgepose.files import write_whole
from edgepose.plugins import Probe, Session, converter

from .cuda import Cuda, find_cuda
from .options import choice, refuse_unknown
from .tensorrt_api import NotFound, VendorApi, find_api
from .tensorrt_plans import Place, Record, cache_folder, cached_plan, read_record
from .tensorrt_session import LoadedPlan, Loading, PlanSession

_OPTIONS = ("cuda_graph", "host_code")
#: Ending of the recipes that converters write where the vendor's software is not.
RECIPE_ENDING = ".recipe.json"
#: Bytes.  No plan of a pose network is larger, and it is read into memory at once.
_MAX_PLAN_BYTES = 4 << 30

_log = logging.getLogger("edgepose.tensorrt")


class PlanBuilder(Protocol):
    """What the converter of a target does here: it reads recipes and carries them out."""

    def recipe_hash(self, recipe: Path) -> str:
        """Hash of a recipe and its graph, both checked."""
        ...

    def build_recipe(self, recipe: Path, api: VendorApi) -> tuple[bytes, Mapping[str, Any], Sequence[str]]:
        """Build: the plan, what its record says beside the place, and notes."""
        ...


class PlanRuntime:
    """Opens plans.  Subclasses say of which vendor.

    Attributes
    ----------
    name, targets, devices
        See :class:`edgepose.plugins.Runtime`.
    title
        The vendor's name for its software.
    modules
        Python modules that have it, the preferred one first.
    corex
        Whether it is Iluvatar's.
    remedies
        Kind of device -> where the software comes from; the entry ``""`` for any other.
    portable
        Whether plans run on other GPUs than the one that they were built on.
    plan_type
        What opens plans.
    """

    name = ""
    targets: Mapping[str, Sequence[str]] = MappingProxyType({})
    devices: Sequence[str] = ()
    title = ""
    modules: Sequence[str] = ()
    corex = False
    remedies: Mapping[str, str] = MappingProxyType({"": ""})
    portable = False
    plan_type: type[LoadedPlan] = LoadedPlan

    def api(self) -> VendorApi:
        """The vendor's module.

        Raises
        ------
        DeviceError
            If it is not here.
        """
        try:
            return find_api(self.title, self.modules, corex=self.corex)
        except NotFound as error:
            raise DeviceError(f"{self.title} is not here: {error}.", hint=self.remedies[""]) from error

    def cuda(self) -> Cuda:
        """CUDA's runtime.

        Raises
        ------
        DeviceError
            If it is not here.
        """
        return find_cuda()

    def place(self, index: int = 0) -> Place:
        """What a plan that is built on GPU ``index`` now is bound to.

        Raises
        ------
        DeviceError
            If the software or the GPU is not here.
        """
        return self._place(self.api(), index)

    def record(self, index: int, facts: Mapping[str, Any], rebuild: str) -> str:
        """The record to be written beside a plan that was built here.

        Parameters
        ----------
        index
            Number of the GPU.
        facts
            ``any_version``, ``any_gpu`` and ``dla_core`` of :class:`.tensorrt_plans.Record`.
        rebuild
            The command that makes it anew.
        """
        return Record(self._place(self.api(), index), **facts, rebuild=rebuild).to_json()

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = f"Python module {' or '.join(self.modules)}, CUDA's runtime, a GPU"
        remedy = self.remedies.get(device or "", self.remedies[""])
        try:
            api = find_api(self.title, self.modules, corex=self.corex)
        except NotFound as error:
            return Probe(False, looked_for, remedy=f"{error}. {remedy}")
        found = f"{api.title} {api.version}"
        try:
            cuda = self.cuda()
            count = cuda.device_count()
        except DeviceError as error:
            return Probe(False, looked_for, found, " ".join(filter(None, (error.message, error.hint))))
        return Probe(True, looked_for, f"{found}, {count} GPU(s) through {cuda.source}")

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        A recipe is carried out at the first time, which takes minutes, and its plan kept in the user's cache.

        Options
        -------
        cuda_graph : str
            ``on``: the work of a run is recorded once and replayed, which saves the launches; plans with fixed shapes
            only.  ``off`` (default).
        host_code : str
            ``on``: a version-compatible plan may bring a library of its own, which is code from its file; only for
            plans that you trust.  ``off`` (default).
        """
        if device.name not in self.devices:
            raise DeviceError(
                f"{self.title} cannot use the device '{device}'.", hint=f"Use --device {self.devices[0]}."
            )
        refuse_unknown(self.title, options, _OPTIONS)
        record_graph = choice(self.title, options, "cuda_graph", ("off", "on")) == "on"
        host_code = choice(self.title, options, "host_code", ("off", "on")) == "on"
        api, cuda = self.api(), self.cuda()
        gpu = cuda.gpu(device.index)
        cuda.call("cudaSetDevice", device.index)
        here = self._place(api, device.index)
        path, record = self._plan_of(engine, here, api)
        if record is not None:
            record.check(here, path)
        plan = self._load(api, cuda, device.index, path, record, host_code)
        try:
            if record_graph:
                plan.record()
            ports = [", ".join(f"{p.info.name} {p.info.dtype}" for p in side) for side in (plan.inputs, plan.outputs)]
            graph = ", CUDA graph" if record_graph else ""
            told = f"{api.title} {api.version} on {gpu}, {ports[0]} -> {ports[1]}, through {cuda.source}{graph}"
            return PlanSession(plan, str(engine), told)
        except BaseException:
            plan.close()
            raise

    def _place(self, api: VendorApi, index: int) -> Place:
        if self.portable:
            return Place(api.title, api.version)
        return Place(api.title, api.version, self.cuda().gpu(index))

    def _plan_of(self, engine: Path, here: Place, api: VendorApi) -> tuple[Path, Record | None]:
        """The plan to open: the file itself, or what comes of the recipe that it is."""
        if not engine.name.endswith(RECIPE_ENDING):
            return engine, read_record(engine)
        try:
            builder = cast(PlanBuilder, converter(self.name))
        except PluginError as error:
            raise DeviceError(f"'{engine}' must be built here first. {error.message}", hint=error.hint) from error
        plan = cached_plan(here, builder.recipe_hash(engine))
        if not plan.is_file():
            _make_folder(plan.parent)
            _log.warning("Building '%s' for %s; this takes minutes, once.", engine, here)
            try:
                data, facts, notes = builder.build_recipe(engine, api)
            except ConversionError as error:
                raise DeviceError(f"'{engine}' cannot be built here: {error.message}", hint=error.hint) from error
            write_whole(plan.with_name(plan.name + ".json"), Record(here, **facts).to_json().encode())
            write_whole(plan, data)
            _log.warning("Kept as '%s'. %s", plan, " ".join(notes))
        return plan, read_record(plan)

    def _load(
        self, api: VendorApi, cuda: Cuda, index: int, path: Path, record: Record | None, host_code: bool
    ) -> LoadedPlan:
        try:
            if path.stat().st_size > _MAX_PLAN_BYTES:
                raise DeviceError(f"'{path}' has {path.stat().st_size} bytes; no plan of a pose network is so large.")
            data = path.read_bytes()
        except OSError as error:
            raise DeviceError(f"Cannot read '{path}': {error.strerror or error}.") from error
        remedy = "Plans are bound to the version and the GPU that they were built with: convert again, here."
        if path.parent == cache_folder():
            remedy = f"Remove '{path}'; it is built anew then."
        loading = Loading(index, None if record is None else record.dla_core, host_code, remedy)
        return self.plan_type(api, cuda, data, str(path), loading)


def _make_folder(folder: Path) -> None:
    """Make the cache's folder, before minutes are spent on what would go there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "it is not ours to write to"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise DeviceError(
            f"Engines that are built here are kept in '{folder}', and that cannot be written: {problem}.",
            hint="Name another folder with the environment variable XDG_CACHE_HOME.",
        )
