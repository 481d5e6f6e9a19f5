"""A machine with an Ascend device, made of stand-ins: pyACL, the compiler ``atc``, and the environment of CANN."""

from __future__ import annotations

import importlib
import json
import os
import sys
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from edgepose_runtimes import acl_process

from edgepose import devices
from edgepose.graph.builder import GraphBuilder
from edgepose.graph.passes import optimise
from edgepose.graph.running import Runner
from edgepose.keypoints import COCO_17
from edgepose.model import PoseModel
from edgepose.spec import Crop, DecoderSpec, InputSpec, PoseSpec
from edgepose.system import System

STAND_INS = Path(__file__).parent / "stand_ins"
_PARTS = ("acl", "acl.rt", "acl.mdl", "acl.util", "acl.world", "acl.om")
_loaded: dict[str, Any] = {}


def pyacl(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Any:
    """Install the stand-in of pyACL for a test, in a process that has not used it; gives its world."""
    if not _loaded:
        sys.path.insert(0, str(STAND_INS))
        try:
            _loaded.update({name: importlib.import_module(name) for name in _PARTS})
        finally:
            sys.path.remove(str(STAND_INS))
            for name in _PARTS:
                sys.modules.pop(name, None)
    for name, module in _loaded.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(acl_process, "_process", acl_process._Process())
    return _loaded["acl.world"].reset(**settings)


@contextmanager
def checked(world: Any) -> Iterator[Any]:
    """Check at the end that nothing was done that pyACL forbids, and that all was given back."""
    yield world
    assert world.violations == []
    assert world.living() == {}


def cards(root: Path, monkeypatch: pytest.MonkeyPatch, count: int = 1, chip: str = "310") -> None:
    """Let the operating system show so many cards; ``chip`` is what ``npu-smi`` calls them."""
    for name in (*(f"davinci{n}" for n in range(count)), "davinci_manager"):
        (root / "dev").mkdir(parents=True, exist_ok=True)
        (root / "dev" / name).touch()
    # What a program says is asked for once.
    tool = root / f"{count}-{chip}" / "npu-smi"
    tool.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"| {n}     {chip}     | OK     | NA       52     0     / 0             |" for n in range(count)]
    tool.write_text("#!/bin/sh\ncat <<'TABLE'\n| npu-smi 23.0    Version: 23.0   |\n" + "\n".join(lines) + "\nTABLE\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    home = os.environ.get("ASCEND_HOME_PATH")
    if home is not None:  # where the operating system's files are looked for, CANN lies as well
        seen = root / home.lstrip("/")
        seen.parent.mkdir(parents=True, exist_ok=True)
        if not seen.exists():
            seen.symlink_to(home)
    monkeypatch.setattr(devices, "System", partial(System, root))


def onnxruntime_cann(monkeypatch: pytest.MonkeyPatch, devices: int = 1) -> Any:
    """Put the stand-in of onnxruntime-cann in place of ONNX Runtime; gives the class of its sessions."""
    import onnxruntime

    sys.path.insert(0, str(STAND_INS))
    try:
        made = importlib.import_module("onnxruntime_cann")
    finally:
        sys.path.remove(str(STAND_INS))
        sys.modules.pop("onnxruntime_cann", None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", made.InferenceSession)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [made.PROVIDER, made.CPU])
    monkeypatch.setattr(made.InferenceSession, "devices", devices)
    return made.InferenceSession


def lite_python(root: Path) -> Path:
    """A Python that has the stand-in of MindSpore Lite, NumPy and ONNX Runtime."""
    venv.create(root, symlinks=True)
    packages = next(root.glob("lib*/python3*/site-packages"))
    (packages / "mindspore_lite").symlink_to(STAND_INS.parent / "runtimes" / "stand_ins" / "mindspore_lite")
    (packages / "others.pth").write_text(str(Path(np.__file__).parent.parent))
    return root / "bin" / "python"


def install(root: Path, version: str = "8.0", **settings: Any) -> Path:
    """Put the stand-in of ``atc`` into a folder as CANN's installer would; gives the folder."""
    (root / "bin").mkdir(parents=True)
    program = root / "bin" / "atc"
    program.write_text(f"#!{sys.executable}\n{(STAND_INS / 'atc.py').read_text()}")
    program.chmod(0o755)
    info = root / "x86_64-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir()
    info.write_text(f"package_name=Ascend-cann-toolkit\nversion={version}.RC3\narch=x86_64\n")
    (root / "set_env.sh").write_text("export ASCEND_OPP_PATH=...\n")
    change(root, cann=version, stand_ins=str(STAND_INS), **settings)
    return root


def change(root: Path, **settings: Any) -> None:
    """Make the compiler other than it was."""
    file = root / "settings.json"
    before = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**before, **settings}))


