"""Channels of activations of about the same range, in networks that compute what they did."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from repair_networks import Net, constant, nets, outputs, pictures

from edgepose.errors import InputError
from edgepose.fitting import to_tensor
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization.channel_balance import balance_channels

#: Largest change of an output, as a part of the largest output, that is rounding of the factors; values inside are up
#: to a hundred times as large as the output that is left of them.
ROUNDING = 1e-4


def channels_behind(model: PoseModel, name: str) -> np.ndarray:
    """Largest magnitude of each channel of what the ReLU behind a layer gives for the calibration pictures."""
    (relu,) = [n for n in model.graph.graph.node if n.op_type == "Relu" and n.input[0] == _output(model, name)]
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model.graph)
    tapped.graph.output.append(onnx.helper.make_tensor_value_info(relu.output[0], onnx.TensorProto.FLOAT, None))
    runner = Runner(tapped)
    values = [runner.run({"data": to_tensor(p, model.spec.input)})[relu.output[0]] for p in pictures()]
    return np.abs(np.concatenate(values)).max(axis=(0, 2, 3))


def _output(model: PoseModel, name: str) -> str:
    (found,) = [n.output[0] for n in model.graph.graph.node if f"{name}.weight" in n.input]
    return str(found)


def three_layers() -> PoseModel:
    net = Net(4, spread=1.0)
    net.conv(8, 1, name="expand")
    net.op("Relu")
    net.conv(depthwise=True, name="filter")
    net.op("Relu")
    net.conv(6, 1, name="project")
    return net.build()


@settings(max_examples=25, deadline=None)
@given(nets(spreads=(0.0, 1.0)))
def test_the_network_computes_what_it_did(model: PoseModel) -> None:
    before, after = outputs(model), outputs(balance_channels(model, pictures()))
    assert np.abs(after - before).max() <= ROUNDING * max(np.abs(before).max(), 1e-6)


def test_channels_before_a_depthwise_layer_have_one_range() -> None:
    model = three_layers()
    uneven = channels_behind(model, "expand")
    even = channels_behind(balance_channels(model, pictures()), "expand")
    used = uneven > uneven.max() / 64
    assert used.sum() > 4
    assert uneven[used].max() > 3 * uneven[used].min()
    np.testing.assert_allclose(even[used], even[used][0], rtol=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_part_of_the_differences_moves_into_weights_that_share_a_scale(alpha: float) -> None:
    model = three_layers()
    balanced = balance_channels(model, pictures(), alpha=alpha)
    before, after = channels_behind(model, "filter"), channels_behind(balanced, "filter")
    weight = np.abs(constant(model, "project.weight"))[:, :, 0, 0]
    relative = (weight / weight.max(axis=1, keepdims=True)).max(axis=0)
    used = before > before.max() / 64
    # Range of the activation to the power 1 - alpha, times that of the weights, stays in the same proportion.
    wanted = (1 - alpha) * (np.log(before[used]) + np.log(relative[used]))
    found = np.log(after[used])
    np.testing.assert_allclose(found - found.mean(), wanted - wanted.mean(), atol=1e-4)
    new = np.abs(constant(balanced, "project.weight"))[:, :, 0, 0]
    np.testing.assert_allclose((new * after)[:, used], (weight * before)[:, used], rtol=1e-4)


def test_a_channel_that_is_nearly_unused_is_not_blown_up() -> None:
    model = three_layers()
    faint = onnx.ModelProto()
    faint.CopyFrom(model.graph)
    for tensor in faint.graph.initializer:
        if tensor.name in ("expand.weight", "expand.bias"):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[0] *= 1e-5
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    changed = PoseModel(faint, model.spec)
    uneven = channels_behind(changed, "expand")
    even = channels_behind(balance_channels(changed, pictures()), "expand")
    assert uneven[0] > 0
    assert even[0] < 64 * even[1:].max() * uneven[0] / uneven[1:].max() * 1.001


def residual() -> PoseModel:
    """Two layers that make what two others read: a sum, once as it is and once as part of a concatenation."""
    net = Net(7, spread=1.5)
    net.conv(6, 1, name="first")
    stream = net.x
    net.op("Relu")
    net.conv(6, name="second")
    net.op("Add", stream)
    stream = net.x
    net.conv(6, 1, name="third")
    net.op("Concat", stream, axis=1)
    net.channels = 12
    net.conv(4, 1, name="last")
    return net.build()


def test_layers_that_a_sum_ties_together_get_one_factor() -> None:
    model = residual()
    balanced = balance_channels(model, pictures())
    assert np.abs(outputs(balanced) - outputs(model)).max() <= ROUNDING * np.abs(outputs(model)).max()
    first, second = (constant(balanced, f"{n}.bias") / constant(model, f"{n}.bias") for n in ("first", "second"))
    assert np.abs(np.log(first)).max() > 0.1
    np.testing.assert_allclose(second, first, rtol=1e-5)
    read = constant(balanced, "last.weight") / constant(model, "last.weight")
    np.testing.assert_allclose(read[:, 6:, 0, 0], np.tile(1 / first, (4, 1)), rtol=1e-5)


@pytest.mark.parametrize("what", ["Sigmoid", "Clip", "output"])
def test_what_has_a_size_of_its_own_is_left_alone(what: str) -> None:
    net = Net(5, spread=2.0)
    net.conv(6, name="first")
    if what == "output":
        net.x = net.graph.output(net.x, "inner", ("batch", 6, "height", "width"))
    stream = net.x
    if what == "Clip":
        net.relu6()
    elif what != "output":
        net.op(what)
    net.conv(6, name="second")
    net.op("Add", stream)
    model = net.build()
    assert balance_channels(model, pictures()) is model


def test_without_samples_there_is_nothing_to_go_by() -> None:
    with pytest.raises(InputError, match="no samples"):
        balance_channels(three_layers(), [])
