"""INT8 beside FP32 in the runtimes of a CPU, in one interleaved run.

    python benchmarks/int8.py [--networks NAME,...] [--rounds N] [--json FILE]

Each configuration (network, runtime, precision, batch or streams) is a process of its own that holds one loaded engine;
a coordinator lets them run one at a time, in a new random order each round, and pools the times.  Weights are random
(speeds do not depend on them), ranges are calibrated on pieces of the picture in ``examples/``, every layer that can be
quantised is.  Cap the instruction set with ``ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI`` for OpenVINO's ratios without AMX.

Rates are 10^9 multiply-adds of convolutions a second at batch 1.  The rate of NumPy's float32 matrix product says what
the processor can do: its int8 dot products do four times as many in an instruction where it has VNNI.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.devices import Device, processor
from edgepose.errors import EdgePoseError
from edgepose.graph.passes import optimise, set_batch
from edgepose.model import PoseModel
from edgepose.plugins import converter, runtime
from edgepose.quantization.calibration import calibrate
from edgepose.quantization.data import calibration_set
from edgepose.quantization.emit import quantize_model
from edgepose.quantization.placement import quantisable

NETWORKS = (
    "simple_pose_resnet18_v1b",
    "simple_pose_resnet50_v1b",
    "simple_pose_resnet50_v1d",
    "simple_pose_resnet101_v1b",
    "simple_pose_resnet101_v1d",
    "mobile_pose_mobilenetv2_1.0",
    "lightweight_openpose",
)
#: Runtime -> target.
RUNTIMES = {"onnxruntime": "onnx", "openvino": "openvino", "tflite": "tflite"}
#: Lightweight OpenPose takes any size; this one is its authors' export.
OPENPOSE_SIZE = (256, 456)
BATCH = 8
THREADS = 2
#: Seconds of one turn of a configuration, and of rest after it: idle threads of a runtime keep cores busy for a while.
TURN, REST = 0.6, 0.15
EXAMPLE = Path(__file__).parent.parent / "examples" / "park.jpg"


@dataclass(frozen=True)
class Configuration:
    """What one process runs."""

    network: str
    runtime: str
    precision: str
    batch: int
    streams: bool
    engine: Path

    @property
    def name(self) -> str:
        """How it is called in the table."""
        return "async" if self.streams else f"batch {self.batch}"


def weights(shapes: dict[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Random arrays under which activations neither die nor explode."""
    draw = np.random.default_rng(0)
    found = {}
    for name, shape in shapes.items():
        array = draw.standard_normal(tuple(shape)).astype(np.float32)
        if len(shape) > 1:
            array *= np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
        elif name.endswith(("gamma", "running_var", "moving_variance", ".weight")):
            array = 1 + np.abs(array) / 10
        else:
            array /= 20
        found[name] = array
    return found


def network(name: str) -> PoseModel:
    """The float graph of an architecture."""
    size = OPENPOSE_SIZE if name == "lightweight_openpose" else None
    built = build_network(weights(dict(examine({}, name).expected)), name, BuildOptions(input_size=size))
    return PoseModel(optimise(built.graph), built.spec, {"architecture": name})


