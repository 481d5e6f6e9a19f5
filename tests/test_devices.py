"""Detection and what is missing, on file systems planted for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepose.devices import Step, detect, device_names, steps
from edgepose.system import System

NPU_SMI = """\
+------------------------------------------------------------------------------------+
| npu-smi 23.0.0                           Version: 23.0.0                           |
+---------------------------+-----------------+--------------------------------------+
| NPU     Name              | Health          | Power(W)     Temp(C)                 |
| Chip    Device            | Bus-Id          | AICore(%)    Memory-Usage(MB)        |
+===========================+=================+======================================+
| 0       {name}             | OK              | 15.8         42                      |
| 0       0                 | 0000:82:00.0    | 0            1074 / 21534            |
+===========================+=================+======================================+
"""
Plant = Callable[..., System]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """Files of a system: path -> text, or None for an empty file; programs are shell scripts that print a text."""

    def make(
        files: dict[str, str | None] | None = None,
        programs: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> System:
        for path, text in (files or {}).items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text or "")
        for path, text in (programs or {}).items():
            place = tmp_path / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
            place.chmod(0o755)
        return System(tmp_path, environment or {})

    return make


def first_missing(found: list[Step]) -> Step:
    return next(s for s in found if not s.found)


def parts(found: list[Step]) -> list[str]:
    return [s.part.partition(":")[0] for s in found]


@pytest.mark.parametrize("name", [n for n in device_names() if n != "cpu"])
def test_an_empty_system_has_nothing_and_says_what_to_do(plant: Plant, name: str) -> None:
    system = plant()
    seen = detect(name, system)
    assert not seen.found
    assert seen.remedy
    found = steps(name, system)
    assert parts(found)[-1] == "Python binding"
    assert "device files" in parts(found)
    assert parts(found).index("device files") < parts(found).index("SDK")
    for step in found[:-1]:
        assert not step.found
        assert step.remedy
        assert step.looked_for


def test_the_cpu_is_always_here(plant: Plant) -> None:
    assert detect("cpu", plant()).found
    assert [s.part for s in steps("cpu", plant())] == ["processor"]


ASCEND_FILES = {"/dev/davinci0": None, "/dev/davinci_manager": None, "/dev/devmm_svm": None, "/dev/hisi_hdc": None}


@pytest.mark.parametrize(
    ("name", "device"),
    [("310  ", "ascend310"), ("310P3", "ascend310p"), ("310P1", "ascend310p"), ("310B4", "ascend310b")],
)
@pytest.mark.parametrize("folder", ["/usr/local/sbin", "/usr/local/bin"])
def test_the_name_of_the_chip_decides(plant: Plant, name: str, device: str, folder: str) -> None:
    system = plant(ASCEND_FILES, {f"{folder}/npu-smi": NPU_SMI.format(name=name)})
    found = [n for n in device_names() if n.startswith("ascend") and detect(n, system).found]
    assert found == [device]
    other = next(n for n in device_names() if n.startswith("ascend") and n != device)
    assert f"--device {device}" in detect(other, system).remedy
    assert f"--device {device}" in first_missing(steps(other, system)).remedy
    assert name.strip() in detect(device, system).evidence
    assert first_missing(steps(device, system)).part == "SDK: CANN"


@pytest.mark.parametrize(
    ("code", "device"), [("0xd100", "ascend310"), ("0xd500", "ascend310p"), ("0xd107", "ascend310b")]
)
def test_without_the_tool_the_bus_tells_the_chip(plant: Plant, code: str, device: str) -> None:
    card = "/sys/bus/pci/devices/0000:82:00.0"
    system = plant({**ASCEND_FILES, f"{card}/vendor": "0x19e5\n", f"{card}/device": f"{code}\n"})
    assert [n for n in device_names() if n.startswith("ascend") and detect(n, system).found] == [device]


def test_a_chip_of_unknown_name_may_be_any(plant: Plant) -> None:
    system = plant(ASCEND_FILES)
    for name in ("ascend310", "ascend310p", "ascend310b"):
        assert "cannot be told" in detect(name, system).evidence


def test_another_chip_of_the_vendor_is_none_of_the_family(plant: Plant) -> None:
    system = plant(ASCEND_FILES, {"/usr/local/bin/npu-smi": NPU_SMI.format(name="910B2")})
    for name in ("ascend310", "ascend310p", "ascend310b"):
        seen = detect(name, system)
        assert not seen.found
        assert "910B2" in seen.remedy
        assert "--device" not in seen.remedy


def test_a_tool_that_fails_or_prints_nonsense_is_no_evidence(plant: Plant, tmp_path: Path) -> None:
    tool = tmp_path / "usr/local/bin/npu-smi"
    system = plant(ASCEND_FILES, {"/usr/local/bin/npu-smi": "dcmi model initialized failed"})
    assert detect("ascend310b", system).found
    other = tmp_path / "usr/local/sbin/npu-smi"
    other.parent.mkdir(parents=True)
    tool.unlink()
    other.write_text(f"#!/bin/sh\necho '{NPU_SMI.format(name='310P3').splitlines()[6]}'\nexit 3\n")
    other.chmod(0o755)
    assert detect("ascend310b", system).found


def test_cann_is_installed_but_not_sourced(plant: Plant) -> None:
    script = "/usr/local/Ascend/ascend-toolkit/set_env.sh"
    files = {**ASCEND_FILES, script: None}
    programs = {"/usr/local/bin/npu-smi": NPU_SMI.format(name="310P3")}
    missing = first_missing(steps("ascend310p", plant(files, programs)))
    assert (missing.part, missing.remedy) == ("SDK: CANN", f"source {script}")
    home = "/usr/local/Ascend/ascend-toolkit/latest"
    system = plant({f"{home}/version.cfg": None}, None, {"ASCEND_HOME_PATH": home})
    missing = first_missing(steps("ascend310p", system))
    assert (missing.part, missing.remedy) == ("Python binding", f"source {script}")
    system = plant(None, None, {"ASCEND_HOME_PATH": "/opt/removed"})
    missing = first_missing(steps("ascend310p", system))
    assert missing.part == "SDK: CANN"
    assert "/opt/removed" in missing.remedy
    assert f"source {script}" in missing.remedy


def test_the_oldest_chip_is_told_the_last_cann_for_it(plant: Plant) -> None:
    system = plant(ASCEND_FILES, {"/usr/local/bin/npu-smi": NPU_SMI.format(name="310  ")})
    assert "8.2" in first_missing(steps("ascend310", system)).remedy


def test_a_card_without_its_manager_is_a_container_that_was_started_wrongly(plant: Plant) -> None:
    system = plant({"/dev/davinci0": None}, {"/usr/local/bin/npu-smi": NPU_SMI.format(name="310P3")})
    missing = first_missing(steps("ascend310p", system))
    assert missing.part == "device files"
    assert "--device /dev/davinci_manager" in missing.remedy


ORIN = {
    "/proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
}


def test_a_jetson_and_its_jetpack(plant: Plant) -> None:
    system = plant(ORIN)
    seen = detect("jetson", system)
    assert "Orin Nano" in seen.evidence
    assert "36.4.3 (JetPack 6)" in seen.evidence
    assert first_missing(steps("jetson", system)).part == "device files"
    system = plant({"/dev/nvhost-ctrl-gpu": None})
    missing = first_missing(steps("jetson", system))
    assert (missing.part, missing.remedy) == ("SDK: CUDA runtime", "sudo apt install nvidia-jetpack")
    system = plant({"/usr/local/cuda-12.6/targets/aarch64-linux/lib/libcudart.so.12.6.68": None})
    assert first_missing(steps("jetson", system)).part == "SDK: TensorRT"
    system = plant({"/usr/lib/aarch64-linux-gnu/libnvinfer.so.10": None})
    found = steps("jetson", system)
    assert [s.part for s in found if not s.found] in ([], ["Python binding"])
    assert "python3-libnvinfer" in found[-1].remedy


@pytest.mark.parametrize(
    ("release", "jetpack"), [("R35 (release), REVISION: 4.1", "5"), ("R38 (release), REVISION: 2.0", "7")]
)
def test_releases_of_jetson_linux(plant: Plant, release: str, jetpack: str) -> None:
    assert (
        f"JetPack {jetpack}" in detect("jetson", plant({"/etc/nv_tegra_release": f"# {release}, GCID: 1\n"})).evidence
    )


def test_a_jetpack_that_is_too_old(plant: Plant) -> None:
    system = plant({**ORIN, "/etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1\n"})
    missing = first_missing(steps("jetson", system))
    assert missing.part.startswith("driver")
    assert "JetPack 4" in missing.remedy
    assert "JetPack 5 or newer" in missing.remedy


def test_a_release_of_unknown_form_is_still_a_jetson(plant: Plant) -> None:
    assert detect("jetson", plant({"/etc/nv_tegra_release": "something else"})).found


def test_a_gpu_in_a_server(plant: Plant) -> None:
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
    system = plant({"/proc/driver/nvidia/version": version})
    assert not detect("cuda", system).found
    found = steps("cuda", system)
    assert found[0].found == "NVIDIA driver 535.104.05"
    assert "--gpus all" in first_missing(found).remedy
    system = plant({"/dev/nvidia0": None})
    assert detect("cuda", system).found
    assert first_missing(steps("cuda", system)).part == "device files"
    system = plant({"/dev/nvidiactl": None, "/dev/nvidia-uvm": None})
    assert steps("cuda", system)[1].found
    system = plant({"/opt/cuda/libcudart.so.12": None}, None, {"LD_LIBRARY_PATH": "/opt/cuda"})
    assert steps("cuda", system)[2].found == "/opt/cuda/libcudart.so.12"


def test_an_iluvatar_card(plant: Plant) -> None:
    system = plant({"/dev/iluvatar0": None})
    assert detect("mr-v100", system).found
    assert first_missing(steps("mr-v100", system)).part == "driver"
    system = plant(None, {"/usr/local/corex/bin/ixsmi": "GPU 0: Iluvatar MR-V100"})
    assert first_missing(steps("mr-v100", system)).part == "SDK: ixRT"
    system = plant({"/usr/local/corex/lib64/libixrt.so": None})
    assert "LD_LIBRARY_PATH" in steps("mr-v100", system)[-1].remedy
    system = plant(None, None, {"LD_LIBRARY_PATH": "/usr/local/corex/lib64"})
    assert ".whl" in steps("mr-v100", system)[-1].remedy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every file")
def test_device_files_of_others(plant: Plant, tmp_path: Path) -> None:
    system = plant({"/dev/iluvatar0": None}, {"/usr/local/bin/ixsmi": ""})
    (tmp_path / "dev/iluvatar0").chmod(stat.S_IRUSR)
    missing = first_missing(steps("mr-v100", system))
    assert missing.part == "device files"
    assert "usermod -aG" in missing.remedy


def test_nothing_of_this_system_is_looked_at(plant: Plant, tmp_path: Path) -> None:
    system = plant({"/dev/nvidia0": None})
    assert system.files("/dev/*") == ["/dev/nvidia0"]
    assert system.text("/proc/cpuinfo") == ""
    assert system.program("sh") == ""
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/sh").symlink_to("/bin/sh")
    assert system.program("sh") == str(tmp_path / "usr/bin/sh")
