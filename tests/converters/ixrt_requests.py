"""Asking for engines of ixRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from edgepose_converters.ixrt import IxRtConverter

from edgepose.devices import Device
from edgepose.graph.builder import GraphBuilder
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.ranges import Ranges
from edgepose.quantization.scheme import Scheme
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec

MR_V100 = Device("mr-v100")


def build(model: PoseModel, folder: Path, precision: str = "fp32", **options: Any) -> tuple[Path, tuple[str, ...]]:
    result = IxRtConverter().convert(model, folder, precision, options)
    assert sorted(result.files) == sorted(p.name for p in folder.iterdir())
    # What no card has run is called so.
    assert result.notes[-1].startswith("Not run on hardware")
    return folder / result.engine, tuple(result.notes)


def int8(model: PoseModel, scheme: Scheme | None = None) -> PoseModel:
    """The model in a form of INT8, ixRT's by default, with ranges that are wide enough for its test pictures."""
    names = [o for n in model.graph.graph.node for o in n.output] + [model.spec.input.name]
    wanted = scheme or IxRtConverter.scheme
    assert wanted is not None
    return quantize_model(model, Ranges(dict.fromkeys(names, (-4.0, 4.0)), "naive"), wanted).model


def graph_of(engine: Path) -> onnx.ModelProto:
    return onnx.load_model_from_string(engine.read_bytes().split(b"\n", 2)[2])


def single(op: str, domain: str = "", **attributes: Any) -> PoseModel:
    """A network with one operator of a kind behind a ReLU."""
    made = GraphBuilder("single")
    x = made.input("image", ("batch", 3, 8, 8))
    made.output(made.op(op, made.op("Relu", x), name="the_culprit", **attributes), "y", ("batch", 3))
    spec = PoseSpec(InputSpec("image", 8, 8, Crop()), DecoderSpec("regression", {"keypoints": "y"}), COCO_17)
    model = PoseModel(made.build(), spec)
    if domain:
        model.graph.graph.node[1].domain = domain
        model.graph.opset_import.add(domain=domain, version=1)
    return model
