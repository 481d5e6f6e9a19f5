"""Ascend devices, and the version of CANN, for engine APIs that do not say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from edgepose.devices import Device, detect
from edgepose.errors import DeviceError

DEVICES = ("ascend310", "ascend310b", "ascend310p")
_LONGEST = 1 << 16


def check_index(device: Device) -> None:
    """Whether the operating system shows a device of this kind and number.

    Devices are numbered from 0 in each process, whatever the numbers of their files are.

    Raises
    ------
    DeviceError
        If it is not.
    """
    seen = detect(device.name)
    if not seen.found:
        raise DeviceError(f"There is no {device.name} here (looked for {seen.looked_for}).", hint=seen.remedy)
    count = len(set(re.findall(r"davinci[0-9]+", seen.evidence)))
    if device.index >= count:
        raise DeviceError(
            f"There is no device '{device}': {count} /dev/davinci* are here.",
            hint="npu-smi info lists the devices; in a container, pass them with --device.",
        )


def cann_version(environment: Mapping[str, str] | None = None) -> str:
    """Version of the CANN whose environment is set, ``8.0.RC3`` for instance; empty if it cannot be told."""
    environment = os.environ if environment is None else environment
    home = environment.get("ASCEND_HOME_PATH") or environment.get("ASCEND_TOOLKIT_HOME")
    if not home:
        return ""
    root = Path(home)
    for file in sorted(root.glob("*-linux/ascend_*_install.info")) + sorted(root.glob("ascend_*_install.info")):
        try:
            with open(file, encoding="utf-8", errors="replace") as stream:
                text = stream.read(_LONGEST)
        except OSError:
            continue
        found = re.search(r"^version\s*=\s*v?(\d[\w.]*)", text, re.MULTILINE | re.IGNORECASE)
        if found:
            return found.group(1)
    # 'latest' holds links into the folder of a version.
    parts = [part for place in ("runtime", ".") for part in reversed((root / place).resolve().parts)]
    return next((part for part in parts if re.fullmatch(r"\d{1,2}\.\d{1,2}(\.\w+)*", part)), "")


def release(version: str) -> tuple[int, int] | None:
    """``8.0.RC3`` -> (8, 0); None if it is no version."""
    found = re.match(r"(\d{1,2})\.(\d{1,2})\b", version)
    return (int(found.group(1)), int(found.group(2))) if found else None