def pieces(folder: Path) -> Path:
    """Four pieces of the example picture."""
    picture = np.asarray(cv2.imread(str(EXAMPLE)))
    height, width = picture.shape[:2]
    folder.mkdir()
    for number, (y, x) in enumerate(((0, 0), (0, width // 4), (height // 4, 0), (height // 4, width // 4))):
        cv2.imwrite(str(folder / f"{number}.png"), picture[y : y + 3 * height // 4, x : x + 3 * width // 4])
    return folder


def matrix_rate(size: int = 2048, runs: int = 20) -> float:
    """The best rate of a float32 matrix product, in 10^9 multiply-adds a second."""
    a = np.random.default_rng(0).random((size, size), dtype=np.float32)
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        a @ a
        taken.append(time.perf_counter() - start)
    return size**3 / min(taken) / 1e9


def multiply_adds(name: str) -> int:
    """Of a network's convolutions and matrix products, for one input."""
    scheme = converter("onnx").scheme
    assert scheme is not None
    return sum(layer.macs for layer in quantisable(network(name), scheme))


def prepare(name: str, folder: Path, runtimes: Sequence[str]) -> list[Configuration]:
    """Write all engines of a network."""
    model = network(name)
    ranges = calibrate(model, calibration_set(pieces(folder / "pieces"), model.spec), "naive")
    found = []
    for api in runtimes:
        target = converter(RUNTIMES[api])
        if not target.probe().available:
            print(f"{api} is not here: {target.probe().remedy}", file=sys.stderr)
            continue
        assert target.scheme is not None
        graphs = {"fp32": model, "int8": quantize_model(model, ranges, target.scheme).model}
        for precision, graph in graphs.items():
            for batch in (1,) if api == "tflite" else (1, BATCH):
                place = folder / f"{api}-{precision}-{batch}"
                place.mkdir()
                fixed = PoseModel(set_batch(graph.graph, batch), graph.spec, graph.provenance)
                try:
                    engine = place / target.convert(fixed, place, precision, {}).engine
                except EdgePoseError as error:
                    print(f"{name}, {api}, {precision}: {error}", file=sys.stderr)
                    continue
                found.append(Configuration(name, api, precision, batch, False, engine))
                if api == "openvino":
                    found.append(Configuration(name, api, precision, batch, True, engine))
    return found


def serve(configuration: Configuration, pipe: Connection) -> None:
    """Load the engine, then run for a turn each time it is asked; times are of one input, in milliseconds."""
    options: dict[str, Any] = {"threads": THREADS}
    if configuration.streams:
        options["mode"] = "throughput"
    session = runtime(configuration.runtime).open(configuration.engine, Device("cpu"), options)
    info = session.inputs[0]
    shape = [configuration.batch, *(int(d) for d in info.shape[1:] if d is not None)]
    feeds = {info.name: np.random.default_rng(0).standard_normal(shape).astype(info.dtype)}
    pipe.send(session.placement)
    while pipe.recv():
        times = []
        start = time.perf_counter()
        while not times or time.perf_counter() - start < TURN:
            began = time.perf_counter()
            if configuration.streams:
                runs = 4 * getattr(session, "parallel", 1)
                for _ in session.run_many([feeds] * runs):  # type: ignore[attr-defined]
                    pass
            else:
                session.run(feeds)
                runs = 1
            times.append(1000 * (time.perf_counter() - began) / runs / configuration.batch)
        pipe.send(times)


def measure(configurations: Sequence[Configuration], rounds: int) -> dict[Configuration, tuple[list[float], str]]:
    """Run all in turns; the first round warms up."""
    context = multiprocessing.get_context("spawn")
    pipes, processes, places = {}, [], {}
    for one in configurations:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(one, theirs), daemon=True)
        process.start()
        processes.append(process)
        pipes[one] = ours
        places[one] = ours.recv()
    times: dict[Configuration, list[float]] = {one: [] for one in configurations}
    order = list(configurations)
    for number in range(rounds + 1):
        random.shuffle(order)
        for one in order:
            pipes[one].send(True)
            taken = pipes[one].recv()
            if number:
                times[one] += taken
            time.sleep(REST)
    for one in configurations:
        pipes[one].send(False)
    for process in processes:
        process.join()
    return {one: (times[one], places[one]) for one in configurations}


def rows(results: dict[Configuration, tuple[list[float], str]]) -> list[dict[str, Any]]:
    """A row for each network and runtime: batch 1, and the best throughput."""
    found = []
    for name, api in dict.fromkeys((c.network, c.runtime) for c in results):
        mine = {c: statistics.median(t) for c, (t, _) in results.items() if (c.network, c.runtime) == (name, api)}
        row: dict[str, Any] = {"network": name, "runtime": api}
        for precision in ("fp32", "int8"):
            these = {c: ms for c, ms in mine.items() if c.precision == precision}
            if not these:
                break
            best = min(these, key=these.__getitem__)
            row[precision] = next(ms for c, ms in these.items() if c.batch == 1 and not c.streams)
            row[f"{precision}_best"] = these[best]
            row[f"{precision}_best_is"] = f"{best.name}" + (f" of {best.batch}" if best.streams else "")
        else:
            row["ratio"] = row["fp32"] / row["int8"]
            row["best_ratio"] = row["fp32_best"] / row["int8_best"]
            found.append(row)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--runtimes", default=",".join(RUNTIMES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    chosen = parser.parse_args()
    print(f"{processor()}, {THREADS} threads; milliseconds of one input, medians", flush=True)
    print(f"float32 matrix product: {matrix_rate():.0f} GMAC/s", flush=True)
    print("| network | runtime | FP32 | INT8 | ratio | FP32 GMAC/s | INT8 GMAC/s | FP32 best | INT8 best | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    everything = []
    for name in chosen.networks.split(","):
        work = multiply_adds(name) / 1e6
        with TemporaryDirectory() as folder:
            configurations = prepare(name, Path(folder), chosen.runtimes.split(","))
            for row in rows(measure(configurations, chosen.rounds)):
                everything.append(row)
                best = [f"{row[f'{p}_best']:.2f} ({row[f'{p}_best_is']})" for p in ("fp32", "int8")]
                print(
                    f"| {name} | {row['runtime']} | {row['fp32']:.2f} | {row['int8']:.2f} | {row['ratio']:.2f}"
                    f" | {work / row['fp32']:.0f} | {work / row['int8']:.0f}"
                    f" | {best[0]} | {best[1]} | {row['best_ratio']:.2f} |",
                    flush=True,
                )
    if chosen.json:
        Path(chosen.json).write_text(json.dumps({"processor": processor(), "rows": everything}, indent=1))


if __name__ == "__main__":
    main()
