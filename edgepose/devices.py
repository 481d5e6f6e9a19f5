"""Devices by name: parsing, and detection by what the operating system shows.

Detection here looks at device files and system text only; it needs no vendor software.  Whether an engine API can use
a device is the business of the runtimes (:meth:`edgepose.plugins.Runtime.probe`).
"""

from __future__ import annotations

import difflib
import functools
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .errors import DeviceError

AUTO = "auto"


@dataclass(frozen=True)
class Device:
    """A kind of device and which one of that kind."""

    name: str
    index: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.index}" if self.index else self.name


@dataclass(frozen=True)
class Detection:
    """Whether a kind of device is here.

    Attributes
    ----------
    name
        Kind of device.
    found
        Whether there is one.
    looked_for
        What was looked for.
    evidence
        What was found; empty if nothing.
    remedy
        What to do when it should be here and is not.
    """

    name: str
    found: bool
    looked_for: str
    evidence: str = ""
    remedy: str = ""


def parse_device(text: str) -> Device:
    """``name`` or ``name:index`` -> Device.

    Raises
    ------
    DeviceError
        If the name is unknown or the index is not a number.
    """
    name, colon, index = text.strip().lower().partition(":")
    if name != AUTO and name not in _DETECTORS:
        near = difflib.get_close_matches(name, _DETECTORS, n=1)
        raise DeviceError(
            f"There is no device '{text}'." + (f" Did you mean '{near[0]}'?" if near else ""),
            hint=f"Devices: {', '.join((AUTO, *_DETECTORS))}; with an optional index, 'ascend310:1' for instance.",
        )
    if colon and not re.fullmatch(r"[0-9]{1,4}", index):
        raise DeviceError(f"'{text}': the index after the colon must be a number.", hint="For instance: ascend310:1")
    return Device(name, int(index) if colon else 0)


def device_names() -> tuple[str, ...]:
    """All kinds of device that edgepose knows, in order of preference for ``auto``."""
    return tuple(_DETECTORS)


def detect(name: str) -> Detection:
    """Look for devices of the kind ``name``."""
    return _DETECTORS[name]()


@functools.cache
def processor() -> str:
    """The CPU's model and the instruction sets that decide the speed of neural networks."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or platform.machine()
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    have = set(flags.group(1).split()) if flags else set()
    wanted = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm")
    named = model.group(1).strip() if model else platform.machine()
    return f"{named} ({', '.join(f for f in wanted if f in have) or 'no vector extensions known'})"


def _device_files(*patterns: str) -> list[str]:
    return sorted(str(p) for pattern in patterns for p in Path("/dev").glob(pattern))


def _found(name: str, looked_for: str, evidence: list[str], remedy: str) -> Detection:
    return Detection(name, bool(evidence), looked_for, ", ".join(evidence), "" if evidence else remedy)


def _detect_jetson() -> Detection:
    evidence = []
    try:
        model = Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        if "jetson" in model.lower():
            evidence.append(model)
    except OSError:
        pass
    if Path("/etc/nv_tegra_release").is_file():
        evidence.append("/etc/nv_tegra_release")
    return _found(
        "jetson",
        "/etc/nv_tegra_release, /proc/device-tree/model",
        evidence,
        "On a Jetson, flash JetPack 5 or newer; TensorRT comes with it.",
    )


def _detect_cuda() -> Detection:
    return _found(
        "cuda",
        "/dev/nvidia0, /dev/nvidia1, ...",
        _device_files("nvidia[0-9]*"),
        "Install the NVIDIA driver; in a container, start it with --gpus all.",
    )


def _detect_ascend(name: str) -> Callable[[], Detection]:
    def look() -> Detection:
        evidence = _device_files("davinci[0-9]*")
        tool = shutil.which("npu-smi")
        if evidence and tool:
            evidence.append(tool)
        return _found(
            name,
            "/dev/davinci0, /dev/davinci1, ...",
            evidence,
            "Install the Ascend driver and firmware (npu-smi info must list the card);"
            " in a container, pass --device /dev/davinci0 --device /dev/davinci_manager.",
        )

    return look


def _detect_iluvatar() -> Detection:
    evidence = _device_files("iluvatar[0-9]*")
    tool = shutil.which("ixsmi")
    if tool:
        evidence.append(tool)
    return _found(
        "mr-v100",
        "/dev/iluvatar0, ixsmi",
        evidence,
        "Install the Iluvatar CoreX SDK (ixsmi -L must list the card) and pass the device into the container.",
    )


def _detect_cpu() -> Detection:
    return Detection("cpu", True, "/proc/cpuinfo", processor())


# In the order in which 'auto' prefers them.
_DETECTORS: dict[str, Callable[[], Detection]] = {
    "jetson": _detect_jetson,
    "ascend310": _detect_ascend("ascend310"),
    "ascend310p": _detect_ascend("ascend310p"),
    "ascend310b": _detect_ascend("ascend310b"),
    "mr-v100": _detect_iluvatar,
    "cuda": _detect_cuda,
    "cpu": _detect_cpu,
}
