"""Building with ``ixrtexec``, the command-line tool of ixRT."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgepose.errors import ConversionError
from edgepose.graph.draft import opset_of

from .ixrt_building import FACTS
from .ixrt_log import failure
from .om.process import run_group
from .tensorrt_building import Built, Order
from .tensorrt_profiles import Shapes

PROGRAM = "ixrtexec"
#: Where CoreX's installer puts programs.
_FOLDERS = ("usr/local/corex*/bin",)
#: Seconds until it must have said what options it has, and until it must have built.
_HELP_PATIENCE, _PATIENCE = 120.0, 3600.0
_GRAPH, _ENGINE = "model.onnx", "model.engine"
#: The opset that the tool brings graphs to.
_TOOLS_OPSET = 11
#: Options that every version has and that are used here.
_NEEDED = ("onnx", "save_engine", "precision", "min_shape", "opt_shape", "max_shape", "iterations", "warmUp")


@dataclass(frozen=True)
class Tool:
    """The tool, as far as its options tell.

    Attributes
    ----------
    program
        Its path.
    known
        Its options.
    mixes
        Whether it takes several precisions at once.
    """

    program: str
    known: frozenset[str]
    mixes: bool


def find_tool() -> str:
    """Path of the tool; empty if it is not here."""
    folders = [f for f in os.environ.get("PATH", "").split(os.pathsep) if f]
    folders += [str(f) for pattern in _FOLDERS for f in sorted(Path("/").glob(pattern))]
    return shutil.which(PROGRAM, path=os.pathsep.join(folders)) or ""


def build_with_tool(order: Order, folder: Path) -> Built:
    """Build a plan.

    The tool runs the engine once when it has built it, so that it needs a card, and a plan that it wrote has run.

    Parameters
    ----------
    order
        What to build.
    folder
        Where a folder of the tool's own may lie for the time.

    Raises
    ------
    ConversionError
        If the tool is not here, lacks an option or fails.
    """
    program = find_tool()
    if not program:
        raise ConversionError(
            f"The program {PROGRAM} is not here.",
            hint="It comes with the wheel of ixRT in the CoreX SDK; put it on the PATH, or leave the option via out.",
        )
    with tempfile.TemporaryDirectory(prefix=".ixrtexec-", dir=folder) as place:
        work = Path(place)
        tool = _asked(program, work)
        command = [program, *arguments(tool, order)]
        rewritten = _kept(order)
        (work / _GRAPH).write_bytes(order.graph)
        code, said = _run(command, _PATIENCE, work)
        try:
            plan = (work / _ENGINE).read_bytes() if code == 0 else b""
        except OSError:
            plan = b""
        if not plan:
            raise failure(code, said, PROGRAM)
    return Built(plan, FACTS, (f"Built, and run once, by {PROGRAM}.", *rewritten))


def arguments(tool: Tool, order: Order) -> list[str]:
    """What the tool is told, without its name.

    Raises
    ------
    ConversionError
        If it cannot be told.
    """
    options = order.options
    wanted = set(_NEEDED)
    wanted |= {"strongly_typed"} if options.strongly_typed else set()
    wanted |= {"timingCacheFile"} if options.timing_cache is not None else set()
    missing = sorted(wanted - tool.known)
    if missing:
        raise ConversionError(
            f"This version of {PROGRAM} has no option --{missing[0]}.", hint="Leave the option via out."
        )
    precision = ["int8", "fp16"] if order.precision == "int8" and tool.mixes else [order.precision]
    # It runs what it has built in any case; once is enough.
    given = [f"--onnx={_GRAPH}", f"--save_engine={_ENGINE}", "--iterations=1", "--warmUp=0"]
    if order.profile:
        given += [f"--{kind}_shape={_shapes(order.profile, i)}" for i, kind in enumerate(("min", "opt", "max"))]
    if options.strongly_typed:
        given.append("--strongly_typed")
    if options.timing_cache is not None:
        given.append(f"--timingCacheFile={Path(options.timing_cache).absolute()}")
    # A list ends where the next option begins, or the line.
    return [*given, "--precision", *precision]


def _shapes(profile: Mapping[str, Shapes], which: int) -> str:
    for name in profile:
        if "," in name:
            raise ConversionError(
                f"{PROGRAM} cannot be told the shape of the input '{name}': a comma separates inputs.",
                hint="Rename the input in the graph, or leave the option via out.",
            )
    return ",".join(f"{name}:{'x'.join(map(str, shapes[which]))}" for name, shapes in profile.items())


def _asked(program: str, work: Path) -> Tool:
    """Which options it has: they differ between versions, and it does not say its version."""
    code, said = _run([program, "--help"], _HELP_PATIENCE, work)
    known = frozenset(re.findall(r"--(\w+)", said))
    if code != 0 or "save_engine" not in known:
        raise failure(code, said, PROGRAM)
    return Tool(program, known, bool(re.search(r"--precision\s+\w+\s+\[\w+", said)))


def _run(command: list[str], seconds: float, work: Path) -> tuple[int | None, str]:
    try:
        return run_group(command, None, seconds, work)
    except OSError as error:
        raise ConversionError(f"Cannot run '{command[0]}': {error.strerror or error}.") from error


def _kept(order: Order) -> tuple[str, ...]:
    """Make sure that the tool does not rewrite a quantised graph: it tries to, and says nothing either way."""
    graph = onnx.load_model_from_string(order.graph)
    if opset_of(graph) == _TOOLS_OPSET:
        return ()
    try:
        onnx.version_converter.convert_version(graph, _TOOLS_OPSET)
    except Exception as error:  # whatever stops the converter stops it there too
        reason = (str(error).splitlines() or [""])[0].rpartition(": ")[2][:200]
        return (f"{PROGRAM} tries to bring graphs to opset {_TOOLS_OPSET} and leaves those that it cannot: {reason}.",)
    if order.precision == "int8":
        raise ConversionError(
            f"{PROGRAM} would rewrite the quantised graph in opset {_TOOLS_OPSET}, which has no scales per channel.",
            hint="Leave the option via out.",
        )
    return (f"{PROGRAM} brings the graph to opset {_TOOLS_OPSET} itself.",)
