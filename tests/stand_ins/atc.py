"""Stands in for CANN's compiler: takes its arguments, says what it says, and writes what the stand-in of pyACL runs.

What it is like (its version, what it does not know) stands in ``settings.json`` in the folder above its own.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

#: Every argument of atc that CANN 6.0 to 8.2 document for Ascend 310, 310P and 310B.
FLAGS = (
    "aicore_num auto_tune_mode buffer_optimize check_report compress_weight_conf compression_optimize_conf core_type"
    " customize_dtypes debug_dir deterministic disable_reuse_memory display_model_info dump_mode dynamic_batch_size"
    " dynamic_dims dynamic_image_size enable_compress_weight enable_scope_fusion_passes enable_single_stream"
    " enable_small_channel external_weight framework fusion_switch_file help host_env_cpu host_env_os input_format"
    " input_fp16_nodes input_shape input_shape_range insert_op_conf is_input_adjust_hw_layout"
    " is_output_adjust_hw_layout json keep_dtype log mdl_bank_path mode model modify_mixlist om op_bank_path"
    " op_compiler_cache_dir op_compiler_cache_mode op_debug_config op_debug_level op_name_map op_precision_mode"
    " op_select_implmode optypelist_for_implmode out_nodes output output_type precision_mode precision_mode_v2"
    " save_original_model singleop soc_version sparsity status_check tiling_schedule_optimize virtual_type weight"
)
SOCS = "Ascend310 Ascend310P1 Ascend310P3 Ascend310P5 Ascend310P7 Ascend310B1 Ascend310B2 Ascend310B3 Ascend310B4"
OPSETS = {"6.0": (11, 11), "7.0": (9, 18), "8.0": (11, 15), "9.1": (11, 18)}
MODES = "force_fp16 force_fp32 cube_fp16in_fp32out allow_mix_precision must_keep_origin_dtype allow_fp32_to_fp16"
AIPP_KEYS = (
    "aipp_mode related_input_rank input_format csc_switch rbuv_swap_switch src_image_size_w src_image_size_h"
    " mean_chn_0 mean_chn_1 mean_chn_2 min_chn_0 min_chn_1 min_chn_2 var_reci_chn_0 var_reci_chn_1 var_reci_chn_2"
)

HERE = Path(__file__).resolve().parent.parent
SETTINGS = {"cann": "8.0", "unsupported": [], "half_only": [], "stand_ins": "", "library": "", "hang": 0, "mute": ""}


def fail(*lines):
    print("ATC start working now, please wait for a moment.")
    print("ATC run failed, Please check the detail log, Try 'atc --help' for more information")
    for line in lines:
        print(line)
    sys.exit(255)


def invalid(value, parameter, reason):
    fail(f"E10001: Value [{value}] for parameter [--{parameter}] is invalid. Reason: {reason}")


def arguments(given):
    found = {}
    for text in given:
        matched = re.fullmatch(r"--(\w+)=(.*)", text, re.DOTALL)
        if not matched or matched.group(1) not in FLAGS.split():
            fail(f"E10003: unknown argument [{text}]")
        if matched.group(1) in found:
            fail(f"E10003: argument [{text}] is given twice")
        found[matched.group(1)] = matched.group(2)
    for needed in ("framework", "model", "output", "soc_version"):
        if needed not in found:
            fail(f"E10004: Value for [--{needed}] is empty.")
    return found


def shapes(text):
    result = {}
    for part in filter(None, text.split(";")):
        name, _, numbers = part.rpartition(":")
        result[name] = [int(n) for n in numbers.split(",")]
    return result


def aipp_of(path, sides):
    """The parameters in an AIPP file, which must be well formed and fit the input."""
    text = Path(path).read_text()
    body = re.fullmatch(r"\s*aipp_op\s*\{(.*)\}\s*", text, re.DOTALL)
    pairs = re.findall(r"^\s*(\w+)\s*:\s*(\S+)\s*$", body.group(1), re.MULTILINE) if body else []
    keys = [k for k, _ in pairs]
    if not body or len(pairs) != len(body.group(1).split("\n")) - 2 or len(set(keys)) != len(keys):
        fail("E10501: the AIPP file cannot be parsed")
    if set(keys) - set(AIPP_KEYS.split()):
        fail(f"E10501: the AIPP file has unknown keys {sorted(set(keys) - set(AIPP_KEYS.split()))}")
    found = dict(pairs)
    if found["aipp_mode"] != "static" or found["input_format"] != "RGB888_U8":
        fail("E10501: the AIPP file is not of the kind that is expected")
    if [int(found["src_image_size_h"]), int(found["src_image_size_w"])] != sides:
        invalid(found["src_image_size_h"], "insert_op_conf", "src_image_size is not that of the input")
    for i in range(3):
        if not re.fullmatch(r"\d+", found[f"mean_chn_{i}"]) or not 0 <= int(found[f"mean_chn_{i}"]) <= 255:
            invalid(found[f"mean_chn_{i}"], f"mean_chn_{i}", "must be a whole number of 0 to 255")
        if not 0 <= float(found[f"min_chn_{i}"]) <= 255 or abs(float(found[f"var_reci_chn_{i}"])) > 65504:
            invalid(found[f"min_chn_{i}"], f"min_chn_{i}", "out of range")
    return found


def check_graph(proto, settings, precision):
    import onnx

    if len(proto.opset_import) != 1:
        fail("E16005: The model has 2 domain_version fields, but only one is allowed.")
    onnx.checker.check_model(proto)
    opset = proto.opset_import[0].version
    oldest, newest = OPSETS[settings["cann"]]
    unknown = [n for n in proto.graph.node if not oldest <= opset <= newest or n.op_type in settings["unsupported"]]
    if unknown:
        lines = [f"No parser is registered for Op [{n.name}, optype [ai.onnx::{opset}::{n.op_type}]]." for n in unknown]
        fail(f"E19010: {lines[0]}", "        TraceBack (most recent call last):", *(f"        {x}" for x in lines[1:]))
    stuck = [n for n in proto.graph.node if n.op_type in settings["half_only"]]
    if precision == "must_keep_origin_dtype" and stuck:
        kind = {"Conv": "Conv2D"}.get(stuck[0].op_type, stuck[0].op_type)
        fail(
            f"EZ3002: Optype [{kind}] of Ops kernel [AIcoreEngine] is unsupported. Reason: data type DT_FLOAT of input"
            " [x] is not supported. All supported data type and format of tensor input0.x is: Data Type: {DT_FLOAT16}.",
            f"EZ3003: No supported Ops kernel and engine are found for [{stuck[0].name}], optype [{kind}].",
        )


def compile_onnx(given, settings):
    import onnx
    from acl import om

    proto = onnx.load(given["model"])
    told = shapes(given.get("input_shape", ""))
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    for name in told:
        if name not in [i.name for i in inputs]:
            invalid(name, "input_shape", "the model has no such input")
    batches = [int(b) for b in given.get("dynamic_batch_size", "").split(",") if b]
    sizes = [[int(n) for n in s.split(",")] for s in given.get("dynamic_image_size", "").split(";") if s]
    if batches and sizes:
        invalid(sizes, "dynamic_image_size", "cannot be used together with --dynamic_batch_size")
    aipp, described = {}, []
    for value in inputs:
        declared = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
        shape = told.get(value.name, declared)
        open_at = [i for i, d in enumerate(shape) if d < 0]
        if open_at != ([0] if batches else [2, 3] if sizes else []):
            invalid(-1, value.name, "maybe you should set input_shape to specify its shape.")
        if len(shape) != len(declared) or any(d > 0 and d != s for d, s in zip(declared, shape, strict=True)):
            invalid(shape, "input_shape", "does not fit the model")
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
        if "insert_op_conf" in given:
            if given["input_format"] != "NCHW" or batches or sizes:
                invalid(given["insert_op_conf"], "insert_op_conf", "static AIPP is for one shape")
            aipp = aipp_of(given["insert_op_conf"], shape[2:])
            shape, dtype = [shape[0], *shape[2:], 3], "uint8"
        described.append([value.name, shape, dtype])
    precision = given.get("precision_mode", "force_fp16")
    check_graph(proto, settings, precision)
    last = {o: n.name or n.op_type for n in proto.graph.node for o in n.output}
    outputs = [[f"{last[o.name]}:0:{o.name}", "float32"] for o in proto.graph.output]
    return om.write(
        proto.SerializeToString(), soc=given["soc_version"], inputs=described, outputs=outputs, batches=batches,
        sizes=sizes, aipp=aipp, half=precision == "force_fp16",
    )  # fmt: skip


def main():
    settings = {**SETTINGS, **json.loads((HERE / "settings.json").read_text())}
    if settings["library"] or not os.environ.get("ASCEND_OPP_PATH"):
        library = settings["library"] or "libge_runner.so"
        print(f"atc: error while loading shared libraries: {library}: cannot open shared object file", file=sys.stderr)
        sys.exit(127)
    sys.path.insert(0, settings["stand_ins"])
    if settings["hang"]:
        helper = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({settings['hang']})"])
        (HERE / "processes").write_text(f"{os.getpid()} {helper.pid}")
        time.sleep(settings["hang"])
    given = arguments(sys.argv[1:])
    (HERE / "arguments.json").write_text(json.dumps(given))
    if given["soc_version"] not in SOCS.split():
        invalid(given["soc_version"], "soc_version", "the value is not in the list of supported SoCs")
    if given.get("precision_mode", "force_fp16") not in MODES.split():
        invalid(given["precision_mode"], "precision_mode", f"must be one of {MODES}")
    if given.get("output_type", "FP32") not in ("FP32", "FP16", "UINT8", "INT8"):
        invalid(given["output_type"], "output_type", "must be one of FP32, FP16, UINT8, INT8")
    if given["framework"] == "5":
        data = compile_onnx(given, settings)
    elif given["framework"] == "1":
        # The stand-in of an AIR file is one of the stand-in's own.
        data = Path(given["model"]).read_bytes().replace(b'"soc": ""', f'"soc": "{given["soc_version"]}"'.encode())
    else:
        invalid(given["framework"], "framework", "must be 0, 1, 3 or 5")
    Path(given["output"] + ".om").write_bytes(data)
    Path(given["output"] + ".om").chmod(0o400)
    print("ATC start working now, please wait for a moment.\nATC run success, welcome to the next use.")


if __name__ == "__main__":
    main()
