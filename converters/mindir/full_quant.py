"""The file with which MindSpore Lite's converter quantises activations too, on a host with CANN.

Its keys and values are those of the converter's documentation.  No such host was at hand: nothing here was run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from edgepose.errors import ConversionError
from edgepose.graph.feeds import real_inputs
from edgepose.graph.inference import shape_of

CONFIG = "full_quant.cfg"
#: Samples that the converter's documentation asks for.
FEWEST, MOST = 100, 500

_TEXT = """\
# INT8 for Ascend by MindSpore Lite's converter: weights and activations, on a host with CANN.
# Written by edgepose; not run on hardware.
#
# 1. The float network, for a batch of one:
#      edgepose convert CHECKPOINT --to onnx --batch 1 --opset 13
# 2. Calibration inputs: in the folder "calibration", {fewest} to {most} files, each the input "{name}" of one sample as
#    the network is fed it, pre-processed: {dtype}, little-endian, {shape} in C order, {size} bytes.
# 3. converter_lite --fmk=ONNX --modelFile=model.onnx --outputFile=model_int8 --saveType=MINDIR \\
#      --optimize=ascend_oriented --inputDataFormat=NCHW --configFile={config}

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
calibrate_size={fewest}
input_type=BIN

[ascend_context]
input_format=NCHW
input_shape={name}:[{dimensions}]
"""


def full_quant_config(graph: onnx.ModelProto, skip: Sequence[str] = ()) -> str:
    """A configuration for ``converter_lite`` that gives INT8 for Ascend.

    Parameters
    ----------
    graph
        The float graph, of fixed batch and size, with one input.
    skip
        Names of nodes of the float network to leave in float.

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
        fewest=FEWEST,
        most=MOST,
        name=value.name,
        dtype=dtype.name,
        shape=" x ".join(map(str, shape)),
        size=math.prod(shape) * dtype.itemsize,
        dimensions=",".join(map(str, shape)),
        skipped=f"skip_quant_node={','.join(skip)}\n" if skip else "",
    )
