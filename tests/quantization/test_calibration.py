"""Calibration of a network: which values, their ranges, and what ends it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from calibration_samples import VALUES, network, pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgepose.errors import InputError
from edgepose.fitting import to_tensor
from edgepose.graph.running import Runner
from edgepose.model import PoseModel
from edgepose.quantization import activations
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set
from edgepose.quantization.observers import METHODS
from edgepose.quantization.ranges import Ranges, fingerprint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("calibration") / "set", 6)


def test_naive_is_the_extremes_of_every_activation(folder: Path) -> None:
    model = network()
    ranges = calibrate(model, calibration_set(folder, model.spec), "naive")
    assert tuple(ranges.tensors) == VALUES  # constants have none
    (pixels,) = calibration_set(folder, model.spec)
    seen = {"data": to_tensor(pixels, model.spec.input)}
    shown = onnx.ModelProto()
    shown.CopyFrom(model.graph)
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in ("conv", "relu", "maps"))
    seen.update(Runner(shown).run(dict(seen)))
    for name, (low, high) in ranges.tensors.items():
        np.testing.assert_allclose((low, high), (seen[name].min(), seen[name].max()), rtol=1e-5)
    assert ranges.method == "naive"
    assert ranges.graph == fingerprint(model.graph)
    assert ranges.data == calibration_set(folder, model.spec).record


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_ranges_near_the_extremes(method: str, folder: Path) -> None:
    model = network()
    found = calibrate(model, calibration_set(folder, model.spec), method)
    widest = calibrate(model, calibration_set(folder, model.spec), "naive")
    assert found.tensors.keys() == widest.tensors.keys()
    for name, (low, high) in found.tensors.items():
        least, most = widest.tensors[name]
        slack = (most - least) / 100 if method == "sqnr" else 0  # its grid is rounded to hold zero
        assert least - slack <= low < high <= most + slack
        assert high - low > 0.2 * (most - least)


@pytest.mark.parametrize("method", METHODS)
def test_batches_do_not_matter(method: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    expected = calibrate(model, calibration_set(folder, model.spec, batch=1), method)
    assert calibrate(model, calibration_set(folder, model.spec, batch=4), method) == expected
    # Nor does it matter in how many parts the activations are fetched.
    monkeypatch.setattr(activations, "BUDGET", 1)
    assert calibrate(model, calibration_set(folder, model.spec, batch=3), method) == expected


def test_a_network_of_fixed_batch(folder: Path) -> None:
    fixed = calibrate(network(batch=3), calibration_set(folder, network().spec), "naive")
    free = calibrate(network(), calibration_set(folder, network().spec), "naive")
    for name, r in free.tensors.items():
        np.testing.assert_allclose(fixed.tensors[name], r, rtol=1e-5)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(4)))
def test_the_order_of_pictures_does_not_change_naive(
    order: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    source = pictures(tmp_path_factory.mktemp("order") / "a", 4)
    other = source.parent / "b"
    other.mkdir()
    for place, i in enumerate(order):
        (other / f"{place}.png").write_bytes((source / f"{i:03}.png").read_bytes())
    model = network()
    one, two = (calibrate(model, calibration_set(f, model.spec), "naive") for f in (source, other))
    assert one.tensors == two.tensors


Table = dict[str, tuple[float, float]]
names = st.sampled_from(["a", "b", "c"])
bounds = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(lambda r: (min(r), max(r)))
tables = st.dictionaries(names, bounds, max_size=3)


@given(tables, tables, tables)
def test_merging_commutes_and_holds_both(first: Table, second: Table, third: Table) -> None:
    a, b, c = (Ranges(t, "naive") for t in (first, second, third))
    merged = a.merge(b)
    assert merged.tensors == b.merge(a).tensors
    assert merged.merge(c).tensors == a.merge(b.merge(c)).tensors
    for table in (first, second):
        for name, (low, high) in table.items():
            assert merged.tensors[name][0] <= low <= high <= merged.tensors[name][1]
    assert a.merge(a).tensors == a.tensors


def test_values_that_are_not_finite_name_the_tensor_and_the_picture(folder: Path) -> None:
    model = network()
    weights = next(t for t in model.graph.graph.initializer if t.name == "second")
    values = numpy_helper.to_array(weights).copy()
    values[3] = np.nan
    weights.CopyFrom(numpy_helper.from_array(values, "second"))
    with pytest.raises(InputError, match="'maps' is not finite") as caught:
        calibrate(model, calibration_set(folder, model.spec), "entropy")
    assert "'000.png'" in caught.value.message


def test_activations_that_overflow(folder: Path) -> None:
    model = network(gain=3e38)
    with pytest.raises(InputError, match="'conv' is not finite"):
        calibrate(model, calibration_set(folder, model.spec))


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_activation_has_the_range_zero(method: str, folder: Path) -> None:
    ranges = calibrate(network(gain=0.0), calibration_set(folder, network().spec), method)
    assert ranges.tensors["relu"] == (0, 0)
    assert ranges.tensors["data"][0] < 0 < ranges.tensors["data"][1]


def test_an_interruption_ends_it_and_leaves_no_thread(folder: Path) -> None:
    model = network()
    calls = 0

    def interrupt() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        calibrate(model, calibration_set(folder, model.spec), on_sample=interrupt)
    assert calls == 3
    assert threading.active_count() == before


def test_an_input_of_whole_numbers_has_no_range(folder: Path) -> None:
    model = network()
    graph = model.graph.graph
    graph.input[0].name = "pixels"
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    graph.node.insert(0, onnx.helper.make_node("Cast", ["pixels"], ["data"], to=onnx.TensorProto.FLOAT))
    entry = dataclasses.replace(model.spec.input, name="pixels", dtype="uint8", mean=(0.0,) * 3, std=(1.0,) * 3)
    spec = model.spec.replace(input=entry)
    ranges = calibrate(PoseModel(model.graph, spec), calibration_set(folder, spec), "naive")
    assert tuple(ranges.tensors) == VALUES
    assert ranges.tensors["data"][1] > 128


def test_every_sample_is_told_of(folder: Path) -> None:
    told: list[int] = []
    samples = calibration_set(folder, network().spec)
    calibrate(network(), samples, "naive", on_sample=lambda: told.append(1))
    assert len(told) == len(samples) == 6


def test_unknown_methods_and_percentiles(folder: Path) -> None:
    samples = calibration_set(folder, network().spec)
    with pytest.raises(InputError, match="no calibration method 'magic'"):
        calibrate(network(), samples, "magic")
    for percentile in (50.0, 100.1, float("nan")):
        with pytest.raises(InputError, match="percentile"):
            calibrate(network(), samples, "percentile", percentile=percentile)


def test_ranges_of_another_network_are_refused(folder: Path) -> None:
    ranges = calibrate(network(), calibration_set(folder, network().spec), "naive")
    ranges.check(network().graph)
    with pytest.raises(InputError, match="another network"):
        ranges.check(network(seed=4).graph)
    with pytest.raises(InputError, match="different networks"):
        ranges.merge(calibrate(network(seed=4), calibration_set(folder, network().spec), "naive"))


MEMORY = """
import json, sys
from pathlib import Path
import numpy as np
from edgepose.architectures import BuildOptions, build_network
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set

