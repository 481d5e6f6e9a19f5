"""Record what MXNet 1.9.1's own calibration finds: ``python record_mxnet_thresholds.py FIXTURES``.

Needs mxnet 1.9.1 and numpy 1.23, and the folder of GluonCV fixtures.  Writes ``mxnet_thresholds.json``: value of
ResNet-18's SimplePose -> smallest, largest, threshold, divergence, bins; over two inputs of the fixtures' recipe.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np

MODEL = "simple_pose_resnet18_v1b"
TARGET = Path(__file__).with_name("mxnet_thresholds.json")


def main(fixtures: Path) -> None:
    os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"  # fused operators would hide what lies between
    import mxnet as mx
    from mxnet.contrib import quantization

    loaded = importlib.util.spec_from_file_location("gluoncv_recipe", fixtures / "recipe.py")
    recipe = importlib.util.module_from_spec(loaded)
    loaded.loader.exec_module(recipe)
    names = json.loads((fixtures / "deploy" / f"{MODEL}-names.json").read_text())
    shapes = json.loads((fixtures / "schema.json").read_text())[MODEL]["params"]
    arrays = {flat: mx.nd.array(recipe.fill(MODEL, own, tuple(shapes[own]))) for flat, own in names.items()}
    symbol = mx.sym.load(str(fixtures / "deploy" / f"{MODEL}-symbol.json")).get_internals()
    ends = ("relu0_fwd_output", "relu1_fwd_output", "relu2_fwd_output", "relu3_fwd_output", "conv3_fwd_output")
    wanted = [n for n in symbol.list_outputs() if n.endswith(ends) or ("down" in n and n.endswith("off0_fwd_output"))]
    wanted = [n for n in wanted if "_conv" not in n]
    network = mx.sym.Group([symbol[n] for n in wanted])
    histograms = {}
    shape = (1, 3, 256, 192)
    for x in (recipe.inp(MODEL, shape), recipe.rs(MODEL, "second").standard_normal(shape).astype(np.float32)):
        arguments = {n: arrays[f"arg:{n}"] for n in network.list_arguments() if n != "data"}
        states = {n: arrays[f"aux:{n}"] for n in network.list_auxiliary_states()}
        executor = network.bind(
            mx.cpu(), {**arguments, "data": mx.nd.array(x)}, aux_states=states, grad_req="null"
        )  # fmt: skip
        outputs = [o.asnumpy() for o in executor.forward(is_train=False)]
        for name, array in zip(["data", *wanted], [x, *outputs], strict=True):
            low, high = array.min(), array.max()
            reach = max(abs(low), abs(high))
            if name in histograms:
                histograms[name] = quantization.combine_histogram(histograms[name], array, low, high, reach)
            else:
                counts, edges = np.histogram(array, bins=8001, range=(-reach, reach))
                histograms[name] = (counts, edges, low, high, reach)
    table = {}
    for name, histogram in histograms.items():
        low, high, threshold, divergence = quantization._get_optimal_threshold(histogram, "auto")
        numbers = (float(np.ravel(v)[0]) for v in (low, high, threshold, divergence))
        table[name.replace("_output", "")] = [*numbers, len(histogram[0])]
    TARGET.write_text("{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in table.items()) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
