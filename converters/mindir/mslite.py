"""MindIR by MindSpore Lite's own converter."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import Draft
from edgepose.graph.passes import optimise
from edgepose.graph.passes.wiring import attributes_of, set_attribute
from edgepose.interpreters import find_interpreter
from edgepose.lifeline import run

from . import ascend
from .file import ports_message
from .program import Program

#: Names a Python that has MindSpore Lite.
PYTHON = "EDGEPOSE_MSLITE_PYTHON"
#: What its ONNX parser knows at most; HardSwish, which is of opset 14, it does not.
_OPSET = 13
_PATIENCE = 1200
_CONV = {"strides": (1, 1), "dilations": (1, 1), "pads": (0, 2)}
#: Attributes of convolutions with the number that they are by default, and how many there are for each axis.
_WRITTEN_OUT = {"Conv": _CONV, "ConvTranspose": {**_CONV, "output_padding": (0, 1)}}
# Run by MindSpore Lite's Python, which may be 3.7, with how to optimise and the configuration file, if there is one.
_SCRIPT = """
import sys
import mindspore_lite
converter = mindspore_lite.Converter()
converter.save_type = mindspore_lite.ModelType.MINDIR
converter.optimize = sys.argv[1]
converter.convert(mindspore_lite.FmkType.ONNX, "network.onnx", "network", "", *sys.argv[2:])
"""


def convert_by_lite(
    graph: onnx.ModelProto, program: Program, engine: Path, target: ascend.Target | None = None
) -> tuple[str, str]:
    """Let MindSpore Lite write ``engine``.

    Parameters
    ----------
    graph
        The graph, of fixed batch and size.
    program
        Its inputs and outputs.
    engine
        The file to write.
    target
        The Ascend device to compile for; None for a network that runs anywhere.

    Returns
    -------
    tuple of str
        The tool and its version.

    Raises
    ------
    ConversionError
        If the converter is not here or refuses.
    """
    command, tool, version = _tool(target is not None)
    folder = engine.with_name(".mindspore-lite")
    folder.mkdir()
    try:
        (folder / "network.onnx").write_bytes(legalise(graph).SerializeToString(deterministic=True))
        if target is not None:
            shapes = {i.name: i.shape for i in program.inputs}
            (folder / ascend.CONFIG).write_text(target.config(shapes), encoding="ascii")
        code, said = run(command, {"GLOG_v": "2", **os.environ}, _PATIENCE, folder)
        written = folder / "network.mindir"
        if code != 0 or not written.is_file():
            raise ConversionError(
                f"{tool} {version} does not convert the graph: {_reason(said)}", hint=_hint(said, target)
            )
        written.chmod(0o644)  # it is written for reading only
        with open(written, "ab") as stream:
            # Messages that follow each other are one message: this adds the names that the converter does not keep.
            stream.writelines(ports_message(program).pieces)
        written.replace(engine)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tool, version


def legalise(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Write a graph in the words that MindSpore Lite's ONNX parser knows.

    It refuses to read ``dilations`` of a pooling, even where they say nothing, and operators newer than opset 13.  Of
    convolutions it wants every attribute written out: it reads those without, and writes what cannot be loaded.
    """
    draft = Draft(optimise(graph, opset=_OPSET))
    for node in draft.graph.node:
        if node.op_type in _WRITTEN_OUT:
            weights = draft.constant(node.input[1])
            rank = 2 if weights is None else weights.ndim - 2
            given = attributes_of(node)
            for name, (number, each) in _WRITTEN_OUT[node.op_type].items():
                if given.get(name) is None and not (name == "pads" and given.get("auto_pad")):
                    set_attribute(node, name, [number] * (each * rank))
            if given.get("kernel_shape") is None and weights is not None:
                set_attribute(node, "kernel_shape", list(weights.shape[2:]))
        if node.op_type in ("MaxPool", "AveragePool") and attributes_of(node).get("dilations") is not None:
            if set(node_dilations(node)) != {1}:
                raise ConversionError(f"'{node.name}' ({node.op_type}): MindSpore's pooling has no dilations.")
            set_attribute(node, "dilations", None)
    return draft.finish()


def node_dilations(node: onnx.NodeProto) -> list[int]:
    """The node's dilations."""
    return [int(d) for a in node.attribute if a.name == "dilations" for d in a.ints]


def _tool(for_ascend: bool) -> tuple[list[str], str, str]:
    optimize = ascend.ORIENTED if for_ascend else "none"
    program = shutil.which("converter_lite")
    if program is not None:
        options = ("--fmk=ONNX", "--modelFile=network.onnx", "--outputFile=network", "--saveType=MINDIR")
        more = ["--inputDataFormat=NCHW", f"--configFile={ascend.CONFIG}"] if for_ascend else []
        return [program, *options, f"--optimize={optimize}", *more], "converter_lite", ""
    interpreter = find_interpreter("mindspore_lite", PYTHON)
    if interpreter is None:
        raise ConversionError(
            f"MindSpore Lite's converter is not here: neither converter_lite on the path nor a Python with"
            f" mindspore_lite that {PYTHON} names.",
            hint="Leave 'via' out: edgepose writes MindIR without it.",
        )
    more = [ascend.CONFIG] if for_ascend else []
    return [interpreter.program, "-c", _SCRIPT, optimize, *more], "mindspore-lite", interpreter.version


def _hint(said: str, target: ascend.Target | None) -> str | None:
    if target is None:
        return None
    missing = re.search(r"(lib\w+\.so): cannot open shared object file", said)
    if missing:
        return (
            f"{missing.group(1)} is a part of CANN: convert on a host with it, after"
            " source /usr/local/Ascend/ascend-toolkit/set_env.sh; or leave 'optimize' out."
        )
    if target.mode == "enforce_origin":
        return "Where the device computes in half precision only, fp32 is not possible: use --precision fp16."
    return None


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "not support" in line.lower() or "UNSUPPORTED" in line or "ERROR" in line]
    return " ".join(" ".join((telling or lines or ["it says nothing"])[:3]).split())[:400]