def told(root: Path) -> dict[str, str]:
    """The arguments of the last compilation."""
    return dict(json.loads((root / "arguments.json").read_text()))


def source_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``source set_env.sh`` does."""
    monkeypatch.setenv("ASCEND_HOME_PATH", str(root))
    monkeypatch.setenv("ASCEND_OPP_PATH", str(root / "opp"))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(root / "lib64"))


def network(batch: int | str = "batch", size: tuple[int | str, int | str] = (64, 48), opset: int = 17) -> PoseModel:
    """A convolution, a deconvolution and a residue; normalised RGB in, heatmaps out."""
    rng = np.random.default_rng(3)

    def weights(*shape: int) -> Any:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    build = GraphBuilder("network")
    x = build.input("image", (batch, 3, *size))
    x = build.op(
        "Conv", x, build.constant(weights(8, 3, 3, 3), "w1"), build.constant(weights(8), "b1"),
        strides=[2, 2], pads=[1] * 4,
    )  # fmt: skip
    stem = x = build.op("Relu", x)
    x = build.op("ConvTranspose", x, build.constant(weights(8, 8, 4, 4), "w2"), strides=[2, 2], pads=[1] * 4)
    x = build.op("Conv", x, build.constant(weights(8, 8, 3, 3), "w3"), strides=[2, 2], pads=[1] * 4)
    x = build.op("Add", build.op("Relu", x), stem)
    x = build.op("Conv", x, build.constant(weights(17, 8, 1, 1), "w4"))
    heights = [d // 2 if isinstance(d, int) else f"map_{d}" for d in size]
    build.output(x, "heatmaps", (batch, 17, *heights))
    fixed = [d if isinstance(d, int) else 64 for d in size]
    entry = InputSpec("image", fixed[0], fixed[1], Crop(), mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    spec = PoseSpec(entry, DecoderSpec("heatmap", {"heatmaps": "heatmaps"}), COCO_17)
    graph = build.build()
    return PoseModel(optimise(graph, opset=opset) if opset != 17 else graph, spec)


def om_file(path: Path, model: PoseModel, **described: Any) -> Path:
    """What the compiler would have written of a model, without the cost of running it."""
    batches, sizes = described.get("batches", []), described.get("sizes", [])
    value = model.graph.graph.input[0]
    dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
    dims[0] = -1 if batches else 1
    said = {
        "soc": "Ascend310",
        "inputs": [[value.name, dims, "float32"]],
        "outputs": [[f"Conv_9:0:{o.name}", "float32"] for o in model.graph.graph.output],
        "batches": batches,
        "sizes": sizes,
        "aipp": {},
        "half": False,
        **described,
    }
    graph = model.graph if batches or sizes else optimise(model.graph, batch=1)
    path.write_bytes(_loaded["acl.om"].write(graph.SerializeToString(), **said))
    return path


def pictures(model: PoseModel, count: int = 1, size: tuple[int, int] = (64, 48), seed: int = 1) -> dict[str, Any]:
    """Normalised inputs."""
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(-2, 2.5, (count, 3, *size)).astype(np.float32)}


def expected(graph: onnx.ModelProto, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime gives."""
    return Runner(graph).run(dict(feeds))
