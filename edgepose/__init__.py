"""edgepose: human-pose models from the framework that trained them to the device that runs them.

The public names are loaded when they are first used, so that ``import edgepose`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "convert": ".conversion",
    "load": ".loading",
    "Estimator": ".estimator",
    "Poses": ".poses",
    "PoseSpec": ".spec",
    "KeypointSet": ".keypoints",
    "EdgePoseError": ".errors",
    "errors": None,
}

__all__ = ["EdgePoseError", "Estimator", "KeypointSet", "PoseSpec", "Poses", "__version__", "convert", "errors", "load"]

if TYPE_CHECKING:
    from . import errors
    from .conversion import convert
    from .errors import EdgePoseError
    from .estimator import Estimator
    from .keypoints import KeypointSet
    from .loading import load
    from .poses import Poses
    from .spec import PoseSpec


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgepose' has no attribute '{name}'")
    home = _HOME[name]
    value = (
        importlib.import_module(f".{name}", __name__)
        if home is None
        else getattr(importlib.import_module(home, __name__), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
