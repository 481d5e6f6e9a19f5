"""The file with which MindSpore Lite's converter quantises activations too, on a host with CANN.

Its keys and values are those of the converter's documentation.  No such host was at hand: nothing here was run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import onnx

from edgepose.errors import ConversionError
from edgepose.fitting import to_tensor
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import shape_of
from edgepose.model import PoseModel
from edgepose.quantization.data import CalibrationSet

from .mslite import legalise

CONFIG = "full_quant.cfg"
#: What is written with the calibration inputs: a folder, and in it the float network and a folder of inputs.
PACKAGE, NETWORK, INPUTS = "full_quant", "network.onnx", "calibration"
#: Samples that the converter's documentation asks for.
FEWEST, MOST = 100, 500

_MAKE_NETWORK = "edgepose convert CHECKPOINT --to onnx --batch 1 --opset 13"
_TEXT = """\
# INT8 for Ascend by MindSpore Lite's converter: weights and activations, on a host with CANN.
# Written by edgepose; not run on hardware.
#
# 1. The float network, for a batch of one: {network}
# 2. Calibration inputs in the folder "calibration": {inputs}
#    Each file is the input "{name}" of one sample as the network is fed it, pre-processed: {dtype}, little-endian,
#    {shape} in C order, {size} bytes.
# 3. In the folder of this file:
#      converter_lite --fmk=ONNX --modelFile={model} --outputFile=model_int8 --saveType=MINDIR \\
#        --optimize=ascend_oriented --inputDataFormat=NCHW --configFile={config}

[common_quant_param]
quant_type=FULL_QUANT
bit_num=8
{skipped}
[full_quant_param]
activation_quant_method=KL
bias_correction=true
per_channel=true
target_device=ASCEND

[data_preprocess_param]
calibrate_path={name}:./calibration
calibrate_size={count}
input_type=BIN

[ascend_context]
input_format=NCHW
input_shape={name}:[{dimensions}]
output_type=FP32
"""


def full_quant_config(graph: onnx.ModelProto, skip: Sequence[str] = (), samples: int = 0) -> str:
    """A configuration for ``converter_lite`` that gives INT8 for Ascend.

    Parameters
    ----------
    graph
        The float graph, of fixed batch and size, with one input.
    skip
        Names of nodes of the float network to leave in float.
    samples
        How many calibration inputs lie beside the file, with the float network; 0 if the user is to make both.

    Raises
    ------
    ConversionError
        If a name cannot stand in such a file.
    """
    (value,) = real_inputs(graph.graph)
    shape = [d for d in shape_of(value) or () if isinstance(d, int)]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    for name in (value.name, *skip):
        if not name.isprintable() or set(name) & set(",;:[]=#") or not name.strip():
            raise ConversionError(f"The name {name!r} cannot stand in a configuration of MindSpore Lite's converter.")
    return _TEXT.format(
        config=CONFIG,
        model=NETWORK if samples else "model.onnx",
        network=f"{NETWORK}, which lies here." if samples else _MAKE_NETWORK,
        inputs=f"{samples} lie there." if samples else f"put {FEWEST} to {MOST} files there.",
        count=samples or FEWEST,
        name=value.name,
        dtype=dtype.name,
        shape=" x ".join(map(str, shape)),
        size=math.prod(shape) * dtype.itemsize,
        dimensions=",".join(map(str, shape)),
        skipped=f"skip_quant_node={','.join(skip)}\n" if skip else "",
    )


def write_package(model: PoseModel, samples: CalibrationSet, folder: Path, skip: Sequence[str] = ()) -> list[str]:
    """Write all that INT8 for Ascend takes: the float network, calibration inputs and the configuration.

    Parameters
    ----------
    model
        The float network, of fixed batch and size.
    samples
        The calibration set.
    folder
        Where the folder of the package is made.
    skip
        Names of nodes to leave in float.

    Returns
    -------
    list of str
        The files, as seen from ``folder``.

    Raises
    ------
    InputError
        If the calibration set cannot be read.
    ConversionError
        If the network is for several samples at once, or a node to be skipped is not there.
    """
    value = real_inputs(model.graph.graph)[0]
    if (shape_of(value) or (None,))[0] != 1:
        raise ConversionError("Calibration inputs are for a batch of 1.", hint="Use --batch 1.")
    network = legalise(model.graph)
    for node in network.graph.node:
        node.name = node.name or node.output[0]
    missing = sorted(set(skip) - {n.name for n in network.graph.node})
    if missing:
        raise ConversionError(f"The network has no node {', '.join(missing)} to leave in float.")
    package = folder / PACKAGE
    inputs = package / INPUTS
    inputs.mkdir(parents=True)
    written: list[Path] = []
    for pixels in samples:
        for sample in pixels:
            tensor = to_tensor(sample[None], model.spec.input)
            path = inputs / f"{len(written):04d}.bin"
            path.write_bytes(tensor.astype(tensor.dtype.newbyteorder("<")).tobytes())
            written.append(path)
    (package / NETWORK).write_bytes(network.SerializeToString(deterministic=True))
    (package / CONFIG).write_text(full_quant_config(model.graph, skip, len(written)))
    files = [package / CONFIG, package / NETWORK, *written]
    return [path.relative_to(folder).as_posix() for path in files]
