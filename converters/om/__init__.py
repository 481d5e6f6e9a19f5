"""OM for Ascend 310, 310P and 310B, through CANN's compiler ``atc``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepose.errors import ConversionError
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe
from edgepose.quantization.scheme import LAYERS, Scheme
from edgepose.spec import PoseSpec

from . import aipp, log
from .graph import is_dynamic_batch, prepared, shapes_of
from .invocation import AIR, ONNX, Invocation
from .process import run_group
from .settings import DEFAULT_SOC, Settings, checked
from .toolchain import Toolchain, find, release, soc_here

ENGINE = "model.om"
GRAPH = "model.onnx"
AIPP = "aipp.cfg"
SCRIPT = "atc.sh"
RECORD = "atc.json"
#: Seconds that a compilation may take; operators that are not in CANN's binary packages are compiled one by one.
_PATIENCE = 3600.0
_INSTALL = (
    "Install the CANN toolkit (a machine without the device will do) and set its environment:"
    " source /usr/local/Ascend/ascend-toolkit/set_env.sh. Or write what a machine with CANN needs, with --option"
    " recipe=on."
)
_NOT_RUN = "Not run on hardware: no Ascend device has run what this version of edgepose compiles."


class OmConverter:
    """Lets ``atc`` compile the graph, or writes all that it needs (``recipe``).

    fp16 computes in half precision.  fp32 is compiled only if every kernel of the device computes in fp32; where
    convolutions do not, ``atc`` says so.  int8 hands ``atc`` a calibrated Q/DQ graph.
    """

    name = "om"
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
    #: Its quantising operator wants int8, its convolutions weights without zero point and a scale per channel.
    scheme: Scheme | None = Scheme(
        activations="int8", symmetric=True, bias="float", deconvolution="float", operators=LAYERS
    )
    #: Endings of files that are compiled as they are, without becoming an ONNX graph.
    sources: Sequence[str] = (".air",)

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`."""
        looked_for = "atc, the compiler of CANN, on the path or in its installation"
        found = find()
        if found is None:
            return Probe(False, looked_for, remedy=_INSTALL)
        told = f"atc of CANN {found.version or 'of unknown version'} ({found.program})"
        if found.lacking:
            return Probe(False, looked_for, f"{told}, without its environment", f"Set it: {found.remedy}")
        return Probe(True, looked_for, told)

    def needs_tools(self, options: Mapping[str, Any]) -> bool:
        """A recipe needs nothing."""
        return not checked(options).recipe

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`.

        Options
        -------
        soc_version : str
            ``Ascend310``, ``Ascend310P3``, ``Ascend310B4``, ...; by default that of the card here, else ``Ascend310``.
        dynamic_batch_size : str
            Batch sizes to choose from, ``1,2,4,8``; by default a dynamic batch becomes 1.
        dynamic_image_size : str
            Heights and widths to choose from, ``256,192;384,288``, for a network that takes any.
        aipp : str
            ``on``: the image unit does colour order and normalisation, and the engine takes uint8 BGR pixels.
        opset : int
            By default 11, which all versions of CANN read; newer where the graph needs it.
        cann : str
            Version of CANN that compiles, where it is not here or cannot be told.
        recipe : str
            ``on``: write the graph, the AIPP file and the command line instead of compiling.
        """
        settings = checked(options)
        self._check_precision(precision)
        tool = None if settings.recipe else _tool()
        version = _version(settings, tool)
        graph = prepared(model.graph, precision, settings, release(version))
        names = [o.name for o in graph.graph.output]
        files = [GRAPH]
        if settings.aipp:
            self._check_aipp(settings)
            (folder / AIPP).write_text(aipp.configuration(model.spec.input), encoding="ascii")
            files.append(AIPP)
        (folder / GRAPH).write_bytes(graph.SerializeToString(deterministic=True))
        invocation = Invocation(
            ONNX,
            GRAPH,
            settings.soc or soc_here() or DEFAULT_SOC,
            precision,
            shapes_of(graph, settings, model.spec.input.layout),
            settings.batches,
            settings.sizes,
            AIPP if settings.aipp else "",
            model.spec.input.layout,
        )
        notes = [_NOT_RUN]
        if is_dynamic_batch(model.graph) and not settings.batches:
            notes.append("Compiled for a batch of 1; for more, give --option dynamic_batch_size=1,2,4,8.")
        if precision == "int8":
            notes.append(
                "atc was given the Q/DQ graph. CANN documents INT8 arithmetic for graphs that its own tool AMCT has"
                " rewritten; whether it computes this one in INT8 or dequantises first is not known here."
            )
        if settings.aipp:
            notes.append("The image unit normalises in half precision.")
        spec = model.spec.replace(input=aipp.raw(model.spec.input)) if settings.aipp else None
        return self._written(folder, invocation, tool, version, names, files, notes, spec)

    def convert_file(
        self, source: Path, spec: PoseSpec, folder: Path, precision: str, options: Mapping[str, Any]
    ) -> Conversion:
        """Compile a file of another framework as it is: AIR, which MindSpore exports on Ascend.

        Parameters
        ----------
        source
            The file.
        spec
            Its contract.
        folder, precision, options
            As for :meth:`convert`; an AIR file has its shapes and operators within, so that only ``soc_version``,
            ``aipp``, ``cann`` and ``recipe`` are left to choose.

        Raises
        ------
        ConversionError
            If it cannot be compiled.
        """
        settings = checked(options)
        self._check_precision(precision)
        if source.suffix.lower() not in self.sources:
            raise ConversionError(f"'{source}' is no AIR file; ONNX graphs are converted as checkpoints.")
        if settings.batches or settings.sizes or settings.opset:
            raise ConversionError(
                "An AIR file has its shapes and operators within.",
                hint="Leave dynamic_batch_size, dynamic_image_size and opset out.",
            )
        if precision == "int8":
            raise ConversionError("An AIR file is compiled as it is, not quantised.", hint="Use --precision fp16.")
        tool = None if settings.recipe else _tool()
        name = "model.air"
        try:
            shutil.copyfile(source, folder / name)
        except OSError as error:
            raise ConversionError(f"Cannot read '{source}': {error.strerror or error}.") from error
        files = [name]
        if settings.aipp:
            (folder / AIPP).write_text(aipp.configuration(spec.input), encoding="ascii")
            files.append(AIPP)
        invocation = Invocation(
            AIR, name, settings.soc or soc_here() or DEFAULT_SOC, precision, aipp=AIPP if settings.aipp else ""
        )
        # The file's order of several outputs is not known here; their names are those that atc gives them.
        outputs = list(spec.decoder.outputs.values()) if len(spec.decoder.outputs) == 1 else []
        changed = spec.replace(input=aipp.raw(spec.input)) if settings.aipp else None
        version = _version(settings, tool)
        return self._written(folder, invocation, tool, version, outputs, files, [_NOT_RUN], changed)

    def _written(
        self,
        folder: Path,
        invocation: Invocation,
        tool: Toolchain | None,
        version: str,
        outputs: Sequence[str],
        files: Sequence[str],
        notes: Sequence[str],
        spec: PoseSpec | None,
    ) -> Conversion:
        record = {
            "soc_version": invocation.soc,
            "cann": version,
            "outputs": list(outputs),
            "arguments": invocation.arguments(),
        }
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        tools = {"cann": version} if version else {}
        if tool is None:
            (folder / SCRIPT).write_text(invocation.script(), encoding="utf-8")
            told = f"Not compiled yet: run sh {SCRIPT} in the bundle's folder on a machine with CANN."
            return Conversion(files[0], (*files, RECORD, SCRIPT), tools, (*notes, told), spec)
        self._compile(folder, invocation, tool)
        for name in files:
            (folder / name).unlink()
        return Conversion(ENGINE, (ENGINE, RECORD), tools, tuple(notes), spec)

    @staticmethod
    def _compile(folder: Path, invocation: Invocation, tool: Toolchain) -> None:
        called = f"atc (CANN {tool.version or 'of unknown version'})"
        work = folder / ".atc"
        work.mkdir()
        try:
            for name in (invocation.model, invocation.aipp):
                if name:
                    shutil.copyfile(folder / name, work / name)
            command = [tool.program, *invocation.arguments()]
            try:
                code, said = run_group(command, None, _PATIENCE, work)
            except OSError as error:
                raise ConversionError(f"Cannot run '{tool.program}': {error.strerror or error}.") from error
            written = work / ENGINE
            if code != 0 or not written.is_file() or not written.stat().st_size:
                raise log.failure(code, said, invocation.precision, called, tool.remedy)
            # It is written for its owner to read only.
            written.chmod(0o644)
            written.replace(folder / ENGINE)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _check_precision(self, precision: str) -> None:
        if precision not in self.precisions:
            raise ConversionError(f"OM is compiled in {', '.join(self.precisions)}, not in {precision}.")

    @staticmethod
    def _check_aipp(settings: Settings) -> None:
        if settings.batches or settings.sizes:
            raise ConversionError(
                "The image unit is set up for one shape, not for profiles.",
                hint="Leave out 'aipp', or dynamic_batch_size and dynamic_image_size.",
            )


def _version(settings: Settings, tool: Toolchain | None) -> str:
    """The version of CANN that compiles, as it says itself, else as the user does; empty if nobody does.

    Raises
    ------
    ConversionError
        If the two differ.
    """
    own = tool.version if tool is not None else ""
    if own and settings.cann and release(own) != release(settings.cann):
        raise ConversionError(
            f"The compiler here is that of CANN {own}, not {settings.cann}.",
            hint="Leave the option 'cann' out, or prepare for the other one with --option recipe=on.",
        )
    return own or settings.cann


def _tool() -> Toolchain:
    """The compiler, ready to be run.

    Raises
    ------
    ConversionError
        If it is not here, or its environment is not set.
    """
    tool = find()
    if tool is None:
        raise ConversionError("atc, the compiler of CANN, is not here.", hint=_INSTALL)
    if tool.lacking:
        raise ConversionError(
            f"The environment of '{tool.program}' is not set: there is no {', '.join(tool.lacking)}.",
            hint=f"Set it: {tool.remedy}",
        )
    return tool
