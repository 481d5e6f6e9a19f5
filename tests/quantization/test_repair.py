"""Learned rounding and bias correction together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from repair_networks import Net, constant, heatmaps, outputs, pictures, trained

from edgepose.errors import InputError
from edgepose.model import PoseModel
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.ranges import Ranges, fingerprint
from edgepose.quantization.repair import learn_repair
from edgepose.quantization.scheme import Scheme
from edgepose.quantization.tapping import Taps, batches


def _network(seed: int = 0) -> PoseModel:
    net = Net(seed, spread=1.0)
    for i in range(3):
        net.conv(10, name=f"layer{i}")
        net.op("Relu")
    net.conv(4, 1, name="head")
    return net.build()


def _ranges(model: PoseModel) -> Ranges:
    (feed,) = batches(model, pictures(2))
    seen = Taps(model.graph, ["data", *(o for n in model.graph.graph.node for o in n.output)]).run(feed)
    return Ranges({n: (float(v.min()), float(v.max())) for n, v in seen.items()}, "naive", fingerprint(model.graph))


def test_layers_in_float_are_as_they_were() -> None:
    model = _network()
    ranges = _ranges(model)
    repair = learn_repair(model, pictures(), Scheme())
    assert set(repair.rounding) == set(repair.corrections) == {"layer0", "layer1", "layer2"}
    quantised = repair.quantised(ranges, ["layer1"])
    assert set(quantised.kept) == {"layer1", "heatmaps"}
    plain = quantize_model(model, ranges, Scheme(), ["layer1"]).model
    arrays = [{t.name: t.SerializeToString() for t in m.graph.graph.initializer} for m in (plain, quantised.model)]
    changed = {name for name in arrays[0] if arrays[1][name] != arrays[0][name]}
    assert {"layer0.weight.quantized", "layer2.weight.quantized"} <= changed
    assert not [name for name in changed if name.startswith(("layer1", "head"))]
    np.testing.assert_array_equal(constant(quantised.model, "layer1.weight"), constant(model, "layer1.weight"))
    assert np.any(outputs(plain) != outputs(quantised.model))


def test_ranges_of_another_network_are_refused() -> None:
    repair = learn_repair(_network(0), pictures(4), Scheme())
    with pytest.raises(InputError, match="another network"):
        repair.quantised(_ranges(_network(1)))


def test_a_trained_network_in_int8_is_nearer_to_float_on_other_people(reference: Path) -> None:
    """One scale for each weight, where rounding costs most."""
    model, train, val = trained(reference)
    ranges = calibrate(model, train, "naive")
    scheme = Scheme(per_channel=False)
    repair = learn_repair(model, train, scheme)
    wanted = heatmaps(model, val)
    plain, repaired = (
        heatmaps(q.model, val) for q in (quantize_model(model, ranges, scheme), repair.quantised(ranges))
    )
    assert np.square(repaired - wanted).mean() < 0.7 * np.square(plain - wanted).mean()
