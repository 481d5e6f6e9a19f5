"""ixRT's Python module, of the version that the machine has."""

from iluvatar_stand_in.engine import make as _make
from nvidia_stand_in import machine as _machine

_made = _make(_machine.machine.version)
__version__ = _made.data["version"]
globals().update({name: item for name, item in _made.names.items() if "." not in name})
