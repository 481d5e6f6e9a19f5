"""TensorRT's Python module, of the version that the machine has."""

from nvidia_stand_in import machine as _machine
from nvidia_stand_in.engine import make as _make

_made = _make(_machine.machine.version)
__version__ = _made.data["version"]
globals().update({name: item for name, item in _made.names.items() if "." not in name})


def init_libnvinfer_plugins(logger, namespace):
    """The library of plug-ins, which is always there."""
    assert isinstance(logger, _made.names["ILogger"])
    assert namespace == ""
    return True
