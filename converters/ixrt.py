"""ixRT plans for Iluvatar's MR-V100: built here where ixRT and a card are, else on the device when they are loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgepose.errors import ConversionError, DeviceError, PluginError
from edgepose.files import write_whole
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe

from .ixrt_building import build_engine
from .ixrt_graph import ixrt_form
from .ixrt_tool import build_with_tool, find_tool
from .tensorrt_base import RECORD_ENDING, PlanConverter
from .tensorrt_building import Built, Order, VendorApi
from .tensorrt_options import BuildOptions, read_options

_NOT_RUN = "Not run on hardware: no MR-V100 has run what this version of edgepose builds."


class IxRtConverter(PlanConverter):
    """Writes plans of ixRT, or recipes for them.

    fp16 is the float32 graph with ixRT free to compute in half precision, its vendor's way; with the option
    ``strongly_typed`` it is a graph in half precision whose sensitive layers stay float32.  int8 is a graph with
    symmetric Q/DQ nodes, in which the layers whose results are decoded stay float.
    """

    name = "ixrt"
    title = "ixRT"
    options: Sequence[str] = (
        "min_batch", "opt_batch", "max_batch", "min_size", "opt_size", "max_size", "timing_cache", "strongly_typed",
        "via", "build",
    )  # fmt: skip

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`.  Says also where there is nothing but the command-line tool."""
        found = super().probe()
        tool = find_tool()
        if not tool:
            return found
        return dataclasses.replace(found, found=f"{found.found}; {tool}, with the option via=ixrtexec")

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`; for the options :class:`.tensorrt_options.BuildOptions`.

        With ``via=ixrtexec`` the vendor's command-line tool builds, which may belong to another Python.
        """
        read = read_options(self.title, options, self.options)
        if read.strongly_typed and precision == "int8":
            raise ConversionError(
                "ixRT is told by flags that it may compute a Q/DQ graph in int8; a strongly typed network has none.",
                hint="Leave the option strongly_typed out.",
            )
        if read.via == "api":
            done = super().convert(model, folder, precision, options)
        else:
            done = self._by_tool(model, folder, precision, options)
        return dataclasses.replace(done, notes=(*done.notes, _NOT_RUN))

    def _form(self, model: PoseModel, precision: str, options: BuildOptions) -> tuple[PoseModel, tuple[str, ...]]:
        return ixrt_form(model, precision, strongly_typed=options.strongly_typed)

    def _built(self, api: VendorApi, order: Order) -> Built:
        return build_engine(api, order)

    def _by_tool(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        order, told = self._order(model, precision, options)
        if order.options.build == "on-device":
            raise ConversionError(
                "ixrtexec builds here, and the engine was to be built on the device.", hint="Leave one option out."
            )
        built = build_with_tool(order, folder)
        write_whole(folder / self.engine, built.plan)
        files, tools = [self.engine], {"onnx": version("onnx")}
        try:
            # Where this Python has ixRT too, it says what the plan is bound to.
            opener = self._opener()
            record = opener.record(0, built.facts, f"{self._command(model, precision)} --option via=ixrtexec")
            tools[self.name] = opener.api().version
            write_whole(folder / (self.engine + RECORD_ENDING), record.encode())
            files.append(self.engine + RECORD_ENDING)
        except (DeviceError, PluginError):
            told = (*told, "For which version of ixRT the engine was built is not known here.")
        return Conversion(self.engine, tuple(files), tools, (*built.notes, *told))
