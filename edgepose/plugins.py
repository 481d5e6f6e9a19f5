"""Finding converters and runtimes, and what they must be able to do.

Plug-ins are found through the entry-point groups ``edgepose.converters`` and ``edgepose.runtimes``.  An entry point
names a class without constructor arguments; it is imported only when asked for, and it imports its vendor's SDK only
when it is used, so that a missing SDK costs nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy.typing as npt

from .errors import PluginError

if TYPE_CHECKING:
    from .devices import Device
    from .model import PoseModel
    from .quantization.scheme import Scheme
    from .spec import PoseSpec

Tensor = npt.NDArray[Any]


@dataclass(frozen=True)
class Probe:
    """What a plug-in found out about the software it stands on.

    Attributes
    ----------
    available
        Whether it can be used here.
    looked_for
        What was looked for (a Python module, a program, a device file).
    found
        What was found, with its version; empty if nothing.
    remedy
        The command or the place that mends it; empty if it is available.
    """

    available: bool
    looked_for: str
    found: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class TensorInfo:
    """Name, shape (None where dynamic) and NumPy dtype name of a session's input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


class Session(Protocol):
    """A loaded engine.  Safe to use from one thread at a time."""

    @property
    def inputs(self) -> Sequence[TensorInfo]:
        """What :meth:`run` must be fed."""
        ...

    @property
    def outputs(self) -> Sequence[TensorInfo]:
        """What :meth:`run` gives."""
        ...

    @property
    def placement(self) -> str:
        """What the engine really runs on, as read back from it."""
        ...

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run once.

        Raises
        ------
        DeviceError
            If the engine refuses or fails.
        """
        ...

    def close(self) -> None:
        """Release what the engine holds; may be called twice."""
        ...


class Runtime(Protocol):
    """Loads engine files of one kind.

    Attributes
    ----------
    name
        Name of the entry point.
    targets
        Kinds of engine that it opens -> the endings of their files.
    devices
        Kinds of device that it can run on.
    """

    name: str
    targets: Mapping[str, Sequence[str]]
    devices: Sequence[str]

    def probe(self, device: str | None = None) -> Probe:
        """Look for the engine API, and for ``device`` through it; must not fail, whatever is missing."""
        ...

    def open(self, engine: Path, device: Device, options: Mapping[str, Any]) -> Session:
        """Load an engine on exactly this device.

        Raises
        ------
        DeviceError
            If it cannot run there.
        """
        ...


@runtime_checkable
class Choosing(Protocol):
    """A runtime that cannot open every engine of its targets, because the format has dialects."""

    def refuses(self, engine: Path) -> str:
        """Why it cannot open this engine; empty if it can.

        Raises
        ------
        DeviceError
            If the file is damaged.
        """
        ...


@dataclass(frozen=True)
class Conversion:
    """What a converter wrote.

    Attributes
    ----------
    engine
        Name of the file that the runtime opens, inside the folder that was given.
    files
        Names of all files written, the engine included.
    tools
        Names and versions of the tools that took part.
    notes
        What the user should know, a sentence each.
    spec
        The engine's contract where it is not the graph's, because the target does a part of the work itself (the
        normalisation, say); None where it is.
    """

    engine: str
    files: Sequence[str]
    tools: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    spec: PoseSpec | None = None


class Converter(Protocol):
    """Turns an ONNX graph with its spec into a target's engine.

    Attributes
    ----------
    name
        Name of the entry point.
    precisions
        What it can write.
    scheme
        The form in which it takes a graph for ``int8``: calibrated and with Q/DQ nodes; None if it takes the float
        graph and quantises by itself, or has no ``int8``.
    """

    name: str
    precisions: Sequence[str]
    scheme: Scheme | None

    def probe(self) -> Probe:
        """Look for the tools it needs; must not fail, whatever is missing."""
        ...

    def convert(self, model: PoseModel, folder: Path, precision: str, options: Mapping[str, Any]) -> Conversion:
        """Write the engine into ``folder``.

        Raises
        ------
        ConversionError
            If the graph cannot be brought to this target in this precision.
        """
        ...


class FileConverter(Converter, Protocol):
    """A converter that also compiles files which do not become an ONNX graph, as they are.

    Attributes
    ----------
    sources
        Endings of their names.
    """

    sources: Sequence[str]

    def convert_file(
        self, source: Path, spec: PoseSpec, folder: Path, precision: str, options: Mapping[str, Any]
    ) -> Conversion:
        """Write the engine of a file, whose contract is ``spec``, into ``folder``.

        Raises
        ------
        ConversionError
            If it cannot be brought to this target in this precision.
        """
        ...


def takes_file(target: Converter, source: str | Path) -> FileConverter | None:
    """The converter, if it compiles this file as it is."""
    endings = getattr(target, "sources", ())
    return cast(FileConverter, target) if Path(source).suffix.lower() in endings else None


def needs_tools(target: Converter, options: Mapping[str, Any]) -> bool:
    """Whether a conversion with these options needs what the converter's probe looks for.

    It does, unless the converter has a method ``needs_tools`` that says otherwise: with some option it may only prepare
    what another machine finishes.
    """
    ask = getattr(target, "needs_tools", None)
    return ask is None or bool(ask(options))


def runtimes() -> dict[str, EntryPoint]:
    """Installed runtimes by name, none of them loaded."""
    return _installed("edgepose.runtimes")


def converters() -> dict[str, EntryPoint]:
    """Installed converters by name, none of them loaded."""
    return _installed("edgepose.converters")


def runtime(name: str) -> Runtime:
    """Load the runtime ``name``.

    Raises
    ------
    PluginError
        If none of that name is installed or it cannot be loaded.
    """
    return cast(Runtime, _load("runtime", name, runtimes()))


def converter(name: str) -> Converter:
    """Load the converter to the target ``name``.

    Raises
    ------
    PluginError
        If none of that name is installed or it cannot be loaded.
    """
    return cast(Converter, _load("converter", name, converters()))


def _installed(group: str) -> dict[str, EntryPoint]:
    return {e.name: e for e in sorted(entry_points(group=group), key=lambda e: e.name)}


def _load(kind: str, name: str, installed: Mapping[str, EntryPoint]) -> object:
    if name not in installed:
        near = difflib.get_close_matches(name, installed, n=1)
        listed = ", ".join(installed) or "none"
        raise PluginError(
            f"There is no {kind} '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""),
            hint=f"Installed {kind}s: {listed}.",
        )
    try:
        return installed[name].load()()
    except Exception as error:  # a third party's plug-in may fail in any way
        raise PluginError(
            f"The {kind} '{name}' ({installed[name].value}) cannot be loaded: {error!r}.",
            hint="Reinstall the package that brings it, or uninstall it.",
        ) from error
