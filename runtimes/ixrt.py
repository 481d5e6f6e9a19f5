"""ixRT on Iluvatar's cards, through the interface that it has from TensorRT; only calls that its vendor documents."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session

from .cuda import Cuda
from .ixrt_cuda import find_corex_cuda
from .options import choice, refuse_unknown
from .tensorrt_base import PlanRuntime
from .tensorrt_session import LoadedPlan, PlanSession

#: What ixRT reads to record its work as a CUDA graph by itself.
_GRAPH_VARIABLE = "IXRT_USE_CUDA_GRAPH"
_WHEEL = (
    "Install the wheel of ixRT that comes with the CoreX SDK (https://support.iluvatar.com) into this Python, and:"
    " export LD_LIBRARY_PATH=/usr/local/corex/lib64:$LD_LIBRARY_PATH"
)


class IxRtPlan(LoadedPlan):
    """A plan of ixRT on a card.  Where ixRT is not known to have a call, it is asked in the older way, or not."""

    def _new_context(self) -> Any:
        self._api.watch(self._engine)
        return self._api.watch(super()._new_context())

    def _profile_shapes(self, name: str) -> Sequence[Sequence[int]]:
        if hasattr(self._engine, "get_tensor_profile_shape"):
            return super()._profile_shapes(name)
        names = [self._engine.get_binding_name(i) for i in range(self._engine.num_bindings)]
        shapes: Sequence[Sequence[int]] = self._engine.get_profile_shape(0, names.index(name))
        return shapes

    def _check_storage(self, name: str) -> None:
        if hasattr(self._engine, "get_tensor_location") and hasattr(self._engine, "get_tensor_format"):
            super()._check_storage(name)


class IxRt(PlanRuntime):
    """Opens plans of ixRT, and recipes for them."""

    name = "ixrt"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"ixrt": (".engine",)})
    devices: Sequence[str] = ("mr-v100",)
    title = "ixRT"
    modules: Sequence[str] = ("ixrt", "tensorrt")
    corex = True
    remedies: Mapping[str, str] = MappingProxyType({"": _WHEEL})
    plan_type: type[LoadedPlan] = IxRtPlan

    def cuda(self) -> Cuda:
        """CoreX's CUDA; see :meth:`.tensorrt_base.PlanRuntime.cuda`."""
        return find_corex_cuda()

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`.  Says also where ixRT is here for another Python only."""
        found = super().probe(device)
        tool = shutil.which("ixrtexec")
        if found.available or found.found or tool is None:
            return found
        other = f" There is {tool}, so another Python has ixRT; run edgepose there, or install the wheel here too."
        return dataclasses.replace(found, remedy=found.remedy + other)

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.

        A recipe is carried out at the first time, which takes minutes, and its plan kept in the user's cache.

        Options
        -------
        cuda_graph : str
            ``on``: the work of a run is recorded and replayed, by ixRT itself, if the environment says so too.
            ``off`` (default): as the environment says.
        """
        refuse_unknown(self.title, options, ("cuda_graph",))
        wanted = choice(self.title, options, "cuda_graph", ("off", "on")) == "on"
        recorded = os.environ.get(_GRAPH_VARIABLE) == "1"
        if wanted and not recorded:
            # When ixRT reads it is not documented, so it must be there before anything of it is loaded.
            raise DeviceError(
                "ixRT records CUDA graphs by itself, when its process was started with that.",
                hint=f"export {_GRAPH_VARIABLE}=1   # and run the same command again",
            )
        try:
            session = super().open(engine, device, {})
        except (AttributeError, TypeError) as error:  # what a missing call or another signature is in pybind11
            raise DeviceError(
                f"This ixRT has another interface than its vendor's programs use: {error}.",
                hint="Report it with the file that this writes: edgepose selftest --device mr-v100",
            ) from error
        if recorded and isinstance(session, PlanSession):
            session.placement += f", {_GRAPH_VARIABLE}=1"
        return session
