"""Record what a version of TensorRT's or CUDA's Python bindings offers: names, signatures and numbers, nothing else.

The bindings' wheels are on PyPI without the libraries behind them; they can be imported once every C symbol that they
want exists, whatever it does.  This builds such libraries with gcc and writes what is found as JSON:

    pip download --no-deps tensorrt-cu12-bindings==10.3.0
    python record_tensorrt_interface.py tensorrt tensorrt_cu12_bindings-10.3.0-*.whl interfaces/tensorrt_10.3.json

The first argument is ``tensorrt`` with a wheel for the Python that runs this; or ``tensorrt_rtx`` or ``cuda`` with the
name of the package that is installed in it, ``tensorrt-rtx`` or ``cuda-bindings``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

_SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRuntime_INTERNAL", "createInferRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getPluginRegistry",
    "getBuilderPluginRegistry", "getNvOnnxParserVersion", "initLibNvInferPlugins",
    # Of two parsers that version 8 had beside the one for ONNX.
    "_ZN11nvuffparser15createUffParserEv", "_ZN14nvcaffeparser117createCaffeParserEv",
    "_ZN14nvcaffeparser123shutdownProtobufLibraryEv", "_ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi",
)  # fmt: skip
#: Layers, plug-ins and refitting are no business of a program that builds networks from ONNX.
_LEFT_OUT = re.compile(r"^I?(.+Layer|.*Plugin.*|Refitter|OnnxParserRefitter|.*Uff.*|.*Caffe.*|.*Calibrator.*)$")
_KEPT = re.compile(r"^ILayer$")
#: The part of CUDA's runtime that deals with devices, memory, streams, events and graphs.
_CUDA = re.compile(r"^cuda(Get|Set|Device|Malloc|Free|Memcpy|Memset|Host|Stream|Event|Graph|Runtime)")
_CUDA_ENUMS = ("cudaError_t", "cudaMemcpyKind", "cudaDeviceAttr", "cudaStreamCaptureMode")


def main(kind: str, source: str, target: str) -> None:
    """Record ``source``, a wheel or the name of an installed package, into the JSON file ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if kind == "tensorrt":
            zipfile.ZipFile(source).extractall(folder)
            environment["PYTHONPATH"] = f"{folder}/tensorrt_bindings"
            environment["LD_LIBRARY_PATH"] = str(_libraries(Path(folder)))
        done = subprocess.run(
            [sys.executable, __file__, "--dump", kind], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stderr)
    found = {"source": Path(source).name.split("-cp3")[0], **json.loads(done.stdout)}
    Path(target).write_text(_compact(found) + "\n")


def _libraries(folder: Path) -> Path:
    """Libraries in which every symbol that the bindings want is there and does nothing."""
    (binding,) = folder.glob("tensorrt_bindings/tensorrt*.so")
    listed = subprocess.run(["readelf", "-d", str(binding)], capture_output=True, text=True, check=True).stdout
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{name}() {{ return 0; }}\n" for name in _SYMBOLS))
    made = folder / "libraries"
    made.mkdir()
    for name in re.findall(r"\[(libnv\S+)\]", listed):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(made / name), str(source)], check=True)
    return made


def _compact(data: dict[str, Any]) -> str:
    """JSON with one class or enum a line."""
    parts = []
    for key, value in data.items():
        text = json.dumps(value, sort_keys=True)
        if isinstance(value, dict) and value:
            rows = (f"  {json.dumps(k)}: {json.dumps(v, sort_keys=True)}" for k, v in sorted(value.items()))
            text = "{\n" + ",\n".join(rows) + "\n }"
        parts.append(f' "{key}": {text}')
    return "{\n" + ",\n".join(parts) + "\n}"


def dump(kind: str) -> dict[str, Any]:
    """What the bindings offer."""
    if kind == "cuda":
        return _dump_cuda()
    if kind == "tensorrt":
        sys.setdlopenflags(os.RTLD_LAZY)
    module = importlib.import_module(kind)
    version = _wheel_version() if kind == "tensorrt" else module.__version__
    enums: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    functions: dict[str, Any] = {}
    for name, item in sorted(vars(module).items()):
        if name.startswith("_") or isinstance(item, ModuleType):
            continue
        if isinstance(item, type):
            _dump_type(name, item, classes, enums)
        elif callable(item) and getattr(item, "__doc__", None):
            functions[name] = _signatures(name, item)
    return {"version": version, "enums": enums, "classes": classes, "functions": functions}


def _dump_type(name: str, item: type, classes: dict[str, Any], enums: dict[str, Any]) -> None:
    if hasattr(item, "__members__"):
        enums[name] = {n: int(v) for n, v in item.__members__.items()}
        return
    if _LEFT_OUT.match(name) and not _KEPT.match(name):
        return
    methods: dict[str, list[str]] = {}
    properties: dict[str, bool] = {}
    for key, value in vars(item).items():
        if isinstance(value, type):
            if hasattr(value, "__members__"):
                enums[f"{name}.{key}"] = {n: int(v) for n, v in value.__members__.items()}
        elif isinstance(value, property):
            properties[key] = value.fset is not None
        elif callable(value) and (not key.startswith("_") or key in ("__init__", "__len__", "__getitem__")):
            methods[key] = _signatures(key, value)
    bases = [b.__name__ for b in item.__bases__ if not b.__name__.startswith(("pybind11_", "object"))]
    classes[name] = {"bases": bases, "methods": methods, "properties": properties}


def _signatures(name: str, item: Any) -> list[str]:
    """Signatures of all overloads, out of the first lines of a docstring."""
    found = re.findall(rf"^(?:\d+\. )?{re.escape(name)}(\(.*\)(?: -> .+)?)$", item.__doc__ or "", re.MULTILINE)
    real = [s for s in found if s != "(*args, **kwargs)"]
    return [re.sub(r"tensorrt(_rtx)?(_bindings)?\.(tensorrt(_rtx)?\.)?", "", s) for s in real]


def _wheel_version() -> str:
    (metadata,) = Path(os.environ["PYTHONPATH"]).parent.glob("*.dist-info/METADATA")
    return next(line[9:] for line in metadata.read_text().splitlines() if line.startswith("Version: "))


def _dump_cuda() -> dict[str, Any]:
    module = importlib.import_module("cuda.bindings.runtime")
    functions = {}
    for name, item in sorted(vars(module).items()):
        if _CUDA.match(name) and callable(item) and not isinstance(item, type):
            found = re.match(rf"{name}(\(.*\))", item.__doc__ or "")
            functions[name] = found.group(1) if found else "(...)"
    enums = {name: {m.name: int(m) for m in getattr(module, name)} for name in _CUDA_ENUMS}
    old = importlib.util.find_spec("cuda.cudart") is not None
    modules = ["cuda.bindings.runtime", *(["cuda.cudart"] if old else [])]
    version = importlib.metadata.version("cuda-bindings")
    return {"version": version, "modules": modules, "enums": enums, "functions": functions}


if __name__ == "__main__":
    if sys.argv[1] == "--dump":
        print(json.dumps(dump(sys.argv[2])))
    else:
        main(*sys.argv[1:])
