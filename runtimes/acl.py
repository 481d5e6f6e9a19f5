"""pyACL: ``.om`` files on Ascend devices."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from edgepose.devices import Device
from edgepose.errors import DeviceError
from edgepose.plugins import Probe, Session, Tensor, TensorInfo

from . import acl_calls, acl_process
from .acl_calls import Acl
from .acl_model import OmModel
from .ascend_devices import DEVICES, cann_version, release
from .feeds import check_feeds
from .options import refuse_unknown

#: Kind of device -> how the names of its SoCs begin, the more special ones first.
_SOCS = {"ascend310p": "Ascend310P", "ascend310b": "Ascend310B", "ascend310": "Ascend310"}
#: What the converter has written beside the engine.
RECORD = "atc.json"
_LONGEST_RECORD = 1 << 20


class PyAcl:
    """Opens ``.om`` files."""

    name = "acl"
    targets: Mapping[str, Sequence[str]] = MappingProxyType({"om": (".om",)})
    devices: Sequence[str] = DEVICES

    def probe(self, device: str | None = None) -> Probe:
        """See :meth:`edgepose.plugins.Runtime.probe`."""
        looked_for = "Python module acl (pyACL, part of CANN)"
        if not acl_calls.is_installed():
            return Probe(False, looked_for, remedy=acl_calls.remedy())
        try:
            return Probe(True, looked_for, f"pyACL ({getattr(acl_calls.load(), '__file__', 'built in')})")
        except DeviceError as error:
            return Probe(False, looked_for, "acl, which does not work here", f"{error.message} {error.hint or ''}")

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """See :meth:`edgepose.plugins.Runtime.open`.  There are no options."""
        if device.name not in _SOCS:
            raise DeviceError(f"pyACL cannot use the device '{device}'.", hint=f"Devices: {', '.join(self.devices)}.")
        refuse_unknown("pyACL", options, ())
        record = _record(engine)
        engine = _compiled(engine)
        acl = acl_process.started()
        count = acl.call("Cannot look for devices", "rt.get_device_count")
        if device.index >= count:
            numbers = f"0 to {count - 1}" if count > 1 else "0"
            raise DeviceError(
                f"There is no device '{device}': pyACL sees {count} device(s).",
                hint=f"Their numbers are {numbers}; npu-smi info lists them." if count else "Check: npu-smi info.",
            )
        soc = str(acl.call("Cannot look for devices", "get_soc_name"))
        compiled_for = record.get("soc_version")
        _check_soc(engine, device, soc, compiled_for if isinstance(compiled_for, str) else "")
        cann = cann_version()
        _check_release(engine, cann, str(record.get("cann", "")))
        told = f", CANN {cann}" if cann else ""
        placement = f"pyACL {_version(acl)}{told} on {soc}, device {device.index}"
        return AclSession(OmModel(acl, engine, device.index, _texts(record.get("outputs"))), str(engine), placement)


class AclSession:
    """An ``.om`` on a device.

    A model of several batch sizes takes any batch: it is run as often as needed, each time with the smallest of them
    that holds what is left.
    """

    def __init__(self, model: OmModel, engine: str, placement: str) -> None:
        self._model = model
        self._engine = engine
        self.inputs: Sequence[TensorInfo] = model.inputs
        self.outputs: Sequence[TensorInfo] = model.outputs
        self.placement = placement + _told(model)
        # A session that is forgotten gives its memory back; at the end of the interpreter acl_process sees to it.
        self._let_go = weakref.finalize(self, _close_quietly, model)
        self._let_go.atexit = False

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`edgepose.plugins.Session.run`."""
        given = {name: np.asarray(array) for name, array in feeds.items()}
        check_feeds(self._engine, self.inputs, given)
        arrays = [given[i.name] for i in self.inputs]
        if self._model.batches:
            results = self._in_batches(arrays)
        else:
            results = self._model.run(arrays, self._size(arrays) if self._model.sizes else None)
        return {info.name: array for info, array in zip(self.outputs, results, strict=True)}

    def close(self) -> None:
        """See :meth:`edgepose.plugins.Session.close`."""
        self._let_go.detach()
        self._model.close()

    def _in_batches(self, arrays: Sequence[Tensor]) -> list[Tensor]:
        batches = self._model.batches
        varying = [None in i.shape[:1] for i in self.inputs]
        counts = {len(a) for a, varies in zip(arrays, varying, strict=True) if varies}
        if len(counts) != 1 or 0 in counts:
            told = " and ".join(map(str, sorted(counts))) or "no"
            raise DeviceError(f"'{self._engine}' was fed {told} pictures.")
        (count,) = counts
        parts: list[list[Tensor]] = []
        done = 0
        while done < count:
            size = next((b for b in batches if b >= count - done), batches[-1])
            part = [
                _padded(a[done : done + size], size) if varies else a for a, varies in zip(arrays, varying, strict=True)
            ]
            parts.append([r[: count - done] for r in self._model.run(part, (size,))])
            done += size
        return [np.concatenate(results) if len(results) > 1 else results[0] for results in zip(*parts, strict=True)]

    def _size(self, arrays: Sequence[Tensor]) -> tuple[int, int]:
        """The profile for what is fed: where the declared shape is open, the array has its height and width."""
        for info, array in zip(self.inputs, arrays, strict=True):
            found = tuple(n for d, n in zip(info.shape, array.shape, strict=True) if d is None)
            if found in self._model.sizes:
                return found[0], found[1]
        known = ", ".join(f"{h} x {w}" for h, w in self._model.sizes)
        raise DeviceError(
            f"'{self._engine}' was compiled for the heights and widths {known},"
            f" and was fed {', '.join(str(list(a.shape)) for a in arrays)}.",
            hint="Fit pictures to one of them, or convert the checkpoint with this size in dynamic_image_size.",
        )


