"""CUDA's runtime on Iluvatar's cards: CoreX's port of NVIDIA's old bindings, or CoreX's own C library."""

from __future__ import annotations

import os
from pathlib import Path

from edgepose.errors import DeviceError

from .cuda import Cuda, ways_to_cuda

#: CoreX ports the names that NVIDIA's bindings had before version 12.3; newer names are NVIDIA's own.
_MODULES = ("cuda.cudart",)
#: Where CoreX's installer puts its libraries.
_FOLDERS = ("usr/local/corex*/lib64", "usr/local/corex*/lib")
_NO_DRIVER = (
    "Iluvatar's driver must be installed and ixsmi -L must list the card; in a container, pass /dev/iluvatar0 in."
)


def find_corex_cuda() -> Cuda:
    """The first way to CUDA's runtime that finds a card; if none does, the first that there is.

    NVIDIA's bindings have the name of CoreX's, and may be installed as well, as a part of something else; they do not
    find the card.

    Raises
    ------
    DeviceError
        If there is no way.
    """
    ways = []
    for way in ways_to_cuda(_MODULES, _libraries(), _NO_DRIVER):
        ways.append(way)
        try:
            way.device_count()
        except DeviceError:
            continue
        return way
    if ways:
        return ways[0]
    raise DeviceError(
        f"CoreX's CUDA is not here: neither the Python module {_MODULES[0]} nor libcudart.so in /usr/local/corex.",
        hint="Install the CoreX SDK, and: export LD_LIBRARY_PATH=/usr/local/corex/lib64:$LD_LIBRARY_PATH",
    )


def _libraries() -> list[str]:
    """CoreX's own C libraries; one of NVIDIA under that name is not wanted."""
    folders = [folder for pattern in _FOLDERS for folder in sorted(Path("/").glob(pattern))]
    named = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    folders += [Path(n) for n in named if n.startswith("/") and "corex" in n]
    return [str(path) for folder in folders for path in sorted(folder.glob("libcudart.so*"))]
