"""The state behind the stand-in of pyACL."""

import atexit
import functools
import itertools
import json
import os
import threading
from collections import Counter

import numpy as np

INVALID_PARAM, NOT_INITIALISED, REPEATED_INIT, REPEATED_FINALIZE = 100000, 100001, 100002, 100037
INVALID_FILE, INVALID_MODEL, NO_CONTEXT, INVALID_DEVICE = 100003, 100011, 107002, 107001
OUT_OF_MEMORY, LOAD_FAILED, BAD_BATCH, BAD_SHAPE = 207001, 545001, 145013, 145021
#: Settings of a process that a test starts, as JSON.
SETTINGS = "ACL_STAND_IN"


class World:
    """One process with its devices.

    Attributes
    ----------
    devices, soc, version, on_device, memory_limit
        What the machine is like.
    failing
        Call -> code that it returns instead of doing anything; with ``(code, n)`` only its n-th call does.
    violations
        What was done that must not be.
    calls, executed
        Names of all calls in their order; the profile of each run.
    """

    def __init__(self):
        self.devices, self.soc, self.version = 1, "Ascend310", (1, 7, 0)
        self.on_device, self.memory_limit = False, 256 << 20
        self.failing, self.delay, self.report = {}, 0.0, ""
        self.initialized = self.finalized = False
        self.inits = 0
        self.violations, self.calls, self.executed = [], [], []
        self.counted = Counter()
        self.memory, self.things, self.current = {}, {}, threading.local()
        self.set_devices, self.profiles, self.busy = Counter(), {}, set()
        self._handles = itertools.count(0x10000, 16)
        self.lock = threading.RLock()
        self.set(json.loads(os.environ.get(SETTINGS, "{}")))

    def set(self, settings):
        for name, value in settings.items():
            if not hasattr(self, name):
                raise AttributeError(name)
            setattr(self, name, value)

    def violation(self, what):
        self.violations.append(what)

    def create(self, kind, value):
        handle = next(self._handles)
        self.things[kind, handle] = value
        return handle

    def destroy(self, kind, handle):
        """Whether there was such a thing."""
        if self.things.pop((kind, handle), None) is None:
            self.violation(f"{kind} {handle:#x} was destroyed twice or never made")
            return False
        return True

    def get(self, kind, handle):
        found = self.things.get((kind, handle))
        if found is None:
            self.violation(f"{kind} {handle:#x} was used though it does not exist")
        return found

    def allocate(self, size):
        """Address of so many bytes on the device; None if there is not enough."""
        if self.used() + size > self.memory_limit:
            return None
        block = np.empty(max(size, 1), np.uint8)
        self.memory[block.ctypes.data] = block
        return block.ctypes.data

    def used(self):
        models = sum(m.weight_size for (kind, _), m in self.things.items() if kind == "model")
        return models + sum(block.nbytes for block in self.memory.values())

    def holding(self, pointer, size):
        """The bytes at an address of the device, or None if they are not within one allocation."""
        for start, block in self.memory.items():
            if start <= pointer and pointer + size <= start + block.nbytes:
                return block[pointer - start : pointer - start + size]
        return None

    def context(self):
        """This thread's context, if it still exists."""
        handle = getattr(self.current, "handle", None)
        return handle if ("context", handle) in self.things else None

    def living(self):
        """What has not been released: kind -> number."""
        counts = Counter(kind for kind, _ in self.things)
        counts.update(memory=len(self.memory), device=sum(self.set_devices.values()))
        return {kind: count for kind, count in counts.items() if count}


world = World()


def reset(**settings):
    """A new machine; for tests within one process.  ``acl.init`` was not called on it."""
    world.__init__()
    world.set(settings)
    return world


@atexit.register
def _report():
    """Say at the very end what is left, where a test that has started this process wants to know."""
    if world.report:
        left = {"violations": world.violations, "living": world.living(), "finalized": world.finalized}
        with open(world.report, "w") as stream:
            json.dump(left, stream)


_CHECKS = {
    "k": lambda a: type(a) is int,
    "K": lambda a: type(a) is int,
    "I": lambda a: type(a) is int,
    "i": lambda a: type(a) is int and -(2**31) <= a < 2**31,
    "s": lambda a: type(a) is str,
}


def call(name, arguments, needs="context", form="code", empty=0):
    """Make a function a call of pyACL.

    ``arguments`` is its format in the wrapper; ``needs`` is what must be there: nothing, ``init`` or a ``context`` of
    this thread; ``form`` is what it returns: a code, a value and a code (``empty`` where it fails), or neither.
    """
    required, _, optional = arguments.partition("|")

    def decorate(function):
        @functools.wraps(function)
        def wrapped(*given, **named):
            if named:
                raise TypeError(f"acl.{name}() takes no keyword arguments")
            kinds = (required + optional)[: len(given)]
            fits = len(required) <= len(given) <= len(required + optional)
            if not fits or not all(_CHECKS[k](a) for k, a in zip(kinds, given, strict=True)):
                raise TypeError(f"acl.{name} args parse failed")
            with world.lock:
                world.calls.append(name)
                world.counted[name] += 1
                code = _refused(name, needs)
            if code:
                return {"code": code, "value": (empty, code), "handle": 0, "plain": empty, "version": (0, 0, 0, code)}[
                    form
                ]
            return function(*given)

        return wrapped

    return decorate


def _refused(name, needs):
    planned = world.failing.get(name)
    if planned is not None:
        code, nth = planned if isinstance(planned, (tuple, list)) else (planned, None)
        if nth is None or world.counted[name] == nth:
            return code
    if needs and (not world.initialized or world.finalized):
        world.violation(f"acl.{name} before acl.init or after acl.finalize")
        return NOT_INITIALISED
    if needs == "context" and world.context() is None:
        world.violation(f"acl.{name} without a context of this thread")
        return NO_CONTEXT
    return 0