schema, pictures = map(Path, sys.argv[1:])
rng = np.random.default_rng(0)
shapes = json.loads(schema.read_text())["simple_pose_resnet50_v1b"]["params"]
arrays = {}
for name, shape in shapes.items():
    arrays[name] = np.ones(shape, np.float32)
    if name.endswith("weight"):
        arrays[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
network = build_network(arrays, None, BuildOptions())
model = PoseModel(optimise(network.graph), network.spec)
truth = pictures / "truth.json"
names = sorted(p.name for p in pictures.glob("*.png"))
truth.write_text(json.dumps({
    "images": [{"id": i, "file_name": n} for i, n in enumerate(names)],
    "annotations": [{"image_id": i, "bbox": [2, 2, 30, 40]} for i in range(len(names))],
}))
calibrate(model, calibration_set(truth, model.spec, images=pictures), "entropy")
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")))
"""


@pytest.mark.conformance
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory as Linux tells it")
def test_resnet_50_needs_less_than_two_gigabytes(reference: Path, tmp_path: Path) -> None:
    """However many pictures there are: one sample is held, and of each tensor a histogram."""
    schema = reference / "fixtures" / "gluoncv_aimet" / "schema.json"
    command = [sys.executable, "-c", MEMORY, str(schema), str(pictures(tmp_path / "set", 12))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-2]) * 1024 < 2e9
