"""Stands in for ``acl.rt``: devices, contexts, memory."""

import ctypes

from .world import INVALID_DEVICE, INVALID_PARAM, OUT_OF_MEMORY, call, world

_HOST_TO_HOST, _HOST_TO_DEVICE, _DEVICE_TO_HOST, _DEVICE_TO_DEVICE = range(4)


@call("rt.get_device_count", "", needs="init", form="value")
def get_device_count():
    return world.devices, 0


@call("rt.set_device", "i", needs="init")
def set_device(index):
    if not 0 <= index < world.devices:
        return INVALID_DEVICE
    world.set_devices[index] += 1
    return 0


@call("rt.reset_device", "i", needs="init")
def reset_device(index):
    if not world.set_devices[index]:
        world.violation("acl.rt.reset_device of a device that was not set")
        return INVALID_DEVICE
    on_it = [h for (kind, h), where in world.things.items() if kind == "context" and where == index]
    if on_it:
        world.violation("acl.rt.reset_device before the contexts on it were destroyed")
    # All that this process has on the device goes, however often it was set.
    world.set_devices[index] = 0
    return 0


@call("rt.create_context", "i", needs="init", form="value")
def create_context(index):
    if not 0 <= index < world.devices:
        return 0, INVALID_DEVICE
    handle = world.create("context", index)
    world.current.handle = handle
    return handle, 0


@call("rt.destroy_context", "k", needs="init")
def destroy_context(context):
    left = {k: n for k, n in world.living().items() if k not in ("context", "device")}
    if left and sum(kind == "context" for kind, _ in world.things) == 1:
        world.violation(f"acl.rt.destroy_context while there are {left}")
    return 0 if world.destroy("context", context) else INVALID_PARAM


@call("rt.set_context", "k", needs="init")
def set_context(context):
    if world.get("context", context) is None:
        return INVALID_PARAM
    world.current.handle = context
    return 0


@call("rt.get_run_mode", "", form="value")
def get_run_mode():
    return (0 if world.on_device else 1), 0


@call("rt.malloc", "ki", form="value")
def malloc(size, policy):
    if not size or policy not in (0, 1, 2):
        return 0, INVALID_PARAM
    pointer = world.allocate(size)
    return (0, OUT_OF_MEMORY) if pointer is None else (pointer, 0)


@call("rt.free", "k")
def free(pointer):
    if pointer not in world.memory:
        world.violation(f"acl.rt.free of {pointer:#x}, which is not allocated")
        return INVALID_PARAM
    if any(kind == "buffer" and value[0] == pointer for (kind, _), value in world.things.items()):
        world.violation("acl.rt.free of memory that a data buffer still points to")
    del world.memory[pointer]
    return 0


@call("rt.memcpy", "kkkki")
def memcpy(destination, room, source, count, kind):
    if count > room:
        return INVALID_PARAM
    to_device = kind in (_HOST_TO_DEVICE, _DEVICE_TO_DEVICE) and world.holding(destination, count) is not None
    from_device = kind in (_DEVICE_TO_HOST, _DEVICE_TO_DEVICE) and world.holding(source, count) is not None
    right = {_HOST_TO_DEVICE: to_device, _DEVICE_TO_HOST: from_device, _DEVICE_TO_DEVICE: to_device or from_device}
    if not right.get(kind) or (kind == _DEVICE_TO_DEVICE) != world.on_device:
        world.violation(f"acl.rt.memcpy of kind {kind} to or from where that is not")
        return INVALID_PARAM
    ctypes.memmove(destination, source, count)
    return 0
