"""Which graphs NVIDIA's parser takes: every architecture and the embedded models through TensorRT-RTX's builder.

    python benchmarks/nvidia_parser.py [NAME]... [--precision fp32 fp16 int8]

Prints a row of a Markdown table for each network: whether an engine was built, and its size.  Needs no GPU, only
``pip install "edgepose[tensorrt-rtx]"``; weights are synthetic, and INT8 is calibrated on one picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from edgepose_converters.tensorrt_rtx import TensorRtRtxConverter

from edgepose.architectures import BuildOptions, architectures, build_network, examine
from edgepose.artifact import EMBEDDED, resolve
from edgepose.errors import EdgePoseError
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set
from edgepose.quantization.emit import quantize_model

sys.path.append(str(Path(__file__).parent.parent / "tests" / "architectures"))
from synthetic_weights import fill

#: Sizes that differ from what the network was trained with, to keep the time bearable.
_SIZES = {"lightweight_openpose": (256, 456), "aimet_pose": (128, 128)}

_PICTURE = Path(__file__).parent.parent / "examples" / "park.jpg"


def network(name: str) -> PoseModel:
    """An architecture with synthetic weights, or a network of an embedded model, ``accurate:0`` for instance."""
    model, _, stage = name.partition(":")
    if model in EMBEDDED:
        source = resolve(model).stages[int(stage or 0)]
        return PoseModel.from_onnx(source.engine, source.spec)
    built = build_network(fill(examine({}, name).expected), name, BuildOptions(input_size=_SIZES.get(name)))
    return PoseModel(optimise(built.graph), built.spec, {"architecture": name})


def int8(model: PoseModel) -> PoseModel:
    """A network in TensorRT's form of INT8."""
    ranges = calibrate(model, calibration_set(_PICTURE, model.spec, limit=1), "naive")
    assert TensorRtRtxConverter.scheme is not None
    return quantize_model(model, ranges, TensorRtRtxConverter.scheme).model


def build(name: str, precision: str) -> str:
    """A cell of the table."""
    converter = TensorRtRtxConverter()
    started = time.perf_counter()
    try:
        model = int8(network(name)) if precision == "int8" else network(name)
        with tempfile.TemporaryDirectory() as folder:
            result = converter.convert(model, Path(folder), precision, {})
            size = (Path(folder) / result.engine).stat().st_size
    except EdgePoseError as error:
        return f"refused: {error.message}"
    print(f"{name} {precision}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return f"built, {size / 1e6:.1f} MB"


def main() -> None:
    """Build and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--precision", nargs="+", default=["fp32", "fp16"], choices=TensorRtRtxConverter.precisions)
    asked = parser.parse_args()
    print(f"| network | {' | '.join(asked.precision)} |")
    print("| --- |" + " --- |" * len(asked.precision))
    for name in asked.names or [*architectures(), "accurate:0", "accurate:1"]:
        print(f"| {name} | {' | '.join(build(name, p) for p in asked.precision)} |", flush=True)


if __name__ == "__main__":
    main()
