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
from edgepose.quantization.data import CalibrationSet, calibration_set

from ..uint8_inputs import cast_first
from . import ascend
from .cell import PYTHON as MINDSPORE_PYTHON
from .cell import export_cell
from .file import mindir_pieces
from .full_quant import CONFIG, MOST, full_quant_config, write_package
from .int8_weights import store_int8
from .mslite import PYTHON as LITE_PYTHON
from .mslite import convert_by_lite
from .operators import lower
from .proof import Run, prove

ENGINE = "model.mindir"
_INT8_OPTIONS = ("skip_quant_node", "calibration", "images")
_OPTIONS = ("mindir_version", *ascend.OPTIONS, *_INT8_OPTIONS, "via")
_ASCEND_NOTE = "Compiled for Ascend, and runs nowhere else. Not run on hardware."
_INT8_NOTES = (
    "INT8 weights only: they are stored as bytes with a scale for each output channel and computed with as float32, so"
    " this is a quarter of the size and no faster than FP32.",
    f"INT8 arithmetic on Ascend needs a host with CANN: '{CONFIG}' is the configuration for MindSpore Lite's converter"
    " there, and says how to use it. It was not run on hardware.",
)
#: Before it, Softmax took all later axes as one.
_OLDEST_OPSET = 13
_NEWEST_OPSET = 17


class MindIrConverter:
    """Writes MindIR: by itself (version 1), through MindSpore (version 3) or through MindSpore Lite's converter.

    FP16 and INT8 are how the weights of convolutions and matrix products are stored; they are computed with as float32.
    Beside an INT8 file lies the configuration with which MindSpore Lite's own converter makes INT8 for Ascend, on a
    host with CANN.
    """

    name = "mindir"
    precisions: Sequence[str] = ("fp32", "fp16", "int8")
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
        optimize : str
            With ``via=mslite``: ``ascend_oriented`` compiles for Ascend, on a host with CANN.
        soc_version : str
            With ``ascend_oriented``: for which SoC; by default that of the host.
        skip_quant_node : str
            For INT8: names of nodes, with commas between, that stay float on Ascend.
        calibration, images : path
            For INT8 on Ascend: pictures, a COCO JSON with the folder of its pictures, or a video.  The configuration
            comes in a folder with the float network and at most 500 inputs for calibration then.
        """
        version, via = _chosen(options)
        if precision not in self.precisions:
            raise ConversionError(f"MindIR is written in {', '.join(self.precisions)}, not in {precision}.")
        target = ascend.chosen(options, via, precision)
        if via and precision != "fp32" and target is None:
            raise ConversionError(
                "MindSpore Lite's converter ignores half precision in MindIR files, and its INT8 files do not run.",
                hint="Leave 'via' out, or use --precision fp32.",
            )
        skipped = _skipped(options, precision)
        notes = []
        graph = fixed_graph(model.graph)
        if any(_is_dynamic(model.graph)):
            notes.append("Written for a batch of 1.")
        if precision == "fp16" and target is None:
            graph = store_half(graph)
            notes.append("Weights are stored as float16 and computed with as float32.")
        floats = PoseModel(graph, model.spec)
        if precision == "int8":
            config = full_quant_config(graph, skipped)
            graph = store_int8(graph).graph
            notes += _INT8_NOTES
        program = lower(graph, keep_stored=precision != "fp32")
        engine = folder / ENGINE
        tools: dict[str, str] = {}
        runtimes: tuple[str, ...] = ("mindspore-lite", "mindspore")
        if via:
            tool, tools_version = convert_by_lite(graph, program, engine, target)
            tools, runtimes = {tool: tools_version}, ("mindspore-lite",)
        elif version == 3:
            tools, runtimes = {"mindspore": export_cell(program, engine)}, ("mindspore",)
        else:
            with open(engine, "wb") as stream:
                stream.writelines(mindir_pieces(program))
        files = [ENGINE]
        if precision == "int8" and "calibration" in options:
            files += write_package(floats, _calibration(model, options), folder, skipped)
        elif precision == "int8":
            (folder / CONFIG).write_text(config)
            files.append(CONFIG)
        told = _told(prove(engine, graph, runtimes)) if target is None else (_ASCEND_NOTE,)
        return Conversion(ENGINE, tuple(files), tools, (*notes, *told))


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
    if _picks_bytes(fixed):
        fixed = cast_first(fixed)
    for value in real_inputs(fixed.graph):
        if not all(isinstance(d, int) for d in shape_of(value) or (None,)):
            raise ConversionError(
                f"The input '{value.name}' has no fixed height and width, and MindIR is written for one size.",
                hint="Give it with --input-size HxW.",
            )
    return fixed


def _picks_bytes(graph: onnx.ModelProto) -> bool:
    """Whether more is done with uint8 inputs than turning and casting them.

    MindSpore Lite turns bytes and has no other operator for them; the same input cast first and turned then it loads in
    some networks only.
    """
    grey = {v.name for v in real_inputs(graph.graph) if v.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    for node in graph.graph.node:
        if node.op_type == "Transpose" and node.input[0] in grey:
            grey.update(node.output)
        elif node.op_type != "Cast" and grey.intersection(node.input):
            return True
    return False


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


def _skipped(options: Mapping[str, Any], precision: str) -> list[str]:
    given = [name for name in _INT8_OPTIONS if name in options]
    if given and precision != "int8":
        raise ConversionError(f"The option '{given[0]}' is for INT8.", hint="Use --precision int8, or leave it out.")
    return [name.strip() for name in str(options.get("skip_quant_node", "")).split(",") if name.strip()]


def _calibration(model: PoseModel, options: Mapping[str, Any]) -> CalibrationSet:
    return calibration_set(options["calibration"], model.spec, images=options.get("images"), limit=MOST)


def _told(runs: list[Run]) -> tuple[str, ...]:
    return tuple(map(str, runs)) or ("Not executed: neither MindSpore nor MindSpore Lite is here.",)
