"""Foreign graphs against the spec that is given for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import Network

from edgepose.errors import GraphError, SpecError
from edgepose.graph.check import compare
from edgepose.graph.foreign import adopt
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, Letterbox, PoseSpec


def network(**options: int | str) -> onnx.ModelProto:
    net = Network(1, channels=3, size=32, **options)
    net.conv(17, stride=2)
    net.batch_norm()
    net.op("Relu")
    return net.build()


def spec(height: int | None = 32, width: int | None = 32, output: str = "out0", **changes: str) -> PoseSpec:
    fit = Crop() if height else Letterbox(long_side=64)
    given = {"name": "data", **changes}
    return PoseSpec(
        InputSpec(height=height, width=width, fit=fit, **given), DecoderSpec("heatmap", {"heatmaps": output}), COCO_17
    )


def test_a_fitting_graph_is_taken_as_it_is(tmp_path: Path) -> None:
    model = network()
    adopted = adopt(model, spec(), {"license": "none"})
    compare(model, adopted.graph)
    saved = PoseModel.from_onnx(adopted.save(tmp_path / "pose.onnx"))
    assert saved.spec == spec()
    assert saved.provenance["license"] == "none"


def test_a_dynamic_graph_takes_any_size_of_the_spec() -> None:
    model = network(batch="batch")
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "s"
        model.graph.output[0].type.tensor_type.shape.dim[axis].dim_param = "t"
    adopt(model, spec(64, 48))
    adopt(model, spec(None, None))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (spec(name="image"), r"'image' is not an input .*inputs: data float32 \[1, 3, 32, 32\]; outputs: out0"),
        (spec(64, 32), r"height is 64, the graph takes data float32 \[1, 3, 32, 32\]"),
        (spec(32, 48), r"width is 48"),
        (spec(None, None), r"height is of any size"),
        (spec(layout="NHWC"), r"layout NHWC the input would have 32 channels"),
        (spec(dtype="uint8"), r"input is uint8, the graph takes data float32"),
        (spec(output="heatmaps"), r"does not give: heatmaps = 'heatmaps' \(inputs: .*outputs: out0"),
    ],
    ids=["name", "height", "width", "dynamic", "layout", "dtype", "output"],
)
def test_a_spec_that_does_not_fit_says_what_is_there(wrong: PoseSpec, says: str) -> None:
    with pytest.raises(SpecError, match=says) as caught:
        adopt(network(), wrong)
    assert caught.value.hint


def test_a_second_input_is_refused() -> None:
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(SpecError, match="more than the picture: 'mask'"):
        adopt(model, spec())


def with_node(**attributes: str) -> onnx.ModelProto:
    model = network()
    model.graph.node.append(helper.make_node("FusedConv", ["out0"], ["more"], **attributes))
    return model


def test_operators_of_other_domains_are_named() -> None:
    with pytest.raises(GraphError, match=r"com\.vendor: FusedConv"):
        adopt(with_node(domain="com.vendor"), spec())


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(GraphError, match="FusedConv"):
        adopt(with_node(), spec())


@pytest.mark.parametrize("opset", [1, 6, 99])
def test_opsets_out_of_range(opset: int) -> None:
    model = network()
    model.opset_import[0].version = opset
    with pytest.raises(GraphError, match=f"opset {opset}; edgepose reads 7 to"):
        adopt(model, spec())


def test_functions_of_the_graph_are_unfolded() -> None:
    model = network()
    body = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    function = helper.make_function("local", "Swish", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[-1].CopyFrom(helper.make_node("Swish", list(model.graph.node[-1].input), ["out0"], domain="local"))
    adopted = adopt(model, spec()).graph
    assert {"Sigmoid", "Mul"} <= {n.op_type for n in adopted.graph.node}
    assert not adopted.functions
    compare(model, adopted)


def functions(*bodies: list[str]) -> onnx.ModelProto:
    """A model that calls the last of these functions; each body names the functions that it calls in a row."""
    model = network()
    for name, body in enumerate(bodies):
        nodes = [helper.make_node(op, [f"v{i}"], [f"v{i + 1}"], domain="local") for i, op in enumerate(body)]
        nodes = nodes or [helper.make_node("Relu", ["v0"], ["v1"])]
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
        model.functions.append(helper.make_function("local", f"f{name}", ["v0"], [nodes[-1].output[0]], nodes, imports))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[-1].CopyFrom(
        helper.make_node(f"f{len(bodies) - 1}", list(model.graph.node[-1].input), ["out0"], domain="local")
    )
    return model


def test_functions_that_never_end_are_refused() -> None:
    assert len(adopt(functions([], ["f0", "f0"]), spec()).graph.graph.node) == 4
    with pytest.raises(GraphError, match="circle"):
        adopt(functions(["f1"], ["f0"]), spec())
    with pytest.raises(GraphError, match=r"unfold to \d{9,} nodes"):
        adopt(functions([], *([f"f{i}"] * 2 for i in range(32))), spec())


def externalised(tensor: TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def weight_outside(model: onnx.ModelProto) -> None:
    externalised(model.graph.initializer[0], "../../secret.bin")


def constant_outside(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32))
    externalised(tensor, "/etc/hostname")
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], value=tensor))


def constant_in_a_branch_outside(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), "inner")
    externalised(tensor, "/etc/hostname")
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [4])
    branch = helper.make_graph([], "branch", [], [out], [tensor])
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(True), "yes"))
    model.graph.node.append(helper.make_node("If", ["yes"], ["more"], then_branch=branch, else_branch=branch))


def too_little_data(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1 << 40


def negative_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = -17


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def huge_input(model: onnx.ModelProto) -> None:
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = 1 << 20


def huge_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "many"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["many"], ["huge"]))


def contradiction(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1, 17, 5, 5), np.float32), "other"))
    model.graph.node.append(helper.make_node("Add", ["out0", "other"], ["more"]))


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "out0"


def sparse(model: onnx.ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "sparse")
    index = numpy_helper.from_array(np.zeros(1, np.int64))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, index, [4]))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (weight_outside, "lie in another file"),
        (constant_outside, "lie in another file"),
        (constant_in_a_branch_outside, "lie in another file"),
        (too_little_data, "needs .* bytes and holds"),
        (negative_shape, "negative length"),
        (twice, "Two arrays"),
        (huge_input, "larger than 2 GiB"),
        (huge_constant, "larger than 2 GiB"),
        (contradiction, "do not fit together"),
        (cycle, "not valid ONNX"),
        (sparse, "sparse"),
    ],
)
def test_hostile_graphs_are_refused(damage: Callable[[onnx.ModelProto], None], says: str) -> None:
    model = network()
    damage(model)
    with pytest.raises(GraphError, match=says):
        adopt(model, spec())


def test_the_detector_of_the_reference_data(reference: Path) -> None:
    model = onnx.load(reference / "data" / "weights" / "person_detector" / "yolox_nano.onnx")
    detector = PoseSpec(
        InputSpec("images", 416, 416, Letterbox(), color="BGR"), DecoderSpec("yolox", {"predictions": "output"}), None
    )
    assert len(adopt(model, detector).graph.graph.node) == len(model.graph.node)
