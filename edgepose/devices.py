"""Devices by name: parsing, and detection by what the operating system shows.

Detection looks at device files and system text, and asks the tool of a driver where it is the only one who knows; it
loads no vendor's software.  Whether an engine API can use a device is the business of the runtimes
(:meth:`edgepose.plugins.Runtime.probe`).
"""

from __future__ import annotations

import difflib
import functools
import platform
import re
import sys
from dataclasses import dataclass
from typing import Protocol

from .errors import DeviceError
from .system import System, module_at

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


@dataclass(frozen=True)
class Step:
    """One thing that a device needs.

    Attributes
    ----------
    part
        What it is: ``driver``, ``device files``, ``SDK``, ``Python binding``.
    looked_for
        What was looked for.
    found
        What was found; empty if it is missing or cannot be used.
    remedy
        The command or the place that mends it when it is missing.
    """

    part: str
    looked_for: str
    found: str
    remedy: str = ""


class _Kind(Protocol):
    def detect(self, system: System) -> Detection: ...

    def steps(self, system: System) -> list[Step]: ...


def parse_device(text: str) -> Device:
    """``name`` or ``name:index`` -> Device.

    Raises
    ------
    DeviceError
        If the name is unknown or the index is not a number.
    """
    name, colon, index = text.strip().lower().partition(":")
    if name != AUTO and name not in _KINDS:
        near = difflib.get_close_matches(name, _KINDS, n=1)
        raise DeviceError(
            f"There is no device '{text}'." + (f" Did you mean '{near[0]}'?" if near else ""),
            hint=f"Devices: {', '.join((AUTO, *_KINDS))}; with an optional index, 'ascend310:1' for instance.",
        )
    if colon and not re.fullmatch(r"[0-9]{1,4}", index):
        raise DeviceError(f"'{text}': the index after the colon must be a number.", hint="For instance: ascend310:1")
    return Device(name, int(index) if colon else 0)


def device_names() -> tuple[str, ...]:
    """All kinds of device that edgepose knows, in order of preference for ``auto``."""
    return tuple(_KINDS)


def detect(name: str, system: System | None = None) -> Detection:
    """Look for devices of the kind ``name``, here or on another system's files."""
    return _KINDS[name].detect(system or System())


def steps(name: str, system: System | None = None) -> list[Step]:
    """What a device of the kind ``name`` needs, in the order in which it has to be installed."""
    return _KINDS[name].steps(system or System())


@functools.cache
def processor() -> str:
    """The CPU's model and the instruction sets that decide the speed of neural networks."""
    text = System().text("/proc/cpuinfo")
    if not text:
        return platform.processor() or platform.machine()
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    have = set(flags.group(1).split()) if flags else set()
    wanted = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm")
    named = model.group(1).strip() if model else platform.machine()
    return f"{named} ({', '.join(f for f in wanted if f in have) or 'no vector extensions known'})"


class _Cpu:
    """Always here."""

    def detect(self, system: System) -> Detection:
        return Detection("cpu", True, "/proc/cpuinfo", processor())

    def steps(self, system: System) -> list[Step]:
        return [Step("processor", "/proc/cpuinfo", processor())]


def _detection(name: str, looked_for: str, evidence: list[str], remedy: str) -> Detection:
    return Detection(name, bool(evidence), looked_for, ", ".join(evidence), "" if evidence else remedy)


def _device_files(system: System, looked_for: str, found: list[str], remedy: str) -> Step:
    """The step of the device files, which must be there and be ours to use."""
    group = system.not_ours(found)
    if group:
        return Step(
            "device files", looked_for, "", f'sudo usermod -aG {group} "$USER"   # then log in again; now they are not'
            f" ours to use: {', '.join(found)}",
        )  # fmt: skip
    return Step("device files", looked_for, ", ".join(found), remedy)


