"""Ascend devices, for engine APIs that do not say which are there."""

from __future__ import annotations

import re

from edgepose.devices import Device, detect
from edgepose.errors import DeviceError

DEVICES = ("ascend310", "ascend310b", "ascend310p")


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
