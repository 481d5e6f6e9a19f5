"""A machine with an NVIDIA GPU, made of stand-ins: TensorRT of a recorded version, and CUDA in one of its forms."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from edgepose_runtimes import cuda as cuda_module
from edgepose_runtimes import tensorrt_api

from edgepose import devices
from edgepose.system import System

STAND_INS = Path(__file__).parent / "stand_ins" / "nvidia"
#: Versions whose interface was recorded.
VERSIONS = ("8.6", "10.3", "10.13", "11.4")
#: Those that are told by flags what they may do.
WITH_FLAGS = ("8.6", "10.3", "10.13")
ORIN, OTHER = ("Orin", "8.7", 1 << 30, 16), ("NVIDIA GeForce RTX 4090", "8.9", 1 << 30, 128)
_BINDINGS = {"cuda.bindings.runtime": "13.4", "cuda.cudart": "12.9"}


def nvidia(
    monkeypatch: pytest.MonkeyPatch, cuda: str = "cuda.bindings.runtime", rtx: bool = False, **settings: Any
) -> Any:
    """Install the stand-ins for a test; gives their machine.

    Parameters
    ----------
    monkeypatch
        Takes them away again.
    cuda
        ``cuda.bindings.runtime``, ``cuda.cudart``, ``libcudart``, or ``""`` for none.
    rtx
        Whether TensorRT-RTX is installed in place of TensorRT.
    settings
        Of the machine.
    """
    for name in [n for n in sys.modules if n.split(".")[0] in ("tensorrt", "tensorrt_rtx", "cuda")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(STAND_INS))
    state = importlib.import_module("nvidia_stand_in.machine")
    cudart = importlib.import_module("nvidia_stand_in.cudart")
    machine = state.reset(**settings)
    # Set first, so that what is imported now is taken away again.
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx" if rtx else "tensorrt")
    if rtx:
        monkeypatch.syspath_prepend(str(STAND_INS / "rtx"))
    for name, version in _BINDINGS.items():
        module: Any = None
        if name == cuda:
            module = type(sys)(name)
            vars(module).update(cudart.bindings(version))
        monkeypatch.setitem(sys.modules, name, module)
    library = cudart.FakeCuda()

    def load(name: str, *_: Any, **__: Any) -> Any:
        if cuda != "libcudart" or name != "libcudart.so.12":
            raise OSError(f"{name}: cannot open shared object file")
        return library

    monkeypatch.setattr(cuda_module.ctypes, "CDLL", load)
    monkeypatch.setattr(tensorrt_api, "_LOGGERS", {})
    return machine


@contextmanager
def checked(machine: Any) -> Iterator[Any]:
    """Check at the end that nothing was done that crashes, and that all was given back."""
    yield machine
    gc.collect()
    assert machine.violations == []
    assert machine.living() == {}


def jetson(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operating system look like that of a Jetson."""
    (root / "etc").mkdir(parents=True)
    (root / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n")
    monkeypatch.setattr(devices, "System", partial(System, root))


def environment(**settings: Any) -> dict[str, str]:
    """Environment of a process that finds the stand-ins."""
    path = os.pathsep.join(filter(None, (str(STAND_INS), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "NVIDIA_STAND_IN": json.dumps(settings), "OMP_NUM_THREADS": "1"}


def head(plan: Path) -> Mapping[str, Any]:
    """What a stand-in's plan says about how it was built."""
    lines = plan.read_bytes().split(b"\n", 2)
    assert lines[0] == b"stand-in plan"
    return dict(json.loads(lines[1]))
