"""Pre- and post-processing in numpy against the same inside the ONNX graph, side by side in one run.

    python benchmarks/embed.py [--runtime openvino] [--rounds 40]

From uint8 crops of 256 x 192 to keypoints, on two threads, through two networks: a SimplePose of ResNet-18 with random
weights, and a single pooling with a 1 x 1 convolution, which costs next to nothing, so that what is measured is what
stands around it.  The four forms take turns in every round, each time in another order; they are compared within a
round, so that what else the machine does falls on all of them alike.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgepose.architectures import BuildOptions, build_network, examine
from edgepose.decoding import build_decoder
from edgepose.devices import Device
from edgepose.estimator import Stage
from edgepose.fitting import Fitted
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.embed import embed
from edgepose.graph.passes import optimise
from edgepose.model import PoseModel
from edgepose.plugins import converter, runtime

ARCHITECTURE = "mmpose_resnet18"
SIZE = (256, 192)
THREADS = 2
BATCHES = (1, 8)
FORMS = {
    "plain graph, numpy pre and post": (False, False),
    "pre in the graph": (True, False),
    "post in the graph": (False, True),
    "both in the graph": (True, True),
}
RUNTIMES = {"onnxruntime": "onnx", "openvino": "openvino"}


def simple_pose() -> PoseModel:
    """The folded graph, with weights made from the names of the arrays."""
    arrays = {}
    for name, shape in examine({}, ARCHITECTURE).expected.items():
        noise = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            arrays[name] = 1 + np.float32(0.1) * np.abs(noise)
        else:
            arrays[name] = noise * np.sqrt(np.float32(2) / max(1, np.prod(shape[1:])))
    built = build_network(arrays, ARCHITECTURE, BuildOptions(input_size=SIZE))
    return PoseModel(optimise(built.graph), built.spec)


def next_to_nothing() -> PoseModel:
    """Maps of the same size with the same contract, from the mean of every 4 x 4 pixels."""
    builder = GraphBuilder("next to nothing")
    x = builder.input("input", ("batch", 3, *SIZE))
    x = builder.op("AveragePool", x, kernel_shape=[4, 4], strides=[4, 4])
    weight = np.random.default_rng(0).standard_normal((17, 3, 1, 1)).astype(np.float32)
    x = builder.op("Conv", x, builder.constant(weight), kernel_shape=[1, 1])
    builder.output(x, "heatmaps", ("batch", 17, SIZE[0] // 4, SIZE[1] // 4))
    return PoseModel(builder.build(), simple_pose().spec)


def stage(model: PoseModel, folder: Path, engine: str) -> Stage:
    """The model in a runtime."""
    folder.mkdir()
    written = converter(RUNTIMES[engine]).convert(model, folder, "fp32", {})
    session = runtime(engine).open(folder / written.engine, Device("cpu"), {"threads": THREADS})
    return Stage(model.spec, session, build_decoder(model.spec))


def measure(forms: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every form in every round."""
    random = np.random.default_rng(0)
    times: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        for _ in range(3):
            form()
    for _ in range(rounds):
        for name in random.permutation(list(forms)):
            start = time.perf_counter()
            forms[name]()
            times[name].append(time.perf_counter() - start)
    return times


def detection(form: Stage, fitted: Fitted) -> Callable[[], object]:
    """From pixels to people."""
    return lambda: form.detect(fitted)


def check(stages: dict[str, Stage], pixels: np.ndarray) -> None:
    """All forms must find the same before they are timed."""
    plain, *others = (s.detect(Fitted(pixels, np.zeros((len(pixels), 2, 3)))) for s in stages.values())
    for found in others:
        for one, other in zip(plain, found, strict=True):
            # Where two cells hold the maximum up to rounding, another order of sums chooses the other one.
            moved = np.abs(one.keypoints - other.keypoints).max(axis=2) > 1e-3
            assert moved.mean() <= 0.02, "the forms find different keypoints"


def print_table(model: PoseModel, engine: str, rounds: int) -> None:
    """Measure the four forms of a model."""
    with tempfile.TemporaryDirectory() as folder:
        stages = {
            name: stage(embed(model, pre=pre, post=post), Path(folder, f"{pre}-{post}"), engine)
            for name, (pre, post) in FORMS.items()
        }
        print(f"\n{model.graph.graph.name}, {next(iter(stages.values())).session.placement}, {THREADS} threads")
        print(f"{'':<8}{'form':<34}{'median':>11}{'least':>11}{'to plain':>11}{'less plain':>13}")
        for batch in BATCHES:
            pixels = np.random.default_rng(batch).integers(0, 256, (batch, *SIZE, 3), dtype=np.uint8)
            check(stages, pixels)
            fitted = Fitted(pixels, np.zeros((batch, 2, 3)))
            times = measure({name: detection(s, fitted) for name, s in stages.items()}, rounds)
            plain = times[next(iter(times))]
            for name, taken in times.items():
                pairs = list(zip(taken, plain, strict=True))
                ratio = statistics.median(mine / theirs for mine, theirs in pairs)
                difference = statistics.median(mine - theirs for mine, theirs in pairs) * 1e3
                print(
                    f"batch {batch:<2}{name:<34}{statistics.median(taken) * 1e3:>8.3f} ms{min(taken) * 1e3:>8.3f} ms"
                    f"{ratio:>11.3f}{difference:>+10.3f} ms"
                )


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    print_table(next_to_nothing(), arguments.runtime, 10 * arguments.rounds)
    print_table(simple_pose(), arguments.runtime, arguments.rounds)


if __name__ == "__main__":
    main()
