"""A machine with an Iluvatar MR-V100, made of stand-ins: ixRT, CoreX's CUDA, and the tool ``ixrtexec``."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from edgepose_runtimes import cuda as cuda_module
from edgepose_runtimes import tensorrt_api
from nvidia_machine import STAND_INS as NVIDIA

from edgepose import devices
from edgepose.system import System

STAND_INS = NVIDIA.parent / "iluvatar"
CARD = ("Iluvatar MR-V100", "7.1", 1 << 30, 16)
_OURS = ("tensorrt", "ixrt", "cuda", "iluvatar_stand_in")


def iluvatar(
    monkeypatch: pytest.MonkeyPatch, cuda: str = "cuda.cudart", module: str = "ixrt", folder: Path | None = None,
    **settings: Any,
) -> Any:  # fmt: skip
    """Install the stand-ins for a test; gives their machine.

    Parameters
    ----------
    monkeypatch
        Takes them away again.
    cuda
        ``cuda.cudart``, ``libcudart`` (in ``folder``), or ``""`` for none.
    module
        ``ixrt``, ``tensorrt`` for CoreX's alias of it, or ``nvidia`` for NVIDIA's TensorRT instead.
    folder
        Where the C library shall seem to lie.
    settings
        Of the machine.
    """
    for name in [n for n in sys.modules if n.split(".")[0] in _OURS]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(NVIDIA))
    monkeypatch.syspath_prepend(str(STAND_INS))
    if module == "tensorrt":
        monkeypatch.syspath_prepend(str(STAND_INS / "alias"))
    state = importlib.import_module("nvidia_stand_in.machine")
    machine = state.reset(**{"version": "10.3" if module == "nvidia" else "1.0.0", "gpus": [CARD], **settings})
    # Set first, so that what is imported now is taken away again.
    wanted = "tensorrt" if module == "nvidia" else module
    for name in ("ixrt", "tensorrt", "cuda", "cuda.cudart", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in (wanted, "cuda"):
        monkeypatch.delitem(sys.modules, name)
    if cuda == "cuda.cudart":
        monkeypatch.delitem(sys.modules, "cuda.cudart")
    library = importlib.import_module("nvidia_stand_in.cudart").FakeCuda()
    if folder is not None:
        place = folder / "corex" / "lib64"
        place.mkdir(parents=True, exist_ok=True)
        (place / "libcudart.so.10.2").touch()
        monkeypatch.setenv("LD_LIBRARY_PATH", str(place))

    real = cuda_module.ctypes.CDLL

    def load(name: str | None, *given: Any, **more: Any) -> Any:
        if name is None or "cudart" not in name:
            return real(name, *given, **more)
        if cuda != "libcudart" or folder is None or not name.startswith(str(folder)):
            raise OSError(f"{name}: cannot open shared object file")
        return library

    monkeypatch.setattr(cuda_module.ctypes, "CDLL", load)
    monkeypatch.setattr(tensorrt_api, "_LOGGERS", {})
    return machine


def card(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the operating system look like one with an MR-V100."""
    (root / "dev").mkdir(parents=True, exist_ok=True)
    (root / "dev" / "iluvatar0").touch()
    monkeypatch.setattr(devices, "System", partial(System, root))


def paths() -> str:
    """Search path of a process that finds the stand-ins."""
    return os.pathsep.join(filter(None, (str(STAND_INS), str(NVIDIA), os.environ.get("PYTHONPATH", ""))))


def environment(**settings: Any) -> dict[str, str]:
    """Environment of a process that finds the stand-ins."""
    settings = {"version": "1.0.0", "gpus": [CARD], **settings}
    return {**os.environ, "PYTHONPATH": paths(), "NVIDIA_STAND_IN": json.dumps(settings), "OMP_NUM_THREADS": "1"}


def ixrtexec(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: Any) -> Path:
    """Put the tool on the search path of programs; gives the folder in which it notes what it was told.

    Parameters
    ----------
    monkeypatch
        Takes it away again.
    folder
        Where it shall lie.
    settings
        What it is like, see the tool itself.
    """
    bin_folder = folder / "bin"
    bin_folder.mkdir(parents=True)
    program = bin_folder / "ixrtexec"
    given = {"notes": str(folder), **settings}
    told = environment(**given.pop("machine", {}))
    program.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        f"os.environ.update({ {k: told[k] for k in ('PYTHONPATH', 'NVIDIA_STAND_IN', 'OMP_NUM_THREADS')}!r})\n"
        f"os.environ['IXRTEXEC_STAND_IN'] = {json.dumps(given)!r}\n"
        f"os.execv(sys.executable, [sys.executable, {str(STAND_INS / 'ixrtexec.py')!r}, *sys.argv[1:]])\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def head(plan: Path) -> Mapping[str, Any]:
    """What a stand-in's plan says about how it was built."""
    lines = plan.read_bytes().split(b"\n", 2)
    assert lines[0] == b"stand-in plan of ixRT"
    return dict(json.loads(lines[1]))
