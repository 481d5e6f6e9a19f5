"""MindIR of version 3, by MindSpore itself: a program as a Python class that MindSpore exports.

MindSpore 2.3 turned attributes of many primitives into inputs, and files say so by another version.  Which they are,
the installed MindSpore knows; it is given the network in the only form that it reads from everybody, its own Python.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from edgepose.errors import ConversionError
from edgepose.interpreters import find_interpreter
from edgepose.lifeline import run

from .file import ports_message
from .program import Call, Plain, Program, Value

#: Names a Python that has MindSpore.
PYTHON = "EDGEPOSE_MINDSPORE_PYTHON"
#: Seconds.  The largest network takes half a minute on two cores.
_PATIENCE = 1200

_HEAD = """\
import json
import os
import sys

import mindspore
import numpy
from mindspore import Parameter, Tensor, nn
from mindspore.ops import operations as P


class Network(nn.Cell):
    def __init__(self, weights):
        super().__init__()
"""
_FOOT = """

if __name__ == "__main__":
    mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target="CPU")
    with open("inputs.json") as stream:
        inputs = json.load(stream)
    network = Network(numpy.load("weights.npz"))
    network.set_train(False)
    feeds = [Tensor(numpy.zeros(shape, dtype)) for shape, dtype in inputs]
    mindspore.export(network, *feeds, file_name="network", file_format="MINDIR")
    with open("version.txt", "w") as stream:
        stream.write(mindspore.__version__)
"""


def export_cell(program: Program, engine: Path) -> str:
    """Let MindSpore write ``engine``.

    Parameters
    ----------
    program
        The network.
    engine
        The file to write; what MindSpore needs lies in a folder beside it for as long as it runs.

    Returns
    -------
    str
        Version of MindSpore.

    Raises
    ------
    ConversionError
        If MindSpore is not here or refuses.
    """
    interpreter = find_interpreter("mindspore", PYTHON)
    if interpreter is None:
        raise ConversionError(
            "MindIR of version 3 is written by MindSpore, which is not here.",
            hint='pip install "edgepose[mindspore]", or leave mindir_version out: MindSpore reads version 1 too.',
        )
    folder = engine.with_name(".mindspore")
    folder.mkdir()
    try:
        _write_source(program, folder)
        environment = {"ONEDNN_MAX_CPU_ISA": "AVX2", "GLOG_v": "3", **os.environ}
        code, said = run([interpreter.program, "network.py"], environment, _PATIENCE, folder)
        written = folder / "network.mindir"
        if code != 0 or not written.is_file():
            raise ConversionError(f"MindSpore {interpreter.version} does not export the network: {_last(said)}")
        written.chmod(0o644)
        with open(written, "ab") as stream:
            # Messages that follow each other are one message: this adds the names that MindSpore does not keep.
            stream.writelines(ports_message(program).pieces)
        written.replace(engine)
        return (folder / "version.txt").read_text()
    finally:
        for file in sorted(folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        folder.rmdir()


def _write_source(program: Program, folder: Path) -> None:
    arrays = {f"p{i}": array for i, array in enumerate(program.parameters.values())}
    np.savez(folder / "weights.npz", **arrays)  # type: ignore[arg-type]
    (folder / "inputs.json").write_text(json.dumps([[v.shape, v.dtype] for v in program.inputs]))
    (folder / "network.py").write_text(cell_source(program))


def cell_source(program: Program) -> str:
    """The Python module.  Nothing in it is named after something in the graph, so no name can be code."""
    names = {name: f"self.p{i}" for i, name in enumerate(program.parameters)}
    names |= {value.name: f"x{i}" for i, value in enumerate(program.inputs)}
    lines = [
        f'        self.p{i} = Parameter(Tensor(weights["p{i}"]), name="p{i}")' for i in range(len(program.parameters))
    ]
    body = []
    for number, call in enumerate(program.calls):
        settings = ", ".join(f"{key}={value!r}" for key, value in _constructor(call).items())
        lines.append(f"        self.f{number} = P.{call.primitive}({settings})")
        results = [f"v{number}_{i}" for i in range(len(call.results))]
        names |= {value.name: result for value, result in zip(call.results, results, strict=True)}
        operands = ", ".join(_operand(o, names) for o in call.operands)
        body.append(f"        {', '.join(results)} = self.f{number}({operands})")
    outputs = ", ".join(names[value.name] for value in program.outputs.values())
    inputs = ", ".join(f"x{i}" for i in range(len(program.inputs)))
    construct = [f"    def construct(self, {inputs}):", *body, f"        return {outputs}"]
    return _HEAD + "\n".join([*lines, "", *construct]) + "\n" + _FOOT


def _constructor(call: Call) -> dict[str, object]:
    if call.primitive in ("Conv2D", "Conv2DTranspose"):
        return {**call.settings, "pad_mode": "pad"}
    return dict(call.settings)


def _operand(operand: Value | tuple[Value, ...] | Plain, names: dict[str, str]) -> str:
    if isinstance(operand, Value):
        return names[operand.name]
    if isinstance(operand, str):
        return f"mindspore.{operand}"
    if isinstance(operand, tuple):
        return f"({', '.join(names[m.name] if isinstance(m, Value) else repr(m) for m in operand)},)"
    return repr(operand)


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return " ".join((errors or lines or ["it says nothing"])[-1].split())[:400]
