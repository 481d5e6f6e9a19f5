"""What pyACL has once in a process: its initialisation, its devices, and the end.

``acl.init`` may be called once in a process and not again after ``acl.finalize``, so it is called for the first session
and finalised when the interpreter ends, after all that is still open has been released.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable

from edgepose.errors import DeviceError

from .acl_calls import REPEATED_INIT, Acl, AclError, load

#: Seconds that a run in another thread has to end when the interpreter does.
_GRACE = 10.0

_lock = threading.RLock()


class _Process:
    """State of this process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.acl: Acl | None = None
        #: Whether ``acl.init`` was ours to call, and so ``acl.finalize`` is.
        self.ours = False
        self.ended = False
        self.users: Counter[int] = Counter()
        self.open: dict[int, Callable[[float], bool]] = {}


_process = _Process()


def started() -> Acl:
    """pyACL, initialised.

    Raises
    ------
    DeviceError
        If it is not here or cannot be initialised, or this process was forked from one that uses it.
    """
    with _lock:
        check_process()
        if _process.ended:
            raise DeviceError("The interpreter is ending; no device can be opened any more.")
        if _process.acl is None:
            acl = Acl(load())
            try:
                acl.call("Cannot initialise pyACL", "init")
                _process.ours = True
            except AclError as error:
                # Another library of this process, MindSpore for instance, was first; the end is its business too.
                if error.code != REPEATED_INIT:
                    raise
            _process.acl = acl
            atexit.register(_end)
        return _process.acl


def check_process() -> None:
    """Refuse to work in a process that was forked from the one that initialised pyACL.

    Raises
    ------
    DeviceError
        If this is one.
    """
    if _process.pid != os.getpid() and _process.acl is not None:
        raise DeviceError(
            "pyACL was initialised before this process was forked, and does not work in it.",
            hint="Start processes with multiprocessing's method 'spawn', or load the model in the child alone.",
        )
    _process.pid = os.getpid()


def set_device(acl: Acl, index: int) -> None:
    """Make a device this thread's; balanced by :func:`reset_device`.

    Raises
    ------
    DeviceError
        If the device cannot be used.
    """
    with _lock:
        acl.call(f"Cannot open device {index}", "rt.set_device", index)
        _process.users[index] += 1


def reset_device(acl: Acl, index: int) -> None:
    """Give a device back; it is reset when nobody of this process uses it any more."""
    with _lock:
        _process.users[index] -= 1
        if not _process.users[index]:
            acl.call(f"Cannot reset device {index}", "rt.reset_device", index)


def register(key: int, close: Callable[[float], bool]) -> None:
    """Have something released at the end at the latest.

    Parameters
    ----------
    key
        Under which :func:`unregister` finds it.
    close
        Releases it within so many seconds and says whether it did.
    """
    with _lock:
        _process.open[key] = close


def unregister(key: int) -> None:
    """It was released; may be called twice."""
    with _lock:
        _process.open.pop(key, None)


def _end() -> None:
    """Release what is open and finalise, when the interpreter ends."""
    if _process.pid != os.getpid() or _process.acl is None:
        return
    with _lock:
        _process.ended = True
        left = list(_process.open.values())
    # Without the lock: what is running in another thread may need it to end.
    released = [close(_GRACE) for close in left]
    # Something that runs still would lose its device in the middle; the driver takes all back when the process is gone.
    if all(released) and _process.ours:
        with contextlib.suppress(DeviceError):
            _process.acl.call("Cannot finalise pyACL", "finalize")
