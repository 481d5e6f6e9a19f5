"""MindIR for MindSpore and MindSpore Lite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import opset_of
from edgepose.graph.feeds import real_inputs
from edgepose.graph.half import store_half
from edgepose.graph.inference import shape_of
from edgepose.graph.passes import optimise
from edgepose.interpreters import find_interpreter
from edgepose.model import PoseModel
from edgepose.plugins import Conversion, Probe

from .cell import PYTHON as MINDSPORE_PYTHON
from .cell import export_cell
from .file import mindir_pieces
from .mslite import PYTHON as LITE_PYTHON
from .mslite import convert_by_lite
from .operators import lower
from .proof import Run, prove

ENGINE = "model.mindir"
_OPTIONS = ("mindir_version", "via")
#: Before it, Softmax took all later axes as one.
_OLDEST_OPSET = 13
_NEWEST_OPSET = 17


class MindIrConverter:
    """Writes MindIR: by itself (version 1), through MindSpore (version 3) or through MindSpore Lite's converter.

    FP16 is how the weights of convolutions and matrix products are stored; they are computed with as float32.
    """

    name = "mindir"
    precisions: Sequence[str] = ("fp32", "fp16")
    scheme = None

    def probe(self) -> Probe:
        """See :meth:`edgepose.plugins.Converter.probe`."""
        found = ["edgepose's own writer"]
        for package, variable in (("mindspore", MINDSPORE_PYTHON), ("mindspore_lite", LITE_PYTHON)):
            interpreter = find_interpreter(package, variable)
            if interpreter is not None:
                found.append(f"{package.replace('_', '-')} {interpreter.version}")
        return Probe(True, "nothing; MindSpore and MindSpore Lite to run what is written", ", ".join(found))

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """See :meth:`edgepose.plugins.Converter.convert`.

        MindIR is written for one batch and size: a dynamic batch becomes 1.

        Options
        -------
        mindir_version : int
            1, which MindSpore and MindSpore Lite from 2.0 on read (default), or 3, which MindSpore writes and MindSpore
            from 2.3 on reads.
        via : str
            ``mslite``: MindSpore Lite's converter writes, and MindSpore Lite alone reads.
        """
        version, via = _chosen(options)
        if precision not in self.precisions:
            raise ConversionError(f"MindIR is written in {', '.join(self.precisions)}, not in {precision}.")
        if via and precision != "fp32":
            raise ConversionError(
                "MindSpore Lite's converter ignores half precision in MindIR files.",
                hint="Leave 'via' out, or use --precision fp32.",
            )
        notes = []
        graph = fixed_graph(model.graph)
        if any(_is_dynamic(model.graph)):
            notes.append("Written for a batch of 1.")
        if precision == "fp16":
            graph = store_half(graph)
            notes.append("Weights are stored as float16 and computed with as float32.")
        program = lower(graph, keep_half=precision == "fp16")
        engine = folder / ENGINE
        tools: dict[str, str] = {}
        runtimes: tuple[str, ...] = ("mindspore-lite", "mindspore")
        if via:
            tool, tools_version = convert_by_lite(graph, program, engine)
            tools, runtimes = {tool: tools_version}, ("mindspore-lite",)
        elif version == 3:
            tools, runtimes = {"mindspore": export_cell(program, engine)}, ("mindspore",)
        else:
            with open(engine, "wb") as stream:
                stream.writelines(mindir_pieces(program))
        runs = prove(engine, graph, runtimes)
        return Conversion(ENGINE, (ENGINE,), tools, (*notes, *_told(runs)))


def fixed_graph(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The graph simplified, with a batch of 1 where it is dynamic, in an opset that the operator table is for.

    Raises
    ------
    ConversionError
        If its height or width is dynamic.
    """
    opset = min(max(opset_of(graph), _OLDEST_OPSET), _NEWEST_OPSET)
    batch = 1 if any(_is_dynamic(graph)) else None
    fixed = optimise(graph, opset=None if opset == opset_of(graph) else opset, batch=batch)
    for value in real_inputs(fixed.graph):
        if not all(isinstance(d, int) for d in shape_of(value) or (None,)):
            raise ConversionError(
                f"The input '{value.name}' has no fixed height and width, and MindIR is written for one size.",
                hint="Give it with --input-size HxW.",
            )
    return fixed


def _is_dynamic(graph: onnx.ModelProto) -> list[bool]:
    """For each input, whether its batch is dynamic."""
    return [not isinstance((shape_of(value) or (None,))[0], int) for value in real_inputs(graph.graph)]


def _chosen(options: Mapping[str, Any]) -> tuple[int, str | None]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConversionError(
            f"The target 'mindir' has no option {', '.join(unknown)}.", hint=f"Options: {', '.join(_OPTIONS)}."
        )
    version, via = str(options.get("mindir_version", 1)), options.get("via")
    if version not in ("1", "3"):
        raise ConversionError(f"The option 'mindir_version' is {version!r}; edgepose writes 1 and 3.")
    if via not in (None, "mslite"):
        raise ConversionError(f"The option 'via' is {via!r}; the one way around edgepose's own writer is 'mslite'.")
    if via and version != "1":
        raise ConversionError("MindSpore Lite's converter writes version 1; choose one of 'via' and 'mindir_version'.")
    return int(version), via


def _told(runs: list[Run]) -> tuple[str, ...]:
    return tuple(map(str, runs)) or ("Not executed: neither MindSpore nor MindSpore Lite is here.",)
