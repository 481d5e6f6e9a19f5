"""The files of the stand-ins of ``atc`` and pyACL: a line of JSON, and the ONNX graph that it describes."""

import json
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

MAGIC = b"stand-in om\n"
PROFILE_INPUT = "ascend_mbatch_shape_data"


@dataclass
class Port:
    name: str
    dims: tuple
    dtype: str
    size: int


@dataclass
class Model:
    soc: str = ""
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    batches: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    aipp: dict = field(default_factory=dict)
    half: bool = False
    weight_size: int = 0
    session: object = None
    shapes: dict = field(default_factory=dict)

    @property
    def profiles(self):
        return self.batches or self.sizes


EMPTY = Model()


def write(graph: bytes, **described) -> bytes:
    """A file of this kind."""
    return MAGIC + json.dumps(described).encode() + b"\n" + graph


def read(data: bytes):
    """The model in a file; None if it is of another kind."""
    if not data.startswith(MAGIC):
        return None
    line, _, graph = data[len(MAGIC) :].partition(b"\n")
    said = json.loads(line)
    proto = onnx.load_model_from_string(graph)
    half = said["half"]
    if half:
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                rounded = numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(rounded, tensor.name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = Model(said["soc"], [], [], said["batches"], [tuple(s) for s in said["sizes"]], said["aipp"], half)
    model.weight_size, model.session = len(graph), session
    largest = _largest(model)
    for name, dims, dtype in said["inputs"]:
        shape = _filled(dims, largest, bool(model.aipp))
        model.inputs.append(Port(name, tuple(dims), dtype, _size(shape, dtype)))
    if model.profiles:
        model.inputs.append(Port(PROFILE_INPUT, (4,), "int32", 16))
    results = compute(model, [np.zeros(p.size, np.uint8) for p in model.inputs], largest)
    for (name, dtype), result in zip(said["outputs"], results, strict=True):
        # Those of the largest profile, as the description has it.
        model.outputs.append(Port(name, result.shape, dtype, result.size * np.dtype(dtype).itemsize))
    return model


def _largest(model):
    if model.batches:
        return (max(model.batches),)
    return max(model.sizes, key=lambda s: s[0] * s[1]) if model.sizes else None


def _filled(dims, profile, nhwc):
    """The shape of an input in a profile."""
    if profile is None:
        return list(dims)
    if len(profile) == 1:
        return [profile[0] if d < 0 else d for d in dims]
    left = iter(profile)
    return [next(left) if d < 0 else d for d in dims]


def _size(shape, dtype):
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def compute(model, blocks, profile):
    """Results of the graph for the bytes in the input buffers."""
    feeds = {}
    for port, block in zip(model.inputs, blocks, strict=True):
        if port.name == PROFILE_INPUT:
            continue
        shape = _filled(port.dims, profile, bool(model.aipp))
        array = block[: _size(shape, port.dtype)].view(port.dtype).reshape(shape)
        if model.aipp:
            array = preprocess(array, model.aipp)
        if model.half and array.dtype == np.float32:
            array = array.astype(np.float16).astype(np.float32)
        feeds[port.name] = array
    results = model.session.run(None, feeds)
    return [r.astype(np.float16).astype(r.dtype) if model.half and r.dtype == np.float32 else r for r in results]


def preprocess(pixels, aipp):
    """What the image unit does with uint8 pixels, [N, H, W, 3]: channels swapped, less mean and least, scaled."""
    if aipp["rbuv_swap_switch"] == "true":
        pixels = pixels[..., ::-1]
    planes = []
    for channel in range(3):
        plane = pixels[..., channel].astype(np.float32)
        plane = plane - np.float32(aipp[f"mean_chn_{channel}"]) - np.float32(aipp[f"min_chn_{channel}"])
        planes.append((plane * np.float32(aipp[f"var_reci_chn_{channel}"])).astype(np.float16).astype(np.float32))
    return np.ascontiguousarray(np.stack(planes, axis=1))
