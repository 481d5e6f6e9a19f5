"""Stands in for ixRT's command-line tool: takes its arguments, says what it says, and builds with the stand-in of ixRT.

``IXRTEXEC_STAND_IN`` says what it is like: ``old`` (the version of CoreX 4.3, one precision), ``hang`` (seconds),
``fail`` (a text that it ends with), ``notes`` (a folder for what it was told).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

SETTINGS = {"old": False, "hang": 0, "fail": "", "notes": "", **json.loads(os.environ["IXRTEXEC_STAND_IN"])}
_TEXTS = "onnx shapes min_shape opt_shape max_shape quant_file save_engine load_engine timingCacheFile export_profiler"


def parsed():
    parser = argparse.ArgumentParser(prog="ixrtexec")
    for name in _TEXTS.split():
        parser.add_argument(f"--{name}")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--warmUp", type=int, default=10)
    if SETTINGS["old"]:
        parser.add_argument("--precision", choices=["int8", "fp16", "fp32"], default="fp16")
    else:
        parser.add_argument("--precision", nargs="+", default=["fp32"])
        parser.add_argument("--strongly_typed", action="store_true")
    parser.add_argument("--plugins", nargs="+", metavar="N", default=[])
    parser.add_argument("--run_profiler", action="store_true")
    parser.add_argument("--verify_acc", action="store_true")
    parser.add_argument("--ort_cpu", action="store_true")
    parser.add_argument("--cosine_sim", type=float, default=0.999)
    if not SETTINGS["old"]:
        parser.add_argument("--gpus", type=int, nargs="+")
    return parser.parse_args()


def shapes(text):
    found = {}
    for part in filter(None, (text or "").split(",")):
        name, _, lengths = part.rpartition(":")
        found[name] = [int(d) for d in lengths.split("x")]
    return found


def main():
    given = parsed()
    Path(SETTINGS["notes"], "arguments.json").write_text(json.dumps(sys.argv[1:]))
    Path(SETTINGS["notes"], "folder").write_text(str(Path.cwd()))
    if SETTINGS["hang"]:
        helper = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({SETTINGS['hang']})"])
        Path(SETTINGS["notes"], "processes").write_text(f"{os.getpid()} {helper.pid}")
        time.sleep(SETTINGS["hang"])
    if SETTINGS["fail"]:
        sys.exit(SETTINGS["fail"])
    import onnx

    # As the tool does: towards opset 11, and without a word if that fails.
    graph = onnx.load(given.onnx)
    if graph.opset_import[0].version != 11:
        try:
            converted = onnx.version_converter.convert_version(graph, 11)
            onnx.save(converted, ".tmp.converted_optset11.onnx")
            given.onnx = ".tmp.converted_optset11.onnx"
        except Exception:
            print("kept", file=sys.stderr)
    import ixrt

    precisions = [given.precision] if isinstance(given.precision, str) else given.precision
    logger = ixrt.Logger(ixrt.Logger.WARNING)
    builder = ixrt.Builder(logger)
    typed = getattr(given, "strongly_typed", False)
    flags = 1 << int(ixrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    if typed:
        flags |= 1 << int(ixrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network, config = builder.create_network(flags), builder.create_builder_config()
    parser = ixrt.OnnxParser(network, logger)
    if not parser.parse_from_file(given.onnx):
        for index in range(parser.num_errors):
            print("[IXRT][ERROR]:", parser.get_error(index), file=sys.stderr)
        raise AssertionError("Failed to parse model, please go back to check error message!")
    if not typed:
        for name in precisions:
            if name != "fp32":
                config.set_flag(getattr(ixrt.BuilderFlag, name.upper()))
    limits = [shapes(text) for text in (given.min_shape, given.opt_shape, given.max_shape)]
    if limits[0]:
        profile = builder.create_optimization_profile()
        for name in limits[0]:
            profile.set_shape(name, *(shape[name] for shape in limits))
        config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Exception("Failed to build IxRT engine, please use -v to activate verbose logger")  # noqa: TRY002
    Path(given.save_engine).write_bytes(bytes(plan))
    assert ixrt.Runtime(logger).deserialize_cuda_engine(bytes(plan))
    print("fps: 123.4 with batchsize 1\nThroughput: 123.4 qps")


main()
