"""A vendor's Python module with TensorRT's interface: finding it, and hearing what it says.

TensorRT, TensorRT-RTX and ixRT share the interface; CoreX installs ixRT under the name ``tensorrt`` as well.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

#: Messages kept of what the vendor's software says; the first ones of a failure tell the cause.
_KEPT_MESSAGES = 8


@dataclass(frozen=True, eq=False)
class VendorApi:
    """A vendor's module, ready to be used.

    Attributes
    ----------
    module
        The module.
    title
        How to call it in messages.
    version
        Its version.
    logger
        What its objects are made with; one for the whole process, as TensorRT wants it.
    """

    module: Any
    title: str
    version: str
    logger: Any

    def watch(self, thing: Any) -> Any:
        """An object of the module, which reports its errors from now on where the logger does not hear them."""
        recorder = getattr(self.logger, "recorder", None)
        if recorder is not None and thing is not None:
            with contextlib.suppress(AttributeError):  # not everything takes one in every version
                thing.error_recorder = recorder
        return thing

    def said(self) -> str:
        """The errors that it reported since this was asked last, in one line; or that it reported none."""
        messages: deque[str] = self.logger.messages
        lines = [messages.popleft() for _ in range(len(messages))]
        return " | ".join(dict.fromkeys(lines)) or f"{self.title} does not say why"


class NotFound(Exception):
    """None of the modules can be used; says which was looked for and why not."""


def find_api(title: str, names: Sequence[str], *, corex: bool = False) -> VendorApi:
    """Import the first of ``names`` that is there.

    Parameters
    ----------
    title
        How to call it in messages.
    names
        Modules, the preferred one first.
    corex
        Whether Iluvatar's software is wanted; what is not wanted is passed over, whatever its name.

    Raises
    ------
    NotFound
        If none is there.
    """
    reasons = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            reasons.append(f"no module {name}" if error.name == name.split(".")[0] else f"{name}: {error}")
            continue
        except Exception as error:  # loading the libraries behind it fails in many ways
            reasons.append(f"{name} cannot be imported: {error}")
            continue
        if not hasattr(module, "Builder") and not hasattr(module, "Runtime"):
            reasons.append(f"the module {name} is something else")
        elif is_corex(module) != corex:
            reasons.append(f"the module {name} is {'NVIDIA' if corex else 'Iluvatar CoreX'}'s")
        else:
            return VendorApi(module, title, str(getattr(module, "__version__", "unknown")), _logger_of(module))
    raise NotFound("; ".join(reasons))


def is_corex(module: ModuleType) -> bool:
    """Whether a module is Iluvatar's ixRT, under its own name or under that of TensorRT."""
    makers = [getattr(module, name, None) for name in ("Builder", "Runtime")]
    homes = {str(getattr(maker, "__module__", "")).split(".")[0] for maker in makers if maker is not None}
    if "ixrt" in homes or module.__name__.split(".")[0] == "ixrt":
        return True
    own = sys.modules.get("ixrt")
    if own is not None and makers[0] is not None and getattr(own, "Builder", None) is makers[0]:
        return True
    place = getattr(module, "__file__", None)
    return place is not None and any(Path(place).parent.glob("lib*/libixrt*"))


_LOGGERS: dict[str, Any] = {}
_LOGGERS_LOCK = threading.Lock()


def _logger_of(module: Any) -> Any:
    with _LOGGERS_LOCK:
        if module.__name__ not in _LOGGERS:
            corex = is_corex(module)
            logger = _LOGGERS[module.__name__] = _make_corex_logger(module) if corex else _make_logger(module)
            # Plans and graphs may need operators of the vendor's plug-in library.
            if hasattr(module, "init_libnvinfer_plugins") and (not corex or _load_corex_plugins(module)):
                module.init_libnvinfer_plugins(logger, "")
        return _LOGGERS[module.__name__]


def _make_logger(module: Any) -> Any:
    """A logger that keeps errors; without this the vendor prints them between the user's lines."""
    worst = int(module.ILogger.Severity.ERROR)

    def prepare(self: Any) -> None:
        module.ILogger.__init__(self)
        self.messages = deque(maxlen=_KEPT_MESSAGES)

    def log(self: Any, severity: Any, msg: str) -> None:
        if int(severity) <= worst and len(self.messages) < _KEPT_MESSAGES:
            self.messages.append(" ".join(str(msg).split()))

    return type("ErrorLog", (module.ILogger,), {"__init__": prepare, "log": log})()


def _make_corex_logger(module: Any) -> Any:
    """A logger of ixRT, whose errors are heard by a recorder: only its own logger is known to work from Python."""
    messages: deque[str] = deque(maxlen=_KEPT_MESSAGES)

    def hear(self: Any, val: Any, desc: str) -> None:
        if len(messages) < _KEPT_MESSAGES:
            messages.append(" ".join(str(desc).split()))

    heard = {
        "report_error": hear,
        "num_errors": lambda self: len(messages),
        "get_error_code": lambda self, index: module.ErrorCodeTRT.UNSPECIFIED_ERROR,
        "get_error_desc": lambda self, index: messages[index],
        "has_overflowed": lambda self: False,
        "clear": lambda self: messages.clear(),
    }
    logger = type("ErrorLog", (module.Logger,), {})(module.Logger.ERROR)
    logger.messages = messages
    heard_by = getattr(module, "IErrorRecorder", None)
    logger.recorder = None if heard_by is None else type("ErrorRecorder", (heard_by,), heard)()
    return logger


def _load_corex_plugins(module: Any) -> bool:
    """Load ixRT's library of plug-ins, which nothing else does; whether it is there."""
    for library in sorted(Path(module.__file__ or "").parent.glob("lib*/libixrt_plugin.so")):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            continue
        return True
    return False