def _binding(modules: tuple[str, ...], remedy: str) -> Step:
    """The step of the Python module."""
    found = next((f"{m} ({at})" for m in modules if (at := module_at(m))), "")
    return Step("Python binding", f"Python module {' or '.join(modules)}", found, remedy)


#: Where CUDA's and TensorRT's libraries lie beside the system's folders, NVIDIA's wheels included.
_CUDA_FOLDERS = ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", "/usr/lib/*/nvidia", "/usr/lib/*/tegra")
#: Release of Jetson Linux (L4T) -> JetPack.  NVIDIA's JetPack archive.
_JETPACKS = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}
#: The oldest JetPack whose TensorRT (8.5) has the interface that edgepose uses.
_OLDEST_JETPACK = 5


def _cuda_library(system: System, remedy: str) -> Step:
    wheels = [f"{folder}/nvidia/*/lib" for folder in sys.path if folder.endswith("-packages")]
    found = system.libraries("libcudart.so", *_CUDA_FOLDERS, *wheels)
    return Step("SDK: CUDA runtime", "libcudart.so", found[0] if found else "", remedy)


class _Jetson:
    """NVIDIA's Jetson boards: everything comes with JetPack."""

    def detect(self, system: System) -> Detection:
        model = system.text("/proc/device-tree/model")
        evidence = [model] if "jetson" in model.lower() else []
        if system.files("/etc/nv_tegra_release"):
            evidence.append(self._release(system)[1])
        remedy = "On a Jetson, flash JetPack 5 or newer; TensorRT comes with it."
        return _detection("jetson", "/proc/device-tree/model, /etc/nv_tegra_release", evidence, remedy)

    def steps(self, system: System) -> list[Step]:
        board = self.detect(system)
        jetpack, named = self._release(system)
        container = "docker run --runtime nvidia ...   # in a container; on the board itself flash JetPack again"
        old = jetpack is not None and jetpack < _OLDEST_JETPACK
        flash = "Flash JetPack 5 or newer with NVIDIA's SDK Manager: https://developer.nvidia.com/sdk-manager"
        flash += f" (here is {named})" if old else ""
        files = system.files("/dev/nvhost-ctrl-gpu", "/dev/nvgpu/igpu0/ctrl", "/dev/nvmap", "/dev/nvidia0")
        tensorrt = system.libraries("libnvinfer.so", *_CUDA_FOLDERS)
        return [
            Step("board", board.looked_for, board.evidence, board.remedy),
            Step("driver: Jetson Linux", "JetPack 5 or newer in /etc/nv_tegra_release", "" if old else named, flash),
            _device_files(system, "/dev/nvhost-ctrl-gpu, /dev/nvgpu, /dev/nvmap", files, container),
            _cuda_library(system, "sudo apt install nvidia-jetpack"),
            Step("SDK: TensorRT", "libnvinfer.so", ", ".join(tensorrt[:1]), "sudo apt install nvidia-jetpack"),
            _binding(
                ("tensorrt",),
                "sudo apt install python3-libnvinfer; then use the system's Python:"
                " python3 -m venv --system-site-packages VENV",
            ),
        ]

    def _release(self, system: System) -> tuple[int | None, str]:
        """Number of the JetPack, None if not known; and the release in words, empty if there is none."""
        text = system.text("/etc/nv_tegra_release")
        found = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", text)
        if not found:
            return None, "/etc/nv_tegra_release" if system.files("/etc/nv_tegra_release") else ""
        jetpack = _JETPACKS.get(int(found.group(1)))
        named = f"Jetson Linux {found.group(1)}.{found.group(2)}"
        return (int(jetpack), f"{named} (JetPack {jetpack})") if jetpack else (None, named)


