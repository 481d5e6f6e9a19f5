"""Stands in for pyACL: the calls that edgepose may use, with the arguments and results that pyACL's wrapper has.

Nothing here is lenient.  A wrong number or type of arguments is a TypeError, as it is there.  Whatever the vendor's
documentation forbids (a call before ``init``, without a context of this thread, on memory that was given back, in the
wrong order of release) is written to :attr:`~acl.world.World.violations`, besides the code that the call returns, so
that a test fails even where the caller looks over it.  Models are computed by ONNX Runtime.
"""

from . import mdl, rt, util
from .world import INVALID_PARAM, NOT_INITIALISED, REPEATED_FINALIZE, REPEATED_INIT, call, world

__all__ = ["create_data_buffer", "destroy_data_buffer", "finalize", "get_soc_name", "get_version", "init", "mdl"]
__all__ += ["rt", "util"]


@call("init", "|s", needs="")
def init(path=None):
    if world.finalized or world.initialized:
        return REPEATED_INIT
    world.initialized = True
    world.inits += 1
    return 0


@call("finalize", "", needs="")
def finalize():
    if world.finalized:
        world.violation("acl.finalize was called twice")
        return REPEATED_FINALIZE
    if not world.initialized:
        return NOT_INITIALISED
    if world.living():
        world.violation(f"acl.finalize while there are {world.living()}")
    world.finalized = True
    return 0


@call("get_version", "", needs="init", form="version")
def get_version():
    return (*world.version, 0)


@call("get_soc_name", "", needs="init", form="plain")
def get_soc_name():
    return world.soc


@call("create_data_buffer", "kk", needs="init", form="handle")
def create_data_buffer(pointer, size):
    memory = world.memory.get(pointer)
    if memory is None or memory.nbytes < size:
        world.violation("acl.create_data_buffer on memory that is not allocated")
        return 0
    return world.create("buffer", (pointer, size))


@call("destroy_data_buffer", "k", needs="init")
def destroy_data_buffer(buffer):
    return 0 if world.destroy("buffer", buffer) else INVALID_PARAM
