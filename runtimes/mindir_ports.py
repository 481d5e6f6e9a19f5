"""What a MindIR file calls its inputs and outputs.

A MindIR file is a protocol buffer; the field numbers are those of MindSpore's ``mind_ir.proto``.  Files that edgepose
made carry the names in ``user_info``: the format has none for several outputs, and MindSpore's tools make up their own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgepose.checkpoints.mapped_file import MappedFile, map_file
from edgepose.checkpoints.protobuf_wire import BYTES, VARINT, fields, text
from edgepose.errors import CheckpointError, DeviceError
from edgepose.plugins import TensorInfo

#: Keys of ``user_info`` with the names of the network's inputs and outputs, each a JSON list.
INPUTS_KEY, OUTPUTS_KEY = "edgepose.inputs", "edgepose.outputs"

_TYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}


@dataclass(frozen=True)
class Ports:
    """Inputs, and names of outputs; empty where the file does not tell them.

    Attributes
    ----------
    inputs
        Name, shape and type of each input.
    outputs
        Name of each output.
    version
        Version of the file's format; 0 if it does not say.
    fused
        Whether it has operators of MindSpore Lite's converter, which MindSpore itself does not know.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    version: int
    fused: bool = False


def read_ports(engine: Path) -> Ports:
    """Read the inputs and outputs of a MindIR file.

    Raises
    ------
    DeviceError
        If it is none, or damaged.
    """
    try:
        return _read(map_file(engine))
    except CheckpointError as error:
        raise DeviceError(f"Cannot load a MindIR file: {error.message}") from error


def _read(file: MappedFile) -> Ports:
    inputs: list[TensorInfo] = []
    outputs: list[str] = []
    renamed: dict[str, list[str]] = {}
    version = 0
    seen = fused = False
    for number, wire, value, content in fields(file, file.data, "the model"):
        if number == 7 and wire == BYTES:
            seen = True
            for inner, kind, _, part in fields(file, content, "the graph"):
                if inner == 1 and kind == BYTES:
                    fused |= _is_fused(file, part)
                elif inner == 5 and kind == BYTES:
                    inputs.append(_input(file, part))
                elif inner == 6 and kind == BYTES:
                    outputs += _outputs(file, part)
        elif number == 13 and wire == VARINT:
            version = value
        elif number == 14 and wire == BYTES:
            entry = {n: text(file, c, "user_info") for n, _, _, c in fields(file, content, "user_info") if n in (1, 2)}
            if entry.get(1) in (INPUTS_KEY, OUTPUTS_KEY):
                renamed[entry[1]] = _names(file, entry.get(2, ""))
    if not seen or not inputs:
        raise file.error("has no graph with inputs.", hint="It is no MindIR file, or an encrypted one.")
    names = renamed.get(INPUTS_KEY, [])
    if len(names) == len(inputs):
        inputs = [TensorInfo(name, info.shape, info.dtype) for name, info in zip(names, inputs, strict=True)]
    return Ports(tuple(inputs), tuple(renamed.get(OUTPUTS_KEY, outputs)), version, fused)


def _is_fused(file: MappedFile, node: memoryview) -> bool:
    """Whether a node's operator is one of MindSpore Lite's converter: ``REF::Conv2DFusion:2`` for instance."""
    return any(
        number == 4 and wire == BYTES and text(file, content, "an operator").rstrip("0123456789:").endswith("Fusion")
        for number, wire, _, content in fields(file, node, "a node")
    )


def _names(file: MappedFile, listed: str) -> list[str]:
    try:
        names = json.loads(listed)
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise file.error("is damaged: its list of names is no list of names.")
    return names


def _input(file: MappedFile, part: memoryview) -> TensorInfo:
    name, own, shape, dtype = "", "", [], "unknown"
    for number, wire, _, content in fields(file, part, "an input"):
        if number == 1 and wire == BYTES:
            name = text(file, content, "the name of an input")
        elif number == 2 and wire == BYTES:
            for inner, kind, value, said in fields(file, content, "an input"):
                if inner == 1 and kind == VARINT:
                    shape.append(value if value < 1 << 31 else None)
                elif inner == 2 and kind == VARINT:
                    dtype = _TYPES.get(value, "unknown")
                elif inner == 7 and kind == BYTES:
                    own = text(file, said, "the name of an input")
    # MindSpore puts the name of the graph in front; MindSpore Lite keeps ONNX's name in the tensor.
    return TensorInfo(own or name.rpartition(":")[2], tuple(shape), dtype)


def _outputs(file: MappedFile, part: memoryview) -> list[str]:
    """Names of a tensor; nothing for a tuple, whose members have none here."""
    name, is_tensor = "", False
    for number, wire, _, content in fields(file, part, "an output"):
        if number == 1 and wire == BYTES:
            name = text(file, content, "the name of an output")
        is_tensor |= number == 2
    return [name] if is_tensor else []