def _close_quietly(model: OmModel) -> None:
    try:
        model.close()
    except DeviceError:
        # Nobody is there to be told: the session was forgotten.
        return


def _padded(array: Tensor, count: int) -> Tensor:
    if len(array) == count:
        return array
    return np.concatenate([array, np.zeros((count - len(array), *array.shape[1:]), array.dtype)])


def _told(model: OmModel) -> str:
    if model.batches:
        return f", batches {', '.join(map(str, model.batches))}"
    return f", sizes {', '.join(f'{h}x{w}' for h, w in model.sizes)}" if model.sizes else ""


def _version(acl: Acl) -> str:
    if not acl.has("get_version"):
        return "of unknown version"
    return ".".join(map(str, acl.call("Cannot ask for the version", "get_version")))


def _compiled(engine: Path) -> Path:
    """The engine; for a bundle that holds a recipe, what was made by it since."""
    if engine.suffix.lower() == ".om":
        found = engine
    else:
        found = engine.with_name("model.om")
        if not found.is_file():
            raise DeviceError(
                f"'{engine.parent}' was prepared for atc and is not compiled yet.",
                hint=f"On a machine with CANN: cd '{engine.parent}' && sh atc.sh",
            )
    if not found.is_file():
        raise DeviceError(f"There is no file '{found}'.")
    return found


def _record(engine: Path) -> Mapping[str, Any]:
    """What the converter has written down about an engine; empty for one from elsewhere."""
    path = engine.with_name(RECORD)
    try:
        if path.stat().st_size > _LONGEST_RECORD:
            return {}
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _texts(value: Any) -> Sequence[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else ()


def _check_soc(engine: Path, device: Device, soc: str, compiled_for: str) -> None:
    """Whether this is the kind of device that was asked for, and that the engine is for.

    Raises
    ------
    DeviceError
        If it is not.
    """
    kind = next((k for k, begins in _SOCS.items() if soc.lower().startswith(begins.lower())), None)
    if kind != device.name:
        raise DeviceError(
            f"The device here is {soc}, not '{device.name}'.",
            hint=f"Use --device {kind}." if kind else "edgepose knows Ascend 310, 310P and 310B.",
        )
    if compiled_for and compiled_for.lower() != soc.lower():
        raise DeviceError(
            f"'{engine}' was compiled for {compiled_for}; the device here is {soc}.",
            hint=f"Convert the checkpoint again for it: edgepose convert ... --to om --option soc_version={soc}",
        )


def _check_release(engine: Path, here: str, compiled_with: str) -> None:
    """Whether CANN here is not older than the one that compiled the engine; said only where both are known.

    Raises
    ------
    DeviceError
        If it is older.
    """
    ours, theirs = release(here), release(compiled_with)
    if ours is not None and theirs is not None and ours < theirs:
        raise DeviceError(
            f"'{engine}' was compiled by CANN {compiled_with}; here is CANN {here}, and an engine runs on the version"
            " that compiled it or newer ones.",
            hint="Install that CANN here, or convert the checkpoint again with this one.",
        )