class _Cuda:
    """NVIDIA's GPUs in PCs and servers."""

    def detect(self, system: System) -> Detection:
        remedy = "Install the NVIDIA driver; in a container, start it with --gpus all."
        return _detection("cuda", "/dev/nvidia0, /dev/nvidia1, ...", system.files("/dev/nvidia[0-9]*"), remedy)

    def steps(self, system: System) -> list[Step]:
        version = re.search(r"Kernel Module[^\d]*([\d.]+)", system.text("/proc/driver/nvidia/version"))
        driver = f"NVIDIA driver {version.group(1)}" if version else ""
        cards = system.files("/dev/nvidia[0-9]*")
        controls = system.files("/dev/nvidiactl", "/dev/nvidia-uvm")
        remedy = "docker run --gpus all ...   # in a container; else: sudo nvidia-modprobe -u -c=0"
        files = _device_files(
            system,
            "/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm",
            [*cards, *controls] if cards and len(controls) == 2 else [],
            remedy,
        )
        return [
            Step(
                "driver", "/proc/driver/nvidia/version", driver,
                "sudo ubuntu-drivers install   # or NVIDIA's installer: https://www.nvidia.com/drivers",
            ),
            files,
            _cuda_library(system, "pip install nvidia-cuda-runtime"),
            _binding(("tensorrt", "tensorrt_rtx"), "pip install tensorrt   # or: pip install tensorrt-rtx"),
        ]  # fmt: skip


#: Huawei's PCI vendor, and the devices with these chips (msnpureport's and the samples' scripts of CANN).
_HUAWEI = "0x19e5"
_PCI_CHIPS = {"0xd100": "310", "0xd500": "310P", "0xd107": "310B"}
_ASCEND = "/usr/local/Ascend"


class _Ascend:
    """Huawei's Ascend 310 family: one set of device files for all, told apart by the chip's name."""

    def __init__(self, name: str, chip: str) -> None:
        self._name, self._chip = name, chip

    def detect(self, system: System) -> Detection:
        looked_for = "/dev/davinci0, /dev/davinci1, ..."
        cards, chips = system.files("/dev/davinci[0-9]*"), self._chips(system)
        remedy = (
            "Install the Ascend driver and firmware (npu-smi info must list the card);"
            " in a container, pass --device /dev/davinci0 --device /dev/davinci_manager."
        )
        if cards and chips and self._chip not in chips.values():
            others = sorted(set(chips.values()))
            known = [f"--device ascend{c.lower()}" for c in others if c in _PCI_CHIPS.values()]
            remedy = f"The card here is an Ascend {', '.join(chips)}." + (f" Use {known[0]}." if known else "")
            return Detection(self._name, False, f"an Ascend {self._chip} at {looked_for}", "", remedy)
        if cards:
            cards.append(f"Ascend {', '.join(chips)}" if chips else "which Ascend it is cannot be told without npu-smi")
        return _detection(self._name, looked_for, cards, remedy)

    def steps(self, system: System) -> list[Step]:
        driver = system.files(f"{_ASCEND}/driver/version.info") + [p for p in [system.program("npu-smi")] if p]
        found = self.detect(system)
        wrong = system.files("/dev/davinci[0-9]*") if not found.found else []
        files = system.files(
            "/dev/davinci[0-9]*", "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc", "/dev/svm0"
        )
        whole = found.found and "/dev/davinci_manager" in files
        container = (
            "docker run --device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm"
            " --device /dev/hisi_hdc ...   # in a container; else install the driver again and reboot"
        )
        return [
            Step(
                "driver", f"npu-smi, {_ASCEND}/driver", ", ".join(driver),
                "Install the driver and firmware of the card, then reboot: https://www.hiascend.com/hardware/firmware-drivers",
            ),
            Step("chip", f"an Ascend {self._chip}", "", found.remedy)
            if wrong
            else _device_files(
                system, "/dev/davinci0, /dev/davinci_manager", files if whole else [], container,
            ),
            self._sdk(system),
            _binding(("acl",), f"source {self._set_env(system) or f'{_ASCEND}/ascend-toolkit/set_env.sh'}"),
        ]  # fmt: skip

    def _sdk(self, system: System) -> Step:
        home = system.environment.get("ASCEND_HOME_PATH", "")
        set_env = self._set_env(system)
        newest = "CANN 8.2, the last for Ascend 310," if self._chip == "310" else "CANN"
        remedy = f"source {set_env}" if set_env else f"Install {newest} nnrt or toolkit: https://www.hiascend.com/cann"
        if home and not system.files(home):
            remedy = f"ASCEND_HOME_PATH names '{home}', which is not there. {remedy}"
            home = ""
        return Step("SDK: CANN", f"ASCEND_HOME_PATH, {_ASCEND}/*/set_env.sh", home, remedy)

    def _set_env(self, system: System) -> str:
        found = system.files(f"{_ASCEND}/ascend-toolkit/set_env.sh", f"{_ASCEND}/nnrt/set_env.sh")
        return found[0] if found else ""

    def _chips(self, system: System) -> dict[str, str]:
        """Name of each chip, 310P3 for instance -> which of the family; empty if it cannot be told."""
        table = system.said("npu-smi", "info")
        names = re.findall(r"^\s*\|\s*\d+\s+(?:Ascend)?(\d{3}[A-Z]?\w*)\s", table, re.MULTILINE) or [
            _PCI_CHIPS[chip]
            for path in system.files("/sys/bus/pci/devices/*/vendor")
            if system.text(path) == _HUAWEI and (chip := system.text(path.replace("/vendor", "/device"))) in _PCI_CHIPS
        ]
        return {name: name[:4] if name[3:4].isalpha() else name[:3] for name in names}


_COREX = "/usr/local/corex*"


class _Iluvatar:
    """Iluvatar's MR-V100: everything comes with the CoreX SDK."""

    def detect(self, system: System) -> Detection:
        tool = self._tool(system)
        evidence = system.files("/dev/iluvatar[0-9]*") + ([tool] if tool else [])
        remedy = "Install the Iluvatar CoreX SDK (ixsmi -L must list the card) and pass the device into the container."
        return _detection("mr-v100", "/dev/iluvatar0, ixsmi", evidence, remedy)

    def steps(self, system: System) -> list[Step]:
        tool = self._tool(system)
        library = system.libraries("libixrt.so", f"{_COREX}/lib64", f"{_COREX}/lib")
        unset = library and "corex" not in system.environment.get("LD_LIBRARY_PATH", "")
        return [
            Step(
                "driver", "ixsmi", tool,
                "Install Iluvatar's driver and CoreX SDK: https://support.iluvatar.com",
            ),
            _device_files(
                system, "/dev/iluvatar0", system.files("/dev/iluvatar[0-9]*"),
                "docker run --device /dev/iluvatar0 ...   # in a container; else install the driver again and reboot",
            ),
            Step(
                "SDK: ixRT", f"libixrt.so in {_COREX}/lib64", ", ".join(library[:1]),
                "Install the CoreX SDK with ixRT: https://support.iluvatar.com",
            ),
            _binding(
                ("ixrt", "tensorrt"),
                "export LD_LIBRARY_PATH=/usr/local/corex/lib64:$LD_LIBRARY_PATH"
                " PYTHONPATH=/usr/local/corex/lib64/python3/dist-packages:$PYTHONPATH"
                if unset
                else "pip install ixrt-*.whl   # the wheel that comes with the CoreX SDK",
            ),
        ]  # fmt: skip

    def _tool(self, system: System) -> str:
        return system.program("ixsmi") or next(iter(system.files(f"{_COREX}/bin/ixsmi")), "")


# In the order in which 'auto' prefers them.
_KINDS: dict[str, _Kind] = {
    "jetson": _Jetson(),
    "ascend310": _Ascend("ascend310", "310"),
    "ascend310p": _Ascend("ascend310p", "310P"),
    "ascend310b": _Ascend("ascend310b", "310B"),
    "mr-v100": _Iluvatar(),
    "cuda": _Cuda(),
    "cpu": _Cpu(),
}
